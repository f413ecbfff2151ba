"""Grey values: counted, and as a network sees them, the same in training and prediction."""

from collections.abc import Sequence

import numpy as np

PENDING = 2**17  # values, each with its number of pixels, that wait to be added up


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


def counted(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The different values and how often each is there."""
    if values.dtype.kind in "ui" and values.dtype.itemsize <= 2:
        least = np.iinfo(values.dtype).min
        counts = np.bincount(values.astype(np.int64).ravel() - least)
        return np.flatnonzero(counts) + least, counts[counts > 0]
    return np.unique(values, return_counts=True)


class Counts:
    """How many pixels have each value."""

    def __init__(self) -> None:
        self.values, self.numbers = np.empty(0), np.empty(0, np.int64)
        self.pending: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, values: np.ndarray, numbers: np.ndarray) -> None:
        """Count some more."""
        self.pending.append((values, numbers))
        if sum(len(waiting) for waiting, _ in self.pending) > max(PENDING, len(self.values)):
            self._add_up()

    def _add_up(self) -> None:
        values, numbers = (
            np.concatenate(both) for both in zip((self.values, self.numbers), *self.pending, strict=True)
        )
        self.values, place = np.unique(values.astype(np.float64), return_inverse=True)
        self.numbers, self.pending = np.zeros(len(self.values), np.int64), []
        np.add.at(self.numbers, place, numbers)

    def statistics(self, percents: Sequence[float]) -> np.ndarray:
        """Mean, standard deviation and percentiles, by linear interpolation."""
        self._add_up()
        behind = np.cumsum(self.numbers)
        mean = (self.values * self.numbers).sum() / behind[-1]
        deviation = np.sqrt(((self.values - mean) ** 2 * self.numbers).sum() / behind[-1])
        places = np.asarray(percents) / 100 * (behind[-1] - 1)
        below = places.astype(np.int64)
        low, high = (self.values[np.searchsorted(behind, rank, "right")] for rank in (below, np.ceil(places)))
        return np.array([mean, deviation, *(low + (places - below) * (high - low))])
