"""Polygons that somebody drew in a viewer: read from GeoJSON, and filled."""

import gzip
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

Polygon = list[np.ndarray]  # (points, 2) x, y of the outer ring and of the holes, pixels


class Drawn(NamedTuple):
    """One thing that somebody drew."""

    polygons: list[Polygon]
    name: str  # its own
    kind: str  # its class
    t: int
    z: int


def read_drawn(path: str | Path) -> list[Drawn]:
    """Things with polygons of a GeoJSON file, packed or not, as QuPath exports them.

    Returns
    -------
    list of Drawn
        In the order of the file, in pixels, the corner of the image at (0, 0).

    Raises
    ------
    ValueError
        If it is no GeoJSON, or holds no polygon.
    """
    try:
        packed = Path(path).read_bytes()
        content = json.loads(gzip.decompress(packed) if packed[:2] == b"\x1f\x8b" else packed)
        found = [drawn for drawn in _features(content) if drawn.polygons]
    except (OSError, EOFError, AttributeError, KeyError, TypeError, IndexError, ValueError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(f"{path}: not whole GeoJSON ({type(error).__name__}: {error}); export it again") from error
    if not found:
        raise ValueError(f"{path}: no polygon in it; draw the region as one and export it as GeoJSON")
    return found


def read_regions(path: str | Path) -> list[Polygon]:
    """All polygons of a GeoJSON file, see `read_drawn`."""
    return [polygon for drawn in read_drawn(path) for polygon in drawn.polygons]


def _features(content) -> Iterator[Drawn]:
    """Of a feature, a collection of them, a list or a geometry."""
    if isinstance(content, list):
        for item in content:
            yield from _features(item)
    elif content["type"] == "FeatureCollection":
        yield from _features(content["features"])
    elif content["type"] == "Feature":
        yield _feature(content["geometry"], content.get("properties") or {})
    else:
        yield _feature(content, {})


def _feature(geometry: dict, properties: dict[str, Any]) -> Drawn:
    polygons = [[np.array(ring, float)[:, :2] for ring in polygon] for polygon in _polygons(geometry)]
    plane, kind = geometry.get("plane") or {}, properties.get("classification") or {}
    name = properties.get("name") or ""
    return Drawn(polygons, str(name), str(kind.get("name") or ""), int(plane.get("t", 0)), int(plane.get("z", 0)))


def _polygons(geometry: dict) -> Iterator[list]:
    if geometry["type"] == "GeometryCollection":
        for part in geometry["geometries"]:
            yield from _polygons(part)
    elif geometry["type"] == "MultiPolygon":
        yield from geometry["coordinates"]
    elif geometry["type"] == "Polygon":
        yield geometry["coordinates"]


def inside(polygons: list[Polygon], shape: tuple[int, int], steps: Sequence[float] = (1.0, 1.0)) -> np.ndarray:
    """Pixels whose centres lie in a polygon.

    Parameters
    ----------
    polygons
        See `read_regions`.
    shape : (y, x)
    steps : (y, x)
        Pixels of the polygons in one of the mask.

    Returns
    -------
    (y, x) bool
    """
    found = np.zeros(shape, bool)
    for rings in polygons:
        scaled = [ring[:, ::-1] / steps - 0.5 for ring in rings]
        points = np.concatenate(scaled)
        low, high = (np.clip(np.ceil(end(axis=0)), 0, shape).astype(int) for end in (points.min, points.max))
        window = tuple(map(slice, low, high))
        found[window] |= _filled([ring - low for ring in scaled], tuple(high - low))
    return found


def _filled(rings: list[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """Grid points with an odd number of edges to their left, of closed rings (points, 2) of y, x.

    The time is that of the rows which each edge crosses, not of pixels times corners.
    """
    ends = np.stack([np.concatenate(rings), np.concatenate([np.roll(ring, -1, axis=0) for ring in rings])])
    upper, lower = np.take_along_axis(ends, np.argsort(ends[:, :, :1], axis=0, kind="stable"), axis=0)
    first, last = (np.clip(np.ceil(side[:, 0]), 0, shape[0]).astype(int) for side in (upper, lower))
    rows = last - first
    edge = np.repeat(np.arange(len(rows)), rows)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(rows) - rows, rows) + first[edge]
    (y, x), (dy, dx) = upper[edge].T, (lower - upper)[edge].T
    column = np.clip(np.ceil(x + (row - y) * dx / dy), 0, shape[1]).astype(int)
    turns = np.zeros((shape[0], shape[1] + 1), bool)
    np.logical_xor.at(turns, (row, column), True)  # noqa: FBT003 - NumPy's own interface
    return np.logical_xor.accumulate(turns, axis=1)[:, :-1]
