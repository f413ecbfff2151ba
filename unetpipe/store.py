"""OME-Zarr 0.5 on Zarr v3: the only room that knows how arrays, pyramids and labels lie on disk.

An image store is a collection in bioformats2raw's layout: `0`, `1`, … are OME-Zarr images of axes
(t, c, z, y, x); labels drop c. Arrays are created by their own path, so that nothing but
`publish` ever writes a root `zarr.json`: a store exists when that file does, and is on the disk by then.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import product
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec
from zarr.storage import LocalStore, MemoryStore, StorePath

from unetpipe.disk import explained, readable
from unetpipe.geometry import Region
from unetpipe.manifest import flush_folder, json_bytes, read_json, whole_json, write_bytes, write_json

OME_VERSION = "0.5"
POOL = 32  # calls at once
IGNORED = 255  # in the label image `classes`: pixels that nobody annotated
CODECS = {
    "image": (ZstdCodec(level=1), Crc32cCodec()),  # 3 packs a slide 1 % smaller and takes up to twice as long
    "label": (BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle"), Crc32cCodec()),
}

# Zarr makes its pool of threads at the first call, and all threads of a job share it. Inside a call one thread: with
# more, the byte order inside a shard is random.
with zarr.config.set({"threading.max_workers": POOL}):
    zarr.create_group(MemoryStore())
zarr.config.set({"threading.max_workers": 1, "codec_pipeline.path": "zarrs.ZarrsCodecPipeline"})


def create_array(path, shape: Sequence[int], dtype, *, chunk: int, shard: int, kind: str = "image", attributes=None):
    """Create a sharded array at a path of its own, or open the one that has the same metadata.

    Parameters
    ----------
    path : path
        Folder of the array; its `zarr.json` is renamed into place, shards that lie there stay.
    shape : (t, …, y, x)
        One shard holds all planes of a channel axis (five axes), one plane otherwise.
    chunk, shard : int
        Side of what is read, and of what is written at once, pixels; clipped to the image.
    kind : "image" or "label"
        Chooses the codecs; images of more than 8 bits have those of labels.
    """
    codecs = "label" if np.dtype(dtype).itemsize > 1 else kind
    metadata = _metadata(tuple(shape), np.dtype(dtype), chunk, shard, codecs, json.dumps(attributes or {}))
    write_bytes(Path(path) / "zarr.json", metadata, flush=False)
    return open_array(path, mode="r+")


@lru_cache  # a plate of thousands of images has arrays of a few kinds
def _metadata(shape: tuple[int, ...], dtype: np.dtype, chunk: int, shard: int, codecs: str, attributes: str) -> bytes:
    """The JSON of an array."""
    files: dict = {}
    zarr.create_array(
        MemoryStore(files),
        shape=shape,
        dtype=dtype,
        chunks=(*(1,) * (len(shape) - 2), chunk, chunk),
        shards=shard_shape(shape, chunk, shard),
        compressors=CODECS[codecs],
        fill_value=0,
        attributes=json.loads(attributes),
        dimension_names=tuple("tczyx" if len(shape) == 5 else "tzyx"),
    )
    return files["zarr.json"].to_bytes()


def shard_shape(shape: Sequence[int], chunk: int, shard: int) -> tuple[int, ...]:
    """What `create_array` writes at once: of one plane, with all channels where there is a channel axis."""
    plane = (min(shard, -(-size // chunk) * chunk) for size in shape[-2:])
    channels = (shape[1],) if len(shape) == 5 else ()
    return (1, *channels, *(1,) * (len(shape) - 3 - len(channels)), *plane)


class Array(zarr.Array):
    """An array of which a number among the indices may take an axis away.

    zarrs 0.2.3 alone takes the axes of one shard for those of the next, where a number stands beside a window of whose
    first shard there is one row: it gets windows instead.
    """

    def __getitem__(self, selection):
        """Read as NumPy does."""
        parts = selection if isinstance(selection, tuple) else (selection,)
        windows = tuple(slice(part, part + 1 or None) if _is_number(part) else part for part in parts)
        places = tuple(0 if _is_number(part) else ... if part is ... else slice(None) for part in parts)
        with readable(self.store.root):
            return super().__getitem__(windows)[places]


def _is_number(part) -> bool:
    return isinstance(part, int | np.integer)


def open_array(path, mode: str = "r"):
    """Open one array of a store by its path."""
    metadata = Path(path) / "zarr.json"
    if not metadata.exists():
        raise FileNotFoundError(f"no array at {path}; run the stage that writes it again")
    with whole_json(metadata):
        known = _parsed(metadata.read_bytes())
    return Array(zarr.AsyncArray(known, StorePath(LocalStore(path, read_only=mode == "r"))))


@lru_cache
def _parsed(metadata: bytes):
    """What Zarr makes of the JSON of an array, wherever it lies."""
    return zarr.AsyncArray.from_dict(StorePath(MemoryStore()), json.loads(metadata)).metadata


def write_region(array, region: Region, values: np.ndarray) -> list[Path]:
    """Write a whole number of shards and return their files (absent where all values are the fill value)."""
    files = shard_files(array, region)
    with explained(files[0]):
        for file in files:
            file.unlink(missing_ok=True)
        array[region] = values
    return files


def shard_files(array, region: Region) -> list[Path]:
    """The files of the shards that a region touches."""
    root = Path(array.store.root) / "c"
    axes = zip(region, array.shards, strict=True)
    grid = [range(window.start // size, -(-window.stop // size)) for window, size in axes]
    return [root.joinpath(*map(str, index)) for index in product(*grid)]


def remove_strays(folder, known: set[Path]) -> None:
    """Delete the shards under a folder that are not in `known` (of an earlier block size, say); labels stay."""
    for place, folders, names in os.walk(folder):  # never into a linked level
        if "labels" in folders:
            folders.remove("labels")
        if "c" in Path(place).relative_to(folder).parts:
            for file in {Path(place, name) for name in names} - known:
                file.unlink()


# ---------------------------------------------------------------- pyramids


def level_shapes(shape: Sequence[int], smallest: int) -> list[tuple[int, ...]]:
    """Shapes of a pyramid that halves the plane until both sides are at most `smallest` pixels."""
    shapes = [tuple(shape)]
    while max(shapes[-1][-2:]) > smallest:
        *rest, y, x = shapes[-1]
        shapes.append((*rest, -(-y // 2), -(-x // 2)))
    return shapes


def image_metadata(name: str, levels: int, pixel_size: Sequence[float] | None, channels=None) -> dict:
    """OME-NGFF 0.5 `multiscales` (and `omero`) of an image (t, c, z, y, x), or of a label without channels.

    A pixel of a smaller level is the mean of its square in an image, so that its centre is that of the square; in a
    label it is the first one of its square.

    Parameters
    ----------
    pixel_size : (z, y, x) of float or None
        µm; None means unknown: unit pixels without a unit.
    channels : list of dict, optional
        `label` and display `window` of each channel; given for images only.
    """
    z, y, x = pixel_size or (1.0, 1.0, 1.0)
    unit = {"unit": "micrometer"} if pixel_size else {}
    colour = [] if channels is None else [{"name": "c", "type": "channel"}]
    axes = [{"name": "t", "type": "time"}, *colour, *({"name": n, "type": "space", **unit} for n in "zyx")]
    front = [1.0] * (1 + len(colour))
    shifts = [0.0 if channels is None else (2**k - 1) / 2 for k in range(levels)]
    datasets = [
        {
            "path": str(k),
            "coordinateTransformations": [
                {"type": "scale", "scale": [*front, z, y * 2**k, x * 2**k]},
                {"type": "translation", "translation": [0.0] * len(front) + [0.0, y * shift, x * shift]},
            ][: 2 if shift else 1],
        }
        for k, shift in enumerate(shifts)
    ]
    ome: dict = {"version": OME_VERSION, "multiscales": [{"name": name, "axes": axes, "datasets": datasets}]}
    if channels is not None:
        ome["omero"] = {"channels": channels}
    return ome


# ---------------------------------------------------------------- groups


def publish(store, attributes: dict) -> None:
    """Write the root `zarr.json` of a store, which makes it exist, once all else of it is on the disk."""
    publish_manifest(Path(store) / "zarr.json", store, _group(attributes))


def publish_manifest(output, store, note: dict) -> None:
    """Write a JSON file that tells what a store holds, once all of that is on the disk."""
    flush_folder(store)
    write_json(output, note)


def write_group(path, attributes: dict) -> None:
    """Write, by rename, the `zarr.json` of a group inside a store."""
    write_json(Path(path) / "zarr.json", _group(attributes), flush=False)


def _group(attributes: dict) -> dict:
    return {"zarr_format": 3, "node_type": "group", "attributes": attributes}


def read_attributes(root_json) -> dict:
    """What this project noted in the root `zarr.json` of a store."""
    return read_json(root_json)["attributes"]["unetpipe"]


def publish_images(store, series: list[dict], note: dict) -> None:
    """Write the collection's list of series, its OME-XML and, last, the root that makes the store exist."""
    store = Path(store)
    write_group(store / "OME", {"ome": {"version": OME_VERSION, "series": [s["path"] for s in series]}})
    write_bytes(store / "OME" / "METADATA.ome.xml", _ome_xml(series).encode(), flush=False)
    layout = {"version": OME_VERSION, "bioformats2raw.layout": 3}
    publish(store, {"ome": layout, "unetpipe": {**note, "series": series}})


