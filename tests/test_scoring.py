"""Figures that are counted block by block are those of the whole, as others define and compute them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial.distance import cdist
from skimage.measure import label
from skimage.metrics import adapted_rand_error

from unetpipe import nearest, scoring
from unetpipe.metrics import detection
from unetpipe.nearest import thinned
from unetpipe.scoring import Compared, score

seeds = st.integers(0, 10**6)


def blobs(shape, seed, share=50):
    field = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 2)
    return label(field > np.percentile(field, share), connectivity=1).astype(np.uint32)


def compared(shape, seed, ignored=0.2, **others):
    """Truth, something like it that was found, and a fifth of which nobody knows what it is."""
    truth = blobs(shape, seed)
    found = np.roll(blobs(shape, seed, 40), 1, axis=-1)
    classes = (truth > 0).astype(np.uint8)
    unknown = blobs(shape, seed + 1, 100 * (1 - ignored)) > 0 if ignored else np.zeros(shape, bool)
    classes[unknown], truth[unknown] = 255, 0
    readers = [image.__getitem__ for image in (truth, found, classes, (found > 0).astype(np.uint8))]
    spacing = others.pop("spacing", (1.0,) * len(shape))
    return Compared(shape, *readers, 2, spacing, **others), truth, found, classes


@settings(max_examples=25)
@given(seed=seeds, block=st.sampled_from([7, 16, 40]), volume=st.booleans())
def test_blocks_give_the_figures_of_the_whole(seed, block, volume):
    shape = (6, 20, 24) if volume else (40, 50)
    image, *_ = compared(shape, seed, seams=(block, 16, 16)[-len(shape) :], spacing=(2.0, 1.0, 1.0)[-len(shape) :])
    whole = score(image, workers=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring, "PLANE", (block, block))
        patch.setattr(scoring, "VOLUME", (3, block, block))
        for name in ("MARGINS", "VOLUME_MARGINS"):
            patch.setattr(nearest, name, (2, 9, 99))
        parts = score(image, workers=2)
    assert parts == pytest.approx(whole, rel=1e-9)


@given(seed=seeds, block=st.integers(3, 20), share=st.sampled_from([60, 90, 98]))
def test_thinned_borders_are_those_of_the_whole(seed, block, share):
    labels = blobs((30, 40), seed, share)
    _, places = ndimage.distance_transform_edt(labels == 0, return_indices=True)
    expected = labels[tuple(places)]
    region = (slice(5, 5 + block), slice(7, 7 + block))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nearest, "MARGINS", (1, 4, 16, 64))
        found = thinned(labels.__getitem__, labels.shape, region, np.ones((block, block), bool), (1.0, 1.0))
    np.testing.assert_array_equal(found, expected[region])


def test_what_is_far_from_all_objects_is_no_border(monkeypatch):
    monkeypatch.setattr(nearest, "MARGINS", (2, 4))
    labels = np.zeros((1, 30), np.uint32)
    labels[0, 3] = 7
    found = thinned(labels.__getitem__, labels.shape, (slice(0, 1), slice(0, 30)), labels == 0, (1.0, 1.0))
    assert np.flatnonzero(found).tolist() == list(range(8))


def test_nothing_to_thin_stays_nothing():
    labels = np.zeros((9, 9), np.uint32)
    whole = (slice(0, 9),) * 2
    assert not thinned(labels.__getitem__, labels.shape, whole, np.ones((9, 9), bool), (1.0, 1.0)).any()


@given(seed=seeds)
def test_objects_are_counted_as_defined(seed):
    image, truth, found, classes = compared((40, 50), seed)
    known = classes != 255
    total = np.bincount(found.ravel())
    ids = [i for i in range(1, found.max() + 1) if ((found == i) & known).sum() >= max(1, total[i] / 2)]
    true_ids = [i for i in np.unique(truth[known]) if i]
    iou = np.zeros((len(true_ids), len(ids)))
    for a, i in enumerate(true_ids):
        for b, j in enumerate(ids):
            one, other = (truth == i) & known, (found == j) & known
            iou[a, b] = (one & other).sum() / (one | other).sum()
    own = score(image)
    for threshold in (0.55, 0.7, 0.95):
        good = iou[iou >= threshold]
        assert own[f"matched {threshold}"] == len(good)
        assert own[f"overlap {threshold}"] == pytest.approx(good.sum())
    assert (own["truths"], own["objects"]) == (len(true_ids), len(ids))
    assert detection(own["matched 0.55"], own["truths"], own["objects"])["ap"] <= 1


@given(seed=seeds)
def test_rand_error_is_that_of_scikit_image(seed):
    image, truth, found, _ = compared((40, 50), seed, ignored=0)
    error, *_ = adapted_rand_error(truth.astype(int), found.astype(int), ignore_labels=(0,))
    assert score(image)["rand_error"] == pytest.approx(error, abs=0.005)  # there no pixel pairs with itself


def naive_hausdorff(truth, found, known, spacing):
    edges = [mask & ~ndimage.binary_erosion(mask) for mask in (truth > 0, found > 0)]
    places = [np.argwhere(edge) * spacing for edge in edges]
    some = [np.argwhere(edge & known) * spacing for edge in edges]
    both = zip(some, places[::-1], strict=True)
    return max(np.percentile(cdist(one, other).min(axis=1), 95) for one, other in both)


@given(seed=seeds, volume=st.booleans(), margins=st.sampled_from([(1,), (1, 3), (32,)]), side=st.sampled_from([8, 40]))
def test_distances_of_borders_are_those_of_all_pairs(seed, volume, margins, side):
    """However far they are, and in whatever blocks."""
    spacing = (2.0, 1.0, 1.0) if volume else (1.0, 1.5)
    image, truth, found, classes = compared((5, 14, 16) if volume else (30, 34), seed, spacing=spacing)
    expected = naive_hausdorff(truth, found, classes != 255, spacing)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring, "PLANE", (side, side))
        patch.setattr(scoring, "VOLUME", (2, side, side))
        for name in ("MARGINS", "VOLUME_MARGINS"):
            patch.setattr(nearest, name, margins)
        assert score(image)["hausdorff_95"] == pytest.approx(expected)


@pytest.mark.parametrize(("filled", "expected"), [((), 0.0), ((0,), np.hypot(30, 40)), ((1,), np.hypot(30, 40))])
def test_figures_of_empty_images_are_defined(filled, expected):
    images = [np.zeros((30, 40), np.uint32) for _ in range(2)]
    for number in filled:
        images[number][4:9, 4:9] = 1
    own = score(Compared.of(*images, (images[0] > 0).astype(np.uint8)))
    assert own["hausdorff_95"] == expected
    assert (own["rand"], own["information"]) == (1, 1)
    assert (own["truths"], own["objects"]) == (int(0 in filled), int(1 in filled))


def test_an_image_that_nobody_annotated_counts_nothing():
    found = np.ones((20, 20), np.uint32)
    own = score(Compared.of(np.zeros_like(found), found, np.full_like(found, 255)))
    assert (own["truths"], own["objects"], own["pixel_error"], own["hausdorff_95"]) == (0, 0, 0, 0)


def test_an_object_mostly_where_nobody_looked_is_not_wrong():
    truth, found, classes = (np.zeros((20, 20), np.uint32) for _ in range(3))
    found[5:9, 5:15], classes[:, 8:] = 1, 255  # three of its ten columns are known
    assert score(Compared.of(truth, found, classes))["objects"] == 0
    classes[:, 8:], classes[:, 10:] = 0, 255
    assert score(Compared.of(truth, found, classes))["objects"] == 1


def test_classes_are_scored_one_by_one():
    truth = np.repeat(np.uint32([[1, 1, 2, 2, 0, 0]]), 2, axis=0)
    classes, seen = np.uint8([[1, 1, 2, 2, 0, 0]] * 2), np.uint8([[1, 2, 2, 2, 2, 0]] * 2)
    readers = [image.__getitem__ for image in (truth, truth, classes, seen)]
    own = score(Compared(truth.shape, *readers, 3, (1.0, 1.0)))
    assert [own[f"{name} 2"] for name in ("shared", "false", "missed")] == [4, 4, 0]
    assert [own[f"{name} 1"] for name in ("shared", "false", "missed")] == [2, 0, 2]
    assert own["pixel_error"] == pytest.approx(4 / 12)


def test_in_memory_all_classes_are_one():
    truth = np.repeat(np.uint32([[1, 1, 2, 2, 0, 0]]), 2, axis=0)
    classes = np.uint8([[1, 1, 2, 2, 0, 255]] * 2)
    assert score(Compared.of(truth, truth, classes))["pixel_error"] == 0
    assert score(Compared.of(truth, np.where(truth == 2, 0, truth), classes))["pixel_error"] == 4 / 10


def test_objects_at_seams_are_told_from_the_others():
    truth = np.zeros((20, 30), np.uint32)
    truth[2:5, 2:5], truth[2:5, 8:12], truth[12:15, 16:19], truth[8:10, 24:27] = (
        1,
        2,
        3,
        4,
    )  # 2, at 10, and 4 touch seams
    found = np.where(truth == 2, 0, truth)
    readers = [image.__getitem__ for image in (truth, found, (truth > 0).astype(np.uint8), found > 0)]
    own = score(Compared(truth.shape, *readers, 2, (1.0, 1.0), (10, 10)))
    assert {name: own[name] for name in ("seams", "seams matched", "inside", "inside matched")} == {
        "seams": 3,
        "seams matched": 2,
        "inside": 4,
        "inside matched": 4,
    }


def test_planes_one_by_one_have_no_seams_between_them():
    truth = np.zeros((4, 9, 9), np.uint32)
    truth[1:3, 2:4, 2:4] = 1
    readers = [image.__getitem__ for image in (truth, truth, (truth > 0).astype(np.uint8), truth > 0)]
    assert score(Compared(truth.shape, *readers, 2, (1.0,) * 3, (1, 20, 20)))["seams"] == 0
