"""Measures every object once, in a window that holds the whole of it: a table and outlines."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import ndimage
from skimage.measure import regionprops_table

from unetpipe.geometry import blocks
from unetpipe.manifest import read_json, replacing
from unetpipe.outlines import feature, outline, write_features
from unetpipe.store import label_path, open_array, read_attributes

logger = logging.getLogger(__name__)
LENGTHS = ("perimeter", "axis_major_length", "axis_minor_length")
SHAPE = ("label", "area", "centroid", "bbox", *LENGTHS, "eccentricity", "solidity")
BOX = ["top", "left", "bottom", "right"]


class Group(NamedTuple):
    """Objects whose boxes start in one block, whole."""

    window: tuple[slice, slice]  # holds all of them
    labels: np.ndarray  # (y, x) of the window, other objects are 0


def boxes(labels, block: int) -> pd.DataFrame:
    """Bounding boxes of the objects of a plane that is read block by block.

    Parameters
    ----------
    labels : array-like (y, x) int
        Anything that gives NumPy arrays when sliced.

    Returns
    -------
    DataFrame
        Index `id`, columns `top, left, bottom, right` (the last two exclusive), pixels.
    """
    found = [row for part in blocks(labels.shape, (block, block)) for row in _boxes_of(labels, part.write)]
    frame = pd.DataFrame(found, columns=["id", *BOX])
    return frame.groupby("id").agg(dict(zip(BOX, ("min", "min", "max", "max"), strict=True)))


def _boxes_of(labels, region) -> Iterator[tuple[int, ...]]:
    plane = labels[region]
    ids, dense = np.unique(plane, return_inverse=True)
    first = 0 if ids[0] == 0 else 1
    y0, x0 = (part.start for part in region)
    for number, (y, x) in enumerate(ndimage.find_objects(dense.reshape(plane.shape) + first), start=1):
        yield int(ids[number - first]), y0 + y.start, x0 + x.start, y0 + y.stop, x0 + x.stop


def groups(labels, block: int = 1024) -> Iterator[Group]:
    """The objects of a plane in handfuls, each object once and whole."""
    found = boxes(labels, block)
    for _, group in found.groupby([found.top // block, found.left // block]):
        window = (slice(group.top.min(), group.bottom.max()), slice(group.left.min(), group.right.max()))
        plane = labels[window]
        yield Group(window, np.where(np.isin(plane, group.index), plane, 0))


def measure_group(group: Group, grey: np.ndarray, probability: np.ndarray, channels: list[str]) -> pd.DataFrame:
    """One row for each object, the same numbers as `skimage.measure.regionprops_table` of the whole plane.

    Parameters
    ----------
    grey : (c, y, x)
        Of the group's window.
    probability : (k, y, x) uint8
        p × 255 of the classes but the background.
    channels : list of str
        Names of the grey values.
    """
    values = np.moveaxis(np.concatenate([grey, probability / 255]), 0, -1)
    table = pd.DataFrame(
        regionprops_table(group.labels, values, properties=(*SHAPE, "intensity_mean", "intensity_std"))
    )
    table = table.rename(columns={f"bbox-{k}": name for k, name in enumerate(BOX)})
    table = table.rename(columns={"label": "id", "area": "area_px", "centroid-0": "y_px", "centroid-1": "x_px"})
    for axis, names in enumerate((["y_px", "top", "bottom"], ["x_px", "left", "right"])):
        table[names] += group.window[axis].start
    means, deviations = (
        [table.pop(f"intensity_{kind}-{k}") for k in range(values.shape[-1])] for kind in ("mean", "std")
    )
    for name, mean, deviation in zip(channels, means, deviations, strict=False):
        table[f"mean_{name}"], table[f"deviation_{name}"] = mean, deviation
    each = np.stack(means[len(channels) :])
    return table.assign(probability=each.sum(axis=0), **{"class": each.argmax(axis=0) + 1})


def add_physical(table: pd.DataFrame, pixel_size: tuple[float, float], sides: tuple[int, int]) -> pd.DataFrame:
    """Add µm to the pixels, both from the centre of the first pixel, and whether the edge of the image cuts the object.

    Parameters
    ----------
    pixel_size : (y, x)
        µm; NaN where unknown, and so is then what is in µm.
    sides : (y, x)
        Of the image, pixels.
    """
    y, x = pixel_size
    edge = (table.top == 0) | (table.left == 0) | (table.bottom == sides[0]) | (table.right == sides[1])
    lengths = {f"{name}_um": table[name] * np.sqrt(y * x) for name in LENGTHS}
    centre = {"y_um": table.y_px * y, "x_um": table.x_px * x}
    return table.assign(**centre, area_um2=table.area_px * y * x, **lengths, touches_edge=edge)


def write_measurements(image: str, probabilities: str, objects: str, table: str, outlines: str, *, sample: str) -> None:
    """Write the table (Parquet) and the outlines (gzip-packed GeoJSON for QuPath) of a sample's objects.

    Parameters
    ----------
    image, probabilities, objects : path
        Root `zarr.json` of the image store and of the probabilities, manifest of the objects.
    table, outlines : path
        One row, and one feature, per object and plane; the same ids in both.

    Raises
    ------
    RuntimeError
        If the store holds fewer objects than their manifest says.
    """
    entries = read_attributes(image)["series"]
    tables: list[pd.DataFrame] = []
    write_features(outlines, _measure_all(entries, Path(image).parent, Path(probabilities).parent, tables))
    whole = pd.concat(tables, ignore_index=True)
    found = whole.groupby("series").id.nunique()
    for number, entry in enumerate(read_json(objects)["series"]):
        if found.get(entries[number]["name"], 0) != entry["objects"]:
            raise RuntimeError(
                f'sample "{sample}", series {entries[number]["name"]}: the store holds '
                f"{found.get(entries[number]['name'], 0)} objects, its manifest says {entry['objects']}; "
                f"delete {objects} and run again"
            )
    with replacing(table) as aside:
        whole.to_parquet(aside, index=False)
    logger.info("%d rows in %s", len(whole), table)


def _measure_all(entries: list[dict], store: Path, found: Path, tables: list[pd.DataFrame]) -> Iterator[dict]:
    """Yield the features, and collect the tables, of all planes of all series."""
    tables.append(_empty(entries[0]["channels"]))
    for entry in entries:
        t, _, z, *_ = entry["shape"]
        for plane in np.ndindex(t, z):
            for group, rows in _measure_plane(entry, store, found, plane):
                tables.append(rows)
                yield from _features(group, rows, entry["origin"]["steps"] if entry["origin"] else (1.0, 1.0))


def _empty(channels: list[str]) -> pd.DataFrame:
    """A table without rows, so that a sample without objects has the columns of the others."""
    nothing = Group((slice(0, 2), slice(0, 2)), np.eye(2, dtype=int))
    one = measure_group(nothing, np.zeros((len(channels), 2, 2)), np.zeros((1, 2, 2)), channels)
    rows = add_physical(one, (1.0, 1.0), (2, 2))[:0]
    return rows.assign(series=pd.Series(dtype=object), t=0, z=0)


def _measure_plane(entry: dict, store: Path, found: Path, plane: tuple[int, int]):
    t, z = plane
    labels = _Plane(open_array(label_path(store, entry["path"], "objects") / "0"), (t, z))
    image = open_array(store / entry["path"] / "0")
    probability = open_array(found / entry["path"])
    size = tuple((entry["pixel_size"] or [np.nan] * 3)[1:])
    for group in groups(labels):
        grey, share = (array[(t, slice(None), z, *group.window)] for array in (image, probability))
        rows = measure_group(group, grey, share, entry["channels"])
        yield group, add_physical(rows, size, labels.shape).assign(series=entry["name"], t=t, z=z)


class _Plane:
    """One (t, z) plane of a label image, read when it is sliced."""

    def __init__(self, array, front: tuple[int, int]):
        self.array, self.front, self.shape = array, front, array.shape[-2:]

    def __getitem__(self, window) -> np.ndarray:
        return self.array[(*self.front, *window)]


def _features(group: Group, rows: pd.DataFrame, steps: tuple[float, ...]) -> Iterator[dict]:
    """GeoJSON of each row, with its numbers as QuPath's measurements."""
    y0, x0 = (part.start for part in group.window)
    plain = [c for c in rows.columns if c not in ("id", "series", "t", "z", "class", "touches_edge", *BOX)]
    for row in rows.to_dict("records"):
        top, left, bottom, right = (row[name] for name in BOX)
        mask = group.labels[top - y0 : bottom - y0, left - x0 : right - x0] == row["id"]
        yield feature(
            outline(mask, top, left, steps),
            series=row["series"],
            number=row["id"],
            kind=f"class {row['class']}",
            measurements={column: float(row[column]) for column in plain if np.isfinite(row[column])},
        )
