"""Reads a tile along a deformed grid: image (cubic), target (nearest) and border term (linear) in one pass.

Outside the image it is mirrored as NumPy's `reflect`, as prediction does. Coordinates are pixels, so a
grid of whole numbers copies bit for bit. Planes are volumes of one slice.
Letters of shapes: C channels, Z Y X space, N pixels of the tile.
"""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numba import njit

A = np.float32(-0.5)  # of the cubic kernel (Keys 1981): exact for quadratics
ONE, TWO, THREE, HALF = (np.float32(number) for number in (1, 2, 3, 0.5))
compiled: Any = njit(nogil=True, cache=True, error_model="numpy")


class Field(NamedTuple):
    """Where the pixels of a tile come from: a linear map and smooth displacements, which axes build up.

    Tensors are float32 on the CPU; coordinates are z, y, x in pixels of the image. They are summed up there and counted
    from the corner last, which is exact: a part of an image gives the bits of the whole.
    """

    along: tuple[torch.Tensor, ...]  # for each axis of the tile (side, 3): what its position adds to the coordinates
    bases: tuple[torch.Tensor, ...]  # for each axis of the tile (points, side): what its position takes of each point
    waves: torch.Tensor  # (points, points, points, 3): displacements on the coarse grid
    corner: tuple[int, ...] = (0, 0, 0)  # first pixel of the part of the image that is read

    def coordinates(self, device: torch.device | str = "cpu") -> torch.Tensor:
        """The coordinates of every pixel from the corner, (Z, Y, X, 3); they may leave the image."""
        z, y, x = (part.to(device) for part in self.along)
        i, j, k = (part.to(device) for part in self.bases)
        waves = torch.einsum("kx,ijkc->ijxc", k, self.waves.to(device))
        waves = torch.einsum("iz,ijxc->zjxc", i, waves)
        found = z[:, None, None] + y[:, None] + x + torch.einsum("jy,zjxc->zyxc", j, waves)
        return found - torch.tensor(self.corner, dtype=found.dtype, device=device)

    def window(self, shape: Sequence[int]) -> tuple[tuple[slice, ...], "Field"]:
        """The part of an image of that shape (z, y, x) that a tile reads, mirrored pixels included; the field in it."""
        sway = self.waves.abs().amax(dim=(0, 1, 2))
        for basis in self.bases:
            sway = sway * basis.abs().sum(dim=0).max()
        lowest = sum(part.amin(dim=0) for part in self.along) - sway
        highest = sum(part.amax(dim=0) for part in self.along) + sway
        window = tuple(map(_window, lowest.tolist(), highest.tolist(), shape))
        return window, self._replace(corner=tuple(part.start for part in window))


def _window(lowest: float, highest: float, size: int) -> slice:
    """Pixels of one axis that coordinates between these need: their four neighbours, and what those are mirrors of."""
    first, last = math.floor(lowest) - 2, math.floor(highest) + 3
    start, stop = max(0, first), min(size - 1, last)
    if first < 0:
        stop = min(size - 1, max(stop, -first))
    if last > size - 1:
        start = max(0, min(start, 2 * (size - 1) - last))
    return slice(0, size) if first < 0 and last > size - 1 else slice(start, stop + 1)


def sample(image_CZYX, target_ZYX, border_ZYX, field: Field, margins: Sequence[int]):
    """Read one tile.

    Parameters
    ----------
    image_CZYX : float32 tensor
    target_ZYX, border_ZYX : uint8 tensors of the same space
    field : Field
    margins : (z, y, x)
        Pixels at each end of an axis of which only the image is wanted.

    Returns
    -------
    image (C, *tile) float32, target (*inner) uint8, border (*inner) float32
    """
    if image_CZYX.device.type == "cpu":
        return _sample_in_threads(image_CZYX, target_ZYX, border_ZYX, field, margins)
    at = field.coordinates(image_CZYX.device)
    inner = at[tuple(slice(m, -m or None) for m in margins)]
    target = interpolate(target_ZYX[None], inner, nearest_taps)[0].to(torch.uint8)
    return interpolate(image_CZYX, at, cubic_taps), target, interpolate(border_ZYX[None], inner, linear_taps)[0]


# ---------------------------------------------------------------- any device


