"""Scores against their definitions, written naively over all pairs of objects."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unetpipe.metrics import detection, matches, mean_iou, overlaps, rand_and_information, thin


def image(seed, objects):
    return np.random.default_rng(seed).integers(0, objects + 1, (8, 9)).repeat(2, axis=1) * 7


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
    assert matches(overlaps(truth, found), 0.5) == 1


def test_a_shifted_square():
    truth, found = np.zeros((10, 10), int), np.zeros((10, 10), int)
    truth[2:6, 2:6], found[2:6, 3:7] = 5, 9  # 12 shared of 20
    table = overlaps(truth, found)
    assert table.iou.tolist() == [0.6]
    assert mean_iou(table) == 0.6
    assert (matches(table, 0.6), matches(table, 0.61)) == (1, 0)


def test_empty_images_have_defined_scores():
    nothing = np.zeros((4, 4), int)
    one = nothing.copy()
    one[1, 1] = 1
    assert detection(0, 0, 0) == {"precision": 1.0, "recall": 1.0, "f1": 1.0, "ap": 1.0}
    assert detection(0, 1, 0) == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "ap": 0.0}
    assert mean_iou(overlaps(nothing, one)) == 1.0
    assert mean_iou(overlaps(one, nothing)) == 0.0
    assert rand_and_information(nothing, one) == {"rand": 1.0, "information": 1.0}


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
        assert rand_and_information(truth, found)["rand"] == pytest.approx(naive_rand(truth, found))


def test_equal_partitions_score_one_whatever_the_border():
    truth = np.repeat([[1] * 5 + [0] * 3 + [2] * 5], 4, axis=0)
    found = np.repeat([[3] * 6 + [0] + [8] * 6], 4, axis=0)
    assert rand_and_information(truth, found) == pytest.approx({"rand": 1.0, "information": 1.0})


def test_a_merge_lowers_both_scores():
    truth = np.repeat([[1] * 5 + [0] * 3 + [2] * 5], 4, axis=0)
    scores = rand_and_information(truth, np.ones_like(truth))
    assert scores["rand"] == pytest.approx(0.5 / 0.75)
    assert scores["information"] == pytest.approx(0.0)


def test_thin_fills_the_borders_with_the_nearest():
    assert thin(np.array([[1, 0, 0, 0, 2]])).tolist()[0] in ([1, 1, 1, 2, 2], [1, 1, 2, 2, 2])
    assert not thin(np.zeros((3, 3), int)).any()
