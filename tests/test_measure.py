"""Tables and outlines of objects that are measured block by block are those of the whole."""

import gzip
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from skimage.draw import polygon2mask
from skimage.measure import label, regionprops_table

from unetpipe.boxes import find_boxes, groups
from unetpipe.grey import Counts, counted
from unetpipe.labels_tiff import write_tiff
from unetpipe.measure import Frame, Meaning, Scene, _measured, describe, write_measurements
from unetpipe.outlines import feature_texts, outline
from unetpipe.store import create_array, label_path, open_array, write_group
from unetpipe.tables import write_csv

seeds = st.integers(0, 10**6)
SUMS = {"rtol": 1e-6, "atol": 1e-6}  # in another order; square roots of what is next to nothing


def blobs(shape, seed, share=60):
    field = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 1.5)
    return label(field > np.percentile(field, share), connectivity=1).astype(np.uint32)


def table_of(labels, grey, block, size=(np.nan,) * 3):
    """All objects of a volume, block by block, in the order of their ids."""
    parts = []
    for group in groups(find_boxes(labels, block, workers=2), block):
        window = (slice(None), *group.window)
        meaning = Meaning(["a", "b"], size, 3 if len(labels) > 1 else 2)
        parts.append(describe(group, labels[group.window], grey[window], grey[window], meaning))
    return pd.concat(parts).sort_values("id", ignore_index=True)


PLANE = {
    "id": "label",
    "area_px": "area",
    "y_px": "centroid-0",
    "x_px": "centroid-1",
    "top": "bbox-0",
    "left": "bbox-1",
}
PLANE |= {"bottom": "bbox-2", "right": "bbox-3", "mean_a": "intensity_mean-0", "deviation_b": "intensity_std-1"}
PLANE |= {n: n for n in ("perimeter", "eccentricity", "solidity", "axis_major_length", "axis_minor_length")}
PROPERTIES = ("area", "centroid", "bbox", "perimeter", "eccentricity", "solidity", "axis_major_length")
PROPERTIES += ("axis_minor_length", "intensity_mean", "intensity_std", "label")


@given(seed=seeds, block=st.sampled_from([16, 33, 100]))
def test_objects_of_a_plane_measure_as_in_the_whole(seed, block):
    labels, grey = blobs((1, 70, 90), seed), np.random.default_rng(seed).integers(0, 255, (2, 1, 70, 90), np.uint8)
    found = table_of(labels, grey, (1, block, block))
    expected = regionprops_table(labels[0].astype(int), np.moveaxis(grey[:, 0], 0, -1), properties=PROPERTIES)
    for own, theirs in PLANE.items():
        np.testing.assert_allclose(found[own], expected[theirs], **SUMS, err_msg=own)
    inside = [np.percentile(grey[1][labels == number], 95) for number in found.id]
    np.testing.assert_allclose(found.percentile_95_b, inside)
    assert found.area_um2.isna().all()


VOLUME = {"id": "label", "volume_px": "area", "z_px": "centroid-0", "x_px": "centroid-2", "front": "bbox-0"}
VOLUME |= {"right": "bbox-5", "mean_b": "intensity_mean-1"}


@given(seed=seeds, block=st.sampled_from([4, 9, 30]))
def test_objects_of_a_volume_are_one_row_each(seed, block):
    labels, grey = (
        blobs((12, 30, 33), seed, 75),
        np.random.default_rng(seed).integers(0, 255, (2, 12, 30, 33), np.uint8),
    )
    size = (0.5, 0.25, 0.2)
    found = table_of(labels, grey, (block,) * 3, size)
    names = ("label", "area", "centroid", "bbox", "intensity_mean")
    expected = regionprops_table(labels.astype(int), np.moveaxis(grey, 0, -1), properties=names)
    for own, theirs in VOLUME.items():
        np.testing.assert_allclose(found[own], expected[theirs], **SUMS, err_msg=own)
    physical = regionprops_table(labels.astype(int), spacing=size, properties=("area", "inertia_tensor_eigvals"))
    np.testing.assert_allclose(found.volume_um3, physical["area"], **SUMS)
    inertia = np.stack([physical[f"inertia_tensor_eigvals-{k}"] for k in range(3)], axis=1)
    spread = inertia.sum(axis=1) / 2 - inertia.min(axis=1)
    np.testing.assert_allclose(found.axis_major_length_um, np.sqrt(20 * spread), **SUMS)
    assert "perimeter" not in found


