"""Zarr of other writers: OME-Zarr 0.4 and 0.5, its collections, and plain arrays of format 2 and 3."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import zarr

from unetpipe.readers.series import UNKNOWN_DEPTH, Series, lazy, plain_axes

SUFFIXES = (".zarr",)
PYTHON = {"codec_pipeline.path": "zarr.core.codec_pipeline.BatchedCodecPipeline"}  # knows every codec of others
MICROMETRES = {
    "angstrom": 1e-4,
    "nanometer": 1e-3,
    "micrometer": 1.0,
    "millimeter": 1e3,
    "centimeter": 1e4,
    "meter": 1e6,
}


def open_file(path: Path, inside: str = "") -> list[Series]:
    """Every image of a store, or of the group or array that `inside` names, with its coarser levels."""
    name = path.name.removesuffix(".zarr").removesuffix(".ome") + (f"-{inside.replace('/', '-')}" if inside else "")
    place = path / inside
    try:
        with zarr.config.set(PYTHON):
            found = zarr.open(str(place), mode="r")
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{place}: not a Zarr array or group ({error})") from error
    if isinstance(found, zarr.Array):
        return [lazy(name, found, plain_axes(str(place), found.shape))]
    attributes: Any = found.attrs.get("ome", found.attrs)
    if "multiscales" in attributes:
        return [_image(place, name, attributes)]
    if "plate" in attributes:
        raise ValueError(f"{place}: a plate; name one image of it after a colon, e.g. {path.name}:/A/1/0")
    numbers = sorted(int(folder.name) for folder in place.iterdir() if folder.name.isdigit())
    if "bioformats2raw.layout" in attributes and numbers:
        return [series for number in numbers for series in _numbered(path, inside, number, len(numbers))]
    held = ", ".join(sorted(found.keys())[:5]) or "nothing"
    raise ValueError(f"{place}: no OME-Zarr image, it holds {held}; name one of them after a colon, {path.name}:/…")


def _numbered(path: Path, inside: str, number: int, count: int) -> list[Series]:
    """One image of a collection, named as the collection where it is alone."""
    whole = path.name.removesuffix(".zarr").removesuffix(".ome")
    name = f"{whole}-{number}" if count > 1 else whole
    return [one._replace(name=name) for one in open_file(path, f"{inside}/{number}".strip("/"))]


def _image(place: Path, name: str, attributes: Any) -> Series:
    """The first multiscale image of a group."""
    scales = attributes["multiscales"][0]
    axes = scales.get("axes") or [{"name": letter} for letter in "tczyx"]
    letters = "".join(axis["name"] if isinstance(axis, dict) else axis for axis in axes)
    if not set(letters) <= set("tczyx") or not set("yx") <= set(letters):
        raise ValueError(f"{place}: axes {letters} do not fit t, c, z, y, x; export it with those")
    arrays = [*_open_levels(place, [level["path"] for level in scales["datasets"]])]
    channels = [channel.get("label") for channel in attributes.get("omero", {}).get("channels", [])]
    count = arrays[0].shape[letters.index("c")] if "c" in letters else 1
    named = tuple(map(str, channels)) if len(channels) == count and all(channels) else None
    size = _pixel_size(axes, [scales, scales["datasets"][0]])
    full, *coarser = (lazy(name, array, letters, size, named) for array in arrays)
    whole = full._replace(coarser=tuple(coarser))
    own = letters == "tczyx" and arrays[0].metadata.zarr_format == 3
    return whole._replace(levels=tuple(str(place / one["path"]) for one in scales["datasets"])) if own else whole


def _open_levels(place: Path, paths: Sequence[str]) -> Iterator[zarr.Array]:
    """The first, and the coarser ones as far as all can be opened: nobody needs those."""
    for number, path in enumerate(paths):
        try:
            with zarr.config.set(PYTHON):
                array = zarr.open_array(str(place / path), mode="r")
        except (OSError, ValueError) as error:
            if number:
                return
            raise ValueError(f"{place}: its first level {path} cannot be opened ({error})") from error
        yield array


def _pixel_size(axes: list, holders: list[dict]) -> tuple[float, float, float] | None:
    """µm along z, y, x; none where the plane's unit is not given."""
    sizes = {}
    for number, axis in enumerate(axes):
        unit = axis.get("unit") if isinstance(axis, dict) else None
        if unit not in MICROMETRES:
            continue
        sizes[axis["name"]] = MICROMETRES[unit]
        for holder in holders:
            for change in holder.get("coordinateTransformations", []):
                sizes[axis["name"]] *= float(change["scale"][number]) if "scale" in change else 1.0
    return (sizes.get("z", UNKNOWN_DEPTH), sizes["y"], sizes["x"]) if {"y", "x"} <= sizes.keys() else None
