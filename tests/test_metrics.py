"""Scores against their definitions, written naively over all pairs of objects."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from unetpipe.metrics import Overlaps, Pairs, detection, matches, mean_iou, rand_and_information


def image(seed, objects):
    return np.random.default_rng(seed).integers(0, objects + 1, (8, 9)).repeat(2, axis=1) * 7


def overlaps(truth, found, where=None):
    return Overlaps.of(Pairs.of(truth, found, where))


def naive_ious(truth, found):
    pairs = [(truth == i, found == j) for i in np.unique(truth[truth > 0]) for j in np.unique(found[found > 0])]
    return [(a & b).sum() / (a | b).sum() for a, b in pairs]


@given(seed=st.integers(0, 10**6), objects=st.integers(0, 6))
def test_iou_is_the_definition(seed, objects):
    truth, found = image(seed, objects), image(seed + 1, objects)
    expected = sorted(value for value in naive_ious(truth, found) if value)
    np.testing.assert_allclose(sorted(overlaps(truth, found).iou), expected, rtol=1e-12)  # float64


def test_each_object_is_matched_once():
    truth = np.array([[1, 1, 1, 1]])
    found = np.array([[1, 1, 2, 2]])
    assert len(matches(overlaps(truth, found), 0.5)) == 1


def test_a_shifted_square():
    truth, found = np.zeros((10, 10), int), np.zeros((10, 10), int)
    truth[2:6, 2:6], found[2:6, 3:7] = 5, 9  # 12 shared of 20
    table = overlaps(truth, found)
    assert table.iou.tolist() == [0.6]
    assert mean_iou(table) == 0.6
    assert (len(matches(table, 0.6)), len(matches(table, 0.61))) == (1, 0)


def test_empty_images_have_defined_scores():
    nothing = np.zeros((4, 4), int)
    one = nothing.copy()
    one[1, 1] = 1
    assert detection(0, 0, 0) == {"precision": 1.0, "recall": 1.0, "f1": 1.0, "ap": 1.0}
    assert detection(0, 1, 0) == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "ap": 0.0}
    assert mean_iou(overlaps(nothing, one)) == 1.0
    assert mean_iou(overlaps(one, nothing)) == 0.0
    assert rand_and_information(Pairs.of(nothing, one)) == {"rand": 1.0, "information": 1.0}


def test_ignored_pixels_do_not_count():
    truth, found = np.array([[1, 1, 0, 0]]), np.array([[1, 1, 2, 2]])
    table = overlaps(truth, found, np.array([[True, True, False, False]]))
    assert (len(table.found), table.iou.tolist()) == (1, [1.0])


def naive_rand(truth, found):
    """Σ p_ij² over the mean of Σ t_i² and Σ s_j², pixel by pixel."""
    t, s = truth[truth > 0], found[truth > 0]
    same_t, same_s = t[:, None] == t, s[:, None] == s
    return (same_t & same_s).sum() / (same_t.sum() / 2 + same_s.sum() / 2)


@given(seed=st.integers(0, 10**6))
def test_rand_is_the_share_of_pairs(seed):
    random = np.random.default_rng(seed)
    truth, found = random.integers(0, 4, (6, 7)), random.integers(1, 4, (6, 7))
    if truth.any():
        assert rand_and_information(Pairs.of(truth, found))["rand"] == pytest.approx(naive_rand(truth, found))


def test_a_merge_lowers_both_scores():
    truth = np.repeat([[1] * 5 + [0] * 3 + [2] * 5], 4, axis=0)
    scores = rand_and_information(Pairs.of(truth, np.ones_like(truth)))
    assert scores["rand"] == pytest.approx(0.5 / 0.75)
    assert scores["information"] == pytest.approx(0.0)


@given(seed=st.integers(0, 10**6), objects=st.integers(0, 6), cut=st.integers(1, 7))
def test_pairs_of_parts_add_up(seed, objects, cut):
    truth, found = image(seed, objects), image(seed + 1, objects)
    where = np.random.default_rng(seed).random(truth.shape) < 0.8
    parts = [Pairs.of(truth[part], found[part], where[part]) for part in (slice(cut), slice(cut, None))]
    for one, other in zip(Pairs.add(parts), Pairs.of(truth, found, where), strict=True):
        np.testing.assert_array_equal(one, other)
    counted = {(a, b): n for a, b, n in zip(*Pairs.of(truth, found, where), strict=True)}
    assert counted == Counter(zip(truth[where].tolist(), found[where].tolist(), strict=True))


@given(seed=st.integers(0, 10**6), threshold=st.sampled_from([0.1, 0.3, 0.5, 0.75]))
def test_matches_are_as_many_as_an_assignment_finds(seed, threshold):
    truth, found = image(seed, 5), np.roll(image(seed, 5), 1, axis=0)
    table = overlaps(truth, found)
    chosen = matches(table, threshold)
    pairs = table.pairs[chosen]
    assert (table.iou[chosen] >= threshold).all()
    assert len(np.unique(pairs[:, 0])) == len(np.unique(pairs[:, 1])) == len(chosen)
    dense = np.zeros((len(table.truth), len(table.found)))
    dense[tuple(table.pairs.T)] = table.iou >= threshold
    assert len(chosen) == dense[linear_sum_assignment(dense, maximize=True)].sum()
