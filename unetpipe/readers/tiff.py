"""TIFF of every layout that tifffile reads, OME-TIFF, ImageJ and pyramids among them."""

import logging
import math
import os
from collections.abc import Iterator
from functools import lru_cache, partial
from itertools import product
from pathlib import Path
from weakref import finalize

import numpy as np
import tifffile
import zarr
from defusedxml import ElementTree
from tifffile import PHOTOMETRIC

from unetpipe.geometry import Region
from unetpipe.readers.series import RGB, UNKNOWN_DEPTH, Series, plain_axes, plain_type
from unetpipe.readers.views import coloured, inverted, opaque, oriented, retyped
from unetpipe.readers.whole import check_whole

SUFFIXES = (".tif", ".tiff", ".btf", ".tf8")
logger = logging.getLogger(__name__)
AXES = {"T": 0, "C": 1, "S": 1, "Z": 2, "I": 2, "Q": 2, "Y": 3, "X": 4}  # unnamed pages are a stack
MICROMETRES = {"µm": 1.0, "um": 1.0, "micron": 1.0, "pm": 1e-6, "Å": 1e-4, "nm": 1e-3, "mm": 1e3, "cm": 1e4, "m": 1e6}
MICROMETRES |= {"in": 25400.0, "inch": 25400.0}
COLOURS = (PHOTOMETRIC.RGB, PHOTOMETRIC.YCBCR)
RESOLUTION_UNITS = {2: 25400.0, 3: 10000.0}  # inch, centimetre


def open_file(path: Path, *, palette: bool = True) -> list[Series]:
    """Every series of a file, with its coarser levels.

    Parameters
    ----------
    palette : bool
        Colours instead of indices, and the inverse where 0 means white (of 1-bit masks nobody agrees on that).
    """
    try:
        file = tifffile.TiffFile(path)
    except tifffile.TiffFileError as error:
        raise ValueError(f"{path}: not a TIFF file ({error})") from error
    opened = Opened(file)
    return [_pyramid(path, opened, number, palette=palette) for number in range(len(file.series))]


class Opened:
    """A file that is closed as soon as nothing reads it; tifffile's own objects wait for a collection of cycles."""

    def __init__(self, file: tifffile.TiffFile):
        self.file = file
        finalize(self, file.close)


def _pyramid(path: Path, opened: Opened, number: int, *, palette: bool) -> Series:
    file = opened.file
    whole = file.series[number]
    full, places = _open(path, opened, number), _places(path, whole)
    coarser = [*_whole_levels(path, file, whole)]
    levels = [full, *(full._replace(shape=_shape(one, places), read=_reader(opened, one, places)) for one in coarser)]
    pages = (one.keyframe for one in (whole, *coarser))
    full, *seen = (_as_seen(one, page, palette=palette) for one, page in zip(levels, pages, strict=True))
    return full._replace(coarser=tuple(seen))


def _whole_levels(path: Path, file, series) -> Iterator:
    """The coarser levels as far as none is cut short: nobody needs them."""
    for level in series.levels[1:]:
        try:
            check_whole(path, file, level)
        except ValueError:
            return
        yield level


def _places(path: Path, series) -> list[int]:
    """Of its axes among t, c, z, y, x; several unnamed ones are those of an array."""
    unnamed = series.axes.count("Q") > 1 and set(series.axes) == set("QYX")
    axes = plain_axes(path.name, series.shape).upper() if unnamed else series.axes
    places = [AXES[axis] for axis in axes if axis in AXES]
    if len(set(places)) < len(series.axes):
        raise ValueError(f"{path}: axes {series.axes} do not fit t, c, z, y, x; save it as OME-TIFF with those")
    return places


def _shape(series, places: list[int]) -> tuple[int, ...]:
    shape = [1] * 5
    for place, size in zip(places, series.shape, strict=True):
        shape[place] = size
    return tuple(shape)


def _as_seen(series: Series, page, *, palette: bool) -> Series:
    """Colours, white and orientation as the tags of a page say."""
    kind = page.photometric
    if kind == PHOTOMETRIC.PALETTE and palette and series.shape[1] == 1:
        series = coloured(series, (page.colormap >> 8).astype(np.uint8))
    if kind == PHOTOMETRIC.MINISWHITE and palette and series.dtype.kind == "u":
        series = inverted(series)
    if kind == PHOTOMETRIC.RGB and page.extrasamples and series.shape[1] == 3 + len(page.extrasamples):
        series = opaque(series)
    series = retyped(series, plain_type(series.name, series.dtype))
    return oriented(series, getattr(page.tags.get("Orientation"), "value", 1))


