"""Weight maps against the definition written naively: one full distance transform per object."""

from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from scenes import SIDES, prepare
from scipy import ndimage

from unetpipe.distances import two_nearest
from unetpipe.ingest import ingest
from unetpipe.store import open_array, read_attributes
from unetpipe.truth import write_truth
from unetpipe.weights import border_weight, open_gaps, reach, write_weights

SPACINGS = st.sampled_from([(1.0, 1.0), (1.0, 2.5), (1.0, 1.0, 1.0), (3.0, 1.0, 1.0), (1.0, 1.7, 2.2)])


def two_distances(labels, spacing):
    """Distances to the nearest and to the second nearest object, infinite where there is none."""
    maps = [ndimage.distance_transform_edt(labels != i, sampling=spacing) for i in np.unique(labels) if i]
    none = np.full(labels.shape, np.inf)
    return np.sort([*maps, none, none], axis=0)[:2]


def naive_border(labels, border, sigma, spacing):
    d1, d2 = two_distances(labels, spacing)
    return np.where(labels == 0, border * np.exp(-((d1 + d2) ** 2) / (2 * sigma**2)), 0)


def scene(seed, shape, objects, highest):
    """Discs or balls of random ids, some touching, some cut by the edge."""
    random = np.random.default_rng(seed)
    labels = np.zeros(shape, dtype=np.uint64)
    for _ in range(objects):
        centre = [random.integers(0, size) for size in shape]
        grid = np.indices(shape) - np.reshape(centre, (-1, *[1] * len(shape)))
        labels[(grid**2).sum(axis=0) <= random.integers(1, 9) ** 2] = random.integers(1, highest, dtype=np.uint64)
    return labels


def shape_of(spacing):
    return (40, 50) if len(spacing) == 2 else (12, 20, 23)


@given(
    seed=st.integers(0, 10**6),
    objects=st.integers(0, 12),
    spacing=SPACINGS,
    sigma=st.floats(0.5, 6),
    border=st.floats(0, 20),
    highest=st.sampled_from([3, 2**31, 2**64 - 1]),
)
def test_border_weight_is_the_definition(seed, objects, spacing, sigma, border, highest):
    labels = scene(seed, shape_of(spacing), objects, highest)
    found = border_weight(labels, border=border, sigma=sigma, spacing=spacing)
    expected = naive_border(labels, border, sigma, spacing)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)  # float32, and what is left out
    assert found.dtype == np.float32


@given(seed=st.integers(0, 10**6), objects=st.integers(0, 30), spacing=SPACINGS, limit=st.floats(0.5, 40))
def test_the_sum_of_both_distances_is_exact_up_to_its_reach(seed, objects, spacing, limit):
    labels = scene(seed, shape_of(spacing), objects, 9)
    expected = two_distances(labels, spacing).sum(axis=0)
    found = two_nearest(labels, reach=limit, spacing=spacing)
    near = (labels == 0) & (expected < limit * (1 - 1e-6))  # float32 decides at the limit itself
    np.testing.assert_allclose(found[near], expected[near], rtol=1e-6)  # float32
    assert np.isinf(found[(labels > 0) | (expected > limit * (1 + 1e-6))]).all()


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int16, np.uint32, np.int64])
def test_any_type_of_labels_gives_the_same(dtype):
    labels = scene(1, (40, 50), 9, 2 if dtype is bool else 100)
    np.testing.assert_array_equal(border_weight(labels.astype(dtype)), border_weight(labels))


def test_what_is_left_out_is_below_a_millionth():
    labels = np.zeros((3, 80), dtype=int)
    labels[:, 0], labels[:, -1] = 1, 2
    width = int(np.ceil(reach(3.0)))
    labels[:, width + 1 :] = 2  # a gap as wide as the reach
    assert not border_weight(labels, sigma=3.0).any()
    assert naive_border(labels, 10.0, 3.0, (1, 1)).max() < 1e-6 * 10.0


def test_border_weight_without_background():
    labels = np.repeat([[3, 7]], 5, axis=0)
    assert not border_weight(labels).any()


