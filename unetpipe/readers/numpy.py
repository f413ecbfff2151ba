"""NumPy arrays on disk, mapped rather than loaded."""

from pathlib import Path

import numpy as np

from unetpipe.readers.series import Series, in_memory

SUFFIXES = (".npy",)


def open_file(path: Path) -> list[Series]:
    """A plane (y, x), a colour image (y, x, 3) or a whole (t, c, z, y, x)."""
    return [in_memory(path.stem, np.load(path, mmap_mode="r"))]
