"""Looks at files before a run: what each holds, and whether it will be read."""

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from unetpipe.geometry import Region
from unetpipe.readers import SUFFIXES, each_once, open_series
from unetpipe.readers.chosen import chosen
from unetpipe.readers.series import Series
from unetpipe.sheet import Sample

PROBE = 64  # pixels of a side
PYRAMID = 4 / 3
HEADS = ("file", "series", "x", "y", "z", "c", "t", "type", "channels", "µm", "store", "readable")


def find_files(paths: Iterable[Path], suffixes: tuple[str, ...] = SUFFIXES) -> Iterator[Path]:
    """The paths themselves, and what lies in folders and has one of the suffixes; a Zarr store is one file."""
    for path in paths:
        if path.is_dir() and not path.name.lower().endswith(suffixes):
            entries = (
                entry
                for entry in sorted(path.iterdir())
                if not entry.name.startswith(".")
                and not (entry.is_symlink() and entry.is_dir())
                and (entry.is_dir() or entry.name.lower().endswith(suffixes))
            )
            yield from find_files(entries, suffixes)
        else:
            yield path


def inspect(path: Path, inside: str = "", *, palette: bool = True) -> list[dict[str, Any]]:
    """One row for every series of a file; `problem` says why a file or series would be refused, else it is empty.

    Parameters
    ----------
    inside, palette
        See `readers.open_series`.
    """
    try:
        return [_describe(path, series) for series in open_series(path, inside, palette=palette)]
    except Exception as error:  # noqa: BLE001 - whatever a reader stumbles over is what has to be told
        return [{"file": str(path), "problem": f"{error}" or type(error).__name__}]


def stored(sample: Sample, settings: Mapping[str, Any]) -> list[Series]:
    """The series of a sample as `ingest` will store them.

    Parameters
    ----------
    settings : mapping
        The section ingest of the config.

    Raises
    ------
    ValueError
        If one cannot be read, or not in this way.
    """
    ways = {name: settings[name] for name in ("channels", "pixel_size", "override", "resample")} | sample.ingestion
    inside = ways.pop("inside", "")
    opened = each_once(sample.files, partial(open_series, inside=inside))
    return [chosen(series, **ways) for _, found in opened for series in found]


def _describe(path: Path, series: Series) -> dict[str, Any]:
    size = series.pixel_size
    row = {
        "file": str(path),
        "series": series.name,
        "shape": list(series.shape),
        "type": str(series.dtype),
        "channels": list(series.channels),
        "pixel_size": list(size) if size else None,
        "files": list(series.files),
        "bytes": int(np.prod(series.shape, dtype=object) * series.dtype.itemsize),
        "problem": "",
    }
    try:
        for region in _probes(series.shape):
            series.read(region)
    except Exception as error:  # noqa: BLE001 - likewise
        row["problem"] = f"{error}" or type(error).__name__
    return row


def _probes(shape: tuple[int, ...]) -> Iterator[Region]:
    """A small window at the first, the middle and the last pixel."""
    sides = [min(size, PROBE if axis > 2 else 1) for axis, size in enumerate(shape)]
    for share in (0.0, 0.5, 1.0):
        corner = [round(share * (size - side)) for size, side in zip(shape, sides, strict=True)]
        yield tuple(slice(start, start + side) for start, side in zip(corner, sides, strict=True))


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as text, those that would be refused last."""
    good = [row for row in rows if not row["problem"]]
    cells = [HEADS, *(_cells(row) for row in good)]
    widths = [max(len(row[k]) for row in cells) for k in range(len(HEADS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    refused = [f"refused: {row['problem']}" for row in rows if row["problem"]]
    return "\n".join((lines if good else []) + refused)


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    t, c, z, y, x = row["shape"]
    depth, _, side = row["pixel_size"] or (0, 0, 0)
    size = "unknown" if not side else f"{side:.4g}, z {depth:.4g}" if z > 1 else f"{side:.4g}"
    store = f"{row['bytes'] * PYRAMID / 1e6:.3g} MB at most"
    sides = (str(side) for side in (x, y, z, c, t))
    return (Path(row["file"]).name, row["series"], *sides, row["type"], ", ".join(row["channels"]), size, store, "yes")