# Of what OME has no type for, the next wider one.
OME_TYPES = {"float16": "float", "float32": "float", "float64": "double", "int64": "double", "uint64": "double"}


def _ome_xml(series: list[dict]) -> str:
    images = "".join(_image_xml(number, entry) for number, entry in enumerate(series))
    schema = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<OME xmlns="{schema}">\n{images}</OME>\n'


def _image_xml(number: int, entry: dict) -> str:
    t, c, z, y, x = entry["shape"]
    sizes = f'SizeT="{t}" SizeC="{c}" SizeZ="{z}" SizeY="{y}" SizeX="{x}"'
    kind = OME_TYPES.get(entry["dtype"], entry["dtype"])
    micrometres = zip("ZYX", entry["pixel_size"] or (), strict=False)
    physical = " ".join(f'PhysicalSize{axis}="{size}" PhysicalSize{axis}Unit="µm"' for axis, size in micrometres)
    channels = "".join(
        f'<Channel ID="Channel:{number}:{k}" Name={quoteattr(name)} SamplesPerPixel="1"/>'
        for k, name in enumerate(entry["channels"])
    )
    return (
        f' <Image ID="Image:{number}" Name={quoteattr(entry["name"])}>'
        f'<Pixels ID="Pixels:{number}" DimensionOrder="XYZCT" Type="{kind}" {sizes} {physical}>'
        f"{channels}<MetadataOnly/></Pixels></Image>\n"
    )


