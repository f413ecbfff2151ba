"""Connected components of an image that is only ever read block by block, as those of the whole at once.

Every block is labelled together with one pixel of its next neighbours along each axis. The pixels
that two blocks share say which of their labels are one component, diagonal contacts included. The
labelling of a block is deterministic, so it is repeated when the result is written, not stored.
"""

from collections.abc import Callable, Sequence
from itertools import product
from typing import NamedTuple

import dask
import numpy as np
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Index = tuple[int, ...]


def space_structure(connectivity: int) -> np.ndarray:
    """Neighbours within (t, z, y, x): never across time; 1: faces touch, 3: corners suffice."""
    structure = np.zeros((3, 3, 3, 3), dtype=bool)
    structure[1] = ndimage.generate_binary_structure(3, connectivity)
    return structure


def _label(mask: np.ndarray, structure: np.ndarray) -> np.ndarray:
    """`scipy.ndimage.label` without the axes of one pixel, which would cost it twice the time each."""
    last = mask.ndim - 1
    flat = structure[tuple(slice(None) if size > 1 or axis == last else 1 for axis, size in enumerate(mask.shape))]
    plane = mask.reshape([size for axis, size in enumerate(mask.shape) if size > 1 or axis == last])
    return ndimage.label(plane, structure=flat)[0].reshape(mask.shape)


class Survey(NamedTuple):
    """What one block tells its neighbours."""

    total: int  # local labels 1 … total
    sizes: np.ndarray  # pixels of each inside the block proper
    first: np.ndarray  # raster index, in the image, of the first pixel of each
    low: list[np.ndarray]  # labels of the first plane along each axis
    high: list[np.ndarray | None]  # labels of the shared plane beyond the last, if there is one
    boxes: np.ndarray  # (total, 2, axes): where each begins and ends in the image


