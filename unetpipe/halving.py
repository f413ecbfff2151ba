"""Halves planes, as pyramids need it."""

from typing import Any

import numpy as np
from numba import int32, njit

compiled: Any = njit(nogil=True, cache=True, error_model="numpy")


def halve(plane: np.ndarray, *, kind: str) -> np.ndarray:
    """Halve the last two axes: mean of 2 × 2 for images, the first pixel for labels (no new values).

    Means of integers are rounded, halves to even ones; at odd sides the last pixels count twice.
    """
    if kind == "label":
        return plane[..., ::2, ::2]
    *rest, y, x = plane.shape
    planes = np.ascontiguousarray(plane.view(np.uint8) if plane.dtype == bool else plane).reshape(-1, y, x)
    small = np.empty((len(planes), -(-y // 2), -(-x // 2)), planes.dtype)
    if planes.dtype.kind == "f" or planes.dtype.itemsize > 2:
        _means(planes, small, planes.dtype.kind == "f")
    else:
        _rounded_means(planes, small)
    return small.reshape(*rest, *small.shape[1:]).astype(plane.dtype, copy=False)


@compiled
def _rounded_means(planes, small):
    """Of integers of up to 16 bits; in 32 bits throughout, so that the processor takes many at once."""
    last_y, last_x = planes.shape[1] - 1, planes.shape[2] - 1
    for number in range(small.shape[0]):
        for row in range(small.shape[1]):
            upper, lower, out = planes[number, 2 * row], planes[number, min(2 * row + 1, last_y)], small[number, row]
            for column in range(planes.shape[2] // 2):
                left, right = 2 * column, 2 * column + 1
                total = int32(int32(upper[left]) + int32(upper[right]) + int32(lower[left]) + int32(lower[right]))
                out[column] = _quarter(total)
            if last_x % 2 == 0:
                out[-1] = _quarter(int32(2 * (int32(upper[last_x]) + int32(lower[last_x]))))


@compiled
def _quarter(total):
    """Rounded, halves to even."""
    mean = int32(total >> 2)
    return int32(mean + int32(int32(int32(total & 3) + int32(mean & 1) + int32(1)) >> 2))


@compiled
def _means(planes, small, floating):
    last_y, last_x = planes.shape[1] - 1, planes.shape[2] - 1
    for number in range(small.shape[0]):
        for row in range(small.shape[1]):
            upper, lower = planes[number, 2 * row], planes[number, min(2 * row + 1, last_y)]
            for column in range(small.shape[2]):
                left, right = 2 * column, min(2 * column + 1, last_x)
                total = np.float64(upper[left]) + upper[right] + lower[left] + lower[right]
                small[number, row, column] = total / 4 if floating else np.rint(total / 4)
