"""Objects are those of the whole image, whatever the blocks; tables and outlines agree with them."""

import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from scenes import prepare
from scipy import ndimage
from skimage.measure import label
from skimage.morphology import remove_small_objects

from unetpipe.label import Objects, Settings, Spacing, write_objects
from unetpipe.measure import write_measurements
from unetpipe.neighbours import close_gaps
from unetpipe.score import write_scores
from unetpipe.store import create_array, read_attributes, write_group
from unetpipe.totals import wide


def blurred_noise(shape, seed):
    field = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 2)
    return np.interp(field, [field.min(), field.max()], [0, 255]).astype(np.uint8)


def without_holes(mask, most):
    """Background of at most so many pixels is filled, unless the edge of the image cuts it."""
    parts = label(np.pad(~mask, 1, constant_values=True), connectivity=2)[1:-1, 1:-1]  # what is cut is one with beyond
    outside = label(np.pad(~mask, 1, constant_values=True), connectivity=2)[0, 0]
    sizes = np.bincount(parts.flat, minlength=outside + 1)
    small = (sizes <= most) & (np.arange(len(sizes)) != outside)
    return mask | (small[parts] & ~mask)


def on_the_whole(probability, threshold, min_size, holes, expand):
    mask = probability > 255 * threshold
    mask = without_holes(mask, holes)
    mask = remove_small_objects(mask, max_size=min_size - 1, connectivity=1)
    return close_gaps(label(mask, connectivity=1), expand)


@pytest.mark.parametrize("block", [16, 37, 200])
@settings(max_examples=15)
@given(seed=st.integers(0, 10**6), threshold=st.sampled_from([0.4, 0.5, 0.6]), expand=st.integers(0, 3))
def test_blocks_give_the_objects_of_the_whole(tmp_path_factory, block, seed, threshold, expand):
    probability = blurred_noise((70, 90), seed)
    path = tmp_path_factory.mktemp("p") / "0"
    create_array(path, (1, 1, 1, 70, 90), np.uint8, chunk=32, shard=64)[...] = probability[None, None, None]
    objects = Objects(path, block, Settings(threshold, 20, 10, expand), workers=2)
    expected = on_the_whole(probability, threshold, 20, 10, expand)
    for region in ((slice(0, 70), slice(0, 90)), (slice(30, 61), slice(13, 88))):
        np.testing.assert_array_equal(objects.read((slice(0, 1), slice(0, 1), *region))[0, 0], expected[region])


@pytest.mark.parametrize("shape", [(8, 8), (1, 40), (40, 1)])
def test_background_is_no_hole_of_the_image(tmp_path, shape):
    probability = np.zeros((1, 1, 1, *shape), np.uint8)
    for name, expected in (("nothing", 0), ("two", 2)):
        create_array(tmp_path / name, probability.shape, np.uint8, chunk=32, shard=64)[...] = probability
        assert Objects(tmp_path / name, 64, Settings(0.5, 1, 64, 0), workers=1).count() == expected
        probability.flat[:5] = probability.flat[-5:] = 255


@given(seed=st.integers(0, 10**6), distance=st.integers(0, 4))
def test_gaps_close_towards_the_nearest_object(seed, distance):
    labels = np.random.default_rng(seed).choice(5, (24, 26), p=[0.9, 0.025, 0.025, 0.025, 0.025])
    far = np.stack([ndimage.distance_transform_edt(labels != i) for i in range(1, 5) if (labels == i).any()])
    ids = np.unique(labels[labels > 0])
    first, second = np.sort(far, axis=0)[:2]
    between = (labels == 0) & (first <= distance) & (second <= 2 * distance + 1)
    expected = np.where(between, ids[far.argmin(axis=0)], labels)  # the lowest id where equal
    np.testing.assert_array_equal(close_gaps(labels, distance), expected)


@given(seed=st.integers(0, 10**6), distance=st.integers(1, 3), spacing=st.sampled_from([(1, 1, 1), (2.5, 1, 1.3)]))
def test_gaps_of_volumes_close_along_every_axis(seed, distance, spacing):
    labels = np.random.default_rng(seed).choice(4, (7, 9, 10), p=[0.91, 0.03, 0.03, 0.03])
    ids = np.unique(labels[labels > 0])
    far = [ndimage.distance_transform_edt(labels != i, sampling=spacing) for i in ids]
    far = np.round([*far, np.full(labels.shape, 99.0)], 9)
    first, second = np.sort(far, axis=0)[:2]
    between = (labels == 0) & (first <= distance) & (second <= 2 * distance + 1)
    expected = np.where(between, np.append(ids, 0)[far.argmin(axis=0)], labels)
    np.testing.assert_array_equal(close_gaps(labels, distance, spacing), expected)


