"""Connected components of an image that is only ever read block by block, as those of the whole at once.

Every block is labelled by itself; the pixels on both sides of the faces, edges and corners that blocks share say which
of their labels are one component. The labelling of a block is deterministic, so it is repeated when the result is
written, not stored.
"""

import zlib
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from operator import itemgetter
from typing import NamedTuple

import numpy as np
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from unetpipe.geometry import Region, shared, within
from unetpipe.scheduling import breadth, compute

Index = tuple[int, ...]
BATCH = 8  # blocks for each thread that are surveyed before they are joined to their neighbours
LABEL = np.int32  # of SciPy's labels
MOST_IDS = 2**32 - 2  # that fit uint32; its highest number stands for no object


def space_structure(connectivity: int) -> np.ndarray:
    """Neighbours within (t, z, y, x): never across time; 1: faces touch, 3: corners suffice."""
    structure = np.zeros((3, 3, 3, 3), dtype=bool)
    structure[1] = ndimage.generate_binary_structure(3, connectivity)
    return structure


def id_type(count: int) -> np.dtype:
    """Of the ids of so many objects."""
    return np.dtype(np.uint32 if count <= MOST_IDS else np.uint64)


def _label(mask: np.ndarray, structure: np.ndarray) -> np.ndarray:
    """`scipy.ndimage.label` without the axes of one pixel, which would cost it twice the time each."""
    last = mask.ndim - 1
    flat = structure[tuple(slice(None) if size > 1 or axis == last else 1 for axis, size in enumerate(mask.shape))]
    plane = mask.reshape([size for axis, size in enumerate(mask.shape) if size > 1 or axis == last])
    return ndimage.label(plane, structure=flat)[0].reshape(mask.shape)


