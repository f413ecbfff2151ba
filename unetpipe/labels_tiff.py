"""Objects as OME-TIFF, for programs that do not read OME-Zarr."""

import logging
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tifffile import TiffWriter

from unetpipe.manifest import digest, read_json, replacing
from unetpipe.store import label_path, open_array, read_attributes

logger = logging.getLogger(__name__)
TILE = 256  # side, pixels
SHORT = 2**16 - 1  # ids that fit uint16, which every program shows


def write_tiff(image: str, objects: str, output: str, *, workers: int = 1) -> None:
    """Write the ids of all series, a band of tiles at a time, as one tiled OME-TIFF.

    Parameters
    ----------
    image, objects : path
        Root `zarr.json` of the image store, manifest of the objects.
    output : path
        Ids as in the store and the table; uint16 where they fit.
    workers : int
        Threads that pack tiles.
    """
    entries, counts = read_attributes(image)["series"], read_json(objects)["series"]
    name = str(uuid.UUID(digest([entries, counts])))  # tifffile's own holds the time
    with replacing(output) as aside, TiffWriter(aside, bigtiff=True, ome=True) as file:
        for entry, found in zip(entries, counts, strict=True):
            array = open_array(label_path(Path(image).parent, entry["path"], "objects") / "0")
            dtype = np.dtype(np.uint16) if found["objects"] <= SHORT else array.dtype
            file.write(
                _tiles(array, dtype),
                shape=array.shape,
                dtype=dtype,
                tile=(TILE, TILE),
                compression="zlib",
                photometric="minisblack",
                maxworkers=workers,
                metadata={"UUID": name, "axes": "TZYX", "Name": entry["name"], **_physical(entry["pixel_size"])},
            )
    logger.info("%s: %d series", output, len(entries))


def _tiles(array, dtype: np.dtype) -> Iterator[np.ndarray]:
    """Whole tiles, row by row, of every plane."""
    t, z, y, x = array.shape
    for plane in np.ndindex(t, z):
        for top in range(0, y, TILE):
            band = array[(*plane, slice(top, top + TILE))].astype(dtype)
            whole = np.pad(band, ((0, TILE - len(band)), (0, -x % TILE)))
            yield from (whole[:, left : left + TILE] for left in range(0, x, TILE))


def _physical(pixel_size: list[float] | None) -> dict:
    sizes = dict(zip("ZYX", pixel_size or (), strict=False))
    return {f"PhysicalSize{a}": s for a, s in sizes.items()} | {f"PhysicalSize{a}Unit": "µm" for a in sizes}
