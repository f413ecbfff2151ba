"""NumPy arrays on disk, mapped rather than loaded."""

from pathlib import Path

import numpy as np

from unetpipe.readers.series import Series, lazy, plain_axes

SUFFIXES = (".npy",)


def open_file(path: Path) -> list[Series]:
    """One array; its axes follow from their number, see `series.plain_axes`."""
    array = np.load(path, mmap_mode="r")
    return [lazy(path.stem, array, plain_axes(path.name, array.shape))]
