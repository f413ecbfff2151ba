"""TIFF of every layout that tifffile reads, OME-TIFF, ImageJ and pyramids among them."""

import math
from pathlib import Path

import numpy as np
import tifffile
import zarr
from defusedxml import ElementTree

from unetpipe.readers.series import Region, Series, channel_names

SUFFIXES = (".tif", ".tiff", ".btf", ".tf8")
AXES = {"T": 0, "C": 1, "S": 1, "Z": 2, "I": 2, "Q": 2, "Y": 3, "X": 4}  # unnamed pages are a stack
MICROMETRES = {"µm": 1.0, "um": 1.0, "micron": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4, "m": 1e6}
RESOLUTION_UNITS = {2: 25400.0, 3: 10000.0}  # inch, centimetre


def open_file(path: Path) -> list[Series]:
    """The full resolution of every series of a file."""
    try:
        file = tifffile.TiffFile(path)
    except tifffile.TiffFileError as error:
        raise ValueError(f"{path}: not a TIFF file ({error})") from error
    return [_open(path, file, number) for number in range(len(file.series))]


def _open(path: Path, file, number: int) -> Series:
    series = file.series[number]
    places = [AXES[axis] for axis in series.axes if axis in AXES]
    if len(set(places)) < len(series.axes):
        raise ValueError(f"{path}: axes {series.axes} do not fit t, c, z, y, x; save it as OME-TIFF with those")
    _check_whole(path, file, series)
    shape = [1] * 5
    for place, size in zip(places, series.shape, strict=True):
        shape[place] = size
    name = path.name.split(".")[0] + (f"-{number}" if len(file.series) > 1 else "")
    pixel_size = _ome_pixel_size(file, number) or _imagej_pixel_size(file) or _tag_pixel_size(series.keyframe)
    return Series(
        name, tuple(shape), series.dtype, pixel_size, _channels(file, number, shape[1]), _reader(series, places)
    )


def _check_whole(path: Path, file, series) -> None:
    """Refuse a file that ends before its pixels do: tifffile would give zeros there."""
    size = path.stat().st_size
    for page in series.levels[0].pages:
        if page is None or page.parent.filehandle.path != file.filehandle.path:
            continue
        expected = math.prod(page.chunked)
        if len(page.dataoffsets) < expected:
            raise ValueError(
                f"{path}: page {page.index} has {len(page.dataoffsets)} of {expected} segments; copy or export it again"
            )
        for number, (offset, count) in enumerate(zip(page.dataoffsets, page.databytecounts, strict=True)):
            if offset + count > size:
                raise ValueError(
                    f"{path}: cut short: segment {number} of page {page.index} ends at byte {offset + count}, "
                    f"the file at {size}; copy it again"
                )


def _reader(series, places: list[int]):
    with zarr.config.set({"codec_pipeline.path": "zarr.core.codec_pipeline.BatchedCodecPipeline"}):
        array = zarr.open_array(series.aszarr(level=0), mode="r")
    order = np.argsort(places)
    missing = [place for place in range(5) if place not in places]

    def read(region: Region) -> np.ndarray:
        pixels = np.asarray(array[tuple(region[place] for place in places)])
        return np.expand_dims(pixels.transpose(order), missing)

    return read


def _ome_image(file, number: int):
    if not file.ome_metadata:
        return None
    images = ElementTree.fromstring(file.ome_metadata).findall("{*}Image/{*}Pixels")
    return images[number] if number < len(images) else None


def _channels(file, number: int, count: int) -> tuple[str, ...]:
    pixels = _ome_image(file, number)
    names = [] if pixels is None else [channel.get("Name") for channel in pixels.findall("{*}Channel")]
    return tuple(names) if len(names) == count and all(names) else channel_names(count)


def _ome_pixel_size(file, number: int):
    pixels = _ome_image(file, number)
    if pixels is None or pixels.get("PhysicalSizeX") is None or pixels.get("PhysicalSizeY") is None:
        return None
    return tuple(
        float(pixels.get(f"PhysicalSize{axis}", 1.0)) * MICROMETRES.get(pixels.get(f"PhysicalSize{axis}Unit", "µm"), 1)
        for axis in "ZYX"
    )


def _imagej_pixel_size(file):
    unit = MICROMETRES.get((file.imagej_metadata or {}).get("unit", "").replace("\\u00B5", "µ"))
    tags = file.pages[0].tags
    if unit is None or "XResolution" not in tags:
        return None
    y, x = (_ratio(tags[f"{axis}Resolution"].value) for axis in "YX")
    return (float(file.imagej_metadata.get("spacing", 1.0)) * unit, unit / y, unit / x) if x and y else None


def _tag_pixel_size(page):
    """Pixel size from the resolution tags; printers' 72 to 600 dots an inch are no pixel size."""
    unit = RESOLUTION_UNITS.get(getattr(page.tags.get("ResolutionUnit"), "value", None))
    if unit is None or "XResolution" not in page.tags or "YResolution" not in page.tags:
        return None
    y, x = (_ratio(page.tags[f"{axis}Resolution"].value) for axis in "YX")
    if not (x and y) or unit / x > 40:
        return None
    return (1.0, unit / y, unit / x)


def _ratio(value) -> float:
    numerator, denominator = value
    return numerator / denominator if denominator else 0.0
