"""Chooses how objects are made of probabilities, by scores of images that neither trained nor test the network."""

import logging
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from unetpipe.components import id_type
from unetpipe.geometry import Region, blocks
from unetpipe.label import Objects, Settings, Spacing
from unetpipe.log import Progress
from unetpipe.manifest import read_json
from unetpipe.scheduling import compute
from unetpipe.scoring import Compared, TimePoint, one_class, score_at_half
from unetpipe.store import label_path, open_array, read_attributes
from unetpipe.totals import overall, read_scores

logger = logging.getLogger(__name__)
THRESHOLDS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
SPLITS = (0.0, 0.5, 1.0, 2.0)  # pixels
CORES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)  # with those thresholds that are lower
SIZES = (0.25, 0.5, 2.0, 4.0)  # times the smallest size as it is
LOWER = ("pixel_error",)  # is better


class Series(NamedTuple):
    """One annotated and predicted series."""

    probabilities: Path
    labels: Path  # folder of its labels
    spacing: Spacing
    shard: int


def choose_samples(results: Path, names: Sequence[str]) -> list[str]:
    """The named samples, or all of split val.

    Raises
    ------
    ValueError
        If there is none, or one of them is there to test the result.
    """
    scores = results / "scores.tsv"
    table = read_scores(scores) if scores.exists() else pd.DataFrame({"sample": [], "split": []})
    splits = dict(zip(table["sample"], table.split, strict=True))
    chosen = list(names) or [name for name, split in splits.items() if split == "val"]
    for name in chosen:
        if splits.get(name) != "val":
            said = f"is in split {splits[name]}" if name in splits else "was not scored"
            raise ValueError(
                f'sample "{name}" {said}; choose on images of split val, and keep those of test for the end'
            )
    if not chosen:
        raise ValueError(f"{results} has no scored sample of split val; put annotated images aside in that split")
    return chosen


def tune(results: Path, samples: Sequence[str], *, metric: str = "ap", workers: int = 1) -> pd.DataFrame:
    """Scores of other thresholds with splits or cores, then of other smallest sizes with the best of them.

    Parameters
    ----------
    results : path
        Of a run.
    samples : sequence of str
        See `choose_samples`.
    metric : str
        Figure of `totals.overall` by which settings are better.

    Returns
    -------
    DataFrame
        One row for each setting, the best first; `now` marks the setting of the run.
    """
    settings = [Settings(**read_json(results / "objects" / f"{name}.json")["settings"]) for name in samples]
    if len(set(settings)) > 1:
        raise ValueError(f"samples {', '.join(samples)} were labelled with different settings; run the workflow again")
    now, sign = settings[0], -1 if metric in LOWER else 1
    series = [one for name in samples for one in _series(results, name)]
    wanted = list(dict.fromkeys((now, *_others(now))))
    progress = Progress(len(wanted) + len(SIZES), "settings")
    rows = [_row(series, one, now, workers, progress) for one in wanted]
    best = max(rows, key=lambda row: sign * row[metric])
    sizes = sorted({round(now.min_size * factor) for factor in SIZES} - {now.min_size})
    chosen = Settings(**{name: best[name] for name in Settings._fields})
    rows += [_row(series, chosen._replace(min_size=size), now, workers, progress) for size in sizes]
    order = np.argsort([-sign * row[metric] for row in rows], kind="stable")
    return pd.DataFrame([rows[number] for number in order])


def _others(now: Settings) -> Iterator[Settings]:
    for threshold, split in product(THRESHOLDS, SPLITS):
        yield now._replace(threshold=threshold, split=split, core=0.0)
    for threshold, core in product(THRESHOLDS, CORES):
        if core > threshold:
            yield now._replace(threshold=threshold, split=0.0, core=core)


def _series(results: Path, name: str) -> Iterator[Series]:
    store, found = results / "images" / f"{name}.ome.zarr", results / "probabilities" / f"{name}.zarr"
    note = read_attributes(found / "zarr.json")
    for entry in read_attributes(store / "zarr.json")["series"]:
        labels = label_path(store, entry["path"], "truth").parent
        yield Series(found / entry["path"], labels, Spacing.of(entry, note), entry["shard"])


def _row(series: list[Series], settings: Settings, now: Settings, workers: int, progress: Progress) -> dict:
    figures = pd.DataFrame([row for one in series for row in _score(one, settings, workers)])
    progress.advance()
    return {**settings._asdict(), **overall(figures), "now": settings == now}


def _score(series: Series, settings: Settings, workers: int) -> Iterator[dict]:
    """Of every time point; of a slide its objects alone are held."""
    objects = Objects(series.probabilities, series.shard, settings, workers, series.spacing)
    truth, classes = (open_array(series.labels / name / "0") for name in ("truth", "classes"))
    shape = objects.shape[2:] if objects.shape[1] == 1 else objects.shape[1:]
    for t in range(objects.shape[0]):
        front = (t,) if len(shape) == 3 else (t, 0)
        found = TimePoint(_painted(objects, t, workers), (0, 0)[: len(front)])
        known = partial(_one_class, TimePoint(classes, front))
        read = TimePoint(truth, front), found, known, partial(_foreground, found)
        yield score_at_half(Compared(shape, *read, 2, series.spacing.image), workers)


def _painted(objects: Objects, t: int, workers: int) -> np.ndarray:
    """Ids (1, z, y, x) of a time point, painted block by block."""
    whole = np.empty((1, *objects.shape[1:]), id_type(objects.count()))
    compute(partial(_paint, objects, t, whole), [block.write for block in blocks(whole.shape, objects.block)], workers)
    return whole


def _paint(objects: Objects, t: int, whole: np.ndarray, region: Region) -> None:
    whole[region] = objects.read((slice(t, t + 1), *region[1:]))


def _one_class(classes: TimePoint, region: Region) -> np.ndarray:
    return one_class(classes(region))


def _foreground(found: TimePoint, region: Region) -> np.ndarray:
    return (found(region) > 0).astype(np.uint8)
