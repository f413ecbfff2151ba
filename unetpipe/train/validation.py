"""Scores a network during training, on annotated images that it does not learn from."""

import copy
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy import ndimage
from skimage.measure import block_reduce, label

from unetpipe.cells import cell_side
from unetpipe.geometry import Region, relative_spacing
from unetpipe.neighbours import close_gaps
from unetpipe.network import Network
from unetpipe.predictor import Predictor, predict_region
from unetpipe.ranks import everyone, rank, size
from unetpipe.scoring import Compared, score_at_half
from unetpipe.store import IGNORED, label_path, open_array, read_attributes
from unetpipe.totals import overall

METRICS = {"f1": 1, "ap": 1, "mean_iou": 1, "rand": 1, "information": 1, "pixel_error": -1}  # -1: less is better
THINNED = {"rand", "information"}  # that need thin borders
THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)


class Score(NamedTuple):
    """How good a network is."""

    value: float
    threshold: float  # of the foreground, at which it is that good


class Seen(NamedTuple):
    """One annotated series that is predicted during training."""

    image: dict  # its entry in the store
    statistics: dict  # of its grey values
    store: Path

    def labels(self, name: str):
        """One of its annotations, a Zarr array (t, z, y, x)."""
        return open_array(label_path(self.store, self.image["path"], name) / "0")


class Validation:
    """Predicts and scores what is annotated as the stages after training will: blocks of whole images, objects.

    Of a slide or volume of which only parts are annotated, no more is predicted, and each part counts as an image. The
    threshold of the foreground is the best of `THRESHOLDS`, since `label` can set any later. Objects smaller than
    half the smallest true one of their part are dropped.

    Parameters
    ----------
    series : list of Seen
    metric : str
        One of `METRICS`; objects match at an intersection over union of 0.5.
    expand : int
        Objects grow by so much where they meet: half the gap that `weights` opened, pixels.
    device : torch.device
    precision : torch.dtype
    """

    def __init__(self, series: list[Seen], *, metric: str, expand: int, device: torch.device, precision: torch.dtype):
        self.metric, self.expand, self.device, self.precision = metric, expand, device, precision
        self.parts = [(seen, part) for seen in series[rank() :: size()] for part in annotated_parts(seen)]
        if not sum(everyone(len(self.parts))):
            raise ValueError(
                f"nothing is annotated in the {len(series)} images that the network is scored on, "
                f"{series[0].image['name']} the first; annotate some of them, or set train.validations to 0"
            )

    def __call__(self, network: Network) -> Score:
        """The figure that the metric names, of all parts together; the ranks share them."""
        predictor = Predictor([copy.deepcopy(network)], views=1, device=self.device, precision=self.precision)
        own = [row for seen, part in self.parts for row in self._rows(seen, part, predictor)]
        rows = pd.DataFrame([row for rows in everyone(own) for row in rows])
        scores = [
            Score(overall(at.drop(columns="threshold"))[self.metric], threshold)
            for threshold, at in rows.groupby("threshold")
        ]
        return max(scores, key=lambda score: (METRICS[self.metric] * score.value, -abs(score.threshold - 0.5)))

    def better(self, one: Score, other: Score) -> bool:
        """Whether one score is better than another."""
        return METRICS[self.metric] * (one.value - other.value) > 0

    def _rows(self, seen: Seen, part: Region, predictor: Predictor) -> Iterator[dict]:
        """Figures of an annotated part at every threshold."""
        source = open_array(seen.store / seen.image["path"] / "0")
        found = predict_region(predictor, source, part[0].start, seen.statistics, part[1:]).sum(axis=0, dtype=np.uint32)
        truth, classes = (seen.labels(name)[part][0] for name in ("truth", "classes"))
        spacing = relative_spacing(seen.image["pixel_size"], len(predictor.axes))
        ids, sizes = np.unique(truth[truth > 0], return_counts=True)
        least = sizes.min() / 2 if len(ids) else 0
        for threshold in THRESHOLDS:
            objects = find_objects(found > 255 * threshold, least, self.expand, spacing)
            compared = Compared.of(truth, objects, classes)
            yield {"threshold": threshold, **score_at_half(compared, thin=self.metric in THINNED)}


def annotated_parts(seen: Seen) -> list[Region]:
    """Boxes (t, z, y, x), apart from each other, of what is annotated in each time point and what is a cell around."""
    classes, side, parts = seen.labels("classes"), cell_side(seen.image["chunk"]), []
    for t in range(classes.shape[0]):
        cells = ndimage.binary_dilation(_annotated_cells(classes, t, side, seen.image["shard"]), np.ones((1, 3, 3)))
        for z, *plane in _boxes(cells):
            ends = zip(plane, classes.shape[2:], strict=True)
            parts.append((slice(t, t + 1), z, *(slice(a.start * side, min(a.stop * side, n)) for a, n in ends)))
    return parts


def _annotated_cells(classes, t: int, side: int, shard: int) -> np.ndarray:
    """Which squares (z, y, x) of so many pixels hold any annotated one."""
    planes = []
    for z in range(classes.shape[1]):
        rows = [classes[t, z, y : y + shard] != IGNORED for y in range(0, classes.shape[2], shard)]
        planes.append(np.concatenate([block_reduce(row, side, np.any) for row in rows]))
    return np.stack(planes)


def _boxes(cells: np.ndarray) -> list[Region]:
    """Of neighbouring cells, until none touches another."""
    while True:
        boxes = ndimage.find_objects(ndimage.label(cells, np.ones((3, 3, 3)))[0])
        filled = np.zeros_like(cells)
        for box in boxes:
            filled[box] = True
        if np.array_equal(filled, cells):
            return boxes
        cells = filled


def find_objects(foreground: np.ndarray, least: float, expand: int, spacing: tuple[float, ...]) -> np.ndarray:
    """Components (z, y, x) of at least so many pixels, grown where they meet, in planes or in the volume."""
    labels = label(foreground, connectivity=1)
    labels = np.where(np.bincount(labels.flat)[labels] >= least, labels, 0)
    if len(spacing) == 3:
        return close_gaps(labels, expand, spacing)
    return np.stack([close_gaps(plane, expand, spacing) for plane in labels])


def list_seen(images: Sequence[str], tissues: list[dict]) -> list[Seen]:
    """All series of some samples, from the root `zarr.json` of their stores and their tissue's manifests."""
    return [
        Seen(entry, statistics, Path(image).parent)
        for image, tissue in zip(images, tissues, strict=True)
        for entry, statistics in zip(read_attributes(image)["series"], tissue["series"], strict=True)
    ]
