"""Shapes and grey values of objects, the numbers of scikit-image's `regionprops`, compiled."""

from typing import Any, NamedTuple

import numpy as np
from numba import njit

compiled: Any = njit(nogil=True, cache=True, error_model="numpy")
# Weights of a border pixel by what it meets on the border: 2 for each side, 10 for each corner (Benkrid et al. 2000)
STEPS = np.zeros(51)
STEPS[[5, 7, 15, 17, 25, 27]] = 1
STEPS[[21, 33]] = np.sqrt(2)
STEPS[[13, 23]] = (1 + np.sqrt(2)) / 2
EMPTY = -(2**40)  # end of a row without pixels
SIDES, CORNERS = ((0, 1), (0, -1), (1, 0), (-1, 0)), ((1, 1), (1, -1), (-1, 1), (-1, -1))


class Shapes(NamedTuple):
    """One row per object."""

    area: np.ndarray  # (n,) pixels
    centroid: np.ndarray  # (n, 3) z, y, x
    covariance: np.ndarray  # (n, 3, 3) of the pixels' places
    perimeter: np.ndarray  # (n,) pixels; of a plane's objects, else NaN
    convex: np.ndarray  # (n,) pixels of the convex hull, likewise


def shapes(labels: np.ndarray, ids: np.ndarray, boxes: np.ndarray) -> Shapes:
    """Measure some objects, each in its box.

    Parameters
    ----------
    labels : (z, y, x) uint32 or uint64
        Instance labels.
    ids : (n,) int
    boxes : (n, 2, 3) int
        Where each begins and ends.
    """
    found = np.empty((len(ids), 12))
    _shapes(labels, ids.astype(labels.dtype), boxes, found)
    covariance = found[:, [4, 5, 6, 5, 7, 8, 6, 8, 9]].reshape(-1, 3, 3)
    return Shapes(found[:, 0], found[:, 1:4], covariance, found[:, 10], found[:, 11])


def statistics(labels: np.ndarray, values: np.ndarray, ids: np.ndarray, boxes: np.ndarray, percents=()) -> np.ndarray:
    """Mean, standard deviation and percentiles, by linear interpolation, of what lies under some objects.

    Parameters
    ----------
    labels, ids, boxes
        See `shapes`.
    values : (v, z, y, x)
    percents : sequence of float

    Returns
    -------
    (n, v, 2 + len(percents)) float64
    """
    values = values if values.dtype in (np.uint8, np.uint16) else values.astype(np.float64)  # each type is compiled
    found = np.empty((len(ids), len(values), 2 + len(percents)))
    _statistics(labels, values, ids.astype(labels.dtype), boxes, np.asarray(percents, np.float64), found)
    return found


@compiled
def _mask(labels, number, box):
    return labels[box[0, 0] : box[1, 0], box[0, 1] : box[1, 1], box[0, 2] : box[1, 2]] == number


@compiled
def _shapes(labels, ids, boxes, found):
    for k in range(len(ids)):
        mask = _mask(labels, ids[k], boxes[k])
        found[k, :10] = moments(mask)
        found[k, 1:4] += boxes[k, 0]
        found[k, 10] = perimeter(mask[0], 0) if len(labels) == 1 else np.nan
        found[k, 11] = hull_area(*row_ends(mask[0])) if len(labels) == 1 else np.nan


@compiled
def _statistics(labels, values, ids, boxes, percents, found):
    for k in range(len(ids)):
        mask = _mask(labels, ids[k], boxes[k])
        inside = np.empty(mask.sum())
        for v in range(len(values)):
            _gather(values[v], mask, boxes[k, 0], inside)
            _summarise(inside, percents, found[k, v])


@compiled
def moments(mask):
    """Number of pixels of a mask (z, y, x), their mean place and its covariances zz, zy, zx, yy, yx, xx."""
    n, sz, sy, sx, zz, zy, zx, yy, yx, xx = 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
    for z in range(mask.shape[0]):
        for y in range(mask.shape[1]):
            for x in range(mask.shape[2]):
                if mask[z, y, x]:
                    n, sz, sy, sx = n + 1, sz + z, sy + y, sx + x
                    zz, zy, zx = zz + z * z, zy + z * y, zx + z * x
                    yy, yx, xx = yy + y * y, yx + y * x, xx + x * x
    found = np.zeros(10)
    if n == 0:
        return found
    cz, cy, cx = sz / n, sy / n, sx / n
    found[:4] = np.array((float(n), cz, cy, cx))
    found[4:7] = np.array((zz / n - cz * cz, zy / n - cz * cy, zx / n - cz * cx))
    found[7:10] = np.array((yy / n - cy * cy, yx / n - cy * cx, xx / n - cx * cx))
    return found


