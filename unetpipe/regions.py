"""Regions of interest: polygons that somebody drew in a viewer, as masks."""

import gzip
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from skimage.draw import polygon2mask


def read_regions(path: str | Path) -> list[list[np.ndarray]]:
    """Polygons of a GeoJSON file, packed or not, as QuPath exports annotations.

    Returns
    -------
    list of list of (points, 2)
        x, y of the outer ring and of the holes of every polygon, in pixels, the corner of the image at (0, 0).

    Raises
    ------
    ValueError
        If it is no GeoJSON, or holds no polygon.
    """
    try:
        packed = Path(path).read_bytes()
        content = json.loads(gzip.decompress(packed) if packed[:2] == b"\x1f\x8b" else packed)
        found = [[np.array(ring, float)[:, :2] for ring in polygon] for polygon in _polygons(content)]
    except (OSError, EOFError, UnicodeDecodeError, KeyError, TypeError, IndexError, ValueError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(f"{path}: not whole GeoJSON ({type(error).__name__}: {error}); export it again") from error
    if not found:
        raise ValueError(f"{path}: no polygon in it; draw the region as one and export it as GeoJSON")
    return found


def _polygons(content) -> Iterator[list]:
    """Of a feature, a collection of them, a list or a geometry."""
    if isinstance(content, list):
        for item in content:
            yield from _polygons(item)
    elif content["type"] == "FeatureCollection":
        yield from _polygons(content["features"])
    elif content["type"] == "Feature":
        yield from _polygons(content["geometry"])
    elif content["type"] == "GeometryCollection":
        yield from _polygons(content["geometries"])
    elif content["type"] == "MultiPolygon":
        yield from content["coordinates"]
    elif content["type"] == "Polygon":
        yield content["coordinates"]


def inside(regions: list[list[np.ndarray]], shape: tuple[int, int], steps: Sequence[float] = (1.0, 1.0)) -> np.ndarray:
    """Pixels whose centres lie in a region.

    Parameters
    ----------
    regions
        See `read_regions`.
    shape : (y, x)
    steps : (y, x)
        Pixels of the regions in one of the mask.

    Returns
    -------
    (y, x) bool
    """
    found = np.zeros(shape, bool)
    for rings in regions:
        area = np.zeros(shape, bool)
        for ring in rings:
            area ^= polygon2mask(shape, ring[:, ::-1] / steps - 0.5)
        found |= area
    return found