def interpolate(image_CZYX, at_ZYX3, taps) -> torch.Tensor:
    """Weighted sum of the neighbours of every coordinate, axis by axis; (C, *tile) float32.

    Parameters
    ----------
    taps : function
        `nearest_taps`, `linear_taps` or `cubic_taps`.
    """
    sizes = image_CZYX.shape[1:]
    (z, wz), (y, wy), (x, wx) = (taps(at_ZYX3[..., axis].reshape(-1), sizes[axis]) for axis in range(3))
    flat = image_CZYX.reshape(len(image_CZYX), -1)
    found = torch.zeros(len(flat), z.shape[1], device=flat.device)
    for plane, weight in zip(z, wz, strict=True):
        index = ((plane * sizes[1] + y)[:, None] * sizes[2] + x).reshape(-1, z.shape[1])
        products = (wy[:, None] * wx).reshape(-1, z.shape[1]) * weight
        found += (flat[:, index].float() * products).sum(dim=1)
    return found.reshape(len(flat), *at_ZYX3.shape[:-1])


def nearest_taps(at_N, size: int):
    """The nearest pixel, (1, N), and its weight; of two equally near ones the upper."""
    low = torch.floor(at_N)
    return _mirror((low + (at_N - low >= HALF))[None], size), torch.ones_like(at_N)[None]


def linear_taps(at_N, size: int):
    """The two pixels around every coordinate, (2, N), and their weights."""
    low = torch.floor(at_N)
    t = at_N - low
    return _mirror(low + _steps(at_N, 0, 2), size), torch.stack([1 - t, t])


def cubic_taps(at_N, size: int):
    """The four pixels around every coordinate, (4, N), and the weights of Keys' cubic convolution."""
    if size == 1:
        return nearest_taps(at_N, size)
    low = torch.floor(at_N)
    return _mirror(low + _steps(at_N, -1, 3), size), torch.stack(cubic_weights(at_N - low))


def cubic_weights(t):
    """Keys' cubic convolution: weights of the pixels at −1, 0, 1, 2 for a coordinate of 0 ≤ t < 1."""
    s = ONE - t
    below, above = ((A + TWO) * t - (A + THREE)) * t * t + ONE, ((A + TWO) * s - (A + THREE)) * s * s + ONE
    return A * t * s * s, below, above, A * s * t * t


def _steps(like, start: int, stop: int) -> torch.Tensor:
    return torch.arange(start, stop, device=like.device, dtype=like.dtype)[:, None]


def _mirror(index, size: int) -> torch.Tensor:
    if size == 1:
        return torch.zeros_like(index, dtype=torch.long)
    period = 2 * (size - 1)
    index = index.long() % period
    return torch.minimum(index, period - index)


# ---------------------------------------------------------------- CPU


def _sample_in_threads(image_CZYX, target_ZYX, border_ZYX, field: Field, margins):
    """The same in compiled code that never holds all coordinates, rows shared among torch's threads."""
    sides = [len(part) for part in field.along]
    inner = [side - 2 * margin for side, margin in zip(sides, margins, strict=True)]
    found = torch.empty(len(image_CZYX), *sides), torch.empty(inner, dtype=torch.uint8), torch.empty(inner)
    given = [tensor.contiguous().numpy() for tensor in (image_CZYX, target_ZYX, border_ZYX)]
    along, bases = (tuple(part.contiguous().numpy() for part in parts) for parts in (field.along, field.bases))
    results = tuple(tensor.numpy() for tensor in found)
    corner = np.array(field.corner, np.float32)
    work = partial(_rows, *given, along, bases, field.waves.contiguous().numpy(), corner, tuple(margins), results)
    threads = torch.get_num_threads()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, [(part, sides[0] * sides[1], threads) for part in range(threads)]))
    return found


@compiled
def _rows(image, target, border, along, bases, waves, corner, margins, out, rows):
    """Some rows of the tile, each from the coordinates of its pixels."""
    sizes, high, wide = image.shape[1:], len(along[1]), len(along[2])
    strides = (sizes[1] * sizes[2], sizes[2], 1)
    at = np.empty((3, wide), np.float32)
    offsets, weights = np.empty((3, 4, wide), np.uint32), np.empty((3, 4, wide), np.float32)
    for row in range(rows[0], rows[1], rows[2]):
        z, y = row // high, row % high
        for axis in range(3):
            along_row = along[0][z, axis] + along[1][y, axis]
            _coordinates(
                at[axis], along_row, along[2][:, axis], bases[0][:, z], bases[1][:, y], bases[2], waves[..., axis]
            )
            at[axis] -= corner[axis]
            _neighbours(at[axis], sizes[axis], strides[axis], offsets[axis], weights[axis])
        for channel in range(len(image)):
            _cubic(image[channel].reshape(-1), offsets, weights, out[0][channel, z, y])
        inner_z, inner_y = z - margins[0], y - margins[1]
        if 0 <= inner_z < out[1].shape[0] and 0 <= inner_y < out[1].shape[1]:
            truth = out[1][inner_z, inner_y], out[2][inner_z, inner_y]
            _nearest_and_linear(target.reshape(-1), border.reshape(-1), offsets, at, margins[2], *truth)


