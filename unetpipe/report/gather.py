"""What a run has left on disk, as plain data: nothing is judged or drawn here.

Of a slide only coarse levels, tables and one window are read.
"""

import csv
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from pyarrow.parquet import read_schema, read_table
from scipy import ndimage

from unetpipe.config import given_networks
from unetpipe.manifest import read_json
from unetpipe.report.odd import MEASURES
from unetpipe.report.planes import Plane, fullest_plane, spans
from unetpipe.report.stages import DONE, FAILED, UNFINISHED, Stage, expected_rules, find_samples, stage
from unetpipe.store import open_array, read_attributes
from unetpipe.totals import read_scores

WINDOW = 512  # side of what is looked at in full resolution, and of the cells in which objects are counted, pixels
SIZES = np.arange(-8, 40.25, 0.25)  # edges of the histogram of sizes, log2
UNREADABLE = (OSError, ValueError, LookupError, RuntimeError, TypeError)


class Objects(NamedTuple):
    """What the table of a sample's objects says of them."""

    number: int
    area: float  # of all of them, pixels
    size: float  # median, of `unit`
    unit: str
    pixels: float  # median
    uncertainty: float  # mean of 1 − probability
    sizes: np.ndarray  # how many have a size between two edges of `SIZES`
    densities: np.ndarray  # objects per megapixel of all planes in each cell of the first series that holds any
    plane: Plane  # of the first series, see `fullest_plane`
    window: tuple[int, int]  # upper left corner of the fullest cell of that plane, y, x


class Sample(NamedTuple):
    """One sample, as far as it came."""

    name: str
    split: str
    stages: list[Stage]
    entries: list[dict]  # its series; empty before it is ingested, as are the next ones before their stages
    tissue: list[dict]
    predicted: dict  # what the store of probabilities says of itself
    objects: Objects | None
    measures: dict[str, float]

    @property
    def state(self) -> str:
        """The worst state of its stages; empty: it has no tissue or no objects."""
        states = [stage.state for stage in self.stages]
        for state in (FAILED, UNFINISHED):
            if state in states:
                return state
        nothing = self.predicted and not self.predicted["blocks"]["computed"]
        empty = nothing or (self.objects is not None and not self.objects.number)
        return "empty" if empty else DONE if set(states) == {DONE} else "waiting"

    @property
    def message(self) -> str:
        """Of the first stage that did not end, or why there are no objects."""
        said = next((f"{stage.rule}: {stage.message}" for stage in self.stages if stage.message), "")
        if said or self.state != "empty":
            return said
        computed = self.predicted["blocks"]["computed"]
        return "no objects were found" if computed else "skipped: no block holds tissue"


class Run(NamedTuple):
    """All that a run has left."""

    samples: list[Sample]
    stages: list[Stage]  # of the rules that are not of one sample
    networks: dict[str, dict]  # notes of each
    scores: pd.DataFrame  # see `totals.tidy`; empty where nothing was scored
    costs: pd.DataFrame


def gather(
    results: Path,
    samples: Sequence[Sequence[str]] | None = None,
    networks: Sequence[str | Path] | None = None,
) -> Run:
    """Read what lies in a folder of results and in the folder `logs` beside it.

    Parameters
    ----------
    results : path
    samples : sequence of (name, split), optional
        Of the sheet; what can be found if not given.
    networks : sequence of path, optional
        `network.json` of each; if not given those that the config beside the results names, or else those below them.
    """
    logs = results.absolute().parent / "logs"
    paths = _find_networks(results, logs) if networks is None else list(map(Path, networks))
    own = [path.parent.name for path in paths if path.parent.parent == results / "network"]
    names = find_samples(results, logs) if samples is None else samples
    rows = _in_one_unit([_sample(results, logs, name, split, trains=bool(own)) for name, split in names])
    stages = [stage(results, logs, "train", fold) for fold in own]
    if any(row.split in ("val", "test") for row in rows):
        stages.append(stage(results, logs, "score"))
    scores = results / "scores.tsv"
    return Run(
        rows,
        stages,
        {name: read_json(path) for name, path in _named(paths).items() if path.exists()},
        read_scores(scores) if scores.exists() else pd.DataFrame(),
        costs(results / "benchmarks"),
    )


