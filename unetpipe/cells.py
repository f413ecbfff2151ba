"""What lies where in an annotated plane: in square cells, the pixels of every kind; `weights` counts them once."""

import math

import numpy as np

CELL = 64  # side of a cell, pixels, where the chunk is a multiple of it
NEAR = 0.25  # share of w0 from which on a pixel counts as border


def cell_side(chunk: int) -> int:
    """Side of the cells of a series, a divisor of its chunk."""
    return math.gcd(CELL, chunk)


def count_kinds(target: np.ndarray, near: np.ndarray, classes: int, cell: int) -> np.ndarray:
    """Pixels of each class but the background, of borders, and of all that is annotated, in every cell.

    Parameters
    ----------
    target : (z, y, x) uint8
        Classes, 255 where nobody annotated.
    near : (z, y, x) bool
        Pixels near a border.

    Returns
    -------
    (classes + 1, z, ⌈y / cell⌉, ⌈x / cell⌉) uint16
    """
    kinds = [target < classes, *(target == number for number in range(1, classes)), near]
    depth, *plane = target.shape
    y, x = (-(-side // cell) for side in plane)
    padded = np.zeros((len(kinds), depth, y * cell, x * cell), bool)
    padded[:, :, : plane[0], : plane[1]] = kinds
    return padded.reshape(len(kinds), depth, y, cell, x, cell).sum(axis=(3, 5), dtype=np.uint16)
