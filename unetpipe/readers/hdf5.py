"""Arrays inside HDF5 files, named as `file.h5:/path/of/array`."""

from pathlib import Path

import h5py

from unetpipe.readers.series import Series, lazy, plain_axes

SUFFIXES = (".h5", ".hdf5", ".hdf", ".he5")


def open_file(path: Path, inside: str = "") -> list[Series]:
    """One array as one series; without a path inside, the only array of the file.

    Its axes follow from their number, see `series.plain_axes`; the attribute `element_size_um` (z, y, x) is the size of
    its pixels.
    """
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise ValueError(f"{path}: not a whole HDF5 file ({error}); copy it again") from error
    arrays = _arrays(file)
    chosen = [inside] if inside else arrays
    if len(chosen) != 1 or chosen[0] not in arrays:
        says = f"no array {inside!r}" if inside else f"{len(arrays)} arrays"
        raise ValueError(f"{path}: {says} in it; write {path.name}:/ and one of {', '.join(arrays) or '(none)'}")
    array = file[chosen[0]]
    size = array.attrs.get("element_size_um")
    pixel_size = tuple(map(float, size)) if size is not None and len(size) == 3 else None
    return [lazy(path.stem, array, plain_axes(path.name, array.shape), pixel_size)]


def _arrays(file: h5py.File) -> list[str]:
    """Paths of all arrays of two axes or more."""
    found: list[str] = []
    file.visititems(lambda name, item: found.append(name) if isinstance(item, h5py.Dataset) and item.ndim > 1 else None)
    return found
