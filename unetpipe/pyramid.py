"""Writes pyramids shard by shard: each shard has one writer, each level is made from the one below.

A task writes a shard of every second level and the four shards below it, so that no full resolution is read again.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from unetpipe.blocks import Done, Ledger, Task, run
from unetpipe.geometry import Region, blocks
from unetpipe.halving import halve
from unetpipe.manifest import array_digest, digest
from unetpipe.store import create_array, keep_first, open_array, shard_shape, write_region


class Pyramid(NamedTuple):
    """One image or label to write."""

    series: str
    folder: Path  # the levels are its children 0, 1, …
    shapes: list[tuple[int, ...]]  # one per level, full resolution first
    dtype: np.dtype
    read: Callable[[Region], np.ndarray]  # values of a region of the full resolution
    chunk: int
    shard: int
    kind: str = "image"
    source: str = ""  # digest of what is read, where the key of the ledger does not hold it


def write_pyramids(
    pyramids: list[Pyramid], ledger: Ledger, failures: dict[str, Exception], *, workers: int
) -> dict[Path, str]:
    """Write all levels of the pyramids that did not fail; return each folder's digest at full resolution."""
    for pyramid in pyramids:
        keep_first(pyramid.folder, len(pyramid.shapes))
    for level in range(0, max((len(pyramid.shapes) for pyramid in pyramids), default=0), 2):
        high = [p for p in pyramids if level < len(p.shapes) and p.series not in failures]
        run([task for pyramid in high for task in _levels(pyramid, level)], ledger, failures, workers=workers)
    notes = ledger.notes()
    return {p.folder: _content_digest(p, notes[p.series]) for p in pyramids if p.series not in failures}


def _content_digest(pyramid: Pyramid, notes: dict[str, str]) -> str:
    """Digest of the values of the full resolution, whatever the order in which they came."""
    prefix = f"{names_of(pyramid)}level 0 "
    return digest([pyramid.shapes[0], [note for name, note in notes.items() if name.startswith(prefix)]])


def is_finished(pyramid: Pyramid, ledger: Ledger) -> bool:
    """Whether all of the full resolution was written from the same source before."""
    return all(f"{pyramid.series} {name}" in ledger.finished for name, _ in _blocks(pyramid, 0))


def names_of(pyramid: Pyramid) -> str:
    """How the names of all its blocks start."""
    return f"{pyramid.series} {pyramid.folder.name} {pyramid.source} "


def _levels(pyramid: Pyramid, level: int) -> Iterator[Task]:
    """Tasks that write a level and, where there is one, the next."""
    arrays = [
        create_array(
            pyramid.folder / str(number),
            shape,
            pyramid.dtype,
            chunk=pyramid.chunk,
            shard=pyramid.shard,
            kind=pyramid.kind,
        )
        for number, shape in enumerate(pyramid.shapes[level : level + 2], start=level)
    ]
    read = pyramid.read if level == 0 else partial(_halved, pyramid, level)
    write = partial(_write, arrays, read, pyramid.kind)
    for name, region in _blocks(pyramid, level):
        yield Task(pyramid.series, name, write, (region,))


def _blocks(pyramid: Pyramid, level: int) -> Iterator[tuple[str, Region]]:
    """Name and region of each task."""
    *front, y, x = shard_shape(pyramid.shapes[level], pyramid.chunk, pyramid.shard)
    for block in blocks(pyramid.shapes[level], (*front, 2 * y, 2 * x)):
        corner = ",".join(str(window.start) for window in block.write)
        yield f"{pyramid.folder.name} {pyramid.source} level {level} at {corner}", block.write


def _write(arrays: list, read, kind: str, region: Region) -> Done:
    values = np.ascontiguousarray(read(region), dtype=arrays[0].dtype)
    refuse_no_numbers(values, region)
    files = write_region(arrays[0], region, values)
    if arrays[1:]:
        *front, y, x = region
        small = (*front, *(slice(part.start // 2, -(-part.stop // 2)) for part in (y, x)))
        files += write_region(arrays[1], small, halve(values, kind=kind))
    return Done(files, array_digest(values))


def refuse_no_numbers(values: np.ndarray, region: Region | None = None) -> None:
    """One NaN would make all grey values of its series NaN, without a word."""
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        first = np.argwhere(~np.isfinite(values))[0]
        place = tuple((first + ([part.start for part in region] if region else 0)).tolist())
        raise ValueError(f"pixel {place} (t, c, z, y, x) is {values[tuple(first)]}; save the image with numbers alone")


def _halved(pyramid: Pyramid, level: int, region: Region) -> np.ndarray:
    below = open_array(pyramid.folder / str(level - 1))
    *rest, y, x = region
    plane = (
        slice(2 * window.start, min(2 * window.stop, size))
        for window, size in zip((y, x), below.shape[-2:], strict=True)
    )
    return halve(below[(*rest, *plane)], kind=pyramid.kind)
