"""The warping error: what is wrong about a segmentation beyond where exactly its borders run (Jain et al. 2010)."""

from functools import cache
from typing import Any

import numpy as np
from numba import njit
from scipy import ndimage

compiled: Any = njit(nogil=True, cache=True)
AROUND = ((-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1))
STRIP = 64  # pixels of a row that are looked at, or passed by, together
CENTRE = np.zeros((3, 3), bool)
CENTRE[1, 1] = True
CROSS, SQUARE = ndimage.generate_binary_structure(2, 1), ndimage.generate_binary_structure(2, 2)


def warping_error(truth: np.ndarray, found: np.ndarray, known: np.ndarray | None = None) -> float:
    """Share of pixels that differ after the truth was warped towards what was found.

    Pixels of the truth are flipped where that makes them agree and changes no topology, row by row until none is left:
    what remains are splits, mergers, holes and objects too many or too few.

    Parameters
    ----------
    truth, found : (y, x) bool
        Foreground; its pixels are connected through their sides, those of the background through corners too.
    known : (y, x) bool, optional
        Pixels that count, and that may be flipped; all by default.
    """
    inside = np.ones(truth.shape, bool) if known is None else known
    warped = np.pad(truth, 1).astype(np.uint8)
    target, free = np.pad(found, 1).astype(np.uint8), np.pad(inside, 1)
    _warp(warped, target, free, simple_points())
    return float(((warped != target) & free).sum() / max(1, inside.sum()))


@cache
def simple_points() -> np.ndarray:
    """Whether a pixel may be flipped without a change of topology, by its eight neighbours as the bits of a number."""
    table = np.zeros(256, bool)
    for number in range(256):
        window = np.zeros((3, 3), bool)
        for bit, (y, x) in enumerate(AROUND):
            window[1 + y, 1 + x] = number >> bit & 1
        objects, _ = ndimage.label(window, CROSS)
        touching = np.unique(objects[CROSS & window])
        background = ndimage.label(~window & ~CENTRE, SQUARE)[1]
        table[number] = len(touching) == 1 and background == 1
    return table


@compiled
def _warp(warped, target, free, simple):
    """Flip pixels, not those of the margin, until none that differs is simple.

    A sweep in raster order passes by strips of rows around which nothing has changed since they were looked at.
    """
    height, width = warped.shape
    due, changed = np.ones((height, width // STRIP + 1), np.bool_), True
    while changed:
        changed = False
        for y in range(1, height - 1):
            for strip in range(due.shape[1]):
                if not due[y, strip]:
                    continue
                due[y, strip] = False
                for x in range(max(1, strip * STRIP), min((strip + 1) * STRIP, width - 1)):
                    if free[y, x] and warped[y, x] != target[y, x]:
                        number = 0
                        for bit in range(8):
                            dy, dx = AROUND[bit]
                            number |= int(warped[y + dy, x + dx]) << bit
                        if simple[number]:
                            warped[y, x] = target[y, x]
                            due[y - 1 : y + 2, (x - 1) // STRIP : (x + 1) // STRIP + 1] = True
                            changed = True
