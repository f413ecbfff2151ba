"""Pictures for the report: layers that lie on each other, packed into as many bytes as there are for them."""

import base64
import io
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from skimage.color import label2rgb
from skimage.segmentation import find_boundaries

from unetpipe.metrics import Overlaps, Pairs, matches
from unetpipe.report.gather import Sample, window_of
from unetpipe.report.planes import fullest_plane, plane_name
from unetpipe.store import IGNORED, label_path, open_array

FOUND, TRUE, BOTH = (255, 130, 0), (0, 150, 255), (0, 220, 130)  # also: false, missed, found and true
WHOLE = 4  # times the side of a picture: probabilities have no pyramid, and larger planes are not read for one
THUMBNAIL = 96  # side, pixels
PIXELS = 4  # of a JPEG for each of its bytes, at most
QUALITIES = (85, 70, 55)  # of JPEG, tried one after the other
SHARES = {"image": 4, "probability": 2, "outlines": 2, "errors": 2}  # of the bytes of a picture
SOLID, CLEAR = 255, 140  # opacity of what is drawn over an image
MATCH = np.nextafter(0.5, 1)  # intersection over union of a match: above one half there is one partner at most


class View(NamedTuple):
    """A part of a plane, at one level of its pyramid."""

    title: str
    zoom: int  # pixels of the image in one of this
    image: np.ndarray  # (y, x, 3) uint8
    probability: np.ndarray | None  # (y, x) uint8
    objects: np.ndarray | None  # (y, x) ids
    truth: np.ndarray | None
    known: np.ndarray | None  # (y, x) bool, where the truth is known


def grey(image: np.ndarray, low: list[float], high: list[float]) -> np.ndarray:
    """An image (c, y, x) between its percentiles as (y, x, 3) uint8: three channels as colours, else the first."""
    chosen = image if len(image) == 3 else image[:1].repeat(3, axis=0)
    lows, highs = (np.resize(values, 3) if len(image) == 3 else np.full(3, values[0]) for values in (low, high))
    scaled = (np.moveaxis(chosen, 0, -1) - lows) / np.maximum(highs - lows, 1e-6)
    return (255 * scaled.clip(0, 1)).astype(np.uint8)