def _open(path: Path, opened: Opened, number: int) -> Series:
    file = opened.file
    series = file.series[number]
    places = _places(path, series)
    if series.dtype.kind not in "biuf" or series.dtype == np.float16:
        raise ValueError(f"{path}: pixels of type {series.dtype}; save it as integers or as float32")
    check_whole(path, file, series)
    files = sorted({page.parent.filehandle.path for page in series.pages if page is not None})
    if "<BinaryOnly" in (file.ome_metadata or ""):
        logger.warning("%s is a part of a series that another file describes; it is read as an image of its own", path)
    shape = _shape(series, places)
    name = path.name.split(".")[0] + (f"-{number}" if len(file.series) > 1 else "")
    pixel_size = _ome_pixel_size(file, number) or _imagej_pixel_size(file) or _tag_pixel_size(series.keyframe)
    channels, read = _channels(file, number, shape[1]), _reader(opened, series, places)
    others = files != [file.filehandle.path]
    dtype = np.dtype(series.dtype.str)  # the same types may have several names
    return Series(name, shape, dtype, pixel_size, channels, read, files=tuple(files) if others else ())


def _reader(opened: Opened, series, places: list[int]):
    array = Planes(series) if Planes.fits(series, opened.file) else as_zarr(series)
    return partial(_read, opened, array, places)


def _read(opened: Opened, array, places: list[int], region: Region) -> np.ndarray:  # noqa: ARG001 - it stays open
    """A region of all axes from an array that has some of them, in its own order."""
    pixels = np.asarray(array[tuple(region[place] for place in places)])
    return np.expand_dims(pixels.transpose(np.argsort(places)), [place for place in range(5) if place not in places])


def as_zarr(series):
    """The full resolution of a series of any layout, through tifffile's store, whose calls wait for each other."""
    with zarr.config.set({"codec_pipeline.path": "zarr.core.codec_pipeline.BatchedCodecPipeline"}):
        return zarr.open_array(series.aszarr(level=0), mode="r")


