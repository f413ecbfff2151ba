"""Halves planes, as pyramids need it."""

from typing import Any

import numpy as np
from numba import njit

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
    (_means if plane.dtype.kind == "f" else _rounded_means)(planes, small)
    return small.reshape(*rest, *small.shape[1:]).astype(plane.dtype, copy=False)


@compiled
def _rounded_means(planes, small):
    last_y, last_x = planes.shape[1] - 1, planes.shape[2] - 1
    for number in range(small.shape[0]):
        for row in range(small.shape[1]):
            upper, lower = planes[number, 2 * row], planes[number, min(2 * row + 1, last_y)]
            for column in range(small.shape[2]):
                left, right = 2 * column, min(2 * column + 1, last_x)
                total = np.int64(upper[left]) + np.int64(upper[right]) + np.int64(lower[left]) + np.int64(lower[right])
                mean, part = total >> 2, total & 3
                small[number, row, column] = mean + ((part + (mean & 1)) > 2)


@compiled
def _means(planes, small):
    last_y, last_x = planes.shape[1] - 1, planes.shape[2] - 1
    for number in range(small.shape[0]):
        for row in range(small.shape[1]):
            upper, lower = planes[number, 2 * row], planes[number, min(2 * row + 1, last_y)]
            for column in range(small.shape[2]):
                left, right = 2 * column, min(2 * column + 1, last_x)
                total = np.float64(upper[left]) + upper[right] + lower[left] + lower[right]
                small[number, row, column] = total / 4
