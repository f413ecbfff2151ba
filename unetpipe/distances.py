"""How far the two nearest objects are: exact, in time linear in pixels, whatever the objects' number, size and shape.

Distances are separable: the two nearest different objects along one axis are all that the next axis needs to know.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit

FAR = 10**6  # steps; farther than any reach
BAND = 2**17  # pixels that are worked on together: few enough for the cache, if that is not less than a reach
CHUNK = 256  # pixels of a row that are looked at together: enough for vector units, few enough to skip empty ones
compiled: Any = njit(nogil=True, cache=True, error_model="numpy")


def two_nearest(labels: np.ndarray, *, reach: float, spacing: Sequence[float] | None = None) -> np.ndarray:
    """Distance to the nearest object plus that to the second nearest.

    Parameters
    ----------
    labels : (Y, X) or (Z, Y, X) int
        Instance labels, 0 is background; any ids up to 2^64 - 1.
    reach : float
        Sums from here on are not looked for; time grows in proportion.
    spacing : sequence of float, optional
        Length of a step along each axis, in the unit of `reach`; 1 everywhere if not given.

    Returns
    -------
    (*space) float32
        The sum, exact to rounding; infinite in objects and where it is not below `reach`.
    """
    ids = _unsigned(labels)
    steps, far = np.asarray(spacing or (1.0,) * labels.ndim, dtype=np.float32), np.float32(reach)
    flat, sums = ids.reshape(len(ids), -1), np.empty(ids.shape, np.float32)
    ahead, across = int(far / steps[0]), flat.shape[1]
    band = min(len(ids), max(1, ahead, BAND // across))
    met = _nobody(across, ids.dtype)
    space = np.empty(2 * band * across, ids.dtype), np.empty(2 * band * across, np.float32)
    for top in range(0, len(ids), band):
        bottom = min(len(ids), top + band)
        near = [part[: 2 * (bottom - top) * across].reshape(2, bottom - top, across) for part in space]
        _walk_down(flat, top, bottom, steps[0], *met, *near)
        _walk_up(flat, top, bottom, min(len(ids), bottom + ahead), steps[0], *near)
        if labels.ndim == 3:
            near = _along_middle(*(part.reshape(2, bottom - top, *ids.shape[1:]) for part in near), steps[1], far)
        rows = (-1, ids.shape[-1])
        parts = (ids[top:bottom].reshape(rows), *(part.reshape(2, *rows) for part in near))
        _along_last(*parts, steps[-1], far, sums[top:bottom].reshape(rows))
    return sums


def _unsigned(labels: np.ndarray) -> np.ndarray:
    """The same ids in one of the two types that are compiled."""
    kind = np.uint32 if labels.dtype.itemsize <= 4 else np.uint64
    whole = np.ascontiguousarray(labels)
    return whole.view(kind) if whole.dtype.itemsize == np.dtype(kind).itemsize else whole.astype(kind)


def _nobody(count: int, dtype):
    """The last two different objects that `count` walks have met, and where, before their first step."""
    return (
        np.zeros(count, dtype),
        np.full(count, -FAR, np.int32),
        np.zeros(count, dtype),
        np.full(count, -FAR, np.int32),
    )


@compiled
def _walk_down(labels, top, bottom, step, last, last_at, before, before_at, ids, squares):
    """The two nearest different objects above each pixel of some rows of (n, m): ids and squared distances."""
    for y in range(top, bottom):
        row = y - top
        for x in range(labels.shape[1]):
            passed = _pass(last[x], last_at[x], before[x], before_at[x], labels[y, x], y)
            last[x], last_at[x], before[x], before_at[x] = passed
            ids[0, row, x], squares[0, row, x] = passed[0], _square((y - passed[1]) * step)
            ids[1, row, x], squares[1, row, x] = passed[2], _square((y - passed[3]) * step)


@compiled
def _walk_up(labels, top, bottom, ahead, step, ids, squares):
    """Merge what lies below, from row `ahead` on: beyond it nothing is in reach."""
    m = labels.shape[1]
    last, last_at = np.zeros(m, labels.dtype), np.full(m, ahead + FAR, np.int32)
    before, before_at = np.zeros(m, labels.dtype), np.full(m, ahead + FAR, np.int32)
    for y in range(ahead - 1, bottom - 1, -1):
        for x in range(m):
            passed = _pass(last[x], last_at[x], before[x], before_at[x], labels[y, x], y)
            last[x], last_at[x], before[x], before_at[x] = passed
    for y in range(bottom - 1, top - 1, -1):
        row = y - top
        for x in range(m):
            passed = _pass(last[x], last_at[x], before[x], before_at[x], labels[y, x], y)
            last[x], last_at[x], before[x], before_at[x] = passed
            two = ids[0, row, x], squares[0, row, x], ids[1, row, x], squares[1, row, x]
            two = _merge(*two, passed[0], _square((passed[1] - y) * step))
            two = _merge(*two, passed[2], _square((passed[3] - y) * step))
            ids[0, row, x], squares[0, row, x], ids[1, row, x], squares[1, row, x] = two


@compiled
def _along_middle(ids, squares, step, reach):
    """Merge what `_along_first` found of (2, n, m, k) along axis 2 of it."""
    _, n, m, k = ids.shape
    found, nearest = np.zeros_like(ids), np.full_like(squares, np.inf)
    window = int(reach / step)
    for z in range(n):
        for y in range(m):
            for other in range(max(0, y - window), min(m, y + window + 1)):
                away = _square((other - y) * step)
                for x in range(k):
                    two = found[0, z, y, x], nearest[0, z, y, x], found[1, z, y, x], nearest[1, z, y, x]
                    two = _merge(*two, ids[0, z, other, x], squares[0, z, other, x] + away)
                    two = _merge(*two, ids[1, z, other, x], squares[1, z, other, x] + away)
                    found[0, z, y, x], nearest[0, z, y, x], found[1, z, y, x], nearest[1, z, y, x] = two
    return found, nearest


@compiled
def _along_last(labels, ids, squares, step, reach, sums):
    """The sum of both distances, from what the axes before found, of every row of (n, m)."""
    n, m = labels.shape
    sums[:] = np.inf
    window, half = int(reach / step), int(reach / 2 / step)
    first = np.zeros(m + 2 * window, labels.dtype)
    first_square = np.full(m + 2 * window, np.inf, np.float32)
    second_square = np.full(m + 2 * window, np.inf, np.float32)
    nearest, own, other = np.empty(CHUNK, np.float32), np.empty(CHUNK, labels.dtype), np.empty(CHUNK, np.float32)
    for y in range(n):
        inside = slice(window, window + m)
        first[inside] = ids[0, y]
        first_square[inside] = squares[0, y]
        second_square[inside] = squares[1, y]
        for start in range(0, m, CHUNK):
            width = min(CHUNK, m - start)
            background = labels[y, start : start + width] == 0
            nearest[:] = np.inf
            own[:] = 0
            other[:] = np.inf
            part = slice(start, start + width + 2 * window)
            _take_nearest(nearest[:width], own, first_square[part], first[part], half, step)
            closest = _least(nearest, background)
            if closest >= _square(reach / 2):
                continue
            seen = int((reach - np.sqrt(closest)) / step)
            _take_other(other[:width], own, first_square[part], first[part], second_square[part], seen, step)
            for x in range(width):
                total = np.sqrt(nearest[x]) + np.sqrt(other[x])
                sums[y, start + x] = total if background[x] and total < reach else np.inf


@compiled
def _take_nearest(nearest, own, squares, ids, reach, step):
    """The nearest object and its distance from the columns up to `reach` steps away."""
    width = len(nearest)
    middle = (len(ids) - width) // 2
    for shift in range(-reach, reach + 1):
        away = _square(shift * step)
        square_of, id_of = squares[middle + shift :], ids[middle + shift :]
        for x in range(width):
            square, best, known, seen = square_of[x] + away, nearest[x], own[x], id_of[x]
            own[x] = seen if square < best else known
            nearest[x] = square if square < best else best


@compiled
def _take_other(other, own, squares, ids, second_squares, reach, step):
    """The nearest that is not `own`: a column's second object where its first is `own`."""
    width = len(other)
    middle = (len(ids) - width) // 2
    for shift in range(-reach, reach + 1):
        away = _square(shift * step)
        square_of, id_of, second_of = squares[middle + shift :], ids[middle + shift :], second_squares[middle + shift :]
        for x in range(width):
            first, second, best = square_of[x], second_of[x], other[x]
            square = (second if id_of[x] == own[x] else first) + away
            other[x] = square if square < best else best


@compiled
def _least(values, where):
    least = np.float32(np.inf)
    for x in range(len(where)):
        value = values[x] if where[x] else np.float32(np.inf)
        least = min(least, value)
    return least


@compiled
def _square(length):
    return np.float32(length) * np.float32(length)


@compiled
def _pass(last, last_at, before, before_at, label, y):
    """The last two different objects that a walk has met, after one pixel more."""
    new = (label != 0) & (label != last)
    before, before_at = (last if new else before), (last_at if new else before_at)
    return (label if label != 0 else last), (y if label != 0 else last_at), before, before_at


@compiled
def _merge(near, near_square, far, far_square, label, square):
    """The two nearest different objects of two and one more."""
    nearer, known = square < near_square, label == near
    other = square if square < far_square else far_square
    pushed = near_square if nearer else other
    second = label if square < far_square else far
    ousted = near if nearer else second
    far_square, far = (far_square if known else pushed), (far if known else ousted)
    return (label if nearer else near), (square if nearer else near_square), far, far_square
