"""Finds where there is anything to see, and the grey values there: the tissue label and its statistics."""

import logging
import zlib
from collections.abc import Sequence
from functools import partial
from itertools import product
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import ndimage

from unetpipe.blocks import Ledger, raise_failures
from unetpipe.grey import Counts, counted
from unetpipe.notes import Expected, check_image, expected_by, read_notes
from unetpipe.pyramid import Pyramid, write_pyramids
from unetpipe.regions import inside, read_regions
from unetpipe.revisions import REVISIONS
from unetpipe.sources import source_digest
from unetpipe.store import label_path, level_shapes, open_array, publish_label, publish_manifest, read_attributes

logger = logging.getLogger(__name__)
COARSE = 2048  # longest side of the level that is looked at as a whole, pixels
DIGITS = 2**14  # of the fraction of a number that is counted


def tissue(plane: np.ndarray, *, contrast: float, window: int, margin: int) -> np.ndarray:
    """Where an image varies: glass is flat, whatever its brightness.

    Parameters
    ----------
    plane : (c, y, x)
        One plane; a pixel is tissue if any channel says so.
    contrast : float
        Local deviation below this share of the strongest (99th percentile) is empty; 0 keeps everything.
    window, margin : int
        Side of the local window, and by how much tissue grows, pixels.

    Returns
    -------
    (y, x) bool
    """
    if contrast == 0:
        return np.ones(plane.shape[1:], dtype=bool)
    found = np.zeros(plane.shape[1:], dtype=bool)
    for channel in plane:
        deviation = _local_deviation(channel.astype(np.float64), window)
        found |= deviation > contrast * np.percentile(deviation, 99)
    return ndimage.maximum_filter(found, size=2 * margin + 1) if margin else found


def _local_deviation(channel: np.ndarray, window: int) -> np.ndarray:
    mean = ndimage.uniform_filter(channel, window)
    square = ndimage.uniform_filter(channel**2, window)
    return np.sqrt(np.maximum(square - mean**2, 0))


def write_mask(
    image: str,
    output: str,
    *,
    sample: str,
    contrast: float = 0.15,
    window: int = 32,
    margin: int = 64,
    percentiles: tuple[float, float] = (1.0, 99.0),
    roi: Sequence[str] = (),
    networks: Sequence[str] = (),
    like: Sequence[str] = (),
    workers: int = 1,
) -> None:
    """Write `labels/tissue` of every series and, last, the manifest with each one's statistics.

    Parameters
    ----------
    image : path
        Root `zarr.json` of the image store.
    output : path
        Manifest.
    contrast, window, margin
        See `tissue`; window and margin in pixels of the full resolution.
    percentiles : (low, high)
        Of the grey values in the tissue: they are what a network sees as 0 and 1.
    roi : sequence of path
        GeoJSON of the regions outside of which nothing is tissue, one file for each series; none: everywhere.
    networks : sequence of path
        The JSON of those that will predict it, as far as they exist.
    like : sequence of path
        Root `zarr.json` of images that will train the network.
    workers : int
        Threads; each holds one shard.

    Raises
    ------
    ValueError
        If a file of regions cannot be read, or there are not as many as series; if the network could not predict it:
        that is told here, before anybody waits for a GPU.
    """
    store, entries = Path(image).parent, read_attributes(image)["series"]
    _check_fit(entries, sample, networks, like)
    settings = {"contrast": contrast, "window": window, "margin": margin, "percentiles": list(percentiles)}
    regions = _regions(roi, entries, sample)
    key = [REVISIONS["mask"], [entry["digest"] for entry in entries], settings, [source_digest(path) for path in roi]]
    with Ledger(store, "tissue", key) as ledger:
        failures: dict[str, Exception] = {}
        found = [_look(store, entry, drawn, **settings) for entry, drawn in zip(entries, regions, strict=True)]
        pyramids = [_pyramid(store, entry, seen) for entry, seen in zip(entries, found, strict=True)]
        digests = write_pyramids(pyramids, ledger, failures, workers=workers)
        raise_failures(sample, failures)
        for entry in entries:
            publish_label(store, entry, "tissue", levels=entry["levels"], note={"revision": REVISIONS["mask"]})
        series = [
            {"path": entry["path"], "digest": digests[pyramid.folder], "level": seen.level, **seen.numbers}
            for entry, pyramid, seen in zip(entries, pyramids, found, strict=True)
        ]
        note = {"sample": sample, "revision": REVISIONS["mask"], "settings": settings}
        publish_manifest(output, store, {**note, "series": series})


def _check_fit(entries: list[dict], sample: str, networks: Sequence[str], like: Sequence[str]) -> None:
    expected = [expected_by(path, note) for path, note in zip(networks, read_notes(networks), strict=True)]
    first = (read_attributes(root)["series"][0] for root in like)
    expected += [Expected(one["shape"][1], one["channels"], None, f"training image {one['name']} has") for one in first]
    for entry, one in product(entries, expected):
        check_image(entry, sample, one)


