"""Where objects lie: their boxes, found block by block, and handfuls of them that one window holds."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from unetpipe.geometry import Region, blocks
from unetpipe.scheduling import compute


class Boxes(NamedTuple):
    """Where objects lie."""

    ids: np.ndarray  # (n,)
    low: np.ndarray  # (n, 3) first pixel along z, y, x
    high: np.ndarray  # (n, 3) one beyond the last

    @classmethod
    def of(cls, ids: np.ndarray, low: np.ndarray, high: np.ndarray) -> "Boxes":
        """From boxes of parts of objects."""
        whole, place = np.unique(ids, return_inverse=True)
        lowest, highest = np.full((len(whole), 3), np.iinfo(np.int64).max), np.zeros((len(whole), 3), np.int64)
        np.minimum.at(lowest, place, low)
        np.maximum.at(highest, place, high)
        return cls(whole, lowest, highest)

    def where(self, chosen: np.ndarray) -> "Boxes":
        """Some of them."""
        return Boxes(*(part[chosen] for part in self))

    def meeting(self, region: Region) -> list[int]:
        """The ids of those that meet or touch a region."""
        low, high = (np.array([getattr(part, end) for part in region]) for end in ("start", "stop"))
        return self.ids[((self.low <= high) & (self.high >= low)).all(axis=1)].tolist()


class Group(NamedTuple):
    """Objects whose boxes start in one block."""

    window: Region  # holds all of them
    boxes: Boxes


def find_boxes(labels, block: Sequence[int], workers: int = 1) -> Boxes:
    """Boxes of the objects of (z, y, x), anything that gives NumPy arrays when sliced, block by block."""
    regions = [part.write for part in blocks(labels.shape, block)]
    found = compute(partial(_boxes_of, labels), regions, workers)
    return Boxes.of(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def _boxes_of(labels, region: Region) -> Boxes:
    """From runs of equal labels along x."""
    part = labels[region]
    flat, width = part.ravel(), part.shape[-1]
    breaks = flat[1:] != flat[:-1]
    breaks[width - 1 :: width] = True
    starts = np.concatenate([[0], np.flatnonzero(breaks) + 1])
    ends = np.concatenate([starts[1:], [flat.size]])[flat[starts] > 0]
    starts = starts[flat[starts] > 0]
    corner = [side.start for side in region]
    low, last = (np.stack(np.unravel_index(places, part.shape), axis=1) for places in (starts, ends - 1))
    return Boxes.of(flat[starts], low + corner, last + 1 + corner)


def groups(boxes: Boxes, block: Sequence[int]) -> Iterator[Group]:
    """The objects in handfuls, each object once and whole; one that is larger than a block is alone."""
    large = (boxes.high - boxes.low > block).any(axis=1)
    place = np.column_stack([boxes.low // block, np.where(large, np.arange(len(large)), -1)])
    order = np.lexsort(place.T[[3, 2, 1, 0]])
    cuts = np.flatnonzero((np.diff(place[order], axis=0) != 0).any(axis=1)) + 1
    for mine in np.split(order, cuts) if len(order) else []:
        group = boxes.where(mine)
        yield Group(tuple(map(slice, group.low.min(axis=0).tolist(), group.high.max(axis=0).tolist())), group)
