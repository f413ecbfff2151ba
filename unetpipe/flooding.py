"""Parts components that are too large to be held into their cores, which grow tile by tile of a grid."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from skimage.segmentation import watershed

from unetpipe.components import Components, id_type
from unetpipe.geometry import Region, blocks, widened, within
from unetpipe.pieces import Piece
from unetpipe.scheduling import compute


class Grid(NamedTuple):
    """Tiles, and what is looked at around them: (t, z, y, x), pixels."""

    sides: tuple[int, ...]
    margin: tuple[int, ...]


PLANE = Grid((1, 1, 2048, 2048), (0, 0, 256, 256))
VOLUME = Grid((1, 64, 256, 256), (0, 16, 64, 64))


class Flooding:
    """The watershed of the probability from the cores of some components; a core is one, however large it is.

    It is that of the whole where a pixel and its core lie within the margin; the grid does not depend on how the image
    is stored or worked on. What no core floods within the margin is background.

    Parameters
    ----------
    parts : Components
        With their boxes.
    large : (n,) int
        Which of them are looked at.
    levels : callable
        Gives the probability in a region.
    core, min_size
        See `splitting.grown`.
    workers : int
        Threads; each holds one tile with its margin.

    Attributes
    ----------
    divided : (m,) int
        Those that have several cores.
    tiles : list of (Piece, (k,) int)
        What is flooded of each tile, and which core each of the piece's numbers is, from 1.
    """

    def __init__(
        self,
        parts: Components,
        large: np.ndarray,
        levels: Callable[[Region], np.ndarray],
        core: float,
        *,
        min_size: int,
        workers: int,
    ):
        self.parts, self.levels, self.core = parts, levels, core
        self.marks = np.zeros(len(parts.sizes), id_type(len(large)))
        self.marks[large] = np.arange(1, len(large) + 1)
        self.cores = Components(self._cores, parts.shape, parts.block, parts.structure, workers=workers)
        self.ids = self.cores.canonical_ids(self.cores.sizes >= min_size)
        owned = compute(self._owners, self._met(large, parts.block), workers)
        owners = np.unique(np.concatenate([np.zeros((0, 2), np.uint64), *owned]), axis=0)[:, 0].astype(np.int64)
        self.divided = large[np.bincount(owners, minlength=len(large) + 1)[1:] > 1]
        self.flooded = np.zeros(len(parts.sizes), bool)
        self.flooded[self.divided] = True
        self.grid = VOLUME if parts.shape[1] > 1 else PLANE
        found = compute(self._tile, self._met(self.divided, self.grid.sides), workers)
        self.tiles = [tile for tile in found if tile]

    def _met(self, numbers: np.ndarray, sides: tuple[int, ...]) -> list[Region]:
        """Blocks that the box of any of some components meets."""
        low, high = self.parts.low[numbers], self.parts.high[numbers]
        regions = [block.write for block in blocks(self.parts.shape, sides)]
        ends = [np.array([(part.start, part.stop) for part in region]).T for region in regions]
        return [r for r, (a, b) in zip(regions, ends, strict=True) if ((low < b) & (high > a)).all(axis=1).any()]

    def _cores(self, region: Region) -> np.ndarray:
        return (self.parts.paint(region, self.marks) > 0) & (self.levels(region) > self.core)

    def _owners(self, region: Region) -> np.ndarray:
        """Pairs of a component and a core of it, in a region."""
        seeds = self.cores.paint(region, self.ids)
        inside = seeds > 0
        marks = self.parts.paint(region, self.marks)[inside]
        return np.unique(np.stack([marks, seeds[inside]], axis=1).astype(np.uint64), axis=0)

    def _tile(self, region: Region) -> tuple[Piece, np.ndarray] | None:
        window = widened(region, self.grid.margin, self.parts.shape)
        mask = self.parts.paint(window, self.flooded)
        seeds = np.where(mask, self.cores.paint(window, self.ids), 0)
        if not seeds.any():
            return None
        number, numbers = _numbered(seeds)
        space = [size for size in mask.shape if size > 1] or [1]
        sea = -self.levels(window).astype(np.int32).reshape(space)
        found = watershed(sea, numbers.reshape(space), mask=mask.reshape(space)).reshape(mask.shape)
        used, pieces = _numbered(found[within(region, window)])
        return (Piece.of(region, pieces, self.parts.shape), number[used - 1].astype(np.int64)) if len(used) else None


def _numbered(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The different positive values, and for each pixel which of them it has, from 1; 0 where it is 0."""
    used = np.unique(values)
    used = used[used > 0]
    return used, np.where(values > 0, np.searchsorted(used, values) + 1, 0).astype(np.int32)
