"""Measures every object once, in a window that holds the whole of it: a table and outlines."""

import logging
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from unetpipe.geometry import blocks
from unetpipe.manifest import read_json
from unetpipe.outlines import Packed, feature_texts, write_features
from unetpipe.scheduling import breadth, compute
from unetpipe.shapes import Shapes, shapes, statistics
from unetpipe.store import label_path, open_array, read_attributes
from unetpipe.tables import Rows, growing_table

logger = logging.getLogger(__name__)
PERCENTS = (5, 25, 50, 75, 95)
PLANE, VOLUME = (1, 1024, 1024), (16, 512, 512)  # what is read at once, pixels
SIZES = {2: ("area_px", "area_um2"), 3: ("volume_px", "volume_um3")}
LOW, HIGH = ("front", "top", "left"), ("back", "bottom", "right")
ONE = np.ones(1, np.uint32), np.zeros((1, 3), np.int64), np.ones((1, 3), np.int64)  # an object of a pixel
Region = tuple[slice, ...]


class Boxes(NamedTuple):
    """Where objects lie."""

    ids: np.ndarray  # (n,)
    low: np.ndarray  # (n, 3) first pixel along z, y, x
    high: np.ndarray  # (n, 3) one beyond the last

    @classmethod
    def of(cls, ids: np.ndarray, low: np.ndarray, high: np.ndarray) -> "Boxes":
        """From boxes of parts of objects."""
        whole, place = np.unique(ids, return_inverse=True)
        lowest, highest = np.full((len(whole), 3), np.iinfo(np.int64).max), np.zeros((len(whole), 3), np.int64)
        np.minimum.at(lowest, place, low)
        np.maximum.at(highest, place, high)
        return cls(whole, lowest, highest)


class Group(NamedTuple):
    """Objects whose boxes start in one block."""

    window: Region  # holds all of them
    boxes: Boxes


