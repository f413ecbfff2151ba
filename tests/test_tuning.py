"""Settings of the labelling are chosen on images of split val, and on no others."""

import json

import numpy as np
import pytest
import zarr
from scenes import prepare
from scipy import ndimage

from unetpipe import tuning
from unetpipe.cli import main
from unetpipe.label import write_objects
from unetpipe.measure import write_measurements
from unetpipe.score import write_scores
from unetpipe.store import create_array, open_array, write_group
from unetpipe.tuning import choose_samples, tune

LABELLED = {"threshold": 0.5, "min_size": 30, "holes": 0, "expand": 0}


def make(folder, split):
    """The results of a run whose probabilities are too low by a third."""
    prepare(folder / "work", [(150, 140), (120, 130)])
    results = folder / "results"
    results.mkdir()
    (folder / "work" / "images").rename(results / "images")
    image = results / "images" / "s.ome.zarr" / "zarr.json"
    for series in "01":
        ids = open_array(image.parent / series / "labels" / "truth" / "0")[0, 0]
        edges = ndimage.grey_dilation(ids, 3) != ndimage.grey_erosion(ids, 3)
        found = np.clip(np.where(ids > 0, 120, 20) - 60 * edges, 0, 255).astype(np.uint8)
        path = results / "probabilities" / "s.zarr" / series
        create_array(path, (1, 1, 1, *ids.shape), np.uint8, chunk=32, shard=64)[...] = found[None, None, None]
    write_group(results / "probabilities" / "s.zarr", {"unetpipe": {"sides": [1, 64, 64], "series": [{"digest": "d"}]}})
    objects = str(results / "objects" / "s.json")
    write_objects(str(image), str(results / "probabilities" / "s.zarr" / "zarr.json"), objects, sample="s", **LABELLED)
    found, table = (str(results / name) for name in ("probabilities/s.zarr/zarr.json", "objects/s.parquet"))
    write_measurements(str(image), found, objects, table, str(results / "objects" / "s.geojson.gz"), sample="s")
    write_scores([str(image)], [found], [table], str(results / "scores.tsv"), samples=[["s", split]])
    return results


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(tuning, "THRESHOLDS", (0.3, 0.4, 0.5))
    monkeypatch.setattr(tuning, "SPLITS", (0.0, 1.0))
    monkeypatch.setattr(tuning, "CORES", (0.4, 0.45))


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return make(tmp_path_factory.mktemp("val"), "val")


def test_the_best_setting_comes_first_and_that_of_the_run_is_marked(results, capsys):
    table = tune(results, ["s"], metric="f1")
    assert table.f1.is_monotonic_decreasing
    assert table.iloc[0].threshold < 0.5
    assert table.iloc[0].f1 > 0.8
    assert set(zip(table.threshold, table.core, strict=True)) >= {(0.3, 0.4), (0.3, 0.45), (0.4, 0.45), (0.5, 0.0)}
    assert not (table.core[table.core > 0] <= table.threshold[table.core > 0]).any()
    (now,) = table[table.now].to_dict("records")
    assert {name: now[name] for name in LABELLED} == LABELLED
    assert now["f1"] == 0
    main(["tune", str(results), "--metric", "f1"])
    said = capsys.readouterr().out
    assert f"in the section label of the config:\n  threshold: {table.iloc[0].threshold}\n" in said
    assert said.count("*") == 2  # in the legend, and beside the setting of the run


def test_what_it_says_is_what_the_stages_then_give(results, tmp_path):
    best = tune(results, ["s"], metric="mean_iou").iloc[0]
    image = results / "images" / "s.ome.zarr"
    write_objects(
        str(image / "zarr.json"),
        str(results / "probabilities" / "s.zarr" / "zarr.json"),
        str(tmp_path / "o.json"),
        sample="s",
        **{name: best[name].item() for name in LABELLED.keys() | {"split", "core"}},
    )
    count = json.loads((tmp_path / "o.json").read_text())["series"]
    assert sum(series["objects"] for series in count) == best.objects
    labels = zarr.open_array(image / "0" / "labels" / "objects" / "0", mode="r")[...]
    assert labels.max() == count[0]["objects"]


def test_nothing_is_chosen_on_test_images(tmp_path):
    results = make(tmp_path, "test")
    with pytest.raises(ValueError, match=r"no scored sample of split val; put annotated images aside"):
        choose_samples(results, [])
    with pytest.raises(ValueError, match=r'sample "s" is in split test; choose on images of split val'):
        choose_samples(results, ["s"])
    with pytest.raises(ValueError, match=r'sample "t" was not scored'):
        choose_samples(results, ["t"])
