"""Outlines of objects as GeoJSON that QuPath imports: polygons with holes, measurements, ids."""

import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import compress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import orjson
import pandas as pd

from unetpipe.contours import corners, polygons
from unetpipe.manifest import replacing

GZIP = bytes([0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 255])  # header without time and name
LEVEL = 5  # of packing: 6 takes twice as long for a thirtieth less
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
    return orjson.loads(_json(_geometry(corners(mask, top, left), steps)))


def _geometry(turns: np.ndarray, steps: Sequence[float]) -> dict:
    """That of the object which turns at these corners; its rings are arrays."""
    found = [[_scaled(ring, steps) for ring in polygon] for polygon in polygons(turns)]
    kind, coordinates = ("Polygon", found[0]) if len(found) == 1 else ("MultiPolygon", found)
    return {"type": kind, "coordinates": coordinates}


def _scaled(ring: np.ndarray, steps: Sequence[float]) -> np.ndarray:
    return ring if tuple(steps) == (1, 1) else np.round(ring * steps[::-1], 2)


def _json(value: dict) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)


def feature_texts(
    table: pd.DataFrame, labels: np.ndarray, corner: Sequence[int], steps: Sequence[float]
) -> Iterator[bytes]:
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
) -> Iterator[bytes]:
    """The same of objects whose corners are known.

    Parameters
    ----------
    planes : callable
        Gives, for a row of the table, the planes that the object meets and its `contours.corners` there.
    """
    names = [name for name in table if name not in PLACES]
    measurements = _measurements(table[names])
    rows = table.drop(columns=names).to_dict("records")
    for row, measured in zip(rows, measurements, strict=True):
        properties = _properties(row) | {"measurements": orjson.Fragment(measured)}
        for z, turns in planes(row):
            geometry = _geometry(turns, steps) | {"plane": {"c": -1, "z": z, "t": row["t"]}}
            yield _json({"type": "Feature", "geometry": geometry, "properties": properties})


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
    """The finite numbers of each row, with their names, as JSON."""
    told = table.dropna(axis="columns", how="all")
    values = told.to_numpy(float)
    finite = np.isfinite(values)
    template = np.array([f"{orjson.dumps(name).decode().replace('%', '%%')}:%.6g" for name in told])
    whole = ",".join(template)
    for row, known, complete in zip(values.tolist(), finite, finite.all(axis=1).tolist(), strict=True):
        if complete:
            yield f"{{{whole % tuple(row)}}}"
        else:
            yield f"{{{','.join(template[known]) % tuple(compress(row, known))}}}"


class Packed(NamedTuple):
    """A piece of a gzip file, which can be packed before what stands in front of it."""

    text: bytes
    deflated: bytes

    @classmethod
    def of(cls, text: bytes) -> "Packed":
        """Pack some text."""
        packer = zlib.compressobj(LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
        return cls(text, packer.compress(text) + packer.flush(zlib.Z_FULL_FLUSH))


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
    yield Packed.of(b'{"type": "FeatureCollection", "features": [\n')
    for number, group in enumerate(groups):
        if number:
            yield Packed.of(b",\n")
        yield group
    yield Packed.of(b"\n]}\n")