class Planes:
    """The full resolution of a series of which every page of the file is one plane; threads decode side by side.

    Attributes
    ----------
    front : tuple of int
        Sizes of the axes before y and x, which number the pages.
    stored : dtype
        As in the file.
    bare : bool
        Whether nothing has to be decoded.
    """

    def __init__(self, series):
        self.pages, self.frame = [*series.pages], series.keyframe
        self.front, self.plane = series.shape[: -self.frame.ndim], self.frame.shape
        self.dtype = series.dtype
        self.stored = np.dtype(self.dtype.str).newbyteorder(self.frame.parent.byteorder)
        self.bare = _is_bare(self.frame)

    @staticmethod
    def fits(series, file: tifffile.TiffFile) -> bool:
        """Whether the layout is such: tiles or strips of planes with their colours side by side, all in this file."""
        frame, pages = series.keyframe, [*series.pages]
        return (
            frame.axes in ("YX", "YXS")
            and series.axes.endswith(frame.axes)
            and math.prod(series.shape) == len(pages) * math.prod(frame.shape)
            and all(page is not None and page.parent.filehandle is file.filehandle for page in pages)
        )

    def __getitem__(self, window: Region) -> np.ndarray:
        ranges = [range(*part.indices(size)) for part, size in zip(window, self.front, strict=False)]
        inside = window[len(self.front) :]
        numbers = [int(np.ravel_multi_index(place, self.front)) if place else 0 for place in product(*ranges)]
        planes = np.stack([self._plane(self.pages[number], *inside[:2]) for number in numbers])
        planes = planes[:, :, :, inside[2]] if inside[2:] else planes
        return planes.reshape(*map(len, ranges), *planes.shape[1:])

    def _plane(self, page, rows: slice, columns: slice) -> np.ndarray:
        if self.bare and all(page.databytecounts):
            return self._copied(page, rows, columns)
        tall, wide = self.frame.chunks[:2]
        found = np.zeros((rows.stop - rows.start, columns.stop - columns.start, *self.plane[2:]), self.dtype)
        for row in range(rows.start // tall, -(-rows.stop // tall)):
            for column in range(columns.start // wide, -(-columns.stop // wide)):
                segment = self._segment(page, row * self.frame.chunked[1] + column)
                if segment is not None:
                    _paste(segment, (row * tall, column * wide), found, (rows.start, columns.start))
        return found

    def _copied(self, page, rows: slice, columns: slice) -> np.ndarray:
        """Row by row: a strip may be the whole plane."""
        found = np.empty((rows.stop - rows.start, columns.stop - columns.start, *self.plane[2:]), self.stored)
        pixel, file = found.strides[1], page.parent.filehandle.fileno()
        for row, line in zip(range(rows.start, rows.stop), found, strict=True):
            strip, inside = divmod(row, self.frame.chunks[0])
            place = page.dataoffsets[strip] + (inside * self.plane[1] + columns.start) * pixel
            if os.preadv(file, [line.view(np.uint8).reshape(-1)], place) < line.nbytes:
                raise ValueError(f"{page.parent.filename}: ends in row {row}; copy it again")
        return found.astype(self.dtype, copy=False)

    def _segment(self, page, number: int) -> np.ndarray | None:
        """One tile or strip; none where the file left it out. Series share their file: nobody moves its position."""
        file = page.parent.filehandle.fileno()
        content = os.pread(file, page.databytecounts[number], page.dataoffsets[number])
        segment, *_ = self.frame.decode(content or None, number, jpegtables=page.jpegtables)
        return None if segment is None else segment[0].reshape(*segment.shape[1:3], *self.plane[2:])


def _is_bare(frame) -> bool:
    """Whether its strips are the pixels themselves, in the order in which memory has them."""
    plain = (frame.compression, frame.predictor, frame.fillorder, frame.is_tiled) == (1, 1, 1, False)
    return plain and frame.dtype is not None and frame.bitspersample == 8 * frame.dtype.itemsize


def _paste(segment: np.ndarray, at: tuple[int, int], found: np.ndarray, origin: tuple[int, int]) -> None:
    """Copy what of a segment lies inside of a window."""
    low = [max(0, o - a) for a, o in zip(at, origin, strict=True)]
    put = [max(0, a - o) for a, o in zip(at, origin, strict=True)]
    axes = zip(segment.shape, low, found.shape, put, strict=False)
    y, x = (min(size - first, room - start) for size, first, room, start in axes)
    found[put[0] : put[0] + y, put[1] : put[1] + x] = segment[low[0] : low[0] + y, low[1] : low[1] + x]


def _ome_image(file, number: int):
    """What the OME-XML says of a series.

    Raises
    ------
    ValueError
        If it is not known of which of its images the file has the pixels.
    """
    if not file.ome_metadata or file.series[number].kind != "ome":
        return None
    root = _ome_xml(file.ome_metadata)
    folder = Path(file.filehandle.path).parent
    images = [one for one in root.findall("{*}Image/{*}Pixels") if _is_here(one, root.get("UUID"), folder)]
    if len(images) != len(file.series):
        raise ValueError(
            f"{file.filename}: its OME-XML tells of {len(images)} images, {len(file.series)} are here; keep all files "
            "of the series in one folder, under the names that it gives them"
        )
    return images[number]


@lru_cache(4)
def _ome_xml(text: str):
    return ElementTree.fromstring(text)


def _is_here(image, own: str | None, folder: Path) -> bool:
    """Whether an image has pixels in the file of that name, or in others of its folder."""
    files = [data.find("{*}UUID") for data in image.findall("{*}TiffData")]
    return any(one is None or one.text == own or (folder / one.get("FileName", "")).is_file() for one in files)


def _channels(file, number: int, count: int) -> tuple[str, ...]:
    pixels = _ome_image(file, number)
    names = [] if pixels is None else [channel.get("Name") for channel in pixels.findall("{*}Channel")]
    known = tuple(names) if len(names) == count and all(names) else None
    colours = RGB if count == 3 and file.series[number].keyframe.photometric in COLOURS else None
    return known or colours or tuple(str(k) for k in range(count))


def _ome_pixel_size(file, number: int):
    pixels = _ome_image(file, number)
    if pixels is None or pixels.get("PhysicalSizeX") is None or pixels.get("PhysicalSizeY") is None:
        return None
    units = [MICROMETRES.get(pixels.get(f"PhysicalSize{axis}Unit", "µm"), math.nan) for axis in "ZYX"]
    sizes = [float(pixels.get(f"PhysicalSize{axis}", UNKNOWN_DEPTH)) for axis in "ZYX"]
    return tuple(size * unit for size, unit in zip(sizes, units, strict=True))


def _imagej_pixel_size(file):
    unit = MICROMETRES.get((file.imagej_metadata or {}).get("unit", "").replace("\\u00B5", "µ"))
    tags = file.pages[0].tags
    if unit is None or "XResolution" not in tags:
        return None
    y, x = (_ratio(tags[f"{axis}Resolution"].value) for axis in "YX")
    depth = float(file.imagej_metadata["spacing"]) * unit if "spacing" in file.imagej_metadata else UNKNOWN_DEPTH
    return (depth, unit / y, unit / x) if x and y else None


def _tag_pixel_size(page):
    """Pixel size from the resolution tags; printers' 72 to 600 dots an inch are no pixel size."""
    unit = RESOLUTION_UNITS.get(getattr(page.tags.get("ResolutionUnit"), "value", None))
    if unit is None or "XResolution" not in page.tags or "YResolution" not in page.tags:
        return None
    y, x = (_ratio(page.tags[f"{axis}Resolution"].value) for axis in "YX")
    if not (x and y) or unit / x > 40:
        return None
    return (UNKNOWN_DEPTH, unit / y, unit / x)


def _ratio(value) -> float:
    numerator, denominator = value
    return numerator / denominator if denominator else 0.0