def _named(networks: list[Path]) -> dict[str, Path]:
    """By the names of their folders, or where these are alike by their paths."""
    count = Counter(path.parent.name for path in networks)
    return {path.parent.name if count[path.parent.name] == 1 else str(path): path for path in networks}


def _in_one_unit(rows: list[Sample]) -> list[Sample]:
    """Sizes in pixels where not all of them are known in the same unit: they are compared."""
    found = [row.objects for row in rows if row.objects]
    if len({one.unit for one in found}) < 2:
        return rows
    return [
        row._replace(measures=row.measures | {"size": row.objects.pixels})
        if row.objects and "size" in row.measures
        else row
        for row in rows
    ]


def _find_networks(results: Path, logs: Path) -> list[Path]:
    """Those that its config gives to the run, or that it has trained, or began to."""
    if given := given_networks(logs.parent):
        return given
    folds = {path.name for path in results.glob("network/*")} | {path.stem for path in logs.glob("train/*.log")}
    return [results / "network" / fold / "network.json" for fold in sorted(folds)]


def _sample(results: Path, logs: Path, name: str, split: str, *, trains: bool) -> Sample:
    stages = {rule: stage(results, logs, rule, name) for rule in expected_rules(split, trains=trains)}

    def read(rule: str, function: Callable, *arguments, default: Any) -> Any:
        needed = {"ingest", rule}
        if not needed <= stages.keys() or any(stages[one].state != DONE for one in needed):
            return default
        try:
            return function(*arguments)
        except UNREADABLE as error:
            stages[rule] = Stage(rule, name, FAILED, f"what it wrote cannot be read: {error}")
            return default

    store = results / "images" / f"{name}.ome.zarr"
    found = results / "probabilities" / f"{name}.zarr" / "zarr.json"
    entries = read("ingest", lambda: read_attributes(store / "zarr.json")["series"], default=[])
    tissue = read("mask", lambda: read_json(results / "tissue" / f"{name}.json")["series"], default=[])
    predicted = read("predict", read_attributes, found, default={})
    objects = read("measure", read_objects, results / "objects" / f"{name}.parquet", entries, default=None)
    focus = read("ingest", sharpness, store, entries, objects, default=np.nan)
    measures = _measures(entries, tissue, predicted, objects) | {"focus": focus}
    return Sample(name, split, list(stages.values()), entries, tissue, predicted, objects, measures)


def _measures(entries: list[dict], tissue: list[dict], predicted: dict, objects: Objects | None) -> dict[str, float]:
    """The numbers by which a sample is compared with the others; NaN where it has none."""
    measures = dict.fromkeys(MEASURES, np.nan)
    if entries and len(tissue) == len(entries):
        inside = sum(pixels(entry) * part["fraction"] for entry, part in zip(entries, tissue, strict=True))
        measures["tissue"] = inside / sum(map(pixels, entries))
        if objects and inside:
            measures |= {"density": 1e6 * objects.number / inside, "foreground": objects.area / inside}
    if objects and objects.number:
        measures |= {"size": objects.size, "uncertainty": objects.uncertainty}
    if predicted and predicted["seams"]["windows"]:
        measures["seams"] = predicted["seams"]["largest_difference"]
    return measures


def pixels(entry: dict) -> int:
    """Of a series, channels not counted."""
    t, _, z, y, x = entry["shape"]
    return t * z * y * x