def test_lengths_are_physical_where_pixels_are_oblong():
    labels = np.zeros((1, 40, 40), np.uint32)
    labels[0, 5:25, 3:8] = 1  # 20 by 5 pixels of 1 by 4 µm: as long as wide
    row = table_of(labels, np.zeros((2, 1, 40, 40), np.uint8), (1, 40, 40), (1.0, 1.0, 4.0)).iloc[0]
    assert row.area_um2 == 400
    assert row.axis_major_length_um == pytest.approx(row.axis_minor_length_um, rel=0.03)  # 20 steps against 5
    assert row.axis_major_length > 3 * row.axis_minor_length


def painted(geometry, shape):
    """Pixels whose centres lie in a geometry."""
    polygons = [geometry["coordinates"]] if geometry["type"] == "Polygon" else geometry["coordinates"]
    found = np.zeros(shape, int)
    for outer, *holes in polygons:
        for ring, sign in ((outer, 1), *((hole, -1) for hole in holes)):
            found += sign * polygon2mask(shape, np.array(ring)[:, ::-1] - 0.5)
    return found


@given(seed=seeds, density=st.floats(0.1, 0.9), full=st.booleans())
def test_outlines_rasterise_to_the_object(seed, density, full):
    mask = np.random.default_rng(seed).random((10, 12)) < density
    labels = label(mask, connectivity=2 if full else 1)
    for number in range(1, labels.max() + 1):
        np.testing.assert_array_equal(painted(outline(labels == number, 0, 0), mask.shape), labels == number)


def test_holes_belong_to_the_part_around_them():
    mask = np.pad(np.ones((3, 3), bool), 1)
    mask[2, 2] = False
    both = np.concatenate([mask, np.pad(np.ones((3, 3), bool), 1)], axis=1)
    polygons = outline(both, 10, 20)["coordinates"]
    assert sorted(len(polygon) for polygon in polygons) == [1, 2]
    assert min(polygons[0][1]) == [22, 12]


def test_outlines_are_in_pixels_of_the_file():
    shape = outline(np.ones((2, 4), bool), 10, 20, (0.5, 2.0))
    assert sorted(map(tuple, shape["coordinates"][0][:4])) == [(40, 5), (40, 6), (48, 5), (48, 6)]


def test_features_of_a_volume_lie_on_their_planes():
    labels = blobs((6, 20, 20), 3, 70)
    found = table_of(labels, np.ones((2, 6, 20, 20), np.uint8), (6, 20, 20)).assign(series="0", t=2)
    features = [json.loads(text) for text in feature_texts(found, labels, (0, 0, 0), (1.0, 1.0))]
    again = np.zeros(labels.shape, int)
    for feature in features:
        plane = feature["geometry"]["plane"]
        assert plane["t"] == 2
        again[plane["z"]] += feature["properties"]["id"] * painted(feature["geometry"], labels.shape[1:])
    np.testing.assert_array_equal(again, labels)


def test_features_tell_the_finite_numbers_of_their_rows():
    labels = blobs((1, 20, 20), 3, 70)
    found = table_of(labels, np.ones((2, 1, 20, 20), np.uint8), (1, 20, 20)).assign(series="0", t=0)
    found = found.rename(columns={"mean_a": 'mean_50 % "µ"'})
    found.loc[1, ["solidity", "eccentricity"]] = np.nan, np.inf
    features = [json.loads(text) for text in feature_texts(found, labels, (0, 0, 0), (1.0, 1.0))]
    told = pd.DataFrame([feature["properties"]["measurements"] for feature in features])
    assert told.loc[1].isna().sum() == 2
    shown = found[list(told)].astype(float).replace(np.inf, np.nan)
    assert {'mean_50 % "µ"', "area_px", "solidity"} <= set(shown)
    np.testing.assert_allclose(told, shown, rtol=5e-6, err_msg="six digits are told")


def test_a_box_is_found_whatever_the_ids():
    labels = np.zeros((1, 30, 30), np.uint64)
    labels[0, 3:5, 4:20], labels[0, 9, 9] = 2**40, 7
    boxes = find_boxes(labels, (1, 10, 10))
    assert boxes.ids.tolist() == [7, 2**40]
    assert (boxes.low.tolist(), boxes.high.tolist()) == ([[0, 9, 9], [0, 3, 4]], [[1, 10, 10], [1, 5, 20]])


