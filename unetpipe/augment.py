"""Deforms and recolours tiles on the device: one field for image, target and weights (section 3.1).

Letters of shapes: B batch, C channels, Y X space.
"""

import math
from typing import NamedTuple

import torch
from torch.nn import functional


class Augmentation(NamedTuple):
    """How far tiles may differ from what was seen; 0 or False switches a change off."""

    elastic: float = 10.0  # standard deviation of the displacements on the coarse grid, pixels
    grid: int = 3  # points of that grid along each axis
    rotate: bool = True  # by any angle
    flip: bool = True
    scale: float = 0.1  # size varies by this share, standard deviation
    gain: float = 0.1  # contrast, standard deviation
    offset: float = 0.1  # brightness, standard deviation, in units of the grey-value range
    gamma: float = 0.1  # standard deviation of the exponent's logarithm
    noise: float = 0.02  # standard deviation of added noise, in units of the grey-value range


def sampling_field(
    centre: tuple[float, float], sides: tuple[int, int], augmentation: Augmentation, generator: torch.Generator
) -> torch.Tensor:
    """Where every pixel of a tile comes from.

    Parameters
    ----------
    centre : (y, x)
        Middle of the tile in the image, pixels.
    sides : (Y, X)
        Of the tile.

    Returns
    -------
    (Y, X, 2) float32
        Coordinates (x, y) in pixels of the image; they may leave it.
    """
    y, x = (torch.arange(side, dtype=torch.float32) - (side - 1) / 2 for side in sides)
    field = torch.stack(torch.meshgrid(y, x, indexing="ij"), dim=-1)
    field = field @ _linear_map(augmentation, generator)
    field = field + _displacements(sides, augmentation, generator)
    return (field + torch.tensor(centre)).flip(-1)


def _linear_map(augmentation: Augmentation, generator: torch.Generator) -> torch.Tensor:
    """Rotation, flip and scale as one 2 × 2 matrix."""
    turn, mirror = torch.rand(2, generator=generator)
    size = torch.exp(augmentation.scale * torch.randn((), generator=generator))
    angle = 2 * math.pi * turn if augmentation.rotate else torch.zeros(())
    cos, sin = torch.cos(angle), torch.sin(angle)
    matrix = size * torch.stack([torch.stack([cos, -sin]), torch.stack([sin, cos])])
    return matrix * torch.tensor([-1.0, 1.0]) if augmentation.flip and mirror < 0.5 else matrix


def _displacements(sides, augmentation: Augmentation, generator: torch.Generator) -> torch.Tensor:
    """Gaussian vectors on the coarse grid, bicubic in between."""
    shape = (1, 2, augmentation.grid, augmentation.grid)
    coarse = augmentation.elastic * torch.randn(shape, generator=generator)
    fine = functional.interpolate(coarse, size=sides, mode="bicubic", align_corners=True)
    return fine[0].permute(1, 2, 0)


def sample(image_CYX: torch.Tensor, field_YX2: torch.Tensor, mode: str) -> torch.Tensor:
    """Read an image along a field; outside it is mirrored as NumPy's `reflect`, as prediction does.

    Parameters
    ----------
    mode : "bicubic", "bilinear" or "nearest"
    """
    sides = torch.tensor(image_CYX.shape[:0:-1], device=field_YX2.device)
    unit = 2 * field_YX2 / (sides - 1) - 1
    image_BCYX = image_CYX[None].float()
    return functional.grid_sample(image_BCYX, unit[None], mode=mode, padding_mode="reflection", align_corners=True)[0]


def recolour(tile_CYX: torch.Tensor, augmentation: Augmentation, generator: torch.Generator) -> torch.Tensor:
    """Vary grey values around a range of 0 … 1: gamma, gain and offset of each channel, noise."""
    channels = (tile_CYX.shape[0], 1, 1)
    gain, offset, gamma = (torch.randn(channels, generator=generator).to(tile_CYX) for _ in range(3))
    if augmentation.gamma:
        tile_CYX = torch.sign(tile_CYX) * tile_CYX.abs() ** torch.exp(augmentation.gamma * gamma)
    tile_CYX = (tile_CYX - 0.5) * torch.exp(augmentation.gain * gain) + 0.5 + augmentation.offset * offset
    if augmentation.noise:
        noise = torch.randn(tile_CYX.shape, generator=generator)
        tile_CYX = tile_CYX + augmentation.noise * noise.to(tile_CYX)
    return tile_CYX
