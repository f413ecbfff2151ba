"""How well objects and pixels agree with the truth; pure functions of two label images."""

from typing import NamedTuple

import numpy as np
from scipy import ndimage
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array


class Overlaps(NamedTuple):
    """Pixels that each pair of objects shares."""

    pairs: np.ndarray  # (n, 2) indices of truth and found object
    pixels: np.ndarray  # (n,) shared pixels
    truth: np.ndarray  # (t,) pixels of each true object
    found: np.ndarray  # (f,) pixels of each found object

    @property
    def iou(self) -> np.ndarray:
        """(n,) intersection over union of each pair."""
        i, j = self.pairs.T
        return self.pixels / (self.truth[i] + self.found[j] - self.pixels)


def overlaps(truth: np.ndarray, found: np.ndarray, where: np.ndarray | None = None) -> Overlaps:
    """Count the shared pixels of all objects.

    Parameters
    ----------
    truth, found : (*space) int
        Instance labels, 0 is background.
    where : (*space) bool, optional
        Pixels that count; all by default.
    """
    inside = np.ones(truth.shape, bool) if where is None else where
    true_ids, i = np.unique(truth[inside], return_inverse=True)
    found_ids, j = np.unique(found[inside], return_inverse=True)
    table = coo_array((np.ones(i.size, np.int64), (i.ravel(), j.ravel())), shape=(len(true_ids), len(found_ids)))
    table = table.tocsr()[np.flatnonzero(true_ids > 0)][:, np.flatnonzero(found_ids > 0)].tocoo()
    true_sizes = np.bincount(i.ravel(), minlength=len(true_ids))[true_ids > 0]
    found_sizes = np.bincount(j.ravel(), minlength=len(found_ids))[found_ids > 0]
    return Overlaps(np.stack([table.row, table.col], axis=1), table.data, true_sizes, found_sizes)


def matches(table: Overlaps, threshold: float) -> int:
    """Largest number of one-to-one pairs of objects with an intersection over union of at least `threshold`.

    Above one half every object has at most one such partner; below, the pairs are assigned.
    """
    good = table.iou >= threshold
    if threshold > 0.5 or not good.any():
        return int(good.sum())
    i, j = table.pairs[good].T
    rows, i = np.unique(i, return_inverse=True)
    columns, j = np.unique(j, return_inverse=True)
    allowed = np.zeros((len(rows), len(columns)))
    allowed[i, j] = 1
    return int(allowed[linear_sum_assignment(allowed, maximize=True)].sum())


def detection(matched: int, truths: int, founds: int) -> dict[str, float]:
    """Precision, recall, F1 and average precision TP / (TP + FP + FN); 1 where there is nothing to find or miss."""
    missed, wrong = truths - matched, founds - matched
    return {
        "precision": matched / founds if founds else float(truths == 0),
        "recall": matched / truths if truths else 1.0,
        "f1": 2 * matched / (truths + founds) if truths + founds else 1.0,
        "ap": matched / (matched + missed + wrong) if truths + founds else 1.0,
    }


def mean_iou(table: Overlaps) -> float:
    """SEG of the Cell Tracking Challenge: mean over true objects of the overlap with the one that holds most of it.

    An object of which no found one covers more than half counts 0; 1 where there is no true object.
    """
    if not len(table.truth):
        return 1.0
    half = table.pixels > table.truth[table.pairs[:, 0]] / 2
    return float(table.iou[half].sum() / len(table.truth))


def thin(objects: np.ndarray) -> np.ndarray:
    """Grow objects until the borders between them have no width: every pixel goes to the nearest object."""
    if not objects.any():
        return objects
    nearest = ndimage.distance_transform_edt(objects == 0, return_distances=False, return_indices=True)
    return objects[tuple(nearest)]


def rand_and_information(truth: np.ndarray, found: np.ndarray) -> dict[str, float]:
    """Foreground-restricted Rand and information scores after thinning (Arganda-Carreras et al. 2015).

    Parameters
    ----------
    truth, found : (*space) int
        Instance labels. Only pixels inside true objects count; `found` is thinned here.

    Returns
    -------
    dict
        `rand`: Σ p_ij² / (½ Σ s_j² + ½ Σ t_i²); `information`: mutual information over the mean of
        both entropies. Both 1 for equal partitions.
    """
    inside = truth > 0
    if not inside.any():
        return {"rand": 1.0, "information": 1.0}
    _, i = np.unique(truth[inside], return_inverse=True)
    _, j = np.unique(thin(found)[inside], return_inverse=True)
    joint = coo_array((np.full(i.size, 1 / i.size), (i, j))).tocsr()
    p, t, s = joint.data, np.bincount(i) / i.size, np.bincount(j) / j.size
    mean_entropy = (_entropy(t) + _entropy(s)) / 2
    mutual = _entropy(t) + _entropy(s) - _entropy(p)
    return {
        "rand": float((p**2).sum() / ((t**2).sum() / 2 + (s**2).sum() / 2)),
        "information": max(0.0, float(mutual / mean_entropy)) if mean_entropy else 1.0,
    }


def _entropy(share: np.ndarray) -> float:
    return float(-(share * np.log(share)).sum())