def test_an_object_larger_than_a_block_does_not_widen_the_window_of_others():
    labels = np.zeros((1, 40, 40), np.uint32)
    labels[0, 0, :], labels[0, 2, 2] = 1, 2
    windows = [group.window for group in groups(find_boxes(labels, (1, 10, 10)), (1, 10, 10))]
    assert windows == [(slice(0, 1), slice(2, 3), slice(2, 3)), (slice(0, 1), slice(0, 1), slice(0, 40))]


@pytest.fixture
def stored(tmp_path):
    """A sample of a volume of two time points and a plane, with its objects."""
    entries, made = [], []
    for number, shape in enumerate([(2, 7, 40, 44), (1, 1, 50, 48)]):
        path, labels = str(number), np.stack([blobs(shape[1:], seed, 80) for seed in range(shape[0])])
        labels[1:][labels[1:] > 0] += labels[0].max()
        kinds = [(tmp_path / "i.zarr" / path / "0", (shape[0], 2, *shape[1:]))]
        kinds += [(tmp_path / "p.zarr" / path, (shape[0], 1, *shape[1:]))]
        for folder, whole in kinds:
            values = np.random.default_rng(number).integers(1, 255, whole)
            create_array(folder, whole, np.uint8, chunk=16, shard=32)[...] = values
        target = create_array(
            label_path(tmp_path / "i.zarr", path, "objects") / "0", shape, np.uint32, chunk=16, shard=32, kind="label"
        )
        target[...] = labels
        entry = {"name": f"s{number}", "path": path, "shape": [shape[0], 2, *shape[1:]], "channels": ["a", "b"]}
        entries.append({**entry, "pixel_size": None if number else [2.0, 0.5, 0.5], "origin": None})
        made.append({"objects": int(labels.max())})
    for store in ("i.zarr", "p.zarr"):
        write_group(tmp_path / store, {"unetpipe": {"series": entries}})
    (tmp_path / "o.json").write_text(json.dumps({"series": made}))
    return [
        str(tmp_path / name) for name in ("i.zarr/zarr.json", "p.zarr/zarr.json", "o.json", "t.parquet", "g.geojson.gz")
    ]


def test_volumes_and_planes_share_a_table(stored, monkeypatch):
    monkeypatch.setattr("unetpipe.tables.KEPT", 10)
    write_measurements(*stored, sample="s", workers=2)
    table = pd.read_parquet(stored[3])
    counts = [series["objects"] for series in json.loads(Path(stored[2]).read_text())["series"]]
    assert [len(rows) for _, rows in table.groupby("series")] == counts
    volume, plane = table[table.series == "s0"], table[table.series == "s1"]
    assert set(volume.t) == {0, 1}
    assert (volume.volume_um3 == volume.volume_px * 0.5).all()
    assert volume.area_px.isna().all()
    assert plane[["volume_px", "area_um2"]].isna().all(axis=None)
    features = json.loads(gzip.decompress(Path(stored[4]).read_bytes()))["features"]
    assert {(f["properties"]["series"], f["properties"]["id"]) for f in features} == {
        *zip(table.series, table.id, strict=True)
    }


def test_the_table_is_the_same_whatever_the_blocks_and_threads(stored, monkeypatch):
    write_measurements(*stored, sample="s", workers=1)
    expected = pd.read_parquet(stored[3]).sort_values(["series", "id"], ignore_index=True)
    monkeypatch.setattr("unetpipe.measure.BLOCKS", ((1, 16, 16), (3, 16, 16)))
    write_measurements(*stored, sample="s", workers=3)
    found = pd.read_parquet(stored[3]).sort_values(["series", "id"], ignore_index=True)
    pd.testing.assert_frame_equal(found, expected, check_exact=False, rtol=1e-12)  # places are counted from the box


def test_deep_objects_are_read_together():
    labels = np.zeros((1, 70, 40, 40), np.uint32)
    for number, (y, x) in enumerate(np.ndindex(8, 8), start=1):
        labels[0, 20:37, 5 * y : 5 * y + 4, 5 * x : 5 * x + 4] = number
    frames = (Frame(pixels, 0) for pixels in (labels, labels[:, None], np.zeros((1, 1, 70, 40, 40), np.uint8)))
    tables = [table for table, _ in _measured(Scene("s", 0, *frames, Meaning(["a"], (np.nan,) * 3, 3), (1, 1)), 1)]
    assert len(tables) == 1
    assert set(tables[0].volume_px) == {17 * 4 * 4}


