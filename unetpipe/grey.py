"""Grey values as a network sees them, the same in training and prediction."""

import numpy as np


def to_unit(pixels: np.ndarray, statistics: dict, *, axis: int) -> np.ndarray:
    """Scale each channel so that the percentiles of its series become 0 and 1.

    Parameters
    ----------
    pixels : (…, c, …)
    statistics : dict
        `low` and `high`, one number per channel, see `mask.statistics`.
    axis : int
        Of the channels.

    Returns
    -------
    float32, values outside 0 … 1 where the image has them
    """
    shape = [-1 if number == axis else 1 for number in range(pixels.ndim)]
    low, high = (np.asarray(statistics[name], np.float32).reshape(shape) for name in ("low", "high"))
    return (pixels.astype(np.float32) - low) / np.maximum(high - low, np.float32(1e-6))
