"""Whether images follow one another, as frames of a time-lapse or serial sections do: neighbours are alike."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from unetpipe.readers.series import Series

SIDE = 512  # pixels of the middle of an image that are looked at
COARSE = 16  # pixels whose mean is compared
FEWEST = 6  # images from which it can be told
APART = 3  # images that lie so far apart are strangers
MOST = 1000  # images whose strangers are compared, evenly spread: their pairs grow with the square
ALIKE = 0.3  # correlation below which images are not alike, however much less the others are


def neighbours_alike(images: Sequence[Series]) -> tuple[float, float] | None:
    """How alike images are that follow one another, and others, if the former are plainly more alike.

    Parameters
    ----------
    images : sequence of Series
        In the order of their names.

    Returns
    -------
    (float, float), optional
        Median correlation of neighbours, 90th percentile of the others; None where neighbours are not above that, or
        not alike.
    """
    if len(images) < FEWEST:
        return None
    side = min(SIDE, *(min(image.shape[-2:]) for image in images)) // COARSE * COARSE
    if not side:
        return None
    coarse = [_coarse(image, side) for image in images]
    near = float(np.median([np.corrcoef(*pair)[0, 1] for pair in pairwise(coarse)]))
    spread = coarse[:: -(-len(coarse) // MOST)]
    far = float(np.percentile(np.corrcoef(spread)[np.triu_indices(len(spread), APART)], 90))
    return (near, far) if near > max(far, ALIKE) else None


def _coarse(image: Series, side: int) -> np.ndarray:
    """Means over the middle of an image's first channel, at its middle plane and time."""
    t, _, z, y, x = image.shape
    top, left = (y - side) // 2, (x - side) // 2
    place = (slice(t // 2, t // 2 + 1), slice(0, 1), slice(z // 2, z // 2 + 1))
    pixels = image.read((*place, slice(top, top + side), slice(left, left + side)))[0, 0, 0].astype(np.float64)
    means = pixels.reshape(side // COARSE, COARSE, side // COARSE, COARSE).mean(axis=(1, 3)).ravel()
    return means if means.std() else means + np.arange(means.size)  # a flat image is like no other