@pytest.mark.parametrize("together", [1, 64])
def test_objects_too_large_for_a_window_measure_as_in_one(stored, monkeypatch, together):
    write_measurements(*stored, sample="s")
    expected, outlined = pd.read_parquet(stored[3]).sort_values(["series", "id"], ignore_index=True), geometries(stored)
    monkeypatch.setattr("unetpipe.measure.BLOCKS", ((1, 16, 16), (3, 16, 16)))
    monkeypatch.setattr("unetpipe.measure.LARGEST", 20)
    monkeypatch.setattr("unetpipe.measure.TOGETHER", together)
    boxes = expected[["bottom", "right"]].to_numpy() - expected[["top", "left"]].to_numpy()
    assert 0.2 < (boxes.prod(axis=1) > 20).mean() < 0.8
    write_measurements(*stored, sample="s", workers=2)
    found = pd.read_parquet(stored[3]).sort_values(["series", "id"], ignore_index=True)
    pd.testing.assert_frame_equal(found, expected, check_exact=False, rtol=1e-9, atol=1e-9)  # sums in another order
    assert geometries(stored) == outlined


def geometries(stored):
    """Outlines by what they belong to."""
    features = json.loads(gzip.decompress(Path(stored[4]).read_bytes()))["features"]
    return {(f["properties"]["name"], *f["geometry"]["plane"].values()): f["geometry"] for f in features}


@given(seed=seeds, kind=st.sampled_from([np.uint8, np.int16, np.float32]), parts=st.integers(1, 4))
def test_counted_values_have_the_statistics_of_all(seed, kind, parts):
    values, counts = np.random.default_rng(seed).normal(0, 40, 50).astype(kind), Counts()
    for part in np.array_split(values, parts):
        counts.add(*counted(part))
    expected = [
        values.mean(dtype=float),
        values.std(dtype=float),
        *np.percentile(values.astype(float), (0, 5, 50, 100)),
    ]
    np.testing.assert_allclose(counts.statistics((0, 5, 50, 100)), expected, rtol=1e-9, atol=1e-9)  # another order


def test_a_store_that_lost_an_object_is_named(stored):
    content = json.loads(Path(stored[2]).read_text())
    content["series"][1]["objects"] += 1
    Path(stored[2]).write_text(json.dumps(content))
    with pytest.raises(RuntimeError, match=r'sample "s", series s1: the store holds .* delete .*o\.json'):
        write_measurements(*stored, sample="s")


def test_csv_is_the_table(stored, tmp_path, monkeypatch):
    monkeypatch.setattr("unetpipe.tables.KEPT", 10)
    write_measurements(*stored, sample="s")
    write_csv(stored[3], tmp_path / "t.csv.gz")
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "t.csv.gz"), pd.read_parquet(stored[3]), check_dtype=False)


def test_an_empty_csv_has_a_header(stored, tmp_path):
    write_measurements(*stored, sample="s")
    pd.read_parquet(stored[3])[:0].to_parquet(tmp_path / "none.parquet")
    write_csv(tmp_path / "none.parquet", tmp_path / "t.csv.gz")
    assert list(pd.read_csv(tmp_path / "t.csv.gz")) == list(pd.read_parquet(stored[3]))


def test_a_tiff_holds_the_ids_of_the_store(stored, tmp_path, monkeypatch):
    output = tmp_path / "l.ome.tif"
    for most, dtype in ((0, np.uint32), (10**4, np.uint16)):
        monkeypatch.setattr("unetpipe.labels_tiff.SHORT", most)
        write_tiff(stored[0], stored[2], str(output), workers=2)
        with tifffile.TiffFile(output) as file:
            for number, series in enumerate(file.series):
                expected = open_array(label_path(tmp_path / "i.zarr", str(number), "objects") / "0")[...]
                assert series.dtype == dtype
                np.testing.assert_array_equal(series.asarray().reshape(expected.shape), expected)
            assert 'PhysicalSizeX="0.5"' in file.ome_metadata
            assert 'Name="s1"' in file.ome_metadata


def test_a_tiff_of_the_same_objects_has_the_same_bytes(stored, tmp_path):
    paths = [tmp_path / f"{number}.ome.tif" for number in range(3)]
    for path in paths[:2]:
        write_tiff(stored[0], stored[2], str(path), workers=2)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    content = json.loads(Path(stored[2]).read_text())
    content["series"][0]["digest"] = "another"
    Path(stored[2]).write_text(json.dumps(content))
    write_tiff(stored[0], stored[2], str(paths[2]), workers=2)
    identifiers = [re.search('UUID="(.*?)"', tifffile.TiffFile(path).ome_metadata)[1] for path in paths]
    assert identifiers[0] == identifiers[1] != identifiers[2]
