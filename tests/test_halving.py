"""A halved plane is the mean of 2 x 2 pixels, or one of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.measure import block_reduce

from unetpipe.halving import halve


@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)),
    dtype=st.sampled_from(["u1", "i1", "u2", "i2", "i4", "f4", "f8"]),
    seed=st.integers(0, 1000),
)
def test_means_are_those_of_the_definition(shape, dtype, seed):
    values = np.random.default_rng(seed).integers(-100 if dtype[0] != "u" else 0, 120, shape).astype(dtype)
    padded = np.pad(values, [(0, 0), *((0, size % 2) for size in shape[1:])], mode="edge")
    means = block_reduce(padded.astype(float), (1, 2, 2), np.mean)
    expected = means.astype(dtype) if dtype[0] == "f" else np.rint(means).astype(dtype)
    np.testing.assert_array_equal(halve(values, kind="image"), expected)


@pytest.mark.parametrize("value", [2**31 - 1, -(2**31)])
def test_large_values_do_not_overflow(value):
    np.testing.assert_array_equal(halve(np.full((2, 2), value, np.int32), kind="image"), [[value]])


def test_labels_keep_their_values():
    labels = np.arange(35).reshape(5, 7)
    np.testing.assert_array_equal(halve(labels, kind="label"), labels[::2, ::2])
