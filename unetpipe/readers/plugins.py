"""Formats of microscopes' makers (CZI, LIF, ND2, …), through whatever plugins of bioio are installed."""

from pathlib import Path
from typing import Any

import numpy as np

from unetpipe.geometry import Region
from unetpipe.readers.series import RGB, UNKNOWN_DEPTH, Series, lazy


def open_file(path: Path, known: str) -> list[Series]:
    """Every scene of a file as one series.

    Parameters
    ----------
    known : str
        The suffixes that are read without plugins, for the error.

    Raises
    ------
    ValueError
        If there is no plugin for it.
    """
    try:
        from bioio import BioImage  # noqa: PLC0415 - an extra
        from bioio_base.exceptions import UnsupportedFileFormatError  # noqa: PLC0415 - likewise
    except ImportError as error:
        raise ValueError(
            f"{path}: unknown image format; known suffixes are {known}; for others install bioio and its plugin, e.g. "
            ".venv/bin/pip install bioio bioio-czi"
        ) from error
    try:
        count = len(BioImage(path).scenes)
    except UnsupportedFileFormatError as error:
        raise ValueError(f"{path}: no plugin of bioio that is installed reads it ({error})") from error
    return [_scene(path, BioImage(path), number, count) for number in range(count)]


def _scene(path: Path, image: Any, number: int, count: int) -> Series:
    image.set_scene(number)
    coloured = "S" in image.dims.order
    if coloured and image.dims.C > 1:
        raise ValueError(f"{path}: channels and colours in one image; export it as OME-TIFF with one of them")
    pixels = image.get_image_dask_data("TSZYX" if coloured else "TCZYX")
    sizes = image.physical_pixel_sizes
    pixel_size = (float(sizes.Z or UNKNOWN_DEPTH), float(sizes.Y), float(sizes.X)) if sizes.Y and sizes.X else None
    names = RGB if coloured else tuple(map(str, image.channel_names or ()))
    name = path.name.split(".")[0] + (f"-{number}" if count > 1 else "")
    return lazy(name, Computed(pixels), "tczyx", pixel_size, names if len(names) == pixels.shape[1] else None)


class Computed:
    """A Dask array that gives NumPy arrays when it is sliced."""

    def __init__(self, array: Any):
        self.array, self.shape, self.dtype = array, array.shape, array.dtype

    def __getitem__(self, window: Region) -> np.ndarray:
        return self.array[window].compute(scheduler="synchronous")
