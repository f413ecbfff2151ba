"""Parts components at waists or into cores, each as a whole: it does not matter in which blocks they are read."""

import logging
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import numpy as np
from scipy import ndimage
from skimage.morphology import local_maxima, reconstruction
from skimage.segmentation import watershed

from unetpipe.components import Components, id_type
from unetpipe.flooding import Flooding
from unetpipe.geometry import Region, shared, within
from unetpipe.pieces import Piece
from unetpipe.scheduling import compute

logger = logging.getLogger(__name__)
SMOOTH = 1.0  # standard deviation of the Gaussian that the distance is smoothed with, pixels
REACH = 256  # by so much a block is read beyond its end, where most of the components that begin in it end
DEPTH = 16  # planes of a volume that are read at once, and again as many beyond them
LARGEST = 2**24  # pixels of a box above which a component is not held: its cores grow in tiles, its waists stay


def parted(mask: np.ndarray, height: float, pad: list[tuple[int, int]], spacing: tuple[float, ...]) -> np.ndarray:
    """Pieces of one component, by a watershed of the smoothed distance to what is not component.

    Parameters
    ----------
    mask : (*space) bool
        The component in its box.
    height : float
        By so much the distance must fall between two pieces, pixels of the finest axis.
    pad : list of (0 or 1, 0 or 1)
        Whether something else lies beyond each side of the box: 0 at the edges of the image.
    spacing : tuple of float
        Size of a pixel along each axis.

    Returns
    -------
    (*space) int32
        1, 2, … in the pieces; their order is that of their summits.
    """
    whole = mask.astype(np.int32)
    padded = np.pad(mask, pad)
    if padded.all():
        return whole
    inner = tuple(slice(low, low + size) for (low, _), size in zip(pad, mask.shape, strict=True))
    distance = ndimage.distance_transform_edt(padded, sampling=spacing)[inner]
    smooth = ndimage.gaussian_filter(distance, [SMOOTH / size for size in spacing]) * mask
    around = np.ones((3,) * mask.ndim, bool)
    if ndimage.label((smooth == ndimage.maximum_filter(smooth, footprint=around)) & mask, around)[1] < 2:
        return whole
    levelled = reconstruction(smooth - height, smooth, footprint=around)
    seeds, count = ndimage.label(local_maxima(levelled) & mask, around)
    return watershed(-smooth, seeds, mask=mask) if count > 1 else whole


def grown(
    mask: np.ndarray,
    levels: np.ndarray,
    core: float,
    *,
    min_size: int,
    height: float,
    pad: list[tuple[int, int]],
    spacing: tuple[float, ...],
) -> np.ndarray:
    """Pieces of one component: its cores, grown back over it by a watershed of the probability.

    Parameters
    ----------
    mask : (*space) bool
        The component in its box.
    levels : (*space) int
        Probability, in any unit.
    core : float
        More probable pixels that touch are one core.
    min_size : int
        Smaller cores do not count, pixels.
    height, pad, spacing
        The cores are parted at their waists too, see `parted`; height 0: they are not.

    Returns
    -------
    (*space) int32
        1, 2, … in the pieces.
    """
    cores, _ = ndimage.label(mask & (levels > core))
    large = np.bincount(cores.ravel()) >= min_size
    large[0] = False
    waists = partial(parted, height=height, spacing=spacing) if height else None
    seeds, count = _seeds(cores, np.flatnonzero(large), waists, pad)
    return watershed(-levels.astype(np.int32), seeds, mask=mask) if count > 1 else mask.astype(np.int32)


def _seeds(cores: np.ndarray, chosen: np.ndarray, waists: Callable | None, pad) -> tuple[np.ndarray, int]:
    """The chosen cores and what they are parted into, numbered anew, and how many they are."""
    seeds, count, boxes = np.zeros_like(cores), 0, ndimage.find_objects(cores)
    for number in chosen.tolist():
        box = boxes[number - 1]
        one = cores[box] == number
        ends = [
            (low if part.start == 0 else 1, high if part.stop == size else 1)
            for part, size, (low, high) in zip(box, cores.shape, pad, strict=True)
        ]
        pieces = waists(one, pad=ends) if waists else one.astype(np.int32)
        seeds[box][one] = pieces[one] + count
        count += int(pieces.max())
    return seeds, count


