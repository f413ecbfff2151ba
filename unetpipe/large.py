"""Measures objects whose boxes are too large to be held, from what each block holds of them."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from unetpipe.contours import RIGHT, corners_of_part
from unetpipe.geometry import Region, widened, within
from unetpipe.grey import Counts, counted
from unetpipe.shapes import EMPTY, Shapes, hull_area, moments, perimeter, row_ends

RIM = 2  # pixels around a block that decide on the perimeter in it


class Part(NamedTuple):
    """What a block holds of one object."""

    moments: np.ndarray  # (10,) see `shapes.moments`, from the corner of the image
    perimeter: float
    rows: slice  # of the image
    ends: tuple[np.ndarray, np.ndarray]  # of these rows, see `shapes.row_ends`, from the left of the image
    grey: list[tuple[np.ndarray, np.ndarray]]  # of each channel, the values and how many pixels have them
    probability: np.ndarray  # (k,) sums
    turns: dict[int, np.ndarray]  # of each plane, see `contours.corners`


def parts(labels, grey, probability, ids: Sequence[int], region: Region) -> dict[int, Part]:
    """What a block holds of some objects.

    Parameters
    ----------
    labels, grey, probability
        Anything that gives (z, y, x), (c, z, y, x) and (k, z, y, x) of a region when sliced.
    ids : sequence of int
    region : (z, y, x)
        The block, all of the image's planes or some.
    """
    wide, values, chances = _with_rim(labels, region), grey[region], probability[region]
    inner = (slice(None), slice(RIM, -RIM), slice(RIM, -RIM))
    found = {}
    for number in ids:
        mask = wide == number
        if mask[:, RIM - 1 :, RIM - 1 :].any():  # a block also knows the corners above and left of its first pixels
            inside = np.ascontiguousarray(mask[inner])
            counts = [counted(channel[inside]) for channel in values]
            sums = chances[:, inside].sum(axis=1, dtype=np.int64)
            found[number] = _part(mask, inside, counts, sums, region, labels.shape)
    return found


def _with_rim(labels, region: Region) -> np.ndarray:
    """A block's labels with `RIM` pixels around them in the plane, 0 beyond the image."""
    rims = (0, RIM, RIM)
    window = widened(region, rims, labels.shape)
    axes = zip(within(region, window), rims, window, region, strict=True)
    return np.pad(labels[window], [(r - p.start, r - (w.stop - q.stop)) for p, r, w, q in axes])


def _part(mask, inside, grey, probability, region: Region, shape) -> Part:
    z, y, x = region
    found = moments(inside)
    found[1:4] += z.start, y.start, x.start
    length, ends = np.nan, (np.empty(0, np.int64),) * 2
    if shape[0] == 1:
        low, high = row_ends(inside[0])
        length, ends = perimeter(mask[0], RIM), (low - x.start, high + x.start)
    down, right = (
        RIM + part.stop - part.start + (part.stop == size) for part, size in zip((y, x), shape[1:], strict=True)
    )
    planes = np.ascontiguousarray(mask[:, RIM - 1 : down, RIM - 1 : right])
    turns = {z.start + k: corners_of_part(plane, y.start, x.start) for k, plane in enumerate(planes)}
    return Part(found, length, y, ends, grey, probability, {k: some for k, some in turns.items() if len(some)})


class Large:
    """One object, of whose parts those of one block after the other are added.

    It holds outlines and the different grey values, which are few where pixels have 16 bits or less.

    Parameters
    ----------
    low, high : (3,) int
        Its box.
    channels : int
    """

    def __init__(self, low: np.ndarray, high: np.ndarray, channels: int):
        self.low, self.high = low, high
        self.moments: list[np.ndarray] = []
        self.perimeter = 0.0
        self.ends = np.full((2, high[1] - low[1]), EMPTY)
        self.grey = [Counts() for _ in range(channels)]
        self.probability: np.ndarray | int = 0
        self.turns: dict[int, list[np.ndarray]] = {}

    def add(self, part: Part) -> None:
        """Add what a block holds."""
        self.moments.append(part.moments)
        self.perimeter += part.perimeter
        for own, ends in zip(self.ends, part.ends, strict=True):
            if len(ends):
                first = max(part.rows.start, self.low[1])
                last = max(first, min(part.rows.stop, self.high[1]))
                mine = own[first - self.low[1] : last - self.low[1]]
                np.maximum(mine, ends[first - part.rows.start : last - part.rows.start], out=mine)
        for counts, (values, numbers) in zip(self.grey, part.grey, strict=True):
            counts.add(values, numbers)
        self.probability = self.probability + part.probability
        for plane, turns in part.turns.items():
            self.turns.setdefault(plane, []).append(turns)

    def shapes(self) -> Shapes:
        """Of the whole, one row."""
        sizes, centres, spread = np.split(np.stack(self.moments), [1, 4], axis=1)
        share = sizes / sizes.sum()
        centroid = (share * centres).sum(axis=0)
        offset = centres - centroid
        squares = spread[:, [0, 1, 2, 1, 3, 4, 2, 4, 5]].reshape(-1, 3, 3) + offset[:, :, None] * offset[:, None]
        covariance = (share[:, :, None] * squares).sum(axis=0)
        convex = np.nan if np.isnan(self.perimeter) else hull_area(*self.ends)
        return Shapes(
            sizes.sum(axis=0), centroid[None], covariance[None], *(np.array([v]) for v in (self.perimeter, convex))
        )

    def grey_values(self, percents: Sequence[float]) -> np.ndarray:
        """(c, 2 + len(percents)), as `shapes.statistics`."""
        return np.stack([counts.statistics(percents) for counts in self.grey])

    def planes(self) -> Iterator[tuple[int, np.ndarray]]:
        """Its planes, and its corners there in raster order, see `contours.corners`."""
        for plane in sorted(self.turns):
            turns = np.concatenate(self.turns[plane])
            yield plane, turns[np.lexsort([turns[:, 2] & RIGHT, turns[:, 1], turns[:, 0]])]
