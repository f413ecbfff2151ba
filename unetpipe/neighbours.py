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
    reach = [int(radius / step) for step in spacing]
    for offset in np.ndindex(*(2 * r + 1 for r in reach)):
        vector = [o - r for o, r in zip(offset, reach, strict=True)]
        length = sum((v * step) ** 2 for v, step in zip(vector, spacing, strict=True))
        fits = all(abs(v) < size for v, size in zip(vector, shape, strict=True))
        if 0 < length <= radius**2 and fits:
            here = tuple(slice(max(0, -v), size - max(0, v)) for v, size in zip(vector, shape, strict=True))
            yield here, tuple(slice(w.start + v, w.stop + v) for w, v in zip(here, vector, strict=True))


def close_gaps(labels: np.ndarray, distance: int) -> np.ndarray:
    """Grow objects into the background between them, without fusing them; free outlines stay.

    Parameters
    ----------
    labels : (y, x) int
    distance : int
        Pixels. A pixel goes to the nearest object within `distance`, at equal distance to the
        lowest id, if another object is within 2 `distance` + 1: nothing farther away decides.

    Returns
    -------
    (y, x) int
    """
    if distance == 0 or not labels.any():
        return labels
    reach, none = 2 * distance + 1, np.iinfo(labels.dtype).max
    padded = np.pad(labels, reach)
    flat, width = padded.ravel(), padded.shape[1]
    places = _free_pixels(padded, distance, margin=reach)
    nearest = np.full(len(places), none, labels.dtype)
    lowest, highest = nearest.copy(), np.zeros_like(nearest)
    for ring in _by_distance(reach):
        for y, x in ring:
            ids = flat.take(places + (y * width + x))
            np.maximum(highest, ids, out=highest)
            np.minimum(lowest, np.where(ids == 0, none, ids), out=lowest)
        nearest = np.where(nearest == none, lowest, nearest)
    grown = lowest < highest
    flat[places[grown]] = nearest[grown]
    return padded[reach:-reach, reach:-reach]


def _free_pixels(labels: np.ndarray, distance: int, margin: int) -> np.ndarray:
    """Raster indices of the background within a distance of an object, but for a margin around the image."""
    objects = labels > 0
    near = np.zeros_like(objects)
    inside = near[margin:-margin, margin:-margin]
    for y, x in (step for ring in _by_distance(distance) for step in ring):
        inside |= objects[margin + y :, margin + x :][: inside.shape[0], : inside.shape[1]]
    inside &= ~objects[margin:-margin, margin:-margin]
    return np.flatnonzero(near)


def _by_distance(distance: int) -> list[list[tuple[int, int]]]:
    """Shifts of (y, x) within a distance, those of equal length together, short ones first."""
    steps = product(range(-distance, distance + 1), repeat=2)
    ranked = sorted((y * y + x * x, (y, x)) for y, x in steps if 0 < y * y + x * x <= distance**2)
    return [[step for _, step in group] for _, group in groupby(ranked, key=itemgetter(0))]
