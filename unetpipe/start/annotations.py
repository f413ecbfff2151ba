"""Looks at annotations: whether they number objects or name classes, and how large the objects are."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from skimage.measure import label

from unetpipe.geometry import blocks
from unetpipe.readers.outlines import NOT_ANNOTATED
from unetpipe.readers.series import Series

WINDOW = 2**22  # pixels of an annotation that are looked at
MOST_CLASSES = 20
IGNORED = 255  # what pixels that nobody annotated mostly have, if no negative value
FRAGMENTS, SPECK = 4, 2  # pieces a number, and pixels of half of the pieces, from which labels look stored with loss


class Look(NamedTuple):
    """The connected pieces of equal value in one annotation, background among them."""

    values: np.ndarray  # (n,) of each piece
    sizes: np.ndarray  # (n,) pixels
    whole: np.ndarray  # (n,) bool, whether it keeps off the sides of what was looked at


class Annotations(NamedTuple):
    """What all of them say together."""

    kind: str  # instances or classes, a guess
    classes: list[int]  # values, the background first; none for instances
    ignore: int | None
    reason: str  # of the guess
    sizes: tuple[int, int, int]  # of the smallest, the median and the largest object, pixels
    least: int  # smaller objects have at most a hundredth of the objects' pixels, in every annotation
    cover: float  # share of the pixels that are objects
    sparsest: float  # the same in the annotation that has least of them


def look(series: Series) -> Look:
    """The pieces in the block nearest to the middle of an annotation that has more than one value."""
    t, _, z, y, x = series.shape
    side = max(1, int((WINDOW / z) ** 0.5))
    middle = np.array((t, 1, z, y, x)) / 2
    windows = [block.write for block in blocks((t, 1, z, y, x), (1, 1, z, side, side))]
    windows.sort(
        key=lambda window: sum(abs((part.start + part.stop) / 2 - at) for part, at in zip(window, middle, strict=True))
    )
    for window in windows:
        values = series.read(window)[0, 0]
        if values.min() != values.max():
            break
    return pieces(np.where(values == NOT_ANNOTATED, 0, values) if series.kinds else values)


def pieces(values: np.ndarray) -> Look:
    """Connected pieces of equal value, (z, y, x) int; faces connect, as in `truth`."""
    values = values.astype(np.int64)
    numbers = label(values, background=int(values.min()) - 1, connectivity=1)
    _, first, sizes = np.unique(numbers, return_index=True, return_counts=True)
    flat = [axis for axis, size in enumerate(values.shape) if size > 1]
    rims = [np.take(numbers, (0, -1), axis) for axis in flat]
    whole = np.ones(len(sizes), bool)
    whole[np.unique(np.concatenate([rim.ravel() for rim in rims])) - 1 if rims else []] = False
    return Look(values.ravel()[first], sizes, whole)


def describe(looks: Sequence[Look], *, drawn: bool = False) -> Annotations:
    """Guess what annotations mean.

    Classes are one value beside the background, or a few values in many pieces each; everything else numbers objects,
    and so do outlines. The lowest value, if negative and not the background of a mask, is what nobody annotated.

    Parameters
    ----------
    drawn : bool
        Whether they are outlines.

    Raises
    ------
    ValueError
        If there is nothing but background.
    """
    values = sorted({int(value) for one in looks for value in one.values})
    if values[-1] <= 0:
        raise ValueError("the labels are nowhere above 0: there is no object to learn from; name others")
    ignore = values[0] if values[0] < 0 and len(values) > 2 else None
    values = [value for value in values if value != ignore]
    background = 0 if 0 in values else values[0]
    inside = [~np.isin(one.values, [background, background if ignore is None else ignore]) for one in looks]
    numbers = sum(len(np.unique(one.values[mine])) for one, mine in zip(looks, inside, strict=True))
    sizes = np.concatenate([one.sizes[mine] for one, mine in zip(looks, inside, strict=True)])
    parts = len(sizes)
    doubt = _doubt(numbers, sizes) if len(values) > 3 else ""
    if not drawn and (len(values) == 2 or (len(values) <= MOST_CLASSES and parts > 1.5 * numbers)):
        if ignore is None and IGNORED in values and _counted(values, IGNORED):
            ignore = IGNORED
        classes = [background, *(value for value in values if value not in (background, ignore))]
        outside = [background] if ignore is None else [background, ignore]
        reason = f"{len(values)} values in {parts} pieces{doubt}"
        return Annotations("classes", classes, ignore, reason, *_measure(looks, outside, _piece_sizes))
    reason = f"{numbers} numbers" + (f" in {parts} pieces{doubt}" if parts > numbers else ", each in one piece")
    outside = [0] if ignore is None else [0, ignore]
    return Annotations("instances", [], ignore, reason, *_measure(looks, outside, _id_sizes))


def _doubt(numbers: int, sizes: np.ndarray) -> str:
    """What specks in great number are mostly a sign of."""
    if len(sizes) <= FRAGMENTS * numbers or np.median(sizes) > SPECK:
        return ""
    return ", most of them specks: are these labels stored with loss, as JPEG does? Save them as PNG or TIFF"


def _measure(looks: Sequence[Look], outside: list[int], sizes_of) -> tuple[tuple[int, int, int], int, float, float]:
    """Sizes, least size and cover of the objects, which are what is not outside."""
    sizes = [sizes_of(one, outside) for one in looks]
    smallest, median, largest = np.quantile(np.concatenate(sizes), (0, 0.5, 1)).astype(int).tolist()
    inside = np.array([one.sizes[~np.isin(one.values, outside)].sum() for one in looks])
    pixels = np.array([one.sizes.sum() for one in looks])
    least = min(_least(one) for one in sizes if len(one))
    return (smallest, median, largest), least, float(inside.sum() / pixels.sum()), float((inside / pixels).min())


def _least(sizes: np.ndarray) -> int:
    ordered = np.sort(sizes)
    return int(ordered[np.searchsorted(np.cumsum(ordered), 0.01 * ordered.sum())])


def _piece_sizes(one: Look, outside: list[int]) -> np.ndarray:
    mine = ~np.isin(one.values, outside)
    return _rather_whole(one.sizes[mine], one.whole[mine])


def _id_sizes(one: Look, outside: list[int]) -> np.ndarray:
    ids, place = np.unique(one.values, return_inverse=True)
    mine = ~np.isin(ids, outside)
    sizes, cut = np.bincount(place, one.sizes), np.bincount(place, ~one.whole)
    return _rather_whole(sizes[mine].astype(int), cut[mine] == 0)


def _rather_whole(sizes: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Without what the sides cut, if that leaves half."""
    return sizes[whole] if 2 * whole.sum() >= len(whole) else sizes


def _counted(values: list[int], ignored: int) -> bool:
    """Whether the other values are 0, 1, …: then this one is none of them."""
    others = [value for value in values if value != ignored]
    return len(others) > 1 and others == list(range(len(others)))
