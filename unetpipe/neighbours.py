"""Which objects are near a pixel: what opening and closing the gaps between them needs."""

import numpy as np
from scipy import ndimage


def extreme_ids(labels: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest id of the objects within a distance of every pixel.

    Parameters
    ----------
    labels : (*space) int
        Instance labels below 2^53 (SciPy filters in float64), 0 is background.
    radius : float
        Pixels.

    Returns
    -------
    lowest, highest : (*space) int
        Equal where all objects in reach are one; lowest above highest where there is none.
    """
    reach = int(radius)
    footprint = np.sum(np.square(np.indices((2 * reach + 1,) * labels.ndim) - reach), axis=0) <= radius**2
    highest = ndimage.maximum_filter(labels, footprint=footprint, mode="nearest")
    ranked = np.where(labels == 0, int(labels.max(initial=0)) + 1, labels.astype(np.int64))
    return ndimage.minimum_filter(ranked, footprint=footprint, mode="nearest"), highest
