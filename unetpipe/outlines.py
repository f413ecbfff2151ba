"""Outlines of objects as GeoJSON that QuPath imports: polygons with holes, measurements, ids."""

import json
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import ndimage

from unetpipe.manifest import replacing
from unetpipe.shapes import rings, signed_area

GZIP = bytes([0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 255])  # header without time and name
COLOUR = [200, 0, 0]
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
    polygons = [[_scaled(ring, top, left, steps) for ring in polygon] for polygon in _polygons(mask)]
    if len(polygons) == 1:
        return {"type": "Polygon", "coordinates": polygons[0]}
    return {"type": "MultiPolygon", "coordinates": polygons}


def _polygons(mask: np.ndarray) -> list[list[np.ndarray]]:
    """The outer ring of each component and, behind it, its holes."""
    found = rings(mask)
    if len(found) == 1:
        return [found]
    found.sort(key=signed_area, reverse=True)
    if signed_area(found[1]) < 0:
        return [found]
    parts, count = ndimage.label(mask)
    return [polygon for part in range(1, count + 1) for polygon in _polygons(parts == part)]


def _scaled(ring: np.ndarray, top: int, left: int, steps: Sequence[float]) -> list:
    placed = ring + np.array((left, top))
    return placed.tolist() if tuple(steps) == (1, 1) else np.round(placed * steps[::-1], 2).tolist()


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
    names = [name for name in table if name not in PLACES]
    texts = _measurements(table[names])
    rows = table.drop(columns=names).to_dict("records")
    for row, measurements in zip(rows, texts, strict=True):
        properties = f'{json.dumps(_properties(row))[:-1]}, "measurements": {{{measurements}}}}}'
        y, x = (slice(row[a] - c, row[b] - c) for a, b, c in zip(*SIDES, corner[1:], strict=True))
        for z in range(row.get("front", 0), row.get("back", 1)):
            mask = labels[z - corner[0], y, x] == row["id"]
            if mask.any():
                geometry = outline(mask, row["top"], row["left"], steps) | {"plane": {"c": -1, "z": z, "t": row["t"]}}
                yield f'{{"type": "Feature", "geometry": {json.dumps(geometry)}, "properties": {properties}}}'


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
