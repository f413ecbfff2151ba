"""Whole-slide formats, through OpenSlide."""

from pathlib import Path

import numpy as np
import openslide

from unetpipe.geometry import Region
from unetpipe.readers.series import RGB, UNKNOWN_DEPTH, Series

SUFFIXES = (".svs", ".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".bif", ".svslide")


def open_file(path: Path) -> list[Series]:
    """A slide as one series of three channels, with its coarser levels."""
    try:
        slide = openslide.OpenSlide(path)
    except openslide.OpenSlideError as error:
        raise ValueError(f"{path}: OpenSlide cannot open it ({error})") from error
    full, *coarser = (_level(slide, path, level) for level in range(slide.level_count))
    return [full._replace(coarser=tuple(coarser))]


def _level(slide, path: Path, level: int) -> Series:
    x, y = slide.level_dimensions[level]
    step = slide.level_downsamples[level]

    def read(region: Region) -> np.ndarray:
        rows, columns = region[3], region[4]
        size = (columns.stop - columns.start, rows.stop - rows.start)
        corner = round(columns.start * step), round(rows.start * step)
        try:
            rgba = np.asarray(slide.read_region(corner, level, size))
        except openslide.OpenSlideError as error:
            raise ValueError(f"{path}: no pixels at x {corner[0]}, y {corner[1]}, size {size}: {error}") from error
        rgb = np.where(rgba[..., 3:] == 0, _background(slide), rgba[..., :3])
        return np.moveaxis(rgb, -1, 0)[None, :, None][:, region[1]]

    return Series(path.stem, (1, 3, 1, y, x), np.dtype(np.uint8), _pixel_size(slide), RGB, read)


def _background(slide) -> np.ndarray:
    """Colour of what the scanner left out."""
    colour = slide.properties.get(openslide.PROPERTY_NAME_BACKGROUND_COLOR, "FFFFFF")
    return np.frombuffer(bytes.fromhex(colour), dtype=np.uint8)


def _pixel_size(slide) -> tuple[float, float, float] | None:
    names = (openslide.PROPERTY_NAME_MPP_Y, openslide.PROPERTY_NAME_MPP_X)
    if not all(name in slide.properties for name in names):
        return None
    y, x = (float(slide.properties[name]) for name in names)
    return (UNKNOWN_DEPTH, y, x)