def _regions(roi: Sequence[str], entries: list[dict], sample: str) -> list:
    """Of every series, or none."""
    if roi and len(roi) != len(entries):
        raise ValueError(f'sample "{sample}": {len(roi)} files of regions for {len(entries)} images; one for each')
    return [read_regions(path) for path in roi] or [None] * len(entries)


class Tissue(NamedTuple):
    """Where it is in one series, packed: a sample has thousands of them."""

    planes: dict[tuple[int, int], bytes]  # by t and z
    sides: tuple[int, int]  # of a plane
    level: int  # at which it was found
    numbers: dict  # statistics, and the share of tissue

    def read(self, region) -> np.ndarray:
        """Of a region of the full resolution, bool."""
        t, z, y, x = region
        rows, columns = (np.arange(part.start, part.stop) >> self.level for part in (y, x))
        window = rows[:, None], columns
        return np.array([[self.plane(i, k)[window] for k in range(z.start, z.stop)] for i in range(t.start, t.stop)])

    def plane(self, t: int, z: int) -> np.ndarray:
        """Of a plane at the level at which it was found, bool."""
        bits = np.frombuffer(zlib.decompress(self.planes[t, z]), np.uint8)
        return np.unpackbits(bits, count=prod(self.sides)).reshape(self.sides).view(bool)


def packed(where: np.ndarray) -> bytes:
    """A plane (y, x) bool as `Tissue` holds it."""
    return zlib.compress(np.packbits(where).tobytes(), 1)


def _look(store: Path, entry: dict, regions: list | None, **settings) -> Tissue:
    """Tissue and statistics, at the finest level that is looked at as a whole."""
    level = coarse_level(entry["shape"], entry["chunk"])
    pixels = open_array(store / entry["path"] / str(level))
    y, x = entry["origin"]["steps"] if entry["origin"] else (1.0, 1.0)
    drawn = inside(regions, pixels.shape[-2:], (y * 2**level, x * 2**level)) if regions else None
    return look(pixels, level, drawn, **settings)


def coarse_level(shape: Sequence[int], chunk: int) -> int:
    """The finest level of an image (t, c, z, y, x) that is looked at as a whole."""
    sizes = [max(level[-2:]) for level in level_shapes(shape, chunk)]
    return next((k for k, size in enumerate(sizes) if size <= COARSE), len(sizes) - 1)


def look(
    pixels: Any,
    level: int,
    drawn: np.ndarray | None = None,
    *,
    contrast: float,
    window: int,
    margin: int,
    percentiles: tuple[float, float],
) -> Tissue:
    """Tissue and statistics of one level of an image, plane by plane.

    Parameters
    ----------
    pixels : array-like (t, c, z, y, x)
        Anything that gives NumPy arrays when sliced.
    drawn : (y, x) bool, optional
        Where there may be tissue.
    contrast, window, margin, percentiles
        See `write_mask`.
    """
    find = partial(tissue, contrast=contrast, window=max(3, window >> level), margin=margin >> level)
    t, channels, z, *sides = pixels.shape
    counts, planes, share = [Counts() for _ in range(channels)], {}, 0.0
    for place in np.ndindex(t, z):
        plane = pixels[place[0], :, place[1]]
        where = find(plane)
        where = where if drawn is None else where & drawn
        planes[place], share = packed(where), share + float(where.mean()) / (t * z)
        _count(plane, where, counts)
    if not share:
        for i, k in np.ndindex(t, z):
            _count(pixels[i, :, k], np.ones(sides, bool), counts)
    return Tissue(planes, (sides[0], sides[1]), level, {"fraction": share, **_statistics(counts, percentiles)})


def _count(plane: np.ndarray, where: np.ndarray, counts: list[Counts]) -> None:
    for channel, own in zip(plane, counts, strict=True):
        own.add(*counted(few_digits(channel[where])))


def few_digits(values: np.ndarray) -> np.ndarray:
    """Numbers of at most 16 bits as they are; others to one part in 16,000: few of them differ."""
    if values.dtype.itemsize <= 2:
        return values
    mantissa, exponent = np.frexp(values.astype(np.float32))
    return np.ldexp(np.rint(mantissa * DIGITS) / DIGITS, exponent)


def _statistics(counts: list[Counts], percentiles: tuple[float, float]) -> dict:
    """Grey values of the tissue, of the whole where nothing is: one number per channel."""
    mean, deviation, low, high = np.array([own.statistics(percentiles) for own in counts]).T.tolist()
    return {"low": low, "high": high, "mean": mean, "deviation": deviation}


def _pyramid(store: Path, entry: dict, seen: Tissue) -> Pyramid:
    shape = (entry["shape"][0], *entry["shape"][2:])
    return Pyramid(
        entry["path"],
        label_path(store, entry["path"], "tissue"),
        level_shapes(shape, entry["chunk"]),
        np.dtype(np.uint8),
        seen.read,
        entry["chunk"],
        entry["shard"],
        "label",
    )