def coloured(rgb: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """Fill every object with a colour of its own: (y, x, 3) uint8."""
    return (255 * label2rgb(objects, rgb, alpha=0.35, bg_label=0)).astype(np.uint8)


# ---------------------------------------------------------------- what is shown


def views(results: Path, sample: Sample, most: int, side: int) -> Iterator[View]:
    """One plane of each series as a whole, its sides reduced to `side` pixels; and a window of the first series' plane.

    Parameters
    ----------
    most : int
        Series; the window, in full resolution, comes where there are more than one and the plane is reduced.
    """
    for number, (entry, tissue) in enumerate(zip(sample.entries[:most], sample.tissue, strict=False)):
        sides = [max(entry["shape"][-2:]) >> level for level in range(entry["levels"])]
        level = next((k for k, longest in enumerate(sides) if longest <= side), len(sides) - 1)
        read = sides[0] <= WHOLE * side
        yield _view(results, sample, entry, tissue, level, (slice(None), slice(None)), probable=read)
        if not number and level and most > 1:
            yield _view(results, sample, entry, tissue, 0, window_of(entry, sample.objects), probable=True)


def _view(
    results: Path, sample: Sample, entry: dict, tissue: dict, level: int, window: tuple[slice, slice], *, probable: bool
) -> View:
    store = results / "images" / f"{sample.name}.ome.zarr"
    plane = fullest_plane(results / "objects" / f"{sample.name}.parquet" if sample.objects else None, entry)
    t, z = plane
    image = open_array(store / entry["path"] / str(level))[(t, slice(None), z, *window)]
    done = {stage.rule for stage in sample.stages if stage.state == "done"}
    labels = {}
    for name, rule in (("objects", "label"), ("truth", "truth"), ("classes", "truth")):
        folder = label_path(store, entry["path"], name) / str(level)
        labels[name] = open_array(folder)[(t, z, *window)] if rule in done else None
    classes = labels.pop("classes")
    known = None if classes is None else classes != IGNORED
    array = results / "probabilities" / f"{sample.name}.zarr" / entry["path"]
    wanted = (t, slice(None), z, *window)
    found = _probability(array, level, image.shape[-2:], wanted) if "predict" in done and probable else None
    title, colours = entry["name"] + plane_name(entry, plane), grey(image, tissue["low"], tissue["high"])
    return View(title, 2**level, colours, found, **labels, known=known)


def _probability(path: Path, level: int, shape: tuple[int, int], wanted: tuple) -> np.ndarray:
    """Foreground, p × 255, of a plane or a part of it; of a coarser level the upper left pixel of each cell."""
    found = open_array(path)[wanted].sum(axis=0, dtype=np.uint16).clip(0, 255).astype(np.uint8)
    return found[:: 2**level, :: 2**level][: shape[0], : shape[1]]


def outlines(objects: np.ndarray | None, truth: np.ndarray | None) -> np.ndarray:
    """(y, x) uint8: 1 where a found object ends, 2 where a true one does, 3 where both do."""
    found, true = (0 if ids is None else find_boundaries(ids, mode="inner") for ids in (objects, truth))
    return np.asarray(1 * found + 2 * true, np.uint8)


def errors(objects: np.ndarray, truth: np.ndarray, known: np.ndarray) -> np.ndarray:
    """(y, x) uint8: 1 in objects that are found and true, 2 in true ones that were missed, 3 in false ones.

    A found object of which more than half lies where the truth is not `known`, (y, x) bool, is none of them.
    """
    ids, numbers = np.unique(objects, return_inverse=True)  # a part of a slide has few of its ids
    numbers = numbers.reshape(objects.shape)
    apart = np.bincount(numbers[~known], minlength=len(ids)) > np.bincount(numbers.ravel()) / 2
    objects = np.where(apart[numbers], 0, objects)
    table = Overlaps.of(Pairs.of(truth, objects, known))
    true_hits, found_hits = table.pairs[matches(table, MATCH)].T
    hit, right = np.isin(truth, table.true_ids[true_hits]), np.isin(objects, table.found_ids[found_hits])
    codes = np.where((truth > 0) & ~hit, 2, 0)
    codes[(objects > 0) & ~right] = 3
    codes[(objects > 0) & right] = 1
    return codes.astype(np.uint8)


def layers(view: View, most: int) -> dict[str, str]:
    """Data URIs of a view, of `most` bytes together: image, probability, outlines, errors."""
    packs = {"image": partial(_jpeg, view.image)}
    if view.probability is not None:
        packs["probability"] = partial(_jpeg, view.probability)
    if view.objects is not None or view.truth is not None:
        alpha = SOLID if view.zoom == 1 else CLEAR  # outlines of small objects would hide the image
        packs["outlines"] = partial(_overlay, outlines(view.objects, view.truth), (FOUND, TRUE, BOTH), alpha)
    if view.objects is not None and view.truth is not None and view.known is not None:
        packs["errors"] = partial(_overlay, errors(view.objects, view.truth, view.known), (BOTH, TRUE, FOUND), CLEAR)
    share = most / sum(SHARES[name] for name in packs)
    return {name: pack(int(SHARES[name] * share)) for name, pack in packs.items()}


def thumbnail(view: View, most: int) -> str:
    """The image in small."""
    small = Image.fromarray(view.image)
    small.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
    return _jpeg(np.asarray(small), most)


def pixel_counts(view: View) -> np.ndarray:
    """(2, 256): pixels of the true background and of the true foreground that have each probability (p × 255)."""
    if view.zoom > 1 or view.probability is None or view.truth is None or view.known is None:
        return np.zeros((2, 256), int)
    true = view.truth > 0
    return np.stack([np.bincount(view.probability[view.known & part], minlength=256) for part in (~true, true)])


# ---------------------------------------------------------------- bytes


def _jpeg(picture: np.ndarray, most: int) -> str:
    """As a JPEG, of lower quality, then smaller, until it has at most so many bytes."""
    image = Image.fromarray(picture)
    shrink = min(1.0, (PIXELS * most / (image.width * image.height)) ** 0.5)
    image = image.resize((int(image.width * shrink) or 1, int(image.height * shrink) or 1), Image.Resampling.BOX)
    while True:
        for quality in QUALITIES:
            uri = _uri("image/jpeg", image, quality=quality)
            if len(uri) <= most or max(image.size) <= 16:
                return uri
        image = image.resize((image.width * 3 // 4 or 1, image.height * 3 // 4 or 1), Image.Resampling.BOX)


def _overlay(codes: np.ndarray, colours: tuple, alpha: int, most: int) -> str:
    """Codes (y, x) in colours as a PNG that is clear where they are 0, halved until it has at most so many bytes."""
    while True:
        image = Image.fromarray(codes)
        image.putpalette([0, 0, 0, *(value for colour in colours for value in colour)])
        uri = _uri("image/png", image, transparency=bytes([0, *[alpha] * len(colours)]))
        if len(uri) <= most or max(codes.shape) <= 16:
            return uri
        codes = _halved(codes)


def _halved(codes: np.ndarray) -> np.ndarray:
    """The largest code of four, so that lines stay whole."""
    y, x = (size % 2 for size in codes.shape)
    padded = np.pad(codes, ((0, y), (0, x)))
    return padded.reshape(padded.shape[0] // 2, 2, padded.shape[1] // 2, 2).max(axis=(1, 3))


def _uri(kind: str, image: Image.Image, **options) -> str:
    packed = io.BytesIO()
    image.save(packed, kind.split("/")[1].upper(), **options)
    return f"data:{kind};base64," + base64.b64encode(packed.getvalue()).decode()
