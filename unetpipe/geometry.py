"""Where the overlap-tile strategy reads and writes: integers and slices, never arrays."""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np

Region = tuple[slice, ...]  # a slice for each axis, inside the image
SAME = 0.02  # relative difference of pixel sizes that is none


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


def widened(region: Region, margins: Sequence[int], shape: Sequence[int]) -> Region:
    """A region with a margin along each axis, as far as the image goes."""
    axes = zip(region, margins, shape, strict=True)
    return tuple(slice(max(0, part.start - more), min(size, part.stop + more)) for part, more, size in axes)


def within(region: Region, window: Region) -> Region:
    """Where a region lies in a window that holds it."""
    return tuple(slice(r.start - w.start, r.stop - w.start) for r, w in zip(region, window, strict=True))


def meet(one: Region, other: Region) -> bool:
    """Whether two regions have anything in common."""
    return all(a.start < b.stop and b.start < a.stop for a, b in zip(one, other, strict=True))


def shared(one: Region, other: Region) -> Region:
    """What two regions that meet have in common."""
    return tuple(slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(one, other, strict=True))


def reflect(start: int, stop: int, size: int) -> np.ndarray:
    """Indices start … stop - 1 of an axis of `size` pixels, mirrored as NumPy's `reflect` outside of it.

    The edge pixel is not repeated; an axis of one pixel repeats it.
    """
    if size == 1:
        return np.zeros(stop - start, dtype=np.intp)
    period = 2 * (size - 1)
    index = np.arange(start, stop) % period
    return np.minimum(index, period - index)


def common_pixel_size(sizes: Sequence[Sequence[float] | None]) -> Sequence[float] | None:
    """µm along z, y, x, where all images have one that is the same in the plane."""
    if not sizes or any(size is None for size in sizes):
        return None
    first, *others = (size for size in sizes if size)
    same = all(abs(own / one - 1) <= SAME for size in others for own, one in zip(size[1:], first[1:], strict=True))
    return first if same else None


def relative_spacing(pixel_size: Sequence[float] | None, dimensions: int) -> tuple[float, ...]:
    """Size of a pixel along each axis that a network sees, in units of the finest; 1 where unknown.

    Parameters
    ----------
    pixel_size : (z, y, x) of float, optional
        µm.
    dimensions : 2 or 3
    """
    sizes = tuple(pixel_size or (1.0, 1.0, 1.0))[-dimensions:]
    return tuple(size / min(sizes) for size in sizes)


class Axis(NamedTuple):
    """What a network does along one axis of the image, pixels."""

    stride: int  # blocks start at its multiples: poolings then meet the phase of the whole image
    halo: int  # context that an output pixel needs on each side
    lost: int  # outputs are so much shorter than a multiple of the stride

    def output(self, minimum: int) -> int:
        """The smallest output of at least `minimum` pixels (the paper's network: 512 → 516)."""
        return max(1, -(-(minimum + self.lost) // self.stride)) * self.stride - self.lost

    def input(self, minimum: int) -> int:
        """The input that gives `output(minimum)`: every pooling meets an even side (388 → 572)."""
        return self.output(minimum) + 2 * self.halo


def tile_sides(axes: tuple[Axis, ...], tile: int, planes: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Sides of a network's input, and by how much its output is shorter at each end, z y x; one plane if it is flat."""
    flat = (Axis(stride=1, halo=0, lost=0),) * (3 - len(axes))
    wanted = (planes if len(axes) == 3 else 1, tile, tile)
    every = (*flat, *axes)
    return tuple(axis.input(side) for axis, side in zip(every, wanted, strict=True)), tuple(axis.halo for axis in every)


class Levels(NamedTuple):
    """Kernels and strides of a valid-convolution U-Net along one axis, from the top level down."""

    kernels: tuple[int, ...]  # of the two convolutions before, and the two after, what lies below
    strides: tuple[int, ...]  # between a level and the next: one fewer

    def axis(self) -> Axis:
        """A pair of convolutions loses kernel − 1 pixels a side; one pixel of level k is `scale` of the image's."""
        scale, lost = 1, 0
        for kernel, stride in zip(self.kernels, self.strides, strict=False):
            lost += 2 * (kernel - 1) * scale
            scale *= stride
        return Axis(stride=scale, halo=lost + (self.kernels[-1] - 1) * scale, lost=lost)

    def crops(self) -> list[int]:
        """By how much the skip connection of each level is longer than what it meets, on each side."""
        below = [Levels(self.kernels[k + 1 :], self.strides[k + 1 :]).axis().halo for k in range(len(self.strides))]
        return [stride * halo for stride, halo in zip(self.strides, below, strict=True)]


def unet_levels(depth: int, spacing: Sequence[float]) -> list[Levels]:
    """Kernels and strides along each axis: nothing is convolved or pooled along an axis while it is coarse.

    Coarse is an axis whose pixels are at least twice as long as the finest axis' at that level.

    Parameters
    ----------
    depth : int
        Number of poolings.
    spacing : sequence of float
        Size of a pixel of the image along each axis.
    """
    sizes, fine = list(spacing), []
    for _ in range(depth + 1):
        fine.append([size < 2 * min(sizes) for size in sizes])
        sizes = [size * 2 if close else size for size, close in zip(sizes, fine[-1], strict=True)]
    return [
        Levels(tuple(3 if close else 1 for close in axis), tuple(2 if close else 1 for close in axis[:-1]))
        for axis in zip(*fine, strict=True)
    ]