class Components:
    """Components of a foreground of shape (*space), in blocks.

    Parameters
    ----------
    foreground : callable
        Gives the bool values of a region, a tuple of slices inside the image.
    shape, block : sequence of int
        Pixels per axis.
    structure : (3, …) bool
        Which of its neighbours a pixel is connected to, as in `scipy.ndimage.label`.
    boxes : bool
        Whether to find their bounding boxes too.
    workers : int
        Threads; each holds one block.

    Attributes
    ----------
    sizes : (n,) int64
        Pixels of each component.
    first : (n,) int64
        Raster index of the first pixel of each.
    low, high : (n, axes) int64
        Where the box of each begins and ends, if asked for.
    """

    def __init__(
        self,
        foreground: Callable[[tuple[slice, ...]], np.ndarray],
        shape: Sequence[int],
        block: Sequence[int],
        structure: np.ndarray,
        *,
        boxes: bool = False,
        workers: int = 1,
    ):
        self.foreground, self.shape, self.block = foreground, tuple(shape), tuple(block)
        self.structure, self.boxed = structure, boxes
        grid = [range(-(-size // step)) for size, step in zip(shape, block, strict=True)]
        indices = list(product(*grid))
        jobs = [dask.delayed(self._survey, pure=False)(index) for index in indices]
        surveys = dask.compute(*jobs, scheduler="threads", num_workers=workers)
        self._merge(dict(zip(indices, surveys, strict=True)))

    def core(self, index: Index) -> tuple[slice, ...]:
        """The region of one block."""
        axes = zip(index, self.block, self.shape, strict=True)
        return tuple(slice(i * step, min((i + 1) * step, size)) for i, step, size in axes)

    def _local(self, index: Index) -> np.ndarray:
        """Labels of a block and of the one shared pixel beyond it."""
        window = tuple(
            slice(part.start, min(part.stop + 1, size)) for part, size in zip(self.core(index), self.shape, strict=True)
        )
        return _label(self.foreground(window), self.structure)

    def _inside(self, index: Index) -> tuple[slice, ...]:
        return tuple(slice(0, part.stop - part.start) for part in self.core(index))

    def _survey(self, index: Index) -> Survey:
        local = self._local(index)
        core, inside = self.core(index), self._inside(index)
        count = int(local.max(initial=0))
        present, first = np.unique(local[inside], return_index=True)
        corner = np.unravel_index(first, [part.stop - part.start for part in core])
        raster = np.full(count + 1, np.iinfo(np.int64).max)
        raster[present] = np.ravel_multi_index(
            [c + part.start for c, part in zip(corner, core, strict=True)], self.shape
        )
        return Survey(
            count,
            np.bincount(local[inside].ravel(), minlength=count + 1)[1:],
            raster[1:],
            [np.take(local, 0, axis) for axis in range(local.ndim)],
            [self._shared(local, inside, axis) for axis in range(local.ndim)],
            self._boxes(local[inside], count, core) if self.boxed else np.zeros((count, 2, 0), np.int64),
        )

    @staticmethod
    def _boxes(local: np.ndarray, count: int, core: tuple[slice, ...]) -> np.ndarray:
        """Of labels that do not occur, which lie beyond the block alone, a box that changes no other."""
        found = np.empty((count, 2, local.ndim), np.int64)
        found[:, 0], found[:, 1] = np.iinfo(np.int64).max, 0
        corner = [part.start for part in core]
        for number, box in enumerate(ndimage.find_objects(local, max_label=count)):
            if box is not None:
                found[number] = [[part.start for part in box], [part.stop for part in box]]
                found[number] += corner
        return found

    @staticmethod
    def _shared(local, inside, axis) -> np.ndarray | None:
        last = inside[axis].stop
        return np.take(local, last, axis) if local.shape[axis] > last else None

    def _merge(self, surveys: dict[Index, Survey]) -> None:
        counts = [survey.total for survey in surveys.values()]
        offsets = dict(zip(surveys, np.cumsum([0, *counts[:-1]]), strict=True))
        total = sum(counts)
        pairs = [np.zeros((2, 0), dtype=np.int64), *self._pairs(surveys, offsets)]
        a, b = np.concatenate(pairs, axis=1)
        graph = coo_array((np.ones(len(a), dtype=bool), (a, b)), shape=(total, total))
        n, root = connected_components(graph, directed=False) if total else (0, np.zeros(0, dtype=np.int64))
        self.sizes = np.zeros(n, dtype=np.int64)
        np.add.at(self.sizes, root, np.concatenate([s.sizes for s in surveys.values()]))
        self.first = np.full(n, np.iinfo(np.int64).max)
        np.minimum.at(self.first, root, np.concatenate([s.first for s in surveys.values()]))
        boxes = np.concatenate([s.boxes for s in surveys.values()])
        self.low = np.full((n, boxes.shape[2]), np.iinfo(np.int64).max)
        self.high = np.zeros((n, boxes.shape[2]), np.int64)
        np.minimum.at(self.low, root, boxes[:, 0])
        np.maximum.at(self.high, root, boxes[:, 1])
        self._roots = {i: root[offsets[i] : offsets[i] + s.total] for i, s in surveys.items()}

    @staticmethod
    def _pairs(surveys, offsets):
        """Numbers of local labels that name one component, from the pixels that two blocks share."""
        for index, survey in surveys.items():
            for axis, high in enumerate(survey.high):
                if high is None:
                    continue
                other = (*index[:axis], index[axis] + 1, *index[axis + 1 :])
                low = surveys[other].low[axis]
                both = (high > 0) & (low > 0)
                pairs = np.stack([high[both] - 1 + offsets[index], low[both] - 1 + offsets[other]])
                yield np.unique(pairs, axis=1)

    def canonical_ids(self, keep: np.ndarray) -> np.ndarray:
        """Ids 1, 2, … in the order of the first pixels of the kept components; 0 for the others.

        Parameters
        ----------
        keep : (n,) bool

        Returns
        -------
        (n,) uint32
        """
        ids = np.zeros(len(keep), dtype=np.uint32)
        kept = np.flatnonzero(keep)
        ids[kept[np.argsort(self.first[kept])]] = np.arange(1, len(kept) + 1)
        return ids

    def paint(self, region: tuple[slice, ...], values: np.ndarray) -> np.ndarray:
        """An image of the region in which each component has its value and the background has 0.

        Parameters
        ----------
        region : tuple of slice
            Any region of the image.
        values : (n,)
            One value per component.
        """
        out = np.zeros([part.stop - part.start for part in region], dtype=values.dtype)
        axes = zip(region, self.block, strict=True)
        for index in product(*(range(part.start // step, -(-part.stop // step)) for part, step in axes)):
            self._paint_block(index, region, values, out)
        return out

    def _paint_block(self, index, region, values, out) -> None:
        core = self.core(index)
        both = [slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(core, region, strict=True)]
        table = np.concatenate([np.zeros(1, values.dtype), values[self._roots[index]]])
        source = tuple(slice(s.start - c.start, s.stop - c.start) for s, c in zip(both, core, strict=True))
        target = tuple(slice(s.start - r.start, s.stop - r.start) for s, r in zip(both, region, strict=True))
        out[target] = table[self._local(index)[source]]
