"""What is nearest, in an image of which a part at a time is looked at."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage
from scipy.spatial import KDTree

from unetpipe.geometry import Region, widened, within

# Around a block that are read, pixels: as far as needed, and no farther than the last
MARGINS, VOLUME_MARGINS = (32, 128, 512, 2048), (16, 64)
Reader = Callable[[Region], np.ndarray]


def thinned(
    read: Reader, shape: Sequence[int], region: Region, needed: np.ndarray, spacing: Sequence[float]
) -> np.ndarray:
    """Labels of a region in which the borders between objects have no width: every pixel is of the nearest object.

    Parameters
    ----------
    read : callable
        Instance labels of any region inside an image of that shape.
    needed : (*space) bool
        Pixels of the region of which it must be right; those beyond the last margin from all objects stay background.
    spacing : sequence of float
        Size of a pixel along each axis; the smallest is 1.
    """
    labels = read(region)
    empty = needed & (labels == 0)
    for margin in _margins(shape) if empty.any() else ():
        window = widened(region, [int(margin / step) for step in spacing], shape)
        around, inside = read(window), within(region, window)
        if around.any():
            distance, nearest = ndimage.distance_transform_edt(around == 0, sampling=spacing, return_indices=True)
            near = distance[inside] <= margin
            labels = np.where(near, around[tuple(nearest)][inside], 0)
            if near[empty].all():
                break
    return labels


def border_places(read: Reader, shape: Sequence[int], region: Region) -> np.ndarray:
    """Pixels of a mask in a region that face a pixel outside of it, or the edge of the image: (n, axes) int32."""
    window = widened(region, [1] * len(shape), shape)
    mask = read(window)
    edge = (mask & ~ndimage.binary_erosion(mask))[within(region, window)]
    return (np.argwhere(edge) + [part.start for part in region]).astype(np.int32)


class Apart(NamedTuple):
    """How far a mask's border in a region is from another mask's, in units of the spacing."""

    pixels: int  # of the border
    distances: np.ndarray  # (n,) of those that count and have the other's border within the last margin
    far: np.ndarray  # (m, axes) the others that count


def apart(
    one: Reader, other: Reader, shape: Sequence[int], region: Region, known: np.ndarray, spacing: Sequence[float]
) -> tuple[Apart, Apart]:
    """Measure from the border of one mask to that of another, and back, of which no more is read than is needed.

    Parameters
    ----------
    one, other : callable
        Both masks, in any region of the image.
    known : (*space) bool
        Which pixels of the region count.
    """
    around = [(margin, widened(region, [int(margin / step) for step in spacing], shape)) for margin in _margins(shape)]
    mine, theirs = (border_places(mask, shape, around[0][1]) for mask in (one, other))
    where = shape, region, known, spacing, around
    return _apart(mine, theirs, other, *where), _apart(theirs, mine, one, *where)


def _apart(
    border: np.ndarray, others: np.ndarray, other: Reader, shape, region: Region, known, spacing, around
) -> Apart:
    """From a border to another, both as far as the first of the windows around the region shows them."""
    corner, end = (np.array([getattr(part, name) for part in region]) for name in ("start", "stop"))
    border = border[((border >= corner) & (border < end)).all(axis=1)]
    places = border[known[tuple((border - corner).T)]]
    found, reached = np.full(len(places), np.inf), -1.0
    for margin, window in around:
        left = np.flatnonzero(found > reached)
        if not len(left):
            break
        others = others if reached < 0 else border_places(other, shape, window)
        if len(others):
            found[left] = distances(places[left], others, spacing)
        reached = np.inf if [part.stop - part.start for part in window] == list(shape) else margin
    near = np.isfinite(found) & (found <= reached)
    return Apart(len(border), found[near], places[~near])


def _margins(shape: Sequence[int]) -> tuple[int, ...]:
    return MARGINS if len(shape) == 2 else VOLUME_MARGINS


def distances(places: np.ndarray, others: np.ndarray, spacing: Sequence[float], workers: int = 1) -> np.ndarray:
    """From each of some places (n, axes) to the nearest of others (m, axes), m > 0: (n,) float."""
    tree = KDTree(others * np.array(spacing), balanced_tree=False, compact_nodes=False)
    return tree.query(places * np.array(spacing), workers=workers)[0]