@compiled
def _inside(mask, y, x):
    return 0 <= y < mask.shape[0] and 0 <= x < mask.shape[1] and mask[y, x]


@compiled
def perimeter(mask, rim):
    """That of a mask (y, x), as far as its pixels lie at least `rim` from its ends: 2 where it goes on beyond them."""
    border = mask.copy()
    for y in range(mask.shape[0]):
        for x in range(mask.shape[1]):
            for dy, dx in SIDES:
                if not _inside(mask, y + dy, x + dx):
                    break
            else:
                border[y, x] = False
    length = 0.0
    for y in range(rim, mask.shape[0] - rim):
        for x in range(rim, mask.shape[1] - rim):
            if border[y, x]:
                met = 1
                for dy, dx in SIDES:
                    met += 2 * _inside(border, y + dy, x + dx)
                for dy, dx in CORNERS:
                    met += 10 * _inside(border, y + dy, x + dx)
                length += STEPS[met]
    return length


@compiled
def row_ends(mask):
    """The first pixel of each row of a mask (y, x), negative, and the last; both `EMPTY` where there is none."""
    rows = len(mask)
    low, high = np.empty(rows, np.int64), np.empty(rows, np.int64)
    for y in range(rows):
        across = np.flatnonzero(mask[y])
        low[y], high[y] = (-across[0], across[-1]) if len(across) else (EMPTY, EMPTY)
    return low, high


@compiled
def hull_area(low, high):
    """Pixels whose centres the convex hull of all pixels, taken as diamonds of half a pixel, holds; see `row_ends`."""
    right, left = _farthest(high), _farthest(low)
    area = 0
    for y in range(len(low)):
        area += right[y] + left[y] + 1
    return float(area)


@compiled
def _farthest(ends):
    """For each row the last pixel inside the hull of diamonds at the rows' ends."""
    heights, places = np.empty(2 * len(ends) + 1, np.int64), np.empty(2 * len(ends) + 1, np.int64)
    count = 0
    for step in range(2 * len(ends) + 1):  # half rows: a diamond reaches from one above its row to one below
        if step % 2:
            place = 2 * ends[step // 2] + 1
        else:
            before, behind = ends[max(0, step // 2 - 1)], ends[min(len(ends) - 1, step // 2)]
            place = 2 * max(before, behind)
        if place < EMPTY:
            continue
        while count > 1 and _turns_out(heights, places, count, step, place):
            count -= 1
        heights[count], places[count] = step, place
        count += 1
    last, found = 0, np.empty(len(ends), np.int64)
    for y in range(len(ends)):
        while heights[last + 1] < 2 * y + 1:
            last += 1
        wide, along = heights[last + 1] - heights[last], 2 * y + 1 - heights[last]
        found[y] = (places[last] * wide + (places[last + 1] - places[last]) * along) // (2 * wide)
    return found


@compiled
def _turns_out(heights, places, count, height, place):
    """Whether the last corner of a hull lies on or inside the line from the one before to a new one."""
    h1, p1, h2, p2 = heights[count - 2], places[count - 2], heights[count - 1], places[count - 1]
    return (p2 - p1) * (height - h1) <= (place - p1) * (h2 - h1)


@compiled
def _gather(values, mask, corner, inside):
    n = 0
    for z in range(mask.shape[0]):
        for y in range(mask.shape[1]):
            for x in range(mask.shape[2]):
                if mask[z, y, x]:
                    inside[n] = values[corner[0] + z, corner[1] + y, corner[2] + x]
                    n += 1


@compiled
def _summarise(inside, percents, out):
    out[0], out[1] = inside.mean(), inside.std()
    if len(percents):
        ranked = np.sort(inside)
        for k in range(len(percents)):
            place = percents[k] / 100 * (len(ranked) - 1)
            below = int(place)
            above = min(below + 1, len(ranked) - 1)
            out[2 + k] = ranked[below] + (place - below) * (ranked[above] - ranked[below])
