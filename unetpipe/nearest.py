"""What is nearest, found block by block: windows grow until nothing beyond them can be nearer."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage

MARGIN = 32  # pixels around a block that are read at first
Region = tuple[slice, ...]
Reader = Callable[[Region], np.ndarray]


class Window(NamedTuple):
    """A block with what lies around it."""

    region: Region
    inside: Region  # where the block lies in it
    margin: float  # anything beyond the window is farther away than this
    whole: bool  # there is nothing beyond


def windows(region: Region, shape: Sequence[int], spacing: Sequence[float]) -> Iterator[Window]:
    """Larger and larger ones; the last is the whole image."""
    margin, whole = MARGIN, False
    while not whole:
        axes = list(zip(region, shape, spacing, strict=True))
        wide = tuple(
            slice(max(0, part.start - int(margin / step)), min(size, part.stop + int(margin / step)))
            for part, size, step in axes
        )
        whole = all(part == slice(0, size) for part, size in zip(wide, shape, strict=True))
        inside = tuple(slice(p.start - w.start, p.stop - w.start) for p, w in zip(region, wide, strict=True))
        yield Window(wide, inside, margin, whole)
        margin *= 4


def thinned(
    read: Reader, shape: Sequence[int], region: Region, needed: np.ndarray, spacing: Sequence[float]
) -> np.ndarray:
    """Labels of a region in which the borders between objects have no width: every pixel is of the nearest object.

    Parameters
    ----------
    read : callable
        Instance labels of any region inside an image of that shape.
    needed : (*space) bool
        Pixels of the region of which it must be right.
    spacing : sequence of float
        Size of a pixel along each axis; the smallest is 1.
    """
    labels = read(region)
    empty = needed & (labels == 0)
    for window in windows(region, shape, spacing) if empty.any() else ():
        labels = read(window.region)
        if not labels.any():
            labels = labels[window.inside]
            continue
        distance, nearest = ndimage.distance_transform_edt(labels == 0, sampling=spacing, return_indices=True)
        labels = labels[tuple(nearest)][window.inside]
        if distance[window.inside][empty].max() <= window.margin:
            break
    return labels


def border(read: Reader, shape: Sequence[int], region: Region) -> np.ndarray:
    """Pixels of a mask that face a pixel outside of it, or the edge of the image."""
    wide = tuple(
        slice(max(0, part.start - 1), min(size, part.stop + 1)) for part, size in zip(region, shape, strict=True)
    )
    inside = tuple(slice(p.start - w.start, p.stop - w.start) for p, w in zip(region, wide, strict=True))
    mask = read(wide)
    return (mask & ~ndimage.binary_erosion(mask))[inside]


def border_distances(
    places: np.ndarray, other: Reader, shape: Sequence[int], region: Region, spacing: Sequence[float]
) -> np.ndarray:
    """How far some pixels of a region are from the border of a mask.

    Parameters
    ----------
    places : (*space) bool
        Pixels of the region.
    other : callable
        The mask in any region of an image of that shape.

    Returns
    -------
    (n,) float
        In units of the spacing; infinite if the mask is empty.
    """
    found = np.full(int(places.sum()), np.inf)
    for window in windows(region, shape, spacing) if len(found) else ():
        edge = border(other, shape, window.region)
        if not edge.any():
            continue
        found = ndimage.distance_transform_edt(~edge, sampling=spacing)[window.inside][places]
        if found.max() <= window.margin:
            break
    return found
