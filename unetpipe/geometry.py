"""Where the overlap-tile strategy reads and writes: integers and slices, never arrays."""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np


class Block(NamedTuple):
    """Where one network call reads and writes, in pixels of the image, one slice per axis."""

    read: tuple[slice, ...]  # may leave the image: mirror there
    write: tuple[slice, ...]  # blocks never overlap here, and together cover the image


def blocks(
    shape: Sequence[int], block: Sequence[int], halo: Sequence[tuple[int, int]] | None = None
) -> Iterator[Block]:
    """Cut an image into blocks on a regular grid that starts at its first pixel.

    Parameters
    ----------
    shape, block : sequence of int
        Pixels per axis.
    halo : sequence of (before, after), optional
        Context per axis, read around the full grid cell: all blocks have one reading shape, also
        those that the image edge cuts. Without it a block reads what it writes.
    """
    starts = [range(0, size, step) for size, step in zip(shape, block, strict=True)]
    for corner in product(*starts):
        write = tuple(slice(c, min(c + b, s)) for c, b, s in zip(corner, block, shape, strict=True))
        if halo is None:
            yield Block(write, write)
        else:
            yield Block(_around(corner, block, halo), write)


def _around(corner, block, halo) -> tuple[slice, ...]:
    axes = zip(corner, block, halo, strict=True)
    return tuple(slice(c - before, c + b + after) for c, b, (before, after) in axes)


def reflect(start: int, stop: int, size: int) -> np.ndarray:
    """Indices start … stop - 1 of an axis of `size` pixels, mirrored as NumPy's `reflect` outside of it.

    The edge pixel is not repeated; an axis of one pixel repeats it.
    """
    if size == 1:
        return np.zeros(stop - start, dtype=np.intp)
    period = 2 * (size - 1)
    index = np.arange(start, stop) % period
    return np.minimum(index, period - index)


def unet_halo(depth: int) -> int:
    """Pixels that the valid-convolution U-Net loses on each side (92 at depth 4).

    At level k a pair of 3 × 3 convolutions loses two pixels a side, of 2^k pixels of the image each;
    every level but the lowest has two such pairs.
    """
    return 4 * (2**depth - 1) + 2 * 2**depth


def unet_output(minimum: int, depth: int) -> int:
    """The smallest output of a U-Net of this depth with at least `minimum` pixels (512 → 516 at depth 4)."""
    lost = 4 * (2**depth - 1)
    coarse = max(1, -(-(minimum + lost) // 2**depth))
    return coarse * 2**depth - lost


def unet_input(minimum: int, depth: int) -> int:
    """The input that gives `unet_output(minimum, depth)`: every pooling meets an even side (388 → 572)."""
    return unet_output(minimum, depth) + 2 * unet_halo(depth)
