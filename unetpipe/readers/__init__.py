"""Opens any supported image file as a list of series. A format is one file of this folder.

Each format module has `SUFFIXES` and `open_file(path) -> list[Series]`; those that hold arrays by name take that too,
those that know palettes whether their colours are wanted.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import numpy as np

from unetpipe.geometry import Region
from unetpipe.readers import hdf5, omezarr, outlines, plugins, raster, slide, tiff
from unetpipe.readers import numpy as arrays
from unetpipe.readers.series import UNKNOWN_DEPTH, Series
from unetpipe.sources import State, file_state

FORMATS = (tiff, slide, raster, arrays)
HOLDERS = (hdf5, omezarr)  # of arrays with names
PALETTES = (tiff, raster)
MOST_BYTES = 2**42  # of a file's pixels; a plane of two million pixels a side
MOST_TIMES = 50_000  # of a file's size that its pixels may have: empty slides in zstd reach 6000
FILES = 16  # that a process keeps open: a sample may have thousands
DECODED = 2**29  # bytes of pictures among them, which are decoded as a whole; the last is kept whatever its size
SUFFIXES = tuple(suffix for module in (*FORMATS, *HOLDERS) for suffix in module.SUFFIXES)


def open_series(path: str | Path, inside: str = "", *, palette: bool = True) -> list[Series]:
    """Open the series of an image file.

    Parameters
    ----------
    inside : str
        Array or group inside an HDF5 file or a Zarr store; the only one if not given.
    palette : bool
        The colours of a palette, and white where 0 means it, as of images; else the numbers, as of annotations.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If nothing knows the suffix, no plugin of bioio either, or the file is not what it says, or is cut short.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        found = _open(path, inside, palette=palette)
    except Exception as error:  # a damaged file may break a library anywhere
        if isinstance(error, ValueError | OSError) and path.name in str(error):
            raise
        raise ValueError(f"{path}: damaged ({type(error).__name__}: {error}); copy or export it again") from error
    if not found or any(0 in series.shape for series in found):
        raise ValueError(f"{path}: no pixels in it; copy or export it again")
    _refuse_claims(path, [series for series in found if not series.kinds])
    states = tuple(file_state(file) for one in found for file in one.files or [path])
    opening = Opening(str(path.absolute()), inside, palette, states)
    _keep(opening, found)
    return [_lasting(opening, number, _told_apart(_measurable(one))) for number, one in enumerate(found)]


def each_once(paths: Iterable[str], read: Callable[[str], list[Series]]) -> Iterator[tuple[str, list[Series]]]:
    """Files and their series, but for those files whose series one before them has given."""
    known: set[str] = set()
    for path in paths:
        if str(Path(path).absolute()) not in known:
            found = read(path)
            known.update(file for series in found for file in series.files)
            yield path, found


def _told_apart(series: Series) -> Series:
    """A channel of the name of one before it with its number: names choose channels, and head columns of tables."""
    names: list[str] = []
    for number, name in enumerate(series.channels):
        names.append(name if name not in names else f"{name}-{number}")
    return series._replace(channels=tuple(names))


def _measurable(series: Series) -> Series:
    """A pixel size that is none, as of files that were never calibrated, is unknown."""
    if series.pixel_size is None:
        return series
    z, y, x = (size if math.isfinite(size) and size > 0 else None for size in series.pixel_size)
    return series._replace(pixel_size=(z or UNKNOWN_DEPTH, y, x) if y and x else None)


def _lasting(opening: "Opening", number: int, series: Series) -> Series:
    """A series that can be read, with its coarser levels, when its file is no longer open, and in other processes."""
    levels = [one._replace(read=Reader(opening, number, level)) for level, one in enumerate(_levels(series))]
    return levels[0]._replace(coarser=tuple(levels[1:]))


def _levels(series: Series) -> tuple[Series, ...]:
    return (series, *series.coarser)


class Opening(NamedTuple):
    """How a file was opened, and as of when: a process that lives long never takes an old file for a new one."""

    path: str
    inside: str
    palette: bool
    states: tuple[State, ...]


@dataclass(frozen=True)
class Reader:
    """Reads one level of a series of a file, which is opened again if it, or the process, is not the same any more."""

    opening: Opening
    number: int
    level: int

    def __call__(self, region: Region) -> np.ndarray:
        """Pixels of a region, see `Series.read`."""
        return _levels(_opened(self.opening)[self.number])[self.level].read(region)


_open_files = OrderedDict[Opening, list[Series]]()  # those that were read last
_changing = Lock()


def _opened(opening: Opening) -> list[Series]:
    with _changing:
        found = _open_files.get(opening)
    return _keep(opening, found or _open(Path(opening.path), opening.inside, palette=opening.palette))


def _keep(opening: Opening, found: list[Series]) -> list[Series]:
    """Leave a file open, and close the one that nobody has read for the longest time."""
    with _changing:
        _open_files[opening] = found
        _open_files.move_to_end(opening)
        while len(_open_files) > FILES or (len(_open_files) > 1 and sum(map(_decoded, _open_files)) > DECODED):
            _open_files.popitem(last=False)
    return found


def _decoded(opening: Opening) -> int:
    """Bytes of pixels that an open file keeps in memory."""
    held = _open_files[opening] if opening.path.lower().endswith(raster.SUFFIXES) else []
    return sum(math.prod(series.shape) * series.dtype.itemsize for series in held)


def _refuse_claims(path: Path, found: list[Series]) -> None:
    """Refuse more pixels than a file of its size, or any file, can hold."""
    size = sum(math.prod(series.shape) * series.dtype.itemsize for series in found)
    if size > MOST_BYTES or (path.is_file() and size > MOST_TIMES * path.stat().st_size):
        raise ValueError(
            f"{path}: claims {size} bytes of pixels, at most {MOST_BYTES}, and {MOST_TIMES} times the size of a file, "
            "are believed; its header is damaged, or export it as OME-Zarr"
        )


def _open(path: Path, inside: str, *, palette: bool) -> list[Series]:
    name = path.name.lower()
    if name.endswith(outlines.SUFFIXES):
        if palette:
            raise ValueError(f"{path}: outlines are labels, no image; name it in the column labels, or roi")
        return outlines.open_file(path)
    for holder in HOLDERS:
        if name.endswith(holder.SUFFIXES):
            return holder.open_file(path, inside)
    for module in FORMATS:
        if name.endswith(module.SUFFIXES):
            if inside:
                raise ValueError(f"{path}: only HDF5 and Zarr hold arrays by name; leave :/{inside} away")
            return module.open_file(path, palette=palette) if module in PALETTES else module.open_file(path)
    return plugins.open_file(path, " ".join(SUFFIXES))