@compiled
def _coordinates(at, along_row, along_x, base_z, base_y, base_x, waves):
    for x in range(len(at)):
        at[x] = along_row + along_x[x]
    for k in range(waves.shape[2]):
        height = np.float32(0)
        for i in range(waves.shape[0]):
            for j in range(waves.shape[1]):
                height += base_z[i] * base_y[j] * waves[i, j, k]
        if height != 0:
            line = base_x[k]
            for x in range(len(at)):
                at[x] += height * line[x]


@compiled
def _neighbours(at, size, stride, offsets, weights):
    """Offsets and cubic weights of the four pixels around every coordinate, of which its fraction is left."""
    for x in range(len(at)):
        low = np.floor(at[x])
        at[x] -= low
        for step in range(4):
            offsets[step, x] = _fold(low + np.float32(step - 1), size) * stride
        below, left, right, above = _cubic_weights(at[x])
        weights[0, x], weights[1, x], weights[2, x], weights[3, x] = below, left, right, above
    if size == 1:
        at[:], weights[:], weights[1] = 0, 0, 1


@compiled
def _fold(index, size):
    """A whole number, given as a float below 2^24, mirrored into 0 … size − 1."""
    period = np.float32(max(1, 2 * size - 2))
    rest = index - period * np.floor(index / period)
    return np.uint32(min(rest, period - rest)) if size > 1 else np.uint32(0)


@compiled
def _cubic(flat, offsets, weights, out):
    """The sum over 4 × 4 × 4 pixels; planes of the neighbourhood that nothing takes from are left out."""
    o0, o1, o2, o3 = offsets[2, 0], offsets[2, 1], offsets[2, 2], offsets[2, 3]
    w0, w1, w2, w3 = weights[2, 0], weights[2, 1], weights[2, 2], weights[2, 3]
    out[:] = 0
    for k in range(4):
        plane, plane_weight = offsets[0, k], weights[0, k]
        if not plane_weight.any():
            continue
        for j in range(4):
            line, line_weight = offsets[1, j], weights[1, j]
            for x in range(len(out)):
                p = plane[x] + line[x]
                total = w0[x] * flat[p + o0[x]] + w1[x] * flat[p + o1[x]] + w2[x] * flat[p + o2[x]]
                out[x] += plane_weight[x] * line_weight[x] * (total + w3[x] * flat[p + o3[x]])


@compiled
def _nearest_and_linear(target, border, offsets, rest, first, out_target, out_border):
    """Both from the two pixels around every coordinate along each axis."""
    z0, z1, y0, y1, x0, x1 = (offsets[0, 1], offsets[0, 2], offsets[1, 1], offsets[1, 2], offsets[2, 1], offsets[2, 2])
    rest_z, rest_y, rest_x = rest[0], rest[1], rest[2]
    for x in range(len(out_target)):
        i = x + first
        z, y = (z1[i] if rest_z[i] >= HALF else z0[i]), (y1[i] if rest_y[i] >= HALF else y0[i])
        out_target[x] = target[z + y + (x1[i] if rest_x[i] >= HALF else x0[i])]
    for x in range(len(out_border)):
        i = x + first
        near = _across(border, z0[i] + y0[i], z0[i] + y1[i], x0[i], x1[i], rest_y[i], rest_x[i])
        far = _across(border, z1[i] + y0[i], z1[i] + y1[i], x0[i], x1[i], rest_y[i], rest_x[i])
        out_border[x] = (ONE - rest_z[i]) * near + rest_z[i] * far


@compiled
def _across(flat, top, bottom, left, right, ty, tx):
    upper = (ONE - tx) * np.float32(flat[top + left]) + tx * np.float32(flat[top + right])
    lower = (ONE - tx) * np.float32(flat[bottom + left]) + tx * np.float32(flat[bottom + right])
    return (ONE - ty) * upper + ty * lower


_cubic_weights = compiled(cubic_weights)
