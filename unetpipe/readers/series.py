"""What every format offers: pixels by region, with axes (t, c, z, y, x)."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

Region = tuple[slice, ...]  # t, c, z, y, x


class Series(NamedTuple):
    """One image of a file, read lazily."""

    name: str
    shape: tuple[int, ...]  # t, c, z, y, x
    dtype: np.dtype
    pixel_size: tuple[float, float, float] | None  # µm along z, y, x
    channels: tuple[str, ...]
    read: Callable[[Region], np.ndarray]  # safe to call from several threads


def in_memory(name: str, pixels: np.ndarray, pixel_size=None) -> Series:
    """A series from a plane (y, x), a colour image (y, x, 3 or 4; alpha is dropped) or (t, c, z, y, x)."""
    if pixels.ndim == 2:
        pixels = pixels[None, None, None]
    elif pixels.ndim == 3 and pixels.shape[-1] in (3, 4):
        pixels = np.moveaxis(pixels[..., :3], -1, 0)[None, :, None]
    elif pixels.ndim != 5:
        raise ValueError(f"{name}: shape {pixels.shape} is neither (y, x), (y, x, 3), (y, x, 4) nor (t, c, z, y, x)")
    return Series(name, pixels.shape, pixels.dtype, pixel_size, channel_names(pixels.shape[1]), pixels.__getitem__)


def channel_names(count: int) -> tuple[str, ...]:
    """Names for channels that have none: red, green, blue, or their numbers."""
    return ("red", "green", "blue") if count == 3 else tuple(str(k) for k in range(count))
