"""Compares objects with the truth: the figures of every image and every sample in `results/scores.tsv`."""

import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from unetpipe.geometry import Region, relative_spacing
from unetpipe.manifest import replacing
from unetpipe.scoring import Compared, TimePoint, score
from unetpipe.store import label_path, open_array, read_attributes
from unetpipe.totals import THRESHOLDS, tidy

logger = logging.getLogger(__name__)


def write_scores(
    images: list[str],
    probabilities: list[str],
    tables: list[str],
    output: str,
    *,
    samples: list[list[str]],
    iou: float = 0.5,
    workers: int = 1,
) -> None:
    """Score every series of the annotated samples that were predicted.

    Parameters
    ----------
    images, probabilities, tables : list of path
        Root `zarr.json` of the stores of images and of probabilities, tables of the objects.
    output : path
        Tab-separated, see `totals.tidy`.
    samples : list of [name, split]
        In the order of the paths.
    iou : float
        Least intersection over union of an object that counts as found; the figures follow at 0.5, 0.55, … 0.95 too.
    workers : int
        Threads.
    """
    thresholds = (float(iou), *(threshold for threshold in THRESHOLDS if threshold != iou))
    rows = []
    for image, found, table, (sample, split) in zip(images, probabilities, tables, samples, strict=True):
        for series, compared in _compared(Path(image), Path(found), Path(table)):
            figures = score(compared, thresholds=thresholds, workers=workers)
            rows.append({"sample": sample, "split": split, "series": series, **figures})
    table = tidy(pd.DataFrame(rows))
    with replacing(output) as aside:
        table.to_csv(aside, sep="\t", index=False, float_format="%.6g")
    logger.info("%d images scored", len(rows))


def _compared(image: Path, probabilities: Path, table: Path) -> Iterator[tuple[str, Compared]]:
    """Every time point of every series."""
    sides = read_attributes(probabilities)["sides"]
    classes = pd.read_parquet(table, columns=["series", "id", "class"])
    found_in = dict(iter(classes.groupby("series")))
    for entry in read_attributes(image)["series"]:
        own = found_in.get(entry["name"], classes[:0])
        numbers = np.zeros(int(own.id.max() if len(own) else 0) + 1, np.uint8)
        numbers[own.id] = own["class"]
        yield from _time_points(entry, image.parent, open_array(probabilities.parent / entry["path"]), numbers, sides)


def _time_points(
    entry: dict, store: Path, found, numbers: np.ndarray, sides: list[int]
) -> Iterator[tuple[str, Compared]]:
    t, _, z, y, x = entry["shape"]
    dimensions = 3 if z > 1 else 2
    arrays = [open_array(label_path(store, entry["path"], name) / "0") for name in ("truth", "objects", "classes")]
    for point in range(t):
        front = (point,) if dimensions == 3 else (point, 0)
        truth, objects, annotated = (TimePoint(array, front) for array in arrays)
        yield (
            entry["name"],
            Compared(
                (z, y, x)[-dimensions:],
                truth,
                objects,
                annotated,
                partial(_numbered, numbers, objects),
                found.shape[1] + 1,
                relative_spacing(entry["pixel_size"], dimensions),
                tuple(sides[-dimensions:]),
            ),
        )


def _numbered(numbers: np.ndarray, labels: TimePoint, region: Region) -> np.ndarray:
    return numbers[labels(region)]
