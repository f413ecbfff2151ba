"""Which objects are near a pixel: what opening and closing the gaps between them needs."""

from collections.abc import Iterator, Sequence

import numpy as np


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


def _shifts(shape, radius: float, spacing) -> Iterator[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """Pairs of windows that lie one vector of at most that length apart, inside the image."""
    reach = [int(radius / step) for step in spacing]
    for offset in np.ndindex(*(2 * r + 1 for r in reach)):
        vector = [o - r for o, r in zip(offset, reach, strict=True)]
        length = sum((v * step) ** 2 for v, step in zip(vector, spacing, strict=True))
        fits = all(abs(v) < size for v, size in zip(vector, shape, strict=True))
        if 0 < length <= radius**2 and fits:
            here = tuple(slice(max(0, -v), size - max(0, v)) for v, size in zip(vector, shape, strict=True))
            yield here, tuple(slice(w.start + v, w.stop + v) for w, v in zip(here, vector, strict=True))