class Pieces:
    """The objects of an image: its components, those of several summits in pieces.

    Parameters
    ----------
    parts : Components
        With their boxes.
    height : float
        See `parted`; 0: at no waist.
    min_size : int
        Smaller components, pieces and cores are dropped, pixels.
    spacing : (z, y, x)
        Size of a pixel.
    core : float
        See `grown`.
    levels : callable, optional
        Gives the probability in a region; without it there are no cores.
    workers : int
        Threads; each holds one block with what lies around it.

    Attributes
    ----------
    count : int
        Objects; their ids are in the order of their first pixels.
    """

    def __init__(
        self,
        parts: Components,
        *,
        height: float,
        min_size: int,
        spacing: tuple[float, ...],
        core: float = 0.0,
        levels: Callable[[Region], np.ndarray] | None = None,
        workers: int,
    ):
        self.parts, self.height, self.min_size, self.spacing = parts, height, min_size, spacing
        self.core, self.levels = core, levels
        kept = np.flatnonzero(parts.sizes >= min_size)
        large = (parts.high - parts.low)[kept].prod(axis=1) > LARGEST
        found = compute(self._split, self._by_block(kept[~large]), workers)
        self.split: dict[int, Piece] = {number: piece for pieces in found for number, piece in pieces.items()}
        flooding = self._flood(kept[large], workers)
        self._number(kept, flooding.divided if flooding else kept[:0], flooding.tiles if flooding else [])

    def _flood(self, large: np.ndarray, workers: int) -> Flooding | None:
        """Those that are too large to be held."""
        for number in large.tolist() if self.height else ():
            place, size = self._box(number), self.parts.sizes[number]
            logger.warning("a component of %d pixels at %s is too large to be parted at waists", size, place)
        if not self.levels or not len(large):
            return None
        logger.info("components too large to be held, whose cores grow tile by tile: %d", len(large))
        return Flooding(self.parts, large, self.levels, self.core, min_size=self.min_size, workers=workers)

    def _by_block(self, kept: np.ndarray) -> list[np.ndarray]:
        """Components by the block in which their box begins."""
        block = self.parts.low[kept] // self._step
        order = np.lexsort(block.T)
        ends = np.flatnonzero((np.diff(block[order], axis=0) != 0).any(axis=1)) + 1
        return [mine for mine in np.split(kept[order], ends) if len(mine)]

    @property
    def _step(self) -> np.ndarray:
        return np.maximum(self.parts.block, (1, DEPTH, 1, 1))

    def _box(self, number: int) -> Region:
        return tuple(map(slice, self.parts.low[number].tolist(), self.parts.high[number].tolist()))

    def _split(self, mine: np.ndarray) -> dict[int, Piece]:
        """Those of a block's components that have several pieces."""
        start = self.parts.low[mine[0]] // self._step * self._step
        stop = np.minimum(start + self._step + (0, DEPTH, REACH, REACH), self.parts.high[mine].max(axis=0))
        near = (self.parts.high[mine] <= stop).all(axis=1)
        window = tuple(map(slice, start.tolist(), stop.tolist()))
        shown = self._shown(window) if near.any() else None
        found = {}
        worth = self._with_cores(mine, shown) | ~near
        for number, inside in zip(mine[worth].tolist(), near[worth].tolist(), strict=True):
            box = self._box(number)
            moved = within(box, window)
            labels, levels = (a[moved] for a in shown) if inside and shown is not None else self._shown(box)
            pieces = self._pieces(labels == number + 1, levels, box)
            if pieces.max() > 1:
                found[number] = Piece.of(box, pieces, self.parts.shape)
        return found

    def _with_cores(self, mine: np.ndarray, shown: tuple[np.ndarray, np.ndarray] | None) -> np.ndarray:
        """Which of the components that are shown whole have several cores, where that decides; else all."""
        if not self.levels or self.height or shown is None:
            return np.ones(len(mine), bool)
        numbers, levels = shown
        cores, count = ndimage.label((numbers > 0) & (levels > self.core), self.parts.structure)
        owner = np.zeros(count + 1, np.int64)
        owner[cores] = numbers
        large = np.bincount(cores.ravel(), minlength=1) >= self.min_size
        return np.bincount(owner[1:][large[1:]], minlength=mine.max() + 2)[mine + 1] > 1

    def _shown(self, region: Region) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of the components from 1, and the probability if there are cores."""
        count = len(self.parts.sizes)
        numbers = self.parts.paint(region, np.arange(1, count + 1, dtype=id_type(count)))
        return numbers, self.levels(region) if self.levels else numbers

    def _pieces(self, mask: np.ndarray, levels: np.ndarray, box: Region) -> np.ndarray:
        axes = [axis for axis in (1, 2, 3) if self.parts.shape[axis] > 1] or [3]
        pad = [(int(box[axis].start > 0), int(box[axis].stop < self.parts.shape[axis])) for axis in axes]
        spacing = tuple(self.spacing[axis - 1] for axis in axes)
        flat = mask.reshape([mask.shape[axis] for axis in axes])
        if not self.levels:
            return parted(flat, self.height, pad, spacing).reshape(mask.shape)
        sea = levels.reshape(flat.shape)
        found = grown(flat, sea, self.core, min_size=self.min_size, height=self.height, pad=pad, spacing=spacing)
        return found.reshape(mask.shape)

    def _number(self, kept: np.ndarray, divided: np.ndarray, tiles: list[tuple[Piece, np.ndarray]]) -> None:
        """Ids of whole components, of the pieces of others, and of the cores that have grown in tiles."""
        whole = np.setdiff1d(kept, [*self.split, *divided])
        split = [*self.split.values()]
        grown_sizes, grown_first = _together(tiles)
        first = np.concatenate([self.parts.first[whole], *(piece.first for piece in split), grown_first])
        sizes = np.concatenate([self.parts.sizes[whole], *(piece.sizes for piece in split), grown_sizes])
        large = np.flatnonzero(sizes >= max(1, self.min_size))
        ids = np.zeros(len(first), id_type(len(large)))
        ids[large[np.argsort(first[large])]] = np.arange(1, len(large) + 1)
        self.count, self.ids = len(large), np.zeros(len(self.parts.sizes), ids.dtype)
        self.ids[whole] = ids[: len(whole)]
        ends = len(whole) + np.cumsum([0, *(len(piece.sizes) for piece in split)])
        self.packed = [(piece, ids[a:b]) for piece, (a, b) in zip(split, pairwise(ends), strict=True)]
        self.packed += [(piece, ids[ends[-1] - 1 + cores]) for piece, cores in tiles]
        boxes = np.array([[(part.start, part.stop) for part in piece.box] for piece, _ in self.packed], np.int64)
        self.low, self.high = np.moveaxis(boxes.reshape(-1, len(self.parts.shape), 2), 2, 0)

    def paint(self, region: Region) -> np.ndarray:
        """Ids in a region."""
        out = self.parts.paint(region, self.ids)
        low, high = (np.array([getattr(part, end) for part in region]) for end in ("start", "stop"))
        meets = (self.low < high).all(axis=1) & (self.high > low).all(axis=1)
        for place in np.flatnonzero(meets).tolist():
            piece, ids = self.packed[place]
            both = shared(piece.box, region)
            numbers = piece.numbers()[within(both, piece.box)]
            own = numbers > 0
            out[within(both, region)][own] = ids[numbers[own] - 1]
        return out


def _together(tiles: list[tuple[Piece, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Pixels and first pixel of each core, of all tiles; of those that no tile holds 0 pixels."""
    count = max((int(cores.max()) for _, cores in tiles), default=0)
    sizes, first = np.zeros(count, np.int64), np.full(count, np.iinfo(np.int64).max)
    for piece, cores in tiles:
        np.add.at(sizes, cores - 1, piece.sizes)
        np.minimum.at(first, cores - 1, piece.first)
    return sizes, first
