"""Scores a network during training, on annotated images that it does not learn from."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from skimage.measure import label

from unetpipe.neighbours import close_gaps
from unetpipe.network import Network
from unetpipe.predictor import Predictor, predict_volume
from unetpipe.ranks import everyone, rank, size
from unetpipe.scoring import Compared, score_at_half
from unetpipe.store import label_path, open_array, read_attributes
from unetpipe.totals import overall

METRICS = {"f1": 1, "ap": 1, "mean_iou": 1, "rand": 1, "information": 1, "pixel_error": -1}  # -1: less is better
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


class Validation:
    """Predicts and scores annotated series as the stages after training will: blocks of whole images, objects.

    The threshold of the foreground is the best of `THRESHOLDS`, since `label` can set any later. Objects smaller than
    half the smallest true one are dropped.

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
        self.series, self.metric, self.expand = series, metric, expand
        self.device, self.precision = device, precision

    def __call__(self, network: Network) -> Score:
        """The figure that the metric names, of all series together; the ranks share them."""
        predictor = Predictor([copy.deepcopy(network)], views=1, device=self.device, precision=self.precision)
        own = [row for seen in self.series[rank() :: size()] for row in self._rows(seen, predictor)]
        rows = pd.DataFrame([row for rows in everyone(own) for row in rows])
        scores = [
            Score(overall(at.drop(columns="threshold"))[self.metric], threshold)
            for threshold, at in rows.groupby("threshold")
        ]
        return max(scores, key=lambda score: (METRICS[self.metric] * score.value, -abs(score.threshold - 0.5)))

    def better(self, one: Score, other: Score) -> bool:
        """Whether one score is better than another."""
        return METRICS[self.metric] * (one.value - other.value) > 0

    def _rows(self, seen: Seen, predictor: Predictor):
        """Figures of every time point at every threshold."""
        folders = [label_path(seen.store, seen.image["path"], name) / "0" for name in ("truth", "classes")]
        source, *truths = (open_array(path) for path in (seen.store / seen.image["path"] / "0", *folders))
        for t in range(source.shape[0]):
            found = predict_volume(predictor, source, t, seen.statistics).sum(axis=0, dtype=np.uint32)
            truth, classes = (array[t] for array in truths)
            for threshold in THRESHOLDS:
                objects = find_objects(found > 255 * threshold, np.bincount(truth.flat)[1:], self.expand)
                yield {"threshold": threshold, **score_at_half(Compared.of(truth, objects, classes))}


def find_objects(foreground: np.ndarray, true_sizes: np.ndarray, expand: int) -> np.ndarray:
    """Components (z, y, x) of the foreground, those dropped that are smaller than half the smallest true object."""
    labels = label(foreground, connectivity=1)
    least = true_sizes[true_sizes > 0].min() / 2 if true_sizes.any() else 0
    labels = np.where(np.bincount(labels.flat)[labels] >= least, labels, 0)
    return np.stack([close_gaps(plane, expand) for plane in labels])


def list_seen(images: Sequence[str], tissues: list[dict]) -> list[Seen]:
    """All series of some samples, from the root `zarr.json` of their stores and their tissue's manifests."""
    return [
        Seen(entry, statistics, Path(image).parent)
        for image, tissue in zip(images, tissues, strict=True)
        for entry, statistics in zip(read_attributes(image)["series"], tissue["series"], strict=True)
    ]