@pytest.mark.parametrize("side", [16, 64])
def test_objects_of_a_volume_grow_across_its_planes(tmp_path, side):
    """Two slabs that the gap of a network for volumes parts are whole again; one for planes leaves the gap."""
    probability = np.full((1, 1, 12, 40, 40), 255, np.uint8)
    probability[:, :, 5:7] = 0
    create_array(tmp_path / "0", probability.shape, np.uint8, chunk=16, shard=32)[...] = probability
    region, settings = (slice(0, 1), slice(0, 12), slice(0, 40), slice(0, 40)), Settings(0.5, 5, 0, 1)
    for spacing, grown in ((Spacing((1, 1, 1), (1, 1, 1)), True), (Spacing((1, 1, 1), (1, 1)), False)):
        objects = Objects(tmp_path / "0", side, settings, workers=2, spacing=spacing)
        found = objects.read(region)[0, :, 0, 0]
        np.testing.assert_array_equal(
            found, [1] * (6 if grown else 5) + [0, 0] * (not grown) + [2] * (6 if grown else 5)
        )
        part = (slice(0, 1), slice(5, 6), slice(3, 9), slice(0, 40))
        assert (objects.read(part) == (1 if grown else 0)).all()


@pytest.fixture
def made(tmp_path):
    """A sample of which the truth itself is the probability: prediction without a network."""
    made = prepare(tmp_path, [(150, 140), (60, 70)])
    store = tmp_path / "probabilities" / "s.zarr"
    for entry in read_attributes(made["image"])["series"]:
        target = zarr.open_array(Path(made["weights"]).parent / entry["path"] / "target", mode="r")[...]
        create_array(store / entry["path"], (1, 1, *target.shape[1:]), np.uint8, chunk=32, shard=64)[...] = (
            target[:, None] * 255
        )
    write_group(store, {"unetpipe": {"sides": [1, 32, 32], "series": [{"digest": "truth"}]}})
    made |= {name: str(tmp_path / "objects" / f"s{name}") for name in (".json", ".parquet", ".geojson.gz")}
    made["probabilities"] = str(store / "zarr.json")
    return made


def write(made):
    write_objects(made["image"], made["probabilities"], made[".json"], sample="s", min_size=5, holes=0, expand=1)
    write_measurements(
        made["image"], made["probabilities"], made[".json"], made[".parquet"], made[".geojson.gz"], sample="s"
    )


def test_table_outlines_and_store_agree(made):
    write(made)
    table = pd.read_parquet(made[".parquet"])
    features = json.loads(gzip.decompress(Path(made[".geojson.gz"]).read_bytes()))["features"]
    counts = [
        len(np.unique(zarr.open_array(Path(made["image"]).parent / s / "labels/objects/0", mode="r")[...])) - 1
        for s in "01"
    ]
    assert len(table) == len(features) == sum(counts) > 5
    assert table.area_um2.isna().all()  # these images have no pixel size
    assert table.groupby("series").size().tolist() == counts
    assert {f["properties"]["name"] for f in features} == {f"{r.series} {r.id}" for r in table.itertuples()}


def test_what_the_truth_predicts_scores_one(made, tmp_path):
    write(made)
    output = tmp_path / "scores.tsv"
    inputs = [[made[name]] for name in ("image", "probabilities", ".parquet")]
    write_scores(*inputs, str(output), samples=[["s", "test"]], workers=2)
    scores = pd.read_csv(output, sep="\t")
    assert list(scores) == ["sample", "split", "series", "metric", "threshold", "value", "low", "high"]
    total = wide(scores).iloc[0]
    assert total.f1 > 0.95  # discs that others cut into pieces are several components
    assert total.pixel_error < 0.01  # gaps are closed, but for corners where three discs meet
    assert total.rand > 0.95
    assert total.dice_1 > 0.99
    assert total.hausdorff_95 <= 1  # pixel, at those corners
    assert {"f1_seams", "f1_inside", "pq", "mean_ap"} <= set(scores.metric)


def test_a_second_run_finds_nothing_again(made, monkeypatch):
    write(made)
    before = Path(made[".json"]).read_bytes()
    monkeypatch.setattr(Objects, "_found", None)
    Path(made[".json"]).unlink()
    write(made)
    assert Path(made[".json"]).read_bytes() == before


def test_a_sample_without_objects_is_a_valid_empty_table(made):
    for series in "01":
        zarr.open_array(Path(made["probabilities"]).parent / series)[...] = 0
    write(made)
    table = pd.read_parquet(made[".parquet"])
    assert len(table) == 0
    assert {"id", "area_um2", "mean_0", "series"} <= set(table.columns)
    assert json.loads(gzip.decompress(Path(made[".geojson.gz"]).read_bytes()))["features"] == []


def test_more_objects_than_32_bits_count_have_64(made, monkeypatch):
    write(made)
    before = pd.read_parquet(made[".parquet"])
    monkeypatch.setattr("unetpipe.components.MOST_IDS", 3)
    Path(made[".json"]).unlink()
    shutil.rmtree(Path(made["image"]).parent / ".ledger" / "objects")
    write(made)
    labels = zarr.open_array(Path(made["image"]).parent / "0/labels/objects/0", mode="r")
    assert labels.dtype == np.uint64
    pd.testing.assert_frame_equal(pd.read_parquet(made[".parquet"]), before)