@pytest.mark.parametrize("objects", [0, 1])
def test_one_object_has_no_border(objects):
    labels = np.zeros((20, 20), int)
    labels[5:9, 5:9] = objects
    assert not border_weight(labels).any()


def naive_gaps(labels, gap, spacing):
    opened = labels.copy()
    for i in np.unique(labels[labels > 0]):
        others = (labels > 0) & (labels != i)
        if others.any():
            opened[(labels == i) & (ndimage.distance_transform_edt(~others, sampling=spacing) <= gap / 2)] = 0
    return opened


@given(
    seed=st.integers(0, 10**6),
    objects=st.integers(0, 12),
    gap=st.integers(0, 7),
    spacing=SPACINGS,
    highest=st.sampled_from([9, 2**64 - 1]),
)
def test_gaps_are_the_definition(seed, objects, gap, spacing, highest):
    labels = scene(seed, shape_of(spacing), objects, highest)
    expected = naive_gaps(labels, gap if gap >= 2 else 0, spacing)
    np.testing.assert_array_equal(open_gaps(labels, gap=gap, spacing=spacing), expected)


def test_two_halves_get_a_gap_of_the_asked_width():
    labels = np.repeat([[1] * 10 + [2] * 10], 6, axis=0)
    opened = open_gaps(labels, gap=4)
    assert (opened == 0).sum(axis=1).tolist() == [4] * 6


@pytest.mark.parametrize(
    "change", [{"pixel_size": [4, 1, 1], "override": True}, {"chunk": 16}], ids=lambda change: next(iter(change))
)
def test_images_that_are_ingested_otherwise_leave_nothing_stale(tmp_path, change):
    made, found = prepare(tmp_path, [(12, 60, 70)], dimensions=3), []
    images, labels = ([str(tmp_path / "data" / kind / "00.ome.tif")] for kind in ("images", "labels"))
    ingest(images, made["image"], sample="s", **{**SIDES, **change})
    write_truth(labels, made["image"], made["truth"], sample="s")
    for store in (Path(made["weights"]).parent, tmp_path / "fresh.zarr"):
        write_weights(made["image"], made["truth"], str(store / "zarr.json"), sample="s", dimensions=3)
        found.append([open_array(store / "0" / name)[...] for name in ("target", "border", "index")])
    for again, fresh in zip(*found, strict=True):
        np.testing.assert_array_equal(again, fresh)


@settings(max_examples=4)
@given(seed=st.integers(0, 10**6), sigma=st.floats(1, 4), gap=st.integers(2, 5), dimensions=st.sampled_from([2, 3]))
def test_blocks_give_what_the_whole_gives(tmp_path_factory, seed, sigma, gap, dimensions):
    folder = tmp_path_factory.mktemp("weights")
    made = prepare(folder, [(36, 41, 100)], seed=seed, spacing=(2.0, 0.5, 0.5))
    changes = {"sigma": sigma, "gap": gap, "dimensions": dimensions}
    write_weights(made["image"], made["truth"], made["weights"], sample="s", **changes)
    labels = zarr.open_array(folder / "images" / "s.ome.zarr" / "0" / "labels" / "truth" / "0", mode="r")[0]
    spaces, spacing = ([labels], (4, 1, 1)) if dimensions == 3 else (list(labels), (1, 1))
    opened = [naive_gaps(space, gap, spacing) for space in spaces]
    steps = [naive_border(space, 255, sigma, spacing) for space in opened]
    target, border = (
        zarr.open_array(folder / "weights" / "s.zarr" / "0" / n, mode="r")[0] for n in ("target", "border")
    )
    np.testing.assert_array_equal(target, np.reshape(opened, labels.shape) > 0)
    assert np.abs(border - np.reshape(steps, labels.shape)).max() <= 0.5 + 1e-4  # half a step of storage
    assert read_attributes(made["weights"])["series"][0]["pixels"][:2] == np.bincount(target.flat).tolist()
