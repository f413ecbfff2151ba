"""Opens any supported image file as a list of series. A format is one file of this folder.

Each format module has `SUFFIXES` and `open_file(path) -> list[Series]`; those that hold arrays by name take that too.
"""

from pathlib import Path

from unetpipe.readers import hdf5, numpy, omezarr, raster, slide, tiff
from unetpipe.readers.series import Series

FORMATS = (tiff, slide, raster, numpy)
HOLDERS = (hdf5, omezarr)  # of arrays with names


def open_series(path: str | Path, inside: str = "") -> list[Series]:
    """Open the series of an image file.

    Parameters
    ----------
    inside : str
        Array or group inside an HDF5 file or a Zarr store; the only one if not given.

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
    found = _open(path, inside)
    if not found or any(0 in series.shape for series in found):
        raise ValueError(f"{path}: no pixels in it; copy or export it again")
    return found


def _open(path: Path, inside: str) -> list[Series]:
    name = path.name.lower()
    for holder in HOLDERS:
        if name.endswith(holder.SUFFIXES):
            return holder.open_file(path, inside)
    for module in FORMATS:
        if name.endswith(module.SUFFIXES):
            if inside:
                raise ValueError(f"{path}: only HDF5 and Zarr hold arrays by name; leave :/{inside} away")
            return module.open_file(path)
    known = " ".join(suffix for module in (*FORMATS, *HOLDERS) for suffix in module.SUFFIXES)
    raise ValueError(f"{path}: unknown image format; known suffixes are {known}")
