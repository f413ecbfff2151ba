"""Outlines of objects as GeoJSON that QuPath imports: polygons with holes, measurements, ids."""

import gzip
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import ndimage

from unetpipe.manifest import replacing
from unetpipe.shapes import rings, signed_area

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
    found = sorted(rings(mask), key=signed_area, reverse=True)
    if sum(signed_area(ring) > 0 for ring in found) < 2:
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
    for row, values in zip(table.to_dict("records"), table[names].to_numpy(float), strict=True):
        properties = _properties(row, names, values)
        y, x = (slice(row[a] - c, row[b] - c) for a, b, c in zip(*SIDES, corner[1:], strict=True))
        for z in range(row.get("front", 0), row.get("back", 1)):
            mask = labels[z - corner[0], y, x] == row["id"]
            if mask.any():
                geometry = outline(mask, row["top"], row["left"], steps) | {"plane": {"c": -1, "z": z, "t": row["t"]}}
                yield f'{{"type": "Feature", "geometry": {json.dumps(geometry)}, "properties": {properties}}}'


def _properties(row: dict, names: list[str], values: np.ndarray) -> str:
    """`series` and `id` are those of the object's row in the table."""
    told = {
        "objectType": "detection",
        "name": f"{row['series']} {row['id']}",
        "series": row["series"],
        "id": row["id"],
        "classification": {"name": f"class {row['class']}", "color": COLOUR},
    }
    finite = zip(names, values.tolist(), np.isfinite(values).tolist(), strict=True)
    measurements = ", ".join(f"{json.dumps(name)}: {value:.6g}" for name, value, known in finite if known)
    return f'{json.dumps(told)[:-1]}, "measurements": {{{measurements}}}}}'


def write_features(path: str | Path, features: Iterable[str]) -> None:
    """Stream features into a gzip-packed FeatureCollection whose bytes depend on nothing but them."""
    with replacing(path) as aside, open(aside, "wb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed:
        packed.write(b'{"type": "FeatureCollection", "features": [')
        for number, text in enumerate(features):
            packed.write(f"{',' if number else ''}\n{text}".encode())
        packed.write(b"\n]}\n")
