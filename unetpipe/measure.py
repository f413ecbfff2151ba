"""Measures every object once, in a window that holds the whole of it, or block by block: a table and outlines."""

import logging
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from unetpipe.boxes import Boxes, Group, find_boxes, groups
from unetpipe.geometry import Region, blocks
from unetpipe.large import Large, Part, parts
from unetpipe.manifest import read_json
from unetpipe.outlines import Packed, feature_texts, features, write_features
from unetpipe.scheduling import breadth, compute
from unetpipe.shapes import Shapes, shapes, statistics
from unetpipe.store import label_path, open_array, read_attributes
from unetpipe.tables import Rows, growing_table

logger = logging.getLogger(__name__)
PERCENTS = (5, 25, 50, 75, 95)
BLOCKS = (1, 1024, 1024), (16, 512, 512), (64, 256, 256)  # pixels read at once, the first that holds all planes
SIZES = {2: ("area_px", "area_um2"), 3: ("volume_px", "volume_um3")}
LOW, HIGH = ("front", "top", "left"), ("back", "bottom", "right")
LARGEST = 2**24  # pixels of a box that one thread holds with all that lies in it
TOGETHER = 64  # larger objects that one pass over their blocks measures
ONE = np.ones(1, np.uint32), np.zeros((1, 3), np.int64), np.ones((1, 3), np.int64)  # an object of a pixel


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
            for table, packed in _measured(_scene(entry, *stores, t), workers):
                rows.append(table)
                yield packed


def _measured(scene: Scene, workers: int) -> Iterator[tuple[pd.DataFrame, Packed]]:
    """Rows and features of all objects, in handfuls."""
    planes = scene.labels.shape[0]
    block = next((block for block in BLOCKS if planes <= block[0]), BLOCKS[-1])
    boxes = find_boxes(scene.labels, block, workers)
    large = (boxes.high - boxes.low).prod(axis=1) > LARGEST
    todo = groups(boxes.where(~large), block)
    while batch := list(islice(todo, 4 * breadth(workers))):
        yield from compute(partial(_measure_group, scene), batch, workers)
    for start in range(0, large.sum(), TOGETHER):
        yield from _measure_large(scene, boxes.where(np.flatnonzero(large)[start : start + TOGETHER]), block, workers)


def _measure_large(
    scene: Scene, boxes: Boxes, block: Sequence[int], workers: int
) -> Iterator[tuple[pd.DataFrame, Packed]]:
    """Row and features of each of some objects that no thread should hold: a pass over all blocks that they meet."""
    whole = {
        number: Large(low, high, len(scene.meaning.channels))
        for number, low, high in zip(boxes.ids.tolist(), boxes.low, boxes.high, strict=True)
    }
    todo = (part.write for part in blocks(scene.labels.shape, block))
    met = ((region, ids) for region in todo if len(ids := boxes.meeting(region)))
    while batch := list(islice(met, 4 * breadth(workers))):
        for found in compute(partial(_parts, scene), batch, workers):
            for number, part in found.items():
                whole[number].add(part)
    for number, one in whole.items():
        yield _described(scene, boxes.where(boxes.ids == number), one)


def _parts(scene: Scene, asked: tuple[Region, list[int]]) -> dict[int, Part]:
    region, ids = asked
    return parts(scene.labels, scene.image, scene.probability, ids, region)


def _described(scene: Scene, box: Boxes, one: Large) -> tuple[pd.DataFrame, Packed]:
    shape = one.shapes()
    chances = (one.probability / (255 * shape.area))[None]
    table = _placed(_columns(box, shape, one.grey_values(PERCENTS)[None], chances, scene.meaning), box, scene)
    return table, Packed.of(b",\n".join(features(table, lambda _: one.planes(), scene.steps)))


def _placed(table: pd.DataFrame, boxes: Boxes, scene: Scene) -> pd.DataFrame:
    """The table with where its objects are: series, time point, and whether they touch an edge."""
    ends = ((boxes.low == 0) | (boxes.high == scene.labels.shape))[:, -scene.meaning.dimensions :]
    return table.assign(series=scene.series, t=scene.t, touches_edge=ends.any(axis=1))


def _scene(entry: dict, store: Path, found: Path, t: int) -> Scene:
    arrays = (label_path(store, entry["path"], "objects") / "0", store / entry["path"] / "0", found / entry["path"])
    labels, image, probability = (Frame(open_array(path), t) for path in arrays)
    steps = tuple(entry["origin"]["steps"]) if entry["origin"] else (1.0, 1.0)
    return Scene(entry["name"], t, labels, image, probability, Meaning.of(entry), steps)


def _empty(entries: list[dict]) -> pd.DataFrame:
    """A table without rows that has the columns of all series."""
    nothing, group = np.ones((1, 1, 1), np.uint32), next(groups(Boxes(*ONE), BLOCKS[0]))
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
    table = _placed(describe(group, labels, grey, probability, scene.meaning), group.boxes, scene)
    texts = feature_texts(table, labels, [part.start for part in group.window], scene.steps)
    return table, Packed.of(b",\n".join(texts))


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
    ids, low, high = group.boxes
    corner = np.array([part.start for part in group.window])
    where = ids, np.stack([low - corner, high - corner], axis=1)
    found = shapes(labels, *where)
    found = found._replace(centroid=found.centroid + corner)
    chances = statistics(labels, probability, *where)[:, :, 0] / 255
    return _columns(group.boxes, found, statistics(labels, grey, *where, PERCENTS), chances, meaning)


def _columns(boxes: Boxes, found: Shapes, grey: np.ndarray, chances: np.ndarray, meaning: Meaning) -> pd.DataFrame:
    """Of shapes (n), grey values (n, c, statistics) and mean probabilities (n, k)."""
    dimensions, (ids, low, high) = meaning.dimensions, boxes
    axes, size = slice(3 - dimensions, 3), np.array(meaning.pixel_size)[3 - dimensions :]
    columns = {"id": ids.astype(np.int64), SIZES[dimensions][0]: found.area.astype(np.int64)}
    columns |= dict(zip(("z_px", "y_px", "x_px")[axes], found.centroid[:, axes].T, strict=True))
    columns |= dict(zip((*LOW[axes], *HIGH[axes]), (*low[:, axes].T, *high[:, axes].T), strict=True))
    columns |= _shape_columns(found, dimensions) | _grey_columns(grey, meaning.channels)
    columns |= {"probability": chances.sum(axis=1), "class": chances.argmax(axis=1) + 1}
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
