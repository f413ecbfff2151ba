"""Opens any supported image file as a list of series. A format is one file of this folder.

Each format module has `SUFFIXES` and `open_file(path) -> list[Series]`.
"""

from pathlib import Path

from unetpipe.readers import numpy, raster, slide, tiff
from unetpipe.readers.series import Series

FORMATS = (tiff, slide, raster, numpy)


def open_series(path: str | Path) -> list[Series]:
    """Open the series of an image file.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If no format knows the suffix, or the file is not what its suffix says, or is cut short.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    for module in FORMATS:
        if path.name.lower().endswith(module.SUFFIXES):
            found = module.open_file(path)
            if not found or any(0 in series.shape for series in found):
                raise ValueError(f"{path}: no pixels in it; copy or export it again")
            return found
    known = " ".join(suffix for module in FORMATS for suffix in module.SUFFIXES)
    raise ValueError(f"{path}: unknown image format; known suffixes are {known}")
