"""What every format offers: pixels by region, with axes (t, c, z, y, x)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from unetpipe.geometry import Region

RGB = ("red", "green", "blue")
UNKNOWN_DEPTH = 1.0  # µm between planes, where a file says how large a pixel is, but not that


class Plane(NamedTuple):
    """A plane as it is in the file, where the series gives it rescaled."""

    sides: tuple[int, ...]  # y, x
    steps: tuple[float, ...]  # its pixels in one of the series


class Series(NamedTuple):
    """One image of a file, read lazily."""

    name: str
    shape: tuple[int, ...]  # t, c, z, y, x
    dtype: np.dtype
    pixel_size: tuple[float, float, float] | None  # µm along z, y, x
    channels: tuple[str, ...]
    read: Callable[[Region], np.ndarray]  # t, c, z, y, x; safe to call from several threads
    origin: Plane | None = None
    files: tuple[str, ...] = ()  # all that it is read from, where they are several
    coarser: tuple["Series", ...] = ()  # the same image with larger pixels, as the file has it
    kinds: tuple[str, ...] = ()  # class of the background (none) and of objects 1, 2, … that somebody drew
    levels: tuple[str, ...] = ()  # folders of the Zarr arrays (t, c, z, y, x) of format 3 that hold it and its halves


def plain_axes(name: str, shape: tuple[int, ...]) -> str:
    """Axes of an array that does not say: (y, x), (z, y, x), (c, z, y, x), (t, c, z, y, x); colours (y, x, 3 or 4).

    Raises
    ------
    ValueError
        If it has one axis, or more than five.
    """
    if len(shape) == 3 and shape[-1] in (3, 4):
        return "yxc"
    axes = {2: "yx", 3: "zyx", 4: "czyx", 5: "tczyx"}.get(len(shape))
    if not axes:
        known = "(y, x), (y, x, 3), (z, y, x), (c, z, y, x) nor (t, c, z, y, x)"
        raise ValueError(f"{name}: shape {shape} is neither {known}")
    return axes


def lazy(name: str, array: Any, axes: str, pixel_size=None, channels: tuple[str, ...] | None = None) -> Series:
    """A series from anything that gives NumPy arrays when sliced; of four colours the last, alpha, is dropped.

    Parameters
    ----------
    axes : str
        Some of t, c, z, y, x, in the order of the array's axes.
    """
    places = ["tczyx".index(axis) for axis in axes]
    shape = [1] * 5
    for place, size in zip(places, array.shape, strict=True):
        shape[place] = size
    if axes == "yxc" and shape[1] == 4:
        shape[1] = 3
    order, missing = np.argsort(places), [place for place in range(5) if place not in places]
    dtype = plain_type(name, np.dtype(array.dtype))

    def read(region: Region) -> np.ndarray:
        with np.errstate(over="ignore"):  # what becomes infinite is refused by its place
            pixels = np.asarray(array[tuple(region[place] for place in places)], dtype)
        return np.expand_dims(pixels.transpose(order), missing)

    return Series(name, tuple(shape), dtype, pixel_size, channels or channel_names(shape[1], axes), read)


def plain_type(name: str, dtype: np.dtype) -> np.dtype:
    """Of pixels as they are read: masks as bytes, floating-point numbers as float32, which viewers know.

    Raises
    ------
    ValueError
        If they are no integers or floating-point numbers of at most 64 bits.
    """
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise ValueError(f"{name}: pixels of type {dtype}; save it as integers or floating-point numbers")
    if dtype.kind == "b":
        return np.dtype(np.uint8)
    return np.dtype(np.float32) if dtype.kind == "f" else dtype.newbyteorder("=")


def channel_names(count: int, axes: str) -> tuple[str, ...]:
    """Names for channels that have none: red, green, blue where the three of a pixel lie side by side, or numbers."""
    return RGB if count == 3 and axes[-1] in "cs" else tuple(str(k) for k in range(count))