class Survey(NamedTuple):
    """What is kept of one block, whose labels are 1 … n."""

    sizes: np.ndarray  # (n,) pixels of each
    first: np.ndarray  # (n,) raster index, in the image, of the first pixel of each
    boxes: np.ndarray  # (n, 2, axes): where each begins and ends in the image
    low: dict[int, np.ndarray]  # labels of the first plane along each axis, where another block lies before it
    high: dict[int, np.ndarray]  # of the last, where another lies behind it
    rims: dict[tuple[int, int], bytes]  # labels of the outermost pixels at the low (−1) and high (1) end of an axis


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
    rim : int
        So many pixels of a block, along each of the last two axes, are painted without labelling it again.
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
        foreground: Callable[[Region], np.ndarray],
        shape: Sequence[int],
        block: Sequence[int],
        structure: np.ndarray,
        *,
        boxes: bool = False,
        rim: int = 0,
        workers: int = 1,
    ):
        self.foreground, self.shape, self.block = foreground, tuple(shape), tuple(block)
        self.structure, self.boxed, self.rim = structure, boxes, rim
        self.grid = tuple(-(-size // step) for size, step in zip(shape, block, strict=True))
        # The longest axis outermost: few blocks then wait for their neighbours, of a stack not whole planes
        self.order = tuple(sorted(range(len(self.grid)), key=lambda axis: -self.grid[axis]))
        self.steps = list(_steps(structure, self.grid, self.order))
        self._merge(*self._survey_all(workers))

    def core(self, index: Index) -> Region:
        """The region of one block."""
        axes = zip(index, self.block, self.shape, strict=True)
        return tuple(slice(i * step, min((i + 1) * step, size)) for i, step, size in axes)

    def _survey_all(self, workers: int) -> tuple[dict[Index, Survey], np.ndarray]:
        """Surveys without their planes, and pairs (2, n) of numbers of labels that are of one component."""
        indices = sorted(np.ndindex(self.grid), key=itemgetter(*self.order))
        surveys, offsets, total = dict[Index, Survey](), dict[Index, int](), 0
        pairs = [np.zeros((2, 0), np.int64)]
        farthest = max((_distance(step, self.grid, self.order) for step in self.steps), default=0)
        for number, (index, survey) in enumerate(self._surveys(indices, workers)):
            surveys[index], offsets[index] = survey, total
            total += len(survey.sizes)
            for step in self.steps:
                other = tuple(i - e for i, e in zip(index, step, strict=True))
                if other in surveys:
                    touching = _touching(surveys[other], survey, step, self.structure, self.order)
                    pairs.append(touching + np.array([[offsets[other]], [offsets[index]]]))
            surveys[index] = survey._replace(low={})
            if number >= farthest:
                done = indices[number - farthest]
                surveys[done] = surveys[done]._replace(high={})
        return surveys, np.concatenate(pairs, axis=1)

    def _surveys(self, indices: list[Index], workers: int) -> Iterator[tuple[Index, Survey]]:
        size = BATCH * breadth(workers)
        for start in range(0, len(indices), size):
            batch = indices[start : start + size]
            yield from zip(batch, compute(self._survey, batch, workers), strict=True)

    def _survey(self, index: Index) -> Survey:
        local, core = self._local(index), self.core(index)
        sizes, first = _sizes_and_first(local)
        corner = zip(np.unravel_index(first, local.shape), core, strict=True)
        axes = {axis for step in self.steps for axis, e in enumerate(step) if e}
        return Survey(
            sizes,
            np.ravel_multi_index([place + part.start for place, part in corner], self.shape),
            _boxes(local, core) if self.boxed else np.zeros((len(sizes), 2, 0), np.int64),
            {axis: _end(local, axis, -1).copy() for axis in axes if index[axis] > 0},
            {axis: _end(local, axis, 1).copy() for axis in axes if index[axis] < self.grid[axis] - 1},
            self._rims(local),
        )

    def _local(self, index: Index) -> np.ndarray:
        """Labels of a block."""
        return _label(self.foreground(self.core(index)), self.structure)

    def _rims(self, local: np.ndarray) -> dict[tuple[int, int], bytes]:
        ends = product(range(local.ndim - 2, local.ndim), (-1, 1)) if self.rim else ()
        return {(axis, side): zlib.compress(_end(local, axis, side, self.rim).tobytes(), 1) for axis, side in ends}

    def _merge(self, surveys: dict[Index, Survey], pairs: np.ndarray) -> None:
        found = list(surveys.values())
        ends = np.cumsum([0, *(len(survey.sizes) for survey in found)])
        total = int(ends[-1])
        n, root = _joined(total, pairs)
        self.sizes = np.zeros(n, dtype=np.int64)
        np.add.at(self.sizes, root, np.concatenate([survey.sizes for survey in found]))
        self.first = np.full(n, np.iinfo(np.int64).max)
        np.minimum.at(self.first, root, np.concatenate([survey.first for survey in found]))
        boxes = np.concatenate([survey.boxes for survey in found])
        self.low = np.full((n, boxes.shape[2]), np.iinfo(np.int64).max)
        self.high = np.zeros((n, boxes.shape[2]), np.int64)
        np.minimum.at(self.low, root, boxes[:, 0])
        np.maximum.at(self.high, root, boxes[:, 1])
        self._roots = {i: root[a:b] for i, a, b in zip(surveys, ends, ends[1:], strict=False)}
        self._packed = {index: survey.rims for index, survey in surveys.items()}

    def canonical_ids(self, keep: np.ndarray) -> np.ndarray:
        """Ids 1, 2, … in the order of the first pixels of the kept components; 0 for the others.

        Parameters
        ----------
        keep : (n,) bool

        Returns
        -------
        (n,) uint32, or uint64 if that is too small
        """
        kept = np.flatnonzero(keep)
        ids = np.zeros(len(keep), id_type(len(kept)))
        ids[kept[np.argsort(self.first[kept])]] = np.arange(1, len(kept) + 1)
        return ids

    def paint(self, region: Region, values: np.ndarray) -> np.ndarray:
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

    def _paint_block(self, index: Index, region: Region, values: np.ndarray, out: np.ndarray) -> None:
        core = self.core(index)
        both = shared(core, region)
        table = np.concatenate([np.zeros(1, values.dtype), values[self._roots[index]]])
        source = within(both, core)
        local = self._from_rim(index, source)
        out[within(both, region)] = table.take(self._local(index)[source] if local is None else local)

    def _from_rim(self, index: Index, source: Region) -> np.ndarray | None:
        """Labels of a part of a block, if they were kept."""
        sides = [part.stop - part.start for part in self.core(index)]
        for (axis, side), packed in self._packed[index].items():
            width = min(self.rim, sides[axis])
            start = 0 if side < 0 else sides[axis] - width
            if start <= source[axis].start and source[axis].stop <= start + width:
                shape = (*sides[:axis], width, *sides[axis + 1 :])
                here = slice(source[axis].start - start, source[axis].stop - start)
                rim = np.frombuffer(zlib.decompress(packed), LABEL).reshape(shape)
                return rim[(*source[:axis], here, *source[axis + 1 :])]
        return None


def _joined(total: int, pairs: np.ndarray) -> tuple[int, np.ndarray]:
    """How many components so many labels are, and the number of each one's."""
    if not pairs.size:
        return total, np.arange(total)
    graph = coo_array((np.ones(len(pairs[0]), dtype=bool), tuple(pairs)), shape=(total, total))
    return connected_components(graph, directed=False)


def _sizes_and_first(local: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pixels and raster index of the first pixel of labels 1 … n, from runs of equal labels."""
    flat = local.ravel()
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    names, lengths = flat[starts], np.diff(starts, append=flat.size)
    sizes = np.bincount(names, weights=lengths).astype(np.int64)
    first = np.full(len(sizes), flat.size)
    np.minimum.at(first, names, starts)
    return sizes[1:], first[1:]


def _boxes(local: np.ndarray, core: Region) -> np.ndarray:
    found = [[[part.start for part in box], [part.stop for part in box]] for box in ndimage.find_objects(local)]
    return np.array(found, np.int64).reshape(-1, 2, local.ndim) + [part.start for part in core]


def _end(planes: np.ndarray, axis: int, side: int, width: int = 1) -> np.ndarray:
    """The first (side −1) or last (side 1) planes along an axis."""
    part = slice(0, width) if side < 0 else slice(max(0, planes.shape[axis] - width), None)
    return planes[(*(slice(None),) * axis, part)]


def _steps(structure: np.ndarray, grid: Index, order: Index) -> Iterator[Index]:
    """From a block to the later ones that it touches."""
    walked = itemgetter(*order)
    for step in product(*((-1, 0, 1) if count > 1 else (0,) for count in grid)):
        if walked(step) > (0,) * len(grid) and structure[_choices(step)].any():
            yield step


def _choices(step: Index) -> tuple:
    """Where a structure holds the neighbours that lie that way."""
    return tuple(slice(None) if e == 0 else slice(e + 1, e + 2) for e in step)


def _distance(step: Index, grid: Index, order: Index) -> int:
    """By how many blocks a later one comes later."""
    distance = 0
    for axis in order:
        distance = distance * grid[axis] + step[axis]
    return distance


def _touching(before: Survey, after: Survey, step: Index, structure: np.ndarray, order: Index) -> np.ndarray:
    """Pairs (2, n) of labels, from 0, of two blocks that are one component."""
    axis = next(axis for axis in order if step[axis])
    here, there = before.high[axis], after.low[axis]
    for other, e in enumerate(step):
        if e and other != axis:
            here, there = _end(here, other, e), _end(there, other, -e)
    found = [np.zeros(0, np.int64)]
    for place in np.argwhere(structure[_choices(step)]):
        shift = [p - 1 if e == 0 else 0 for p, e in zip(place, step, strict=True)]
        if all(abs(s) < size for s, size in zip(shift, here.shape, strict=True)):
            mine, theirs = here[_shifted(shift, here.shape)], there[_shifted([-s for s in shift], here.shape)]
            both = (mine > 0) & (theirs > 0)
            found.append(np.unique((mine[both] - 1) * np.int64(len(after.sizes)) + theirs[both] - 1))
    return np.stack(np.divmod(np.unique(np.concatenate(found)), max(1, len(after.sizes))))


def _shifted(shift: Sequence[int], shape: Sequence[int]) -> Region:
    """Those pixels whose neighbour that way exists."""
    return tuple(slice(max(0, -s), size - max(0, s)) for s, size in zip(shift, shape, strict=True))
