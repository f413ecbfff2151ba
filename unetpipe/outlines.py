"""Outlines of objects as GeoJSON that QuPath imports: polygons with holes, measurements, ids."""

import gzip
import io
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from skimage.measure import find_contours

from unetpipe.manifest import replacing


def outline(mask: np.ndarray, top: int, left: int, steps: tuple[float, ...] = (1.0, 1.0)) -> dict:
    """GeoJSON geometry of one object, in pixels of the file, with the corner of the image at (0, 0).

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
        Polygon or MultiPolygon. Every pixel centre inside the object, and no other, is inside.
    """
    contours = find_contours(np.pad(mask, 1).astype(np.float32), 0.5)
    rings = [(contour[:, ::-1] - 0.5 + (left, top)) * steps[::-1] for contour in contours]
    areas = np.array([_signed_area(ring) for ring in rings])
    outside = np.sign(areas[np.argmax(np.abs(areas))])
    holes = [ring for ring, area in zip(rings, areas, strict=True) if area * outside < 0]
    polygons = [_polygon(ring, holes) for ring, area in zip(rings, areas, strict=True) if area * outside > 0]
    if len(polygons) == 1:
        return {"type": "Polygon", "coordinates": polygons[0]}
    return {"type": "MultiPolygon", "coordinates": polygons}


def _signed_area(ring: np.ndarray) -> float:
    x, y = ring.T
    return float((x[:-1] * y[1:] - x[1:] * y[:-1]).sum() / 2)


def _polygon(ring: np.ndarray, holes: list[np.ndarray]) -> list:
    """An outer ring with the holes in its box; objects are 4-connected, so boxes that nest hold."""
    low, high = ring.min(axis=0), ring.max(axis=0)
    own = [hole for hole in holes if (hole >= low).all() and (hole <= high).all()]
    return [np.round(part, 2).tolist() for part in (ring, *own)]


def feature(geometry: dict, *, series: str, number: int, kind: str, measurements: dict) -> dict:
    """A QuPath detection: `series` and `id` are those of the object's row in the table."""
    return {
        "type": "Feature",
        "geometry": geometry,
        "properties": {
            "objectType": "detection",
            "name": f"{series} {number}",
            "series": series,
            "id": number,
            "classification": {"name": kind, "color": [200, 0, 0]},
            "measurements": measurements,
        },
    }


def write_features(path: str | Path, features: Iterable[dict]) -> None:
    """Stream features into a gzip-packed FeatureCollection whose bytes depend on nothing but them."""
    with replacing(path) as aside, open(aside, "wb") as raw:
        with gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed, io.TextIOWrapper(packed, "utf-8") as text:
            text.write('{"type": "FeatureCollection", "features": [')
            for number, item in enumerate(features):
                text.write((",\n" if number else "\n") + json.dumps(item))
            text.write("\n]}\n")