# ---------------------------------------------------------------- labels


def label_path(store, series: str, name: str) -> Path:
    """Folder of one label image."""
    return Path(store) / series / "labels" / name


def publish_label(store, series: dict, name: str, *, levels: int, note: dict) -> None:
    """Write a label image's metadata and list it among the labels of its series."""
    folder = label_path(store, series["path"], name)
    content = _label(name, levels, json.dumps(series["pixel_size"]), json.dumps(note))
    write_bytes(folder / "zarr.json", content, flush=False)
    _list_labels(folder.parent)


@lru_cache  # as `_metadata`
def _label(name: str, levels: int, pixel_size: str, note: str) -> bytes:
    """The JSON of a label image."""
    ome = image_metadata(name, levels, json.loads(pixel_size))
    ome["image-label"] = {"version": OME_VERSION, "source": {"image": "../../"}}
    return json_bytes(_group({"ome": ome, "unetpipe": json.loads(note)}))


def _list_labels(folder: Path) -> None:
    with _locked(folder):
        names = sorted(path.parent.name for path in folder.glob("*/zarr.json"))
        write_bytes(folder / "zarr.json", _labels(*names), flush=False)


@lru_cache
def _labels(*names: str) -> bytes:
    """The JSON of the group of labels of these names."""
    return json_bytes(_group({"ome": {"version": OME_VERSION, "labels": names}}))


def keep_first(folder, count: int) -> None:
    """Delete the images of a store, or the levels of an image, from number `count` on: an earlier one had more."""
    for path in Path(folder).glob("[0-9]*"):
        if int(path.name) >= count:
            shutil.rmtree(path)


def link_levels(image, levels: Sequence[str]) -> None:
    """Let the arrays of another store be the levels of an image."""
    Path(image).mkdir(parents=True, exist_ok=True)
    for number, folder in enumerate(levels):
        own = Path(image) / str(number)
        if own.exists():
            shutil.rmtree(own)
        own.symlink_to(Path(folder).resolve())


def unlink_levels(store) -> None:
    """Take back what `link_levels` did to the images of a store, before anything writes there."""
    for path in Path(store).glob("[0-9]*/[0-9]*"):
        if path.is_symlink():
            path.unlink()


def remove_labels(image) -> None:
    """Delete all labels of an image, before another takes its place."""
    shutil.rmtree(Path(image) / "labels", ignore_errors=True)


@contextmanager
def _locked(folder: Path):
    with open(folder / ".lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