def read_objects(path: Path, entries: list[dict]) -> Objects:
    """Summarise a table of objects; a column at a time, so that millions of rows fit into memory."""
    names = read_schema(path).names
    area = "volume_px" if "volume_px" in names else "area_px"
    known = all(entry["pixel_size"] for entry in entries)
    size = {"area_px": "area_um2", "volume_px": "volume_um3"}[area] if known else area
    columns = {column: read_table(path, columns=[column])[column] for column in {area, size, "probability"}}
    sizes = columns[size].to_numpy()
    plane = fullest_plane(path, entries[0])
    densities, window = _cells(path, entries[0], plane)
    return Objects(
        len(sizes),
        float(columns[area].to_numpy().sum()),
        float(np.median(sizes)) if len(sizes) else np.nan,
        {"area_px": "pixels", "area_um2": "µm²", "volume_px": "pixels", "volume_um3": "µm³"}[size],
        float(np.median(columns[area])) if len(sizes) else np.nan,
        float(1 - columns["probability"].to_numpy().mean()) if len(sizes) else np.nan,
        np.histogram(np.log2(np.maximum(sizes, 2.0**-8)), SIZES)[0],
        densities,
        plane,
        window,
    )


def _cells(path: Path, entry: dict, plane: Plane) -> tuple[np.ndarray, tuple[int, int]]:
    """Objects per megapixel in each whole cell of a series, in all its planes, and the corner of a plane's fullest."""
    t, _, z, *sides = entry["shape"]
    side = min(WINDOW, *sides)
    grid = [size // side for size in sides]
    places = read_table(path, columns=["y_px", "x_px"], filters=[("series", "==", entry["name"])])
    cells = np.stack([places[name].to_numpy() // side for name in ("y_px", "x_px")]).astype(int)
    whole = (cells < np.reshape(grid, (2, 1))).all(axis=0)
    counts = _count(cells[:, whole], grid)
    seen = _count(cells[:, whole & _in_plane(path, entry, plane)], grid) if t * z > 1 else counts
    row, column = np.unravel_index(seen.argmax(), seen.shape)
    return counts[counts > 0] / (side**2 * t * z / 1e6), (int(row) * side, int(column) * side)


def _count(cells: np.ndarray, grid: list[int]) -> np.ndarray:
    counts = np.zeros(grid, int)
    np.add.at(counts, tuple(cells), 1)
    return counts


def _in_plane(path: Path, entry: dict, plane: Plane) -> np.ndarray:
    """Which objects of a series a plane cuts."""
    (time, depth), found = plane, spans(path, entry)
    return ((found.t == time) & (found.front <= depth) & (depth < found.back)).to_numpy()


def window_of(entry: dict, objects: Objects | None) -> tuple[slice, slice]:
    """Which part of a sample's first series is looked at in full resolution: where most objects lie, or the middle."""
    sides = entry["shape"][-2:]
    middle = [max(0, (size - WINDOW) // 2) for size in sides]
    y, x = objects.window if objects and objects.number else middle
    return slice(y, min(y + WINDOW, sides[0])), slice(x, min(x + WINDOW, sides[1]))


def sharpness(store: Path, entries: list[dict], objects: Objects | None) -> float:
    """Variance of the Laplacian over the variance of the grey values, of the first channel in one window."""
    window = window_of(entries[0], objects)
    t, z = objects.plane if objects else fullest_plane(None, entries[0])
    grey = open_array(store / entries[0]["path"] / "0")[(t, 0, z, *window)].astype(float)
    return float(ndimage.laplace(grey).var() / grey.var()) if grey.var() else np.nan


def costs(folder: Path) -> pd.DataFrame:
    """Of each rule, by Snakemake's benchmark files: jobs, seconds of all, of the longest and of all cores, MB."""
    rows = []
    for path in sorted(folder.rglob("*.tsv")):
        rule = path.relative_to(folder).parts[0].removesuffix(".tsv")
        with open(path) as file:
            rows += [{"rule": rule, **row} for row in csv.DictReader(file, delimiter="\t")]
    if not rows:
        return pd.DataFrame()
    names = {"s": "seconds", "max_rss": "memory", "cpu_time": "cores", "io_in": "read", "io_out": "written"}
    table = pd.DataFrame(rows).reindex(columns=["rule", *names]).rename(columns=names)
    table[list(names.values())] = table[list(names.values())].apply(pd.to_numeric, errors="coerce")
    groups = table.groupby("rule", sort=False)
    summed = groups[["seconds", "cores", "read", "written"]].sum()
    most = groups[["seconds", "memory"]].max().rename(columns={"seconds": "longest"})
    return summed.join(most).assign(jobs=groups.size()).reset_index()
