"""How tiles are deformed and recoloured in training (section 3.1 of the paper): random, a function of generators alone.

Letters of shapes: C channels, Z Y X space; planes are volumes of one slice.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch.nn import functional

from unetpipe.sampling import Field, cubic_weights


class Augmentation(NamedTuple):
    """How far tiles may differ from what was seen; 0 switches a change off.

    A pixel is as long as the finest axis says. Coarse axes of a volume are not rotated into others.
    """

    elastic: float = 10.0  # standard deviation of the displacements on the coarse grid, pixels
    grid: int = 3  # points of that grid along each axis
    rotate: float = 180.0  # largest angle, degrees
    flip: float = 0.5  # probability, for each axis
    scale: float = 0.1  # standard deviation of the size's logarithm
    blur: float = 0.5  # largest standard deviation of a Gaussian blur, pixels
    gain: float = 0.1  # standard deviation of the contrast's logarithm
    offset: float = 0.1  # standard deviation of the brightness, share of the grey-value range
    gamma: float = 0.1  # standard deviation of the exponent's logarithm
    stain: float = 0.05  # standard deviation of what of each channel goes into each other one
    noise: float = 0.02  # standard deviation of added noise, share of the grey-value range


# ---------------------------------------------------------------- where pixels come from


def sampling_field(
    centre: Sequence[int],
    sides: Sequence[int],
    spacing: Sequence[float],
    augmentation: Augmentation,
    generator: torch.Generator,
) -> Field:
    """Where every pixel of a tile comes from.

    Parameters
    ----------
    centre : (z, y, x) of int
        Pixel of the image from which the tile's middle, or the pixel before it, comes.
    sides : (Z, Y, X)
        Of the tile; Z = 1: a plane, which stays in its slice.
    spacing : (z, y, x)
        Size of a pixel along each axis, in units of the finest.
    generator : torch.Generator
        On the CPU.

    """
    matrix = _linear_map(sides, spacing, augmentation, generator)
    steps = [torch.arange(side, dtype=torch.float32) - (side - 1) / 2 for side in sides]
    middle = [at + (side - 1) / 2 - (side - 1) // 2 for at, side in zip(centre, sides, strict=True)]
    z, y, x = (step[:, None] * matrix[:, axis] for axis, step in enumerate(steps))
    waves = _waves(sides, spacing, augmentation, generator)
    bases = tuple(_cubic_basis(side, points) for side, points in zip(sides, waves.shape, strict=False))
    return Field((z + torch.tensor(middle), y, x), bases, waves)


def _linear_map(sides, spacing, augmentation: Augmentation, generator: torch.Generator) -> torch.Tensor:
    """Rotation, flips and scale as one 3 × 3 matrix, from pixels of the tile to pixels of the image."""
    turns = math.radians(augmentation.rotate) * (2 * torch.rand(3, generator=generator) - 1)
    mirrored = torch.rand(3, generator=generator) < augmentation.flip
    size = torch.exp(augmentation.scale * torch.randn((), generator=generator))
    matrix = _rotation(turns[0], 1, 2)
    if sides[0] > 1 and max(spacing) < 2:
        matrix = matrix @ _rotation(turns[1], 0, 1) @ _rotation(turns[2], 0, 2)
    matrix = matrix * torch.where(mirrored, -size, size)
    if sides[0] == 1:
        matrix[0] = torch.tensor([1.0, 0.0, 0.0])
    lengths = torch.tensor(spacing, dtype=torch.float32)
    return matrix * lengths / lengths[:, None]


def _rotation(angle: torch.Tensor, first: int, second: int) -> torch.Tensor:
    matrix = torch.eye(3)
    cos, sin = torch.cos(angle), torch.sin(angle)
    matrix[first, first], matrix[second, second] = cos, cos
    matrix[first, second], matrix[second, first] = -sin, sin
    return matrix


def _waves(sides, spacing, augmentation: Augmentation, generator: torch.Generator) -> torch.Tensor:
    """Gaussian vectors on the coarse grid, (points, points, points, 3) in pixels of each axis."""
    points = [augmentation.grid if side > 1 else 1 for side in sides]
    vectors = augmentation.elastic * torch.randn((*points, 3), generator=generator) / torch.tensor(spacing)
    if sides[0] == 1:
        vectors[..., 0] = 0
    return vectors


def _cubic_basis(side: int, points: int) -> torch.Tensor:
    """What every pixel takes of every grid point along one axis, (points, side); the end points are repeated."""
    at = torch.linspace(0, points - 1, side)
    low = at.floor().clamp(max=max(0, points - 2))
    basis = torch.zeros(points, side)
    for step, weight in enumerate(cubic_weights(at - low), start=-1):
        basis.scatter_add_(0, (low + step).clamp(0, points - 1).long()[None], weight[None])
    return basis


# ---------------------------------------------------------------- grey values


def recolour(tile_CZYX: torch.Tensor, augmentation: Augmentation, generator: torch.Generator, noise) -> torch.Tensor:
    """Vary grey values around a range of 0 … 1: blur, gamma, gain and offset of each channel, stain, noise.

    Parameters
    ----------
    generator : torch.Generator
        On the CPU.
    noise : torch.Generator
        On the device of the tile.
    """
    count = len(tile_CZYX)
    width = augmentation.blur * torch.rand((), generator=generator).item()
    gamma, gain, offset = (torch.randn(count, 1, 1, 1, generator=generator) for _ in range(3))
    mixture = torch.eye(count) + augmentation.stain * torch.randn(count, count, generator=generator)
    if augmentation.blur:
        tile_CZYX = _blur(tile_CZYX, width)
    if augmentation.gamma:
        exponent = torch.exp(augmentation.gamma * gamma).to(tile_CZYX)
        tile_CZYX = torch.sign(tile_CZYX) * tile_CZYX.abs() ** exponent
    if augmentation.gain or augmentation.offset:
        slope, level = torch.exp(augmentation.gain * gain), 0.5 + augmentation.offset * offset
        tile_CZYX = tile_CZYX * slope.to(tile_CZYX) + (level - 0.5 * slope).to(tile_CZYX)
    if augmentation.stain and count > 1:
        tile_CZYX = 1 - torch.tensordot(mixture.to(tile_CZYX), 1 - tile_CZYX, dims=1)
    if augmentation.noise:
        grain = torch.empty_like(tile_CZYX).normal_(std=augmentation.noise, generator=noise)
        tile_CZYX = tile_CZYX + grain
    return tile_CZYX


def _blur(tile_CZYX: torch.Tensor, width: float) -> torch.Tensor:
    """Gaussian blur of that standard deviation within each plane."""
    reach = math.ceil(3 * width)
    if reach == 0 or reach >= min(tile_CZYX.shape[2:]):
        return tile_CZYX
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / width) ** 2)
    kernel = (kernel / kernel.sum()).to(tile_CZYX)
    padded = functional.pad(tile_CZYX, [reach] * 4, mode="reflect")
    planes = padded.reshape(-1, 1, *padded.shape[2:])
    rows = functional.conv2d(planes, kernel.view(1, 1, -1, 1))
    return functional.conv2d(rows, kernel.view(1, 1, 1, -1)).reshape(tile_CZYX.shape)
