"""Copies the files of a sample into one OME-Zarr store with pyramids: `results/images/{sample}.ome.zarr`."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path

import numpy as np

from unetpipe.blocks import Done, Ledger, raise_failures
from unetpipe.manifest import digest
from unetpipe.pyramid import Pyramid, is_finished, names_of, write_pyramids
from unetpipe.readers import each_once, open_series
from unetpipe.readers.chosen import chosen
from unetpipe.readers.series import Series
from unetpipe.revisions import REVISIONS
from unetpipe.sources import changes, file_states, source_digest
from unetpipe.store import (
    image_metadata,
    keep_first,
    level_shapes,
    link_levels,
    open_array,
    publish_images,
    remove_labels,
    remove_strays,
    unlink_levels,
    write_group,
)

logger = logging.getLogger(__name__)
COLOURS = {"red": "FF0000", "green": "00FF00", "blue": "0000FF"}
LOOKED_AT = 1024  # side of the level at which grey values are looked at, pixels
PLANES = 16  # of them, at most
SHOWN = (0.5, 99.5)  # percentiles between which a viewer shows them


def ingest(
    paths: list[str],
    output: str,
    *,
    sample: str,
    chunk: int = 256,
    shard: int = 1024,
    channels: list[str | int] | None = None,
    pixel_size: float | Sequence[float] | None = None,
    override: bool = False,
    resample: float | None = None,
    copy: bool = True,
    inside: str = "",
    workers: int = 1,
) -> None:
    """Write every series of every file as one image of the sample's store.

    Parameters
    ----------
    paths : list of path
        The sample's files, in order; each gives one series or more.
    output : path
        Root `zarr.json` of the store, written last.
    chunk, shard : int
        Sides of what is read and of what is written at once, pixels.
    channels, pixel_size, override, resample
        See `readers.chosen.chosen`.
    copy : bool
        False: OME-Zarr 0.5 of the same axes and levels is linked to, not copied.
    inside : str
        Array or group inside each file, see `readers.open_series`.
    workers : int
        Threads; each holds one shard.

    Raises
    ------
    RuntimeError
        If a series cannot be read, after all others are written, or its file is written meanwhile; it names all that
        failed.
    """
    store = Path(output).parent
    settings = {"chunk": chunk, "shard": shard, "channels": channels, "pixel_size": pixel_size, "resample": resample}
    before = file_states(paths)
    with Ledger(store, "ingest", [REVISIONS["ingest"], settings]) as ledger:
        failures: dict[str, Exception] = {}
        wanted = partial(chosen, channels=channels, pixel_size=pixel_size, override=override, resample=resample)
        if not copy:
            wanted = partial(_linkable, wanted=wanted, chunk=chunk)
        opened = _open_all(paths, inside, wanted, failures)
        if not (copy and opened):
            raise_failures(sample, failures)
        digested = cache(source_digest)  # a file may hold hundreds of series
        pyramids = [_pyramid(store, n, *opened[n], digested, chunk, shard) for n in opened] if copy else []
        raise_failures(sample, changes(before))
        unfinished = [pyramid for pyramid in pyramids if not is_finished(pyramid, ledger)]
        if unfinished or not copy:
            Path(output).unlink(missing_ok=True)
        unlink_levels(store)
        for pyramid in unfinished:
            if not ledger.knows(names_of(pyramid)):
                remove_labels(pyramid.folder)
        digests = write_pyramids(pyramids, ledger, failures, workers=workers)
        raise_failures(sample, {_title(name, opened): error for name, error in failures.items()} | changes(before))
        digests |= {store / number: _link(store / number, opened[number][1], ledger) for number in opened if not copy}
        remove_strays(store, ledger.shards(tuple(names_of(pyramid) for pyramid in pyramids)))
        keep_first(store, len(opened))
        entries = [_entry(number, *opened[number], digests[store / number], chunk, shard) for number in opened]
        for entry in entries:
            _describe(store, entry)
        publish_images(store, entries, {"sample": sample, "revision": REVISIONS["ingest"]})
        logger.info("%d series in %s", len(entries), store)


def _open_all(paths, inside, wanted: Callable[[Series], Series], failures) -> dict[str, tuple[str, Series]]:
    """The series of all files by their number in the store; a file that does not open fails alone, as one series."""

    def read(path: str) -> list[Series]:
        try:
            return [wanted(series) for series in open_series(path, inside)]
        except (ValueError, OSError) as error:
            failures[str(path)] = error
            return []

    opened: dict[str, tuple[str, Series]] = {}
    count = 0
    for path, found in each_once(paths, read):
        opened |= {str(count + place): (path, series) for place, series in enumerate(found)}
        count += max(1, len(found))  # or the next would be written over what was written of one that failed
    return _distinct(opened)


def _distinct(opened: dict[str, tuple[str, Series]]) -> dict[str, tuple[str, Series]]:
    """Series of equal names with that of their folder, or else their number, which tell them apart in tables."""
    shared = _shared_names(opened)
    for number, (path, series) in opened.items():
        if series.name in shared:
            opened[number] = path, series._replace(name=f"{Path(path).absolute().parent.name}-{series.name}")
    while shared := _shared_names(opened):
        for number, (path, series) in opened.items():
            if series.name in shared:
                opened[number] = path, series._replace(name=f"{series.name}-{number}")
    return opened


def _shared_names(opened: dict[str, tuple[str, Series]]) -> set[str]:
    return {name for name, count in Counter(series.name for _, series in opened.values()).items() if count > 1}


def _linkable(series: Series, wanted: Callable[[Series], Series], chunk: int) -> Series:
    """The series, if its arrays can serve as they are."""
    series = wanted(series)
    if not series.levels:
        raise ValueError(
            f"{series.name}: only OME-Zarr 0.5 with axes t, c, z, y, x can be used in place, all its channels, as it "
            "is; set ingest.copy to true"
        )
    arrays = [open_array(level) for level in series.levels]
    found = [array.shape for array in arrays]
    if found != level_shapes(series.shape, chunk):
        raise ValueError(
            f"{series.name}: its levels have y, x {[shape[3:] for shape in found]}, used in place they must be "
            f"{[shape[3:] for shape in level_shapes(series.shape, chunk)]} (halves, until ingest.chunk {chunk} holds "
            "one); set ingest.copy to true"
        )
    return series._replace(dtype=arrays[0].dtype)


def _link(folder: Path, series: Series, ledger: Ledger) -> str:
    """Link to the levels of a series; the digest of what they hold."""
    content = source_digest(series.levels[0])
    name = f"{folder.name} linked {content}"
    if name not in ledger.finished:
        remove_labels(folder)
    keep_first(folder, len(series.levels))
    link_levels(folder, series.levels)
    ledger.record(name, Done())
    return content


def _title(name: str, opened) -> str:
    return f"{name} ({Path(opened[name][0]).name})" if name in opened else name


def _pyramid(store: Path, number: str, path: str, series: Series, digested, chunk: int, shard: int) -> Pyramid:
    """Its blocks are those of this file's content at this place: another file's are never taken for them."""
    shapes = level_shapes(series.shape, chunk)
    source = digest([[digested(file) for file in series.files or [path]], series.name])
    return Pyramid(number, store / number, shapes, series.dtype, series.read, chunk, shard, source=source)


def _entry(number: str, path: str, series: Series, content: str, chunk: int, shard: int) -> dict:
    """What later stages and the report need to know of one series."""
    if series.pixel_size is None:
        logger.info("series %s (%s): pixel size unknown, unit pixels", number, series.name)
    return {
        "path": number,
        "name": series.name,
        "source": Path(path).name,
        "shape": list(series.shape),
        "origin": series.origin and series.origin._asdict(),
        "dtype": str(series.dtype),
        "pixel_size": series.pixel_size and list(series.pixel_size),
        "channels": list(series.channels),
        "levels": len(level_shapes(series.shape, chunk)),
        "chunk": chunk,
        "shard": shard,
        "digest": content,
    }


def _describe(store: Path, entry: dict) -> None:
    sides = [max(shape[-2:]) for shape in level_shapes(entry["shape"], entry["chunk"])]
    level = next((k for k, side in enumerate(sides) if side <= LOOKED_AT), len(sides) - 1)
    array = open_array(store / entry["path"] / str(level))
    channels = [
        {"label": name, "color": colour, "active": True, "window": _window(name, array, number)}
        for number, (name, colour) in enumerate(zip(entry["channels"], _colours(entry["channels"]), strict=True))
    ]
    ome = image_metadata(entry["name"], entry["levels"], entry["pixel_size"], channels)
    write_group(store / entry["path"], {"ome": ome})


def _colours(names: list[str]) -> list[str]:
    """Of the channels in a viewer: their own, white where there is one, else a few that can be told apart."""
    cycle = ["FFFFFF"] if len(names) == 1 else ["0000FF", "00FF00", "FF0000", "FF00FF", "00FFFF", "FFFF00"]
    return [COLOURS.get(name, cycle[number % len(cycle)]) for number, name in enumerate(names)]


def _window(name: str, array, channel: int) -> dict[str, float]:
    """Grey values that a viewer shows from black to full: of colours all, else those between two percentiles.

    Of many planes some are looked at, evenly spread.
    """
    if name in COLOURS and array.dtype == np.uint8:
        return {"min": 0.0, "max": 255.0, "start": 0.0, "end": 255.0}
    places = list(np.ndindex(array.shape[0], array.shape[2]))
    chosen = [places[k] for k in np.linspace(0, len(places) - 1, min(PLANES, len(places))).astype(int)]
    pixels = np.stack([array[t, channel, z] for t, z in chosen]).astype(np.float64)
    kind = np.iinfo(array.dtype) if array.dtype.kind in "iu" else None
    least, most = (kind.min, kind.max) if kind else (pixels.min(), pixels.max())
    start, end = np.percentile(pixels, SHOWN).tolist()
    return {"min": float(least), "max": float(most), "start": start, "end": end if end > start else start + 1}
