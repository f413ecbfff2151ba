"""Outlines along the edges of pixels, made of their corners alone: those of blocks are those of the whole; compiled."""

from typing import Any

import numpy as np
from numba import njit

compiled: Any = njit(nogil=True, cache=True, error_model="numpy")
RIGHT, DOWN, FILLED = 1, 2, 4  # where the edges of a corner lead, else left and up; its pixel below and to the right


def corners(mask: np.ndarray, top: int = 0, left: int = 0) -> np.ndarray:
    """The corners at which the outline of a mask turns, in raster order.

    Parameters
    ----------
    mask : (y, x) bool
        Nothing lies around it.
    top, left : int
        Where it lies.

    Returns
    -------
    (n, 3) int32
        y, x and which edges meet there. Two where pixels meet at a corner only, that with the edge to the left first.
    """
    return _corners(_padded(mask), top, left)


def corners_of_part(pixels: np.ndarray, top: int = 0, left: int = 0) -> np.ndarray:
    """Those between the pixels (y + 1, x + 1) of a part of a mask; the first may lie at `top`, `left`."""
    return _corners(pixels, top, left)


def polygons(turns: np.ndarray) -> list[list[np.ndarray]]:
    """What the corners of a mask outline: of each component, joined by edges, the ring around it, then its holes.

    Parameters
    ----------
    turns : (n, 3) int32
        All its corners, in raster order, see `corners`.

    Returns
    -------
    list of list of (m, 2) int64
        Corners x, y of each ring, the first repeated at the end; none meets itself. Their signed area is positive
        around pixels, negative around holes.
    """
    points, ends, owner = _join(turns)
    if len(ends) == 1:
        return [[points]]
    found = np.split(points, ends[:-1]) if len(ends) else []
    holes = np.array([signed_area(ring) < 0 for ring in found], bool)
    component = _components(turns, owner, holes) if holes.any() else np.arange(len(found))
    whole: dict[int, list[np.ndarray]] = {}
    for number in np.lexsort([holes, component]).tolist():
        whole.setdefault(component[number], []).append(found[number])
    return [*whole.values()]


def signed_area(ring: np.ndarray) -> float:
    """Of a closed polygon (m, 2), x, y."""
    x, y = ring.T
    return float((x[:-1] * y[1:] - x[1:] * y[:-1]).sum() / 2)


@compiled
def _padded(mask):
    wide = np.zeros((mask.shape[0] + 2, mask.shape[1] + 2), np.bool_)
    wide[1:-1, 1:-1] = mask
    return wide


@compiled
def _corners(p, top, left):
    count = 0
    for i in range(p.shape[0] - 1):
        for j in range(p.shape[1] - 1):
            count += _number(p, i, j)
    found, n = np.empty((count, 3), np.int32), 0
    for i in range(p.shape[0] - 1):
        for j in range(p.shape[1] - 1):
            number, below = _number(p, i, j), FILLED * p[i + 1, j + 1]
            if number == 1:
                right, down = p[i, j + 1] != p[i + 1, j + 1], p[i + 1, j] != p[i + 1, j + 1]
                found[n] = top + i, left + j, RIGHT * right + DOWN * down + below
            elif number == 2:
                found[n] = top + i, left + j, DOWN * (not p[i, j]) + below
                found[n + 1] = top + i, left + j, RIGHT + DOWN * p[i, j] + below
            n += number
    return found


@compiled
def _number(p, i, j):
    """Corners between four pixels."""
    up, down = p[i, j] != p[i, j + 1], p[i + 1, j] != p[i + 1, j + 1]
    return 1 if up != down else 2 * (up and p[i, j] != p[i + 1, j])


@compiled
def _other_ends(turns):
    """The corner at the other end of each one's vertical edge; those of horizontal edges follow each other."""
    y, x = turns[:, 0].astype(np.int64), turns[:, 1].astype(np.int64)
    along = np.argsort((x << 32) + 2 * y + (turns[:, 2] & DOWN > 0))
    others = np.empty(len(turns), np.int64)
    others[along[::2]], others[along[1::2]] = along[1::2], along[::2]
    return others


@compiled
def _join(turns):
    """The rings, where each ends, and that of each corner which a path leaves downwards or upwards, else -1.

    A path has the pixels to its right and turns to the right where it may; where it meets itself, a ring is complete.
    """
    count, upright = len(turns), _other_ends(turns)
    owner, place, path = np.full(count, -1), np.full(count, -1), np.empty(count, np.int64)
    points, ends = np.empty((count + count // 4, 2), np.int64), np.empty(count // 4, np.int64)
    done, rises, rings, used = np.zeros(count, np.bool_), np.zeros(count, np.bool_), 0, 0
    for start in range(count):
        i, length, level = start, 0, turns[start, 2] & FILLED > 0
        while not done[start] or length:
            twin = _twin(turns, i)
            first = place[i] if place[i] >= 0 or twin < 0 else place[twin]
            if first >= 0:
                used = _close(turns, path[first:length], place, points, used)
                owner[path[first:length]] = rings
                ends[rings], rings, length = used, rings + 1, first
            if done[i]:
                break
            path[length], place[i], done[i], rises[i] = i, length, True, not level
            length += 1
            i, level = (i ^ 1 if level else upright[i]), not level
    return points[:used], ends[:rings], np.where(rises, owner, -1)


@compiled
def _twin(turns, i):
    """The other corner at a place, or -1."""
    for other in (i - 1, i + 1):
        if 0 <= other < len(turns) and turns[other, 0] == turns[i, 0] and turns[other, 1] == turns[i, 1]:
            return other
    return -1


@compiled
def _close(turns, loop, place, points, used):
    """Append a ring, without corners at which it goes straight on, and forget where they stand on the path."""
    begin = used
    for k in range(len(loop)):
        before, here, behind = turns[loop[k - 1]], turns[loop[k]], turns[loop[(k + 1) % len(loop)]]
        place[loop[k]] = -1
        if not ((before[0] == here[0] == behind[0]) or (before[1] == here[1] == behind[1])):
            points[used] = here[1], here[0]
            used += 1
    points[used] = points[begin]
    return used + 1


@compiled
def _components(turns, owner, holes):
    """The number of the ring around each one: left of a hole's first edge lies one of the same component."""
    upright, component = _other_ends(turns), np.arange(len(holes))
    known, count = ~holes, 0
    places, rings = np.empty(len(turns), np.int64), np.empty(len(turns), np.int64)  # edges that a row crosses
    row = 0
    while row < len(turns):
        end = row
        while end < len(turns) and turns[end, 0] == turns[row, 0]:
            end += 1
        for k in range(row, end):
            if not turns[k, 2] & DOWN:
                at = np.searchsorted(places[:count], turns[k, 1])
                places[at : count - 1], rings[at : count - 1] = places[at + 1 : count], rings[at + 1 : count]
                count -= 1
        for k in range(row, end):
            if turns[k, 2] & DOWN:
                at = np.searchsorted(places[:count], turns[k, 1])
                places[at + 1 : count + 1], rings[at + 1 : count + 1] = places[at:count].copy(), rings[at:count].copy()
                places[at], rings[at] = turns[k, 1], max(owner[k], owner[upright[k]])
                count += 1
        for k in range(row, end):
            if turns[k, 2] & DOWN:
                at = np.searchsorted(places[:count], turns[k, 1])
                if not known[rings[at]]:
                    component[rings[at]], known[rings[at]] = component[rings[at - 1]], True
        row = end
    return component
