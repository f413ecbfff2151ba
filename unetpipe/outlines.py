"""Outlines of objects as GeoJSON that QuPath imports: polygons with holes, measurements, ids."""

import json
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from unetpipe.contours import corners, polygons
from unetpipe.manifest import replacing

GZIP = bytes([0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 255])  # header without time and name
COLOUR = [200, 0, 0]
HANDFUL = 2**14  # corners that become text at once
SIDES = ("top", "left"), ("bottom", "right")
PLACES = ("id", "series", "t", "class", "touches_edge", "front", "top", "left", "back", "bottom", "right")


def outline(mask: np.ndarray, top: int, left: int, steps: Sequence[float] = (1.0, 1.0)) -> dict:
    """GeoJSON geometry of one object, along the edges of its pixels.

    Parameters
    ----------
    mask : (y, x) bool
        The object in its box.
    top, left : int
        Where the box lies.
    steps : (y, x)
        Pixels of the file in one of the mask.

    Returns
    -------
    dict
        Polygon or MultiPolygon of as many pixels as the object has, in pixels of the file, with the corner of the image
        at (0, 0).
    """
    kind, found = _kind(
        [[_scaled(ring, steps).tolist() for ring in polygon] for polygon in polygons(corners(mask, top, left))]
    )
    return {"type": kind, "coordinates": found}


def _kind(found: list) -> tuple[str, list]:
    return ("Polygon", found[0]) if len(found) == 1 else ("MultiPolygon", found)


def _scaled(ring: np.ndarray, steps: Sequence[float]) -> np.ndarray:
    return ring if tuple(steps) == (1, 1) else np.round(ring * steps[::-1], 2)


def feature_texts(
    table: pd.DataFrame, labels: np.ndarray, corner: Sequence[int], steps: Sequence[float]
) -> Iterator[str]:
    """QuPath's detections, as JSON: one for each object and each plane that it meets.

    Parameters
    ----------
    table : DataFrame
        Rows of `measure.describe`; their numbers become measurements, with six digits.
    labels : (z, y, x) int
        Of a window that holds all of the objects.
    corner : (z, y, x)
        Where the window lies.
    steps : (y, x)
        See `outline`.
    """
    return features(table, partial(_planes, labels, corner), steps)


def _planes(labels: np.ndarray, corner: Sequence[int], row: dict) -> Iterator[tuple[int, np.ndarray]]:
    """The planes that an object meets, and its corners there."""
    y, x = (slice(row[a] - c, row[b] - c) for a, b, c in zip(*SIDES, corner[1:], strict=True))
    for z in range(row.get("front", 0), row.get("back", 1)):
        turns = corners(labels[z - corner[0], y, x] == row["id"], row["top"], row["left"])
        if len(turns):
            yield z, turns


def features(
    table: pd.DataFrame, planes: Callable[[dict], Iterable[tuple[int, np.ndarray]]], steps: Sequence[float]
) -> Iterator[str]:
    """The same of objects whose corners are known.

    Parameters
    ----------
    planes : callable
        Gives, for a row of the table, the planes that the object meets and its `contours.corners` there.
    """
    names = [name for name in table if name not in PLACES]
    texts = _measurements(table[names])
    rows = table.drop(columns=names).to_dict("records")
    for row, measurements in zip(rows, texts, strict=True):
        properties = f'{json.dumps(_properties(row))[:-1]}, "measurements": {{{measurements}}}}}'
        for z, turns in planes(row):
            place = json.dumps({"c": -1, "z": z, "t": row["t"]})
            geometry = f'{_geometry_text(turns, steps)[:-1]}, "plane": {place}}}'
            yield f'{{"type": "Feature", "geometry": {geometry}, "properties": {properties}}}'


def _geometry_text(turns: np.ndarray, steps: Sequence[float]) -> str:
    """What `outline` gives, as JSON, of corners."""
    kind, found = _kind([_listed(_ring_text(_scaled(ring, steps)) for ring in polygon) for polygon in polygons(turns)])
    return f'{{"type": "{kind}", "coordinates": {found if kind == "Polygon" else _listed(found)}}}'


def _ring_text(ring: np.ndarray) -> str:
    """A handful of corners at a time: as Python's numbers they take ten times the room."""
    return _listed(json.dumps(ring[k : k + HANDFUL].tolist())[1:-1] for k in range(0, len(ring), HANDFUL))


def _listed(texts: Iterable[str]) -> str:
    return f"[{', '.join(texts)}]"


def _properties(row: dict) -> dict:
    """`series` and `id` are those of the object's row in the table."""
    return {
        "objectType": "detection",
        "name": f"{row['series']} {row['id']}",
        "series": row["series"],
        "id": row["id"],
        "classification": {"name": f"class {row['class']}", "color": COLOUR},
    }


def _measurements(table: pd.DataFrame) -> Iterator[str]:
    """The finite numbers of each row, with their names."""
    told = table.dropna(axis="columns", how="all")
    values = told.to_numpy(float)
    finite, template = np.isfinite(values), np.array([f"{json.dumps(name)}: %.6g" for name in told])
    whole = ", ".join(template)
    for row, known in zip(values, finite, strict=True):
        yield (whole if known.all() else ", ".join(template[known])) % tuple(row[known].tolist())


class Packed(NamedTuple):
    """A piece of a gzip file, which can be packed before what stands in front of it."""

    text: bytes
    deflated: bytes

    @classmethod
    def of(cls, text: str) -> "Packed":
        """Pack some text."""
        packer = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
        return cls(text.encode(), packer.compress(text.encode()) + packer.flush(zlib.Z_FULL_FLUSH))


def write_features(path: str | Path, groups: Iterable[Packed]) -> None:
    """Write handfuls of features as a gzip-packed FeatureCollection (RFC 1952), whose bytes depend on them alone."""
    checksum, size = 0, 0
    with replacing(path) as aside, open(aside, "wb") as file:
        file.write(GZIP)
        for piece in _collection(groups):
            file.write(piece.deflated)
            checksum, size = zlib.crc32(piece.text, checksum), size + len(piece.text)
        file.write(zlib.compress(b"", wbits=-zlib.MAX_WBITS) + struct.pack("<II", checksum, size % 2**32))


def _collection(groups: Iterable[Packed]) -> Iterator[Packed]:
    yield Packed.of('{"type": "FeatureCollection", "features": [\n')
    for number, group in enumerate(groups):
        if number:
            yield Packed.of(",\n")
        yield group
    yield Packed.of("\n]}\n")
