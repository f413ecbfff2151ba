"""Where tiles are centred: anywhere, or on objects, borders and rare classes, which an index of every series finds."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch


class Place(NamedTuple):
    """The middle of a tile."""

    space: int  # number of the annotated plane or volume
    at: tuple[int, int, int]  # z, y, x


class Places:
    """Draws the middles of tiles from the indexes of all annotated planes or volumes.

    Parameters
    ----------
    counts : sequence of (kinds, z, y, x)
        The index of each, see `cells.count_kinds`; its first kind is all that is annotated.
    shapes : sequence of (z, y, x)
        Their sides, pixels.
    cells : sequence of int
        Sides of their cells.

    Raises
    ------
    ValueError
        If nothing at all is annotated.
    """

    def __init__(self, counts: Sequence[np.ndarray], shapes: Sequence[tuple[int, ...]], cells: Sequence[int]):
        self.grids = [count.shape[1:] for count in counts]
        self.shapes, self.cells = shapes, cells
        self.sums = [count.reshape(len(count), -1).cumsum(axis=1, dtype=np.int64) for count in counts]
        totals = np.stack([sums[:, -1] for sums in self.sums], axis=1).cumsum(axis=1)
        if totals[0, -1] == 0:
            raise ValueError("no pixel of the training truths is annotated; set truth.ignore to another value")
        self.totals = totals
        self.rare = [kind for kind in range(1, len(totals)) if totals[kind, -1]]

    def draw(self, anywhere: float, generator: torch.Generator) -> Place:
        """One middle.

        Parameters
        ----------
        anywhere : float
            Share of tiles whose middle is any annotated pixel; the others lie in the cell of a pixel whose
            kind is drawn first, every class but the background and the borders alike.
        generator : torch.Generator
            On the CPU.
        """
        lot, which, pixel, *inside = torch.rand(5, generator=generator, dtype=torch.float64).tolist()
        kind = 0 if lot < anywhere or not self.rare else self.rare[int(which * len(self.rare))]
        number = int(pixel * self.totals[kind, -1])
        space = int(np.searchsorted(self.totals[kind], number, side="right"))
        number -= int(self.totals[kind, space - 1]) if space else 0
        z, *corner = np.unravel_index(np.searchsorted(self.sums[space][kind], number, side="right"), self.grids[space])
        cell = self.cells[space]
        sides = [min(cell, size - int(c) * cell) for c, size in zip(corner, self.shapes[space][1:], strict=True)]
        y, x = (int(c) * cell + int(part * side) for c, part, side in zip(corner, inside, sides, strict=True))
        return Place(space, (int(z), y, x))
