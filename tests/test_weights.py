"""Weight maps against the definition written naively: one full distance transform per object."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from unetpipe.weights import border_weight, open_gaps


def naive_border(labels, border, sigma):
    ids = [i for i in np.unique(labels) if i]
    if len(ids) < 2:
        return np.zeros(labels.shape)
    distances = np.sort([ndimage.distance_transform_edt(labels != i) for i in ids], axis=0)
    ridge = border * np.exp(-((distances[0] + distances[1]) ** 2) / (2 * sigma**2))
    return np.where(labels == 0, ridge, 0)


def scene(seed, shape, objects, highest):
    """Discs of random ids, some touching, some cut by the edge."""
    random = np.random.default_rng(seed)
    labels = np.zeros(shape, dtype=np.int64)
    for _ in range(objects):
        centre = [random.integers(0, size) for size in shape]
        grid = np.indices(shape) - np.reshape(centre, (-1, *[1] * len(shape)))
        labels[(grid**2).sum(axis=0) <= random.integers(2, 9) ** 2] = random.integers(1, highest)
    return labels


@given(seed=st.integers(0, 10**6), objects=st.integers(0, 12), sigma=st.floats(1, 6), border=st.floats(0, 20))
def test_border_weight_is_the_definition(seed, objects, sigma, border):
    labels = scene(seed, (40, 50), objects, 2**40)
    expected = naive_border(labels, border, sigma)
    np.testing.assert_allclose(border_weight(labels, border=border, sigma=sigma), expected, atol=1e-5)  # float32


def test_border_weight_without_background():
    labels = np.repeat([[3, 7]], 5, axis=0)
    assert not border_weight(labels).any()


@pytest.mark.parametrize("objects", [0, 1])
def test_one_object_has_no_border(objects):
    labels = np.zeros((20, 20), int)
    labels[5:9, 5:9] = objects
    assert not border_weight(labels).any()


def naive_gaps(labels, gap):
    opened = labels.copy()
    for i in np.unique(labels[labels > 0]):
        others = (labels > 0) & (labels != i)
        if others.any():
            opened[(labels == i) & (ndimage.distance_transform_edt(~others) <= gap / 2)] = 0
    return opened


@given(seed=st.integers(0, 10**6), objects=st.integers(0, 12), gap=st.integers(0, 7))
def test_gaps_are_the_definition(seed, objects, gap):
    labels = scene(seed, (30, 34), objects, 9)
    np.testing.assert_array_equal(open_gaps(labels, gap=gap), naive_gaps(labels, gap))


def test_two_halves_get_a_gap_of_the_asked_width():
    labels = np.repeat([[1] * 10 + [2] * 10], 6, axis=0)
    opened = open_gaps(labels, gap=4)
    assert (opened == 0).sum(axis=1).tolist() == [4] * 6
