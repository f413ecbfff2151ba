"""Which objects are near a pixel: what opening and closing the gaps between them needs."""

from collections.abc import Iterator, Sequence
from itertools import groupby, product
from operator import itemgetter

import numpy as np

from unetpipe.geometry import Region


def extreme_ids(
    labels: np.ndarray, radius: float, spacing: Sequence[float] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest id of the objects within a distance of every pixel.

    Parameters
    ----------
    labels : (*space) int
        Instance labels below the highest number of their type, 0 is background.
    radius : float
        In the unit of the spacing.
    spacing : sequence of float, optional
        Length of a step along each axis; 1 everywhere if not given.

    Returns
    -------
    lowest, highest : (*space) int
        Equal where all objects in reach are one; lowest above highest where there is none.
    """
    highest = labels.copy()
    ranked = np.where(labels == 0, np.iinfo(labels.dtype).max, labels)
    lowest = ranked.copy()
    for here, there in _shifts(labels.shape, radius, spacing or (1.0,) * labels.ndim):
        np.maximum(highest[here], labels[there], out=highest[here])
        np.minimum(lowest[here], ranked[there], out=lowest[here])
    return lowest, highest


def _shifts(shape, radius: float, spacing) -> Iterator[tuple[Region, Region]]:
    """Pairs of windows that lie one vector of at most that length apart, inside the image."""
    for vector in (step for shell in _by_distance(radius, spacing) for step in shell):
        if all(abs(v) < size for v, size in zip(vector, shape, strict=True)):
            here = tuple(slice(max(0, -v), size - max(0, v)) for v, size in zip(vector, shape, strict=True))
            yield here, tuple(slice(w.start + v, w.stop + v) for w, v in zip(here, vector, strict=True))


def gap_reach(distance: int, spacing: Sequence[float]) -> list[int]:
    """How far `close_gaps` looks along each axis, pixels."""
    return [int((2 * distance + 1) / step) if distance else 0 for step in spacing]


def close_gaps(
    labels: np.ndarray, distance: int, spacing: Sequence[float] | None = None, region: Region | None = None
) -> np.ndarray:
    """Grow objects into the background between them, without fusing them; free outlines stay.

    Parameters
    ----------
    labels : (*space) int
    distance : int
        In the unit of the spacing. A pixel goes to the nearest object within `distance`, at equal distance to the
        lowest id, if another object is within 2 `distance` + 1: nothing farther away decides.
    spacing : sequence of float, optional
        Length of a step along each axis; 1 everywhere if not given.
    region : tuple of slice, optional
        What of the image is wanted; all of it if not given.

    Returns
    -------
    (*space) int
        Of the region.
    """
    region = region or tuple(slice(0, size) for size in labels.shape)
    if distance == 0 or not labels.any():
        return labels[region]
    spacing = spacing or (1.0,) * labels.ndim
    none, margins = np.iinfo(labels.dtype).max, gap_reach(distance, spacing)
    padded = np.pad(labels, [(margin, margin) for margin in margins])
    inner = tuple(slice(part.start + margin, part.stop + margin) for part, margin in zip(region, margins, strict=True))
    flat, pitch = padded.ravel(), np.array(padded.strides) // padded.itemsize
    places = _free_pixels(padded, distance, spacing, inner)
    nearest = np.full(len(places), none, labels.dtype)
    lowest, highest = nearest.copy(), np.zeros_like(nearest)
    for shell in _by_distance(2 * distance + 1, spacing):
        for step in shell:
            ids = flat.take(places + int(np.dot(step, pitch)))
            np.maximum(highest, ids, out=highest)
            np.minimum(lowest, np.where(ids == 0, none, ids), out=lowest)
        nearest = np.where(nearest == none, lowest, nearest)
    grown = lowest < highest
    flat[places[grown]] = nearest[grown]
    return padded[inner]


def _free_pixels(labels: np.ndarray, distance: int, spacing, inner: Region) -> np.ndarray:
    """Raster indices of the background inside that is within a distance of an object."""
    objects = labels > 0
    near = np.zeros_like(objects)
    inside = near[inner]
    for step in (step for shell in _by_distance(distance, spacing) for step in shell):
        inside |= objects[tuple(slice(part.start + s, part.stop + s) for part, s in zip(inner, step, strict=True))]
    inside &= ~objects[inner]
    return np.flatnonzero(near)


def _by_distance(radius: float, spacing) -> list[list[tuple[int, ...]]]:
    """Vectors of at most that length, those of equal length together, short ones first."""
    reach = [int(radius / step) for step in spacing]
    vectors = product(*(range(-most, most + 1) for most in reach))
    ranked = sorted((_square(vector, spacing), vector) for vector in vectors if any(vector))
    fitting = (pair for pair in ranked if pair[0] <= radius**2)
    return [[vector for _, vector in shell] for _, shell in groupby(fitting, key=itemgetter(0))]


def _square(vector, spacing) -> float:
    """Of the length; rounded, so that the order of the axes does not tell equal ones apart."""
    return round(sum((v * step) ** 2 for v, step in zip(vector, spacing, strict=True)), 9)
