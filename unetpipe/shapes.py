"""Shapes and grey values of objects, the numbers of scikit-image's `regionprops`, compiled; and outlines of pixels."""

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
DOWN, ALONG = (0, 1, 0, -1), (1, 0, -1, 0)  # right, down, left, up
RIGHT = ((0, 0), (0, -1), (-1, -1), (-1, 0))  # from a corner to the pixel on the right hand of each way
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
        _moments(mask, found[k])
        found[k, 1:4] += boxes[k, 0]
        found[k, 10] = _perimeter(mask[0]) if len(labels) == 1 else np.nan
        found[k, 11] = _convex_area(mask[0]) if len(labels) == 1 else np.nan


@compiled
def _statistics(labels, values, ids, boxes, percents, found):
    for k in range(len(ids)):
        mask = _mask(labels, ids[k], boxes[k])
        inside = np.empty(mask.sum())
        for v in range(len(values)):
            _gather(values[v], mask, boxes[k, 0], inside)
            _summarise(inside, percents, found[k, v])


@compiled
def _moments(mask, found):
    """Pixels, their mean place and the covariances zz, zy, zx, yy, yx, xx of their places."""
    n, sz, sy, sx, zz, zy, zx, yy, yx, xx = 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
    for z in range(mask.shape[0]):
        for y in range(mask.shape[1]):
            for x in range(mask.shape[2]):
                if mask[z, y, x]:
                    n, sz, sy, sx = n + 1, sz + z, sy + y, sx + x
                    zz, zy, zx = zz + z * z, zy + z * y, zx + z * x
                    yy, yx, xx = yy + y * y, yx + y * x, xx + x * x
    cz, cy, cx = sz / n, sy / n, sx / n
    found[:4] = np.array((float(n), cz, cy, cx))
    found[4:7] = np.array((zz / n - cz * cz, zy / n - cz * cy, zx / n - cz * cx))
    found[7:10] = np.array((yy / n - cy * cy, yx / n - cy * cx, xx / n - cx * cx))


@compiled
def _inside(mask, y, x):
    return 0 <= y < mask.shape[0] and 0 <= x < mask.shape[1] and mask[y, x]


@compiled
def _perimeter(mask):
    border = mask.copy()
    for y in range(mask.shape[0]):
        for x in range(mask.shape[1]):
            for dy, dx in SIDES:
                if not _inside(mask, y + dy, x + dx):
                    break
            else:
                border[y, x] = False
    length = 0.0
    for y in range(mask.shape[0]):
        for x in range(mask.shape[1]):
            if border[y, x]:
                met = 1
                for dy, dx in SIDES:
                    met += 2 * _inside(border, y + dy, x + dx)
                for dy, dx in CORNERS:
                    met += 10 * _inside(border, y + dy, x + dx)
                length += STEPS[met]
    return length


@compiled
def _convex_area(mask):
    """Pixels whose centres the convex hull of all pixels, taken as diamonds of half a pixel, holds."""
    rows = len(mask)
    low, high = np.empty(rows, np.int64), np.empty(rows, np.int64)
    for y in range(rows):
        across = np.flatnonzero(mask[y])
        low[y], high[y] = (-across[0], across[-1]) if len(across) else (EMPTY, EMPTY)
    right, left = _farthest(high), _farthest(low)
    area = 0
    for y in range(rows):
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


def rings(mask: np.ndarray) -> list[np.ndarray]:
    """The outlines of a mask (y, x) along the edges of its pixels, as closed polygons that never meet themselves.

    Returns
    -------
    list of (m, 2) int64
        Corners x, y of each, the first repeated at the end; (0, 0) is the corner of the first pixel. Their signed area
        is positive around pixels, negative around holes.
    """
    corners, ends = _trace(mask, _edges(mask))
    return np.split(corners, ends[:-1]) if len(ends) else []


def signed_area(ring: np.ndarray) -> float:
    """Of a closed polygon (m, 2), x, y."""
    x, y = ring.T
    return float((x[:-1] * y[1:] - x[1:] * y[:-1]).sum() / 2)


@compiled
def _edges(mask):
    """How many edges of pixels divide the mask from what is around it."""
    count = 0
    for y in range(mask.shape[0]):
        for x in range(mask.shape[1]):
            if mask[y, x]:
                for dy, dx in SIDES:
                    count += not _inside(mask, y + dy, x + dx)
    return count


@compiled
def _trace(mask, edges):
    """Follow the edges with the pixels to the right; where a path meets itself, the loop is cut off."""
    done, seen = np.zeros(mask.shape, np.bool_), np.zeros((mask.shape[0] + 1, mask.shape[1] + 1), np.int64)
    path, corners = np.empty((edges + 1, 2), np.int64), np.empty((2 * edges + 1, 2), np.int64)
    ends, rings_, used = np.empty(edges + 1, np.int64), 0, 0
    for top in range(mask.shape[0]):
        for start in range(mask.shape[1]):
            if done[top, start] or not _leads(mask, top, start, 0):
                continue
            y, x, way, count = top, start, 0, 0
            while True:
                if seen[y, x]:
                    first = seen[y, x] - 1
                    used = _cut_off(path[first:count], seen, corners, used)
                    ends[rings_] = used
                    rings_, count = rings_ + 1, first
                if way == 0 and done[y, x]:
                    break
                path[count] = x, y
                count += 1
                seen[y, x] = count
                if way == 0:
                    done[y, x] = True
                y, x = y + DOWN[way], x + ALONG[way]
                way = _next_way(mask, y, x, way)
    return corners[:used], ends[:rings_]


@compiled
def _leads(mask, y, x, way):
    """Whether an edge leaves a corner that way."""
    right, left = RIGHT[way], RIGHT[(way + 3) % 4]
    return _inside(mask, y + right[0], x + right[1]) and not _inside(mask, y + left[0], x + left[1])


@compiled
def _next_way(mask, y, x, way):
    """To the left where there is a choice: pixels that meet at a corner lie inside one path."""
    for turn in (3, 0, 1):
        if _leads(mask, y, x, (way + turn) % 4):
            return (way + turn) % 4
    return way


@compiled
def _cut_off(loop, seen, corners, used):
    """Append the corners of a loop, where it turns, and forget that it was seen."""
    begin = used
    for k in range(len(loop)):
        (x0, y0), (x, y), (x1, y1) = loop[k - 1], loop[k], loop[(k + 1) % len(loop)]
        seen[y, x] = 0
        if (x - x0) * (y1 - y) != (y - y0) * (x1 - x):
            corners[used] = x, y
            used += 1
    corners[used] = corners[begin]
    return used + 1
