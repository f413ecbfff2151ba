"""Whole-slide formats, through OpenSlide."""

from pathlib import Path

import numpy as np
import openslide

from unetpipe.readers.series import Region, Series

SUFFIXES = (".svs", ".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".bif", ".svslide")


def open_file(path: Path) -> list[Series]:
    """The full resolution of a slide as one series of three channels."""
    try:
        slide = openslide.OpenSlide(path)
    except openslide.OpenSlideError as error:
        raise ValueError(f"{path}: OpenSlide cannot open it ({error})") from error
    x, y = slide.dimensions

    def read(region: Region) -> np.ndarray:
        rows, columns = region[3], region[4]
        size = (columns.stop - columns.start, rows.stop - rows.start)
        try:
            rgba = np.asarray(slide.read_region((columns.start, rows.start), 0, size))
        except openslide.OpenSlideError as error:
            raise ValueError(f"{path}: no pixels at x {columns.start}, y {rows.start}, size {size}: {error}") from error
        rgb = np.where(rgba[..., 3:] == 0, _background(slide), rgba[..., :3])
        return np.moveaxis(rgb, -1, 0)[None, :, None][:, region[1]]

    channels = ("red", "green", "blue")
    return [Series(path.stem, (1, 3, 1, y, x), np.dtype(np.uint8), _pixel_size(slide), channels, read)]


def _background(slide) -> np.ndarray:
    """Colour of what the scanner left out."""
    colour = slide.properties.get(openslide.PROPERTY_NAME_BACKGROUND_COLOR, "FFFFFF")
    return np.frombuffer(bytes.fromhex(colour), dtype=np.uint8)


def _pixel_size(slide) -> tuple[float, float, float] | None:
    names = (openslide.PROPERTY_NAME_MPP_Y, openslide.PROPERTY_NAME_MPP_X)
    if not all(name in slide.properties for name in names):
        return None
    y, x = (float(slide.properties[name]) for name in names)
    return (1.0, y, x)
