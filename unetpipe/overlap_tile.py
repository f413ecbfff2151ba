"""The overlap-tile strategy: an image of any size in blocks that mirror what lies outside, as if it were one.

Letters of shapes: C channels, Z Y X space, K classes; planes are volumes of one slice.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from unetpipe.geometry import Axis, Block, blocks, reflect
from unetpipe.grey import to_unit


def volume_blocks(shape: Sequence[int], sides: Sequence[int], axes: tuple[Axis, ...]) -> list[Block]:
    """Blocks of a volume, slice by slice for a planar network; one that is smaller than a block is one of its size.

    Parameters
    ----------
    shape, sides : (z, y, x)
        Of the volume and of a block, pixels.
    axes
        Of the network.
    """
    axes, sides = grid(shape, sides, axes)
    halo = [(axis.halo, axis.halo + axis.output(side) - side) for side, axis in zip(sides, axes, strict=True)]
    return list(blocks(shape, sides, halo))


def grid(shape: Sequence[int], sides: Sequence[int], axes: tuple[Axis, ...]) -> tuple[tuple[Axis, ...], list[int]]:
    """Axes z, y, x of a network, planar or not, and the sides of the blocks that it takes a volume in."""
    if len(axes) == 2:
        axes, sides = (Axis(stride=1, halo=0, lost=0), *axes), (1, *sides[1:])
    fitting = zip(shape, sides, axes, strict=True)
    return axes, [min(side, -(-size // axis.stride) * axis.stride) for size, side, axis in fitting]


def read_mirrored(array, front: tuple, window: tuple[slice, ...]) -> np.ndarray:
    """Read a window of the last axes that may leave the array: mirrored there as NumPy's `reflect`."""
    sizes = array.shape[-len(window) :]
    index = [reflect(part.start, part.stop, size) for part, size in zip(window, sizes, strict=True)]
    pixels = array[(*front, *(slice(along.min(), along.max() + 1) for along in index))]
    return pixels[(..., *np.ix_(*(along - along.min() for along in index)))]


def read_block(source: Any, t: int, block: Block, statistics: dict) -> np.ndarray:
    """What a predictor sees of a block, (c, z, y, x) float32.

    Parameters
    ----------
    source : array-like (t, c, z, y, x)
        Anything that gives NumPy arrays when sliced.
    t : int
        Time point.
    block : Block
        See `volume_blocks`.
    statistics : dict
        See `grey.to_unit`.
    """
    return to_unit(read_mirrored(source, (t, slice(None)), block.read), statistics, axis=0)


def written(found: np.ndarray, block: Block) -> np.ndarray:
    """The part of a prediction (K − 1, z, y, x) that its block writes: outputs are larger than strides."""
    return found[(slice(None), *(slice(0, part.stop - part.start) for part in block.write))]


def holds_tissue(block: Block, tissue: np.ndarray, level: int) -> bool:
    """Whether there is anything to see in what a block writes.

    Parameters
    ----------
    tissue : (z, y, x) bool
        At a level of the image's pyramid.
    """
    z, y, x = block.write
    seen = tissue[z, y.start >> level : -(-y.stop >> level), x.start >> level : -(-x.stop >> level)]
    return bool(seen.any())