def find_boxes(labels, block: Sequence[int], workers: int = 1) -> Boxes:
    """Boxes of the objects of (z, y, x), anything that gives NumPy arrays when sliced, block by block."""
    regions = [part.write for part in blocks(labels.shape, block)]
    found = compute(partial(_boxes_of, labels), regions, workers)
    return Boxes.of(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def _boxes_of(labels, region: Region) -> Boxes:
    """From runs of equal labels along x."""
    part = labels[region]
    flat, width = part.ravel(), part.shape[-1]
    breaks = flat[1:] != flat[:-1]
    breaks[width - 1 :: width] = True
    starts = np.concatenate([[0], np.flatnonzero(breaks) + 1])
    ends = np.concatenate([starts[1:], [flat.size]])[flat[starts] > 0]
    starts = starts[flat[starts] > 0]
    corner = [side.start for side in region]
    low, last = (np.stack(np.unravel_index(places, part.shape), axis=1) for places in (starts, ends - 1))
    return Boxes.of(flat[starts], low + corner, last + 1 + corner)


def groups(boxes: Boxes, block: Sequence[int]) -> Iterator[Group]:
    """The objects in handfuls, each object once and whole; one that is larger than a block is alone."""
    large = (boxes.high - boxes.low > block).any(axis=1)
    place = np.column_stack([boxes.low // block, np.where(large, np.arange(len(large)), -1)])
    order = np.lexsort(place.T[[3, 2, 1, 0]])
    cuts = np.flatnonzero((np.diff(place[order], axis=0) != 0).any(axis=1)) + 1
    for mine in np.split(order, cuts) if len(order) else []:
        group = Boxes(*(part[mine] for part in boxes))
        yield Group(tuple(map(slice, group.low.min(axis=0).tolist(), group.high.max(axis=0).tolist())), group)


class Meaning(NamedTuple):
    """What channels and axes are."""

    channels: list[str]
    pixel_size: tuple[float, float, float]  # z, y, x, µm; NaN where unknown, and so is then what is in µm
    dimensions: int  # 2 or 3

    @classmethod
    def of(cls, entry: dict) -> "Meaning":
        """Of a series."""
        return cls(entry["channels"], entry["pixel_size"] or (np.nan,) * 3, 3 if entry["shape"][2] > 1 else 2)


class Scene(NamedTuple):
    """What is measured: one time point of a series."""

    series: str
    t: int
    labels: "Frame"
    image: "Frame"
    probability: "Frame"
    meaning: Meaning
    steps: tuple[float, ...]  # pixels of the file in one of the image, y, x


class Frame:
    """One time point of an array (t, …, z, y, x), read when it is sliced."""

    def __init__(self, array, t: int):
        self.array, self.t = array, t
        self.shape = array.shape[-3:]

    def __getitem__(self, window: Region) -> np.ndarray:
        return self.array[(self.t, *(slice(None),) * (self.array.ndim - 4), *window)]


def write_measurements(
    image: str, probabilities: str, objects: str, table: str, outlines: str, *, sample: str, workers: int = 1
) -> None:
    """Write the table (Parquet) and the outlines (gzip-packed GeoJSON for QuPath) of a sample's objects.

    Parameters
    ----------
    image, probabilities, objects : path
        Root `zarr.json` of the image store and of the probabilities, manifest of the objects.
    table, outlines : path
        One row per object; one feature per object and plane; the same ids in both.
    workers : int
        Threads; each holds the objects of one block with their surroundings.

    Raises
    ------
    RuntimeError
        If the store holds fewer objects than their manifest says.
    """
    entries = read_attributes(image)["series"]
    stores = Path(image).parent, Path(probabilities).parent
    expected = {e["name"]: o["objects"] for e, o in zip(entries, read_json(objects)["series"], strict=True)}
    with growing_table(table, _empty(entries)) as rows:
        write_features(outlines, _measure_all(entries, stores, rows, workers))
        for name, count in expected.items():
            if rows.counts.get(name, 0) != count:
                raise RuntimeError(
                    f'sample "{sample}", series {name}: the store holds {rows.counts.get(name, 0)} objects, '
                    f"its manifest says {count}; delete {objects} and run again"
                )
    logger.info("%d rows in %s", sum(expected.values()), table)


def _measure_all(entries: list[dict], stores: tuple[Path, Path], rows: Rows, workers: int) -> Iterator[Packed]:
    """Yield the features of all series, and write their rows."""
    for entry in entries:
        for t in range(entry["shape"][0]):
            scene = _scene(entry, *stores, t)
            block = VOLUME if scene.labels.shape[0] > 1 else PLANE
            todo = groups(find_boxes(scene.labels, block, workers), block)
            while batch := list(islice(todo, 4 * breadth(workers))):
                for table, features in compute(partial(_measure_group, scene), batch, workers):
                    rows.append(table)
                    yield features


def _scene(entry: dict, store: Path, found: Path, t: int) -> Scene:
    arrays = (label_path(store, entry["path"], "objects") / "0", store / entry["path"] / "0", found / entry["path"])
    labels, image, probability = (Frame(open_array(path), t) for path in arrays)
    steps = tuple(entry["origin"]["steps"]) if entry["origin"] else (1.0, 1.0)
    return Scene(entry["name"], t, labels, image, probability, Meaning.of(entry), steps)


def _empty(entries: list[dict]) -> pd.DataFrame:
    """A table without rows that has the columns of all series."""
    nothing, group = np.ones((1, 1, 1), np.uint32), next(groups(Boxes(*ONE), PLANE))
    kinds = {(tuple(meaning.channels), meaning.dimensions): meaning for meaning in map(Meaning.of, entries)}
    tables = []
    for meaning in kinds.values():
        grey, probability = np.zeros((len(meaning.channels), 1, 1, 1)), np.zeros((1, 1, 1, 1), np.uint8)
        tables.append(describe(group, nothing, grey, probability, meaning))
    whole = pd.concat(tables).assign(series="", t=0, touches_edge=False)
    return whole[["series", "t", *(name for name in whole if name not in ("series", "t"))]][:0]


def _measure_group(scene: Scene, group: Group) -> tuple[pd.DataFrame, Packed]:
    """Rows and features of a group's objects."""
    labels, grey, probability = (frame[group.window] for frame in (scene.labels, scene.image, scene.probability))
    table = describe(group, labels, grey, probability, scene.meaning)
    ends = ((group.boxes.low == 0) | (group.boxes.high == scene.labels.shape))[:, -scene.meaning.dimensions :]
    table = table.assign(series=scene.series, t=scene.t, touches_edge=ends.any(axis=1))
    texts = feature_texts(table, labels, [part.start for part in group.window], scene.steps)
    return table, Packed.of(",\n".join(texts))


def describe(
    group: Group, labels: np.ndarray, grey: np.ndarray, probability: np.ndarray, meaning: Meaning
) -> pd.DataFrame:
    """One row for each object, the same numbers as `skimage.measure.regionprops_table` of the whole.

    Parameters
    ----------
    labels : (z, y, x) uint32 or uint64
        Of the group's window.
    grey : (c, z, y, x)
    probability : (k, z, y, x) uint8
        p × 255 of the classes but the background.
    """
    dimensions = meaning.dimensions
    ids, low, high = group.boxes
    corner = np.array([part.start for part in group.window])
    where = labels, ids, np.stack([low - corner, high - corner], axis=1)
    found = shapes(*where)
    found = found._replace(centroid=found.centroid + corner)
    axes, size = slice(3 - dimensions, 3), np.array(meaning.pixel_size)[3 - dimensions :]
    columns = {"id": ids.astype(np.int64), SIZES[dimensions][0]: found.area.astype(np.int64)}
    columns |= dict(zip(("z_px", "y_px", "x_px")[axes], found.centroid[:, axes].T, strict=True))
    columns |= dict(zip((*LOW[axes], *HIGH[axes]), (*low[:, axes].T, *high[:, axes].T), strict=True))
    columns |= _shape_columns(found, dimensions)
    columns |= _grey_columns(statistics(labels, grey, *where[1:], PERCENTS), meaning.channels)
    each = statistics(labels, probability, *where[1:])[:, :, 0] / 255
    columns |= {"probability": each.sum(axis=1), "class": each.argmax(axis=1) + 1}
    return pd.DataFrame(columns | _physical_columns(found, size))


def _shape_columns(found: Shapes, dimensions: int) -> dict[str, np.ndarray]:
    """What has no unit, or pixels."""
    covariance = found.covariance[:, -dimensions:, -dimensions:]
    if dimensions == 3:
        return _axes(covariance, "")
    least, most = np.linalg.eigvalsh(covariance).clip(0).T
    eccentricity = np.sqrt(1 - np.divide(least, most, out=np.ones_like(most), where=most > 0))
    plane = {"perimeter": found.perimeter, "eccentricity": eccentricity, "solidity": found.area / found.convex}
    return plane | _axes(covariance, "")


def _physical_columns(found: Shapes, size: np.ndarray) -> dict[str, np.ndarray]:
    """The same in µm, from the centre of the first pixel."""
    dimensions = len(size)
    names = ("z_um", "y_um", "x_um")[-dimensions:]
    columns = dict(zip(names, (found.centroid[:, -dimensions:] * size).T, strict=True))
    columns[SIZES[dimensions][1]] = found.area * size.prod()
    columns |= _axes(found.covariance[:, -dimensions:, -dimensions:] * np.outer(size, size), "_um")
    return columns if dimensions == 3 else columns | {"perimeter_um": found.perimeter * np.sqrt(size.prod())}


def _axes(covariance: np.ndarray, unit: str) -> dict[str, np.ndarray]:
    """Axes of the ellipse, or ellipsoid, of the same second moments."""
    names = f"axis_major_length{unit}", f"axis_minor_length{unit}"
    if np.isnan(covariance).any():
        return {name: np.full(len(covariance), np.nan) for name in names}
    spread = np.linalg.eigvalsh(covariance).clip(0)
    full = 4 if covariance.shape[-1] == 2 else np.sqrt(20)
    return {name: full * np.sqrt(spread[:, k]) for name, k in zip(names, (-1, 0), strict=True)}


def _grey_columns(found: np.ndarray, channels: list[str]) -> dict[str, np.ndarray]:
    kinds = ("mean", "deviation", *(f"percentile_{percent}" for percent in PERCENTS))
    return {f"{kind}_{name}": found[:, c, k] for c, name in enumerate(channels) for k, kind in enumerate(kinds)}
