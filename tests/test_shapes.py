"""Shapes and grey values are scikit-image's."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from skimage.measure import label, regionprops_table

from unetpipe.shapes import shapes, statistics

seeds = st.integers(0, 10**6)
SUMS = {"rtol": 1e-9, "atol": 1e-9}  # in another order


def blobs(shape, seed, share=60):
    field = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 1.5)
    return label(field > np.percentile(field, share), connectivity=1)


def volume_and_boxes(labels):
    labels = labels[(None,) * (3 - labels.ndim)].astype(np.uint32)
    boxes = ndimage.find_objects(labels)
    corners = np.array([[[part.start for part in box], [part.stop for part in box]] for box in boxes])
    return labels, np.arange(1, len(boxes) + 1), corners


@given(seed=seeds, share=st.integers(20, 90))
def test_shapes_of_a_plane_are_those_of_scikit_image(seed, share):
    labels = blobs((50, 60), seed, share)
    found = shapes(*volume_and_boxes(labels))
    names = ("area", "centroid", "perimeter", "area_convex", "axis_major_length", "axis_minor_length")
    expected = regionprops_table(labels, properties=names)
    np.testing.assert_array_equal(found.area, expected["area"])
    np.testing.assert_array_equal(found.convex, expected["area_convex"])
    np.testing.assert_allclose(found.centroid[:, 1], expected["centroid-0"], **SUMS)
    np.testing.assert_allclose(found.perimeter, expected["perimeter"], **SUMS)
    spread = np.linalg.eigvalsh(found.covariance[:, 1:, 1:])
    roots = {"rtol": 1e-6, "atol": 1e-6}  # square roots of what is next to nothing
    np.testing.assert_allclose(4 * np.sqrt(spread[:, 1]), expected["axis_major_length"], **roots)
    np.testing.assert_allclose(4 * np.sqrt(spread[:, 0].clip(0)), expected["axis_minor_length"], **roots)


@given(seed=seeds)
def test_shapes_of_a_volume_are_those_of_scikit_image(seed):
    labels = blobs((9, 20, 22), seed, 80)
    found = shapes(*volume_and_boxes(labels))
    expected = regionprops_table(labels, properties=("area", "centroid", "inertia_tensor_eigvals"))
    np.testing.assert_array_equal(found.area, expected["area"])
    for axis in range(3):
        np.testing.assert_allclose(found.centroid[:, axis], expected[f"centroid-{axis}"], **SUMS)
    spread = np.linalg.eigvalsh(found.covariance)
    inertia = np.stack([expected[f"inertia_tensor_eigvals-{k}"] for k in range(3)], axis=1)
    np.testing.assert_allclose(
        spread.sum(axis=1, keepdims=True) - spread, inertia, rtol=1e-6, atol=1e-6
    )  # differences of squares
    assert np.isnan(found.perimeter).all()


@given(seed=seeds, kind=st.sampled_from([np.uint8, np.uint16, np.float32]))
def test_grey_values_are_those_of_numpy(seed, kind):
    labels, values = blobs((30, 31), seed), np.random.default_rng(seed).gamma(2, 20, (2, 30, 31)).astype(kind)
    volume, ids, boxes = volume_and_boxes(labels)
    found = statistics(volume, values[:, None], ids, boxes, (5, 50, 95))
    for number in range(1, labels.max() + 1):
        inside = values[:, labels == number].astype(float)
        expected = [inside.mean(axis=1), inside.std(axis=1), *np.percentile(inside, (5, 50, 95), axis=1)]
        np.testing.assert_allclose(found[number - 1], np.transpose(expected), **SUMS)
