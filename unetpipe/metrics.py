"""How well objects and pixels agree with the truth; pure functions of how often two numbers meet in two images.

Counts of parts of an image add up to those of the whole, so nothing here needs all of it.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import maximum_bipartite_matching


class Pairs(NamedTuple):
    """How many pixels have one number in one image and one in another."""

    first: np.ndarray  # (n,) numbers in the one
    second: np.ndarray  # (n,) in the other; no pair occurs twice
    pixels: np.ndarray  # (n,)

    @classmethod
    def of(cls, first: np.ndarray, second: np.ndarray, where: np.ndarray | None = None) -> "Pairs":
        """Of two images (*space) of ints, where a mask says so."""
        a, b = first.ravel(), second.ravel()
        inside = np.ones(a.size, bool) if where is None else where.ravel()
        breaks = (a[1:] != a[:-1]) | (b[1:] != b[:-1]) | (inside[1:] != inside[:-1])
        starts = np.concatenate([[0], np.flatnonzero(breaks) + 1])[: a.size]
        lengths, kept = np.diff(starts, append=a.size), inside[starts]
        return cls.added(a[starts][kept], b[starts][kept], lengths[kept])

    @classmethod
    def add(cls, parts: Iterable["Pairs"]) -> "Pairs":
        """Of all parts of an image."""
        return cls.added(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))

    @classmethod
    def added(cls, first: np.ndarray, second: np.ndarray, pixels: np.ndarray) -> "Pairs":
        """From pairs of which some occur several times."""
        names, i = np.unique(first, return_inverse=True)
        others, j = np.unique(second, return_inverse=True)
        keys, place = np.unique(i * np.int64(max(1, len(others))) + j, return_inverse=True)
        a, b = np.divmod(keys, max(1, len(others)))
        return cls(names[a], others[b], np.bincount(place, pixels, len(keys)).astype(np.int64))


class Overlaps(NamedTuple):
    """Pixels that each pair of objects shares."""

    pairs: np.ndarray  # (n, 2) indices of truth and found object
    pixels: np.ndarray  # (n,) shared pixels
    truth: np.ndarray  # (t,) pixels of each true object
    found: np.ndarray  # (f,) pixels of each found object
    true_ids: np.ndarray  # (t,)
    found_ids: np.ndarray  # (f,)

    @classmethod
    def of(cls, pairs: Pairs) -> "Overlaps":
        """From pairs of instance labels, of which 0 is background."""
        true_ids, i = np.unique(pairs.first, return_inverse=True)
        found_ids, j = np.unique(pairs.second, return_inverse=True)
        sizes = [np.bincount(n, pairs.pixels, len(ids)).astype(int) for n, ids in ((i, true_ids), (j, found_ids))]
        both = (pairs.first > 0) & (pairs.second > 0)
        skip = int(0 in true_ids), int(0 in found_ids)
        shared = np.stack([i[both] - skip[0], j[both] - skip[1]], axis=1)
        parts = (array[first:] for array, first in zip((*sizes, true_ids, found_ids), skip * 2, strict=True))
        return cls(shared, pairs.pixels[both], *parts)

    @property
    def iou(self) -> np.ndarray:
        """(n,) intersection over union of each pair."""
        i, j = self.pairs.T
        return self.pixels / (self.truth[i] + self.found[j] - self.pixels)

    def without(self, found: np.ndarray) -> "Overlaps":
        """The same without some found objects, (f,) bool."""
        numbers = np.cumsum(~found) - 1
        kept = ~found[self.pairs[:, 1]]
        pairs = np.stack([self.pairs[kept, 0], numbers[self.pairs[kept, 1]]], axis=1)
        return self._replace(
            pairs=pairs, pixels=self.pixels[kept], found=self.found[~found], found_ids=self.found_ids[~found]
        )


def matches(table: Overlaps, threshold: float) -> np.ndarray:
    """Most one-to-one pairs of objects with an intersection over union of at least `threshold`.

    Returns
    -------
    (m,) int
        Numbers of pairs of the table. Above one half every object has at most one such partner.
    """
    good = np.flatnonzero(table.iou >= threshold)
    i, j = table.pairs[good].T
    if len(np.unique(i)) == len(np.unique(j)) == len(good):
        return good
    allowed = coo_array((good + 1, (i, j)), shape=(len(table.truth), len(table.found))).tocsr()
    partner = maximum_bipartite_matching(allowed, perm_type="column")
    return np.array([allowed[a, b] - 1 for a, b in enumerate(partner) if b >= 0], int)


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


def rand_and_information(pairs: Pairs) -> dict[str, float]:
    """Rand and information scores, restricted to the true foreground (Arganda-Carreras et al. 2015).

    Parameters
    ----------
    pairs
        Of true and found objects; background that was found is one object.

    Returns
    -------
    dict
        `rand`: Σ p_ij² / (½ Σ s_j² + ½ Σ t_i²); `information`: mutual information over the mean of
        both entropies. Both 1 for equal partitions, and where there is no true object.
    """
    inside = pairs.first > 0
    shared = pairs.pixels[inside]
    if not len(shared):
        return {"rand": 1.0, "information": 1.0}
    p = shared / shared.sum()
    t, s = (np.bincount(np.unique(part[inside], return_inverse=True)[1], p) for part in (pairs.first, pairs.second))
    mean_entropy = (_entropy(t) + _entropy(s)) / 2
    mutual = _entropy(t) + _entropy(s) - _entropy(p)
    return {
        "rand": float((p**2).sum() / ((t**2).sum() / 2 + (s**2).sum() / 2)),
        "information": max(0.0, float(mutual / mean_entropy)) if mean_entropy else 1.0,
    }


def _entropy(share: np.ndarray) -> float:
    return float(-(share * np.log(share)).sum())


def class_counts(pairs: Pairs, number: int) -> tuple[int, int, int]:
    """Pixels of a class that are found, falsely found and missed."""
    true, found = pairs.first == number, pairs.second == number
    shared, false, missed = (int(pairs.pixels[chosen].sum()) for chosen in (true & found, ~true & found, true & ~found))
    return shared, false, missed
