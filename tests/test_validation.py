"""While it learns a network is scored as the stages after training would score it, and the best one is kept."""

import signal
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from scenes import prepare
from scipy import ndimage

from unetpipe.label import write_objects
from unetpipe.manifest import read_json
from unetpipe.measure import write_measurements
from unetpipe.network import UNet
from unetpipe.predict.part import predict_part
from unetpipe.predict.publish import publish_probabilities
from unetpipe.predictor import Predictor, predict_region
from unetpipe.saved import save_network
from unetpipe.score import write_scores
from unetpipe.store import create_array, open_array
from unetpipe.totals import wide
from unetpipe.train import loop, train
from unetpipe.train.setup import held_out
from unetpipe.train.validation import METRICS, THRESHOLDS, Score, Seen, Validation, annotated_parts, list_seen

SMALL = {"depth": 1, "features": 2, "tile": 20, "batch": 1, "steps": 12, "dropout": 0.3, "precision": "float32"}
LEARN = {"features": 4, "steps": 60, "learning_rate": 1e-2, "normalise": True}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two samples of two images each, to learn from and to be scored on."""
    folder = tmp_path_factory.mktemp("validation")
    return [prepare(folder / str(n), [(70, 80), (60, 60)], seed=3 * n) for n in range(2)]


def run(made, folder, **changes):
    first, second = made
    validation = [[second[name]] for name in ("image", "tissue", "truth")]
    paths = [[first[name]] for name in ("image", "tissue", "weights")]
    train(*paths, str(folder / "network.json"), **{**SMALL, "validation": validation, **changes})
    return load_file(folder / "network.safetensors")


def equal(a, b):
    return all(torch.equal(a[name], b[name]) for name in b)


@pytest.mark.parametrize("metric", ["f1", "pixel_error", "rand"])
def test_a_network_is_scored_as_by_the_stages_after_training(made, tmp_path, metric):
    sample = prepare(tmp_path / "one", [(70, 80)], seed=7)
    run([made[0], sample], tmp_path, validations=1, metric=metric, **LEARN)
    kept = read_json(tmp_path / "network.json")["kept"]
    ids = open_array(Path(sample["image"]).parent / "0" / "labels" / "truth" / "0")[...]
    least = int(-(-np.bincount(ids.flat)[1:].min() // 2))  # half the smallest true object
    names = ("p.zarr/zarr.json", "o.json", "o.parquet", "scores.tsv")
    store, objects, table, scores = (str(tmp_path / name) for name in names)
    paths = [sample["image"], sample["tissue"], [str(tmp_path / "network.json")]]
    predict_part(*paths, str(tmp_path / "0.json"), store=store, sample="s", block=512)
    publish_probabilities(*paths, store, sample="s", block=512)
    found = {}
    for threshold in THRESHOLDS:
        write_objects(
            sample["image"], store, objects, sample="s", threshold=threshold, min_size=least, holes=0, expand=1
        )
        write_measurements(sample["image"], store, objects, table, str(tmp_path / "o.geojson.gz"), sample="s")
        write_scores([sample["image"]], [store], [table], scores, samples=[["s", "val"]])
        found[threshold] = wide(pd.read_csv(scores, sep="\t"))[metric].iloc[0]
    best = max(found.values(), key=lambda value: METRICS[metric] * value)
    assert kept["value"] == pytest.approx(best)
    assert found[kept["threshold"]] == pytest.approx(best)


rectangles = st.lists(st.tuples(*[st.integers(0, 1), st.integers(0, 2)] + [st.integers(0, 380)] * 2), max_size=5)


@settings(max_examples=20)
@given(corners=rectangles)
def test_no_more_is_looked_at_than_what_is_annotated_and_a_little_around(tmp_path_factory, corners):
    """Each annotated pixel in one part, 32 pixels inside it; parts are no larger than they need to be."""
    store = tmp_path_factory.mktemp("seen")
    known = np.zeros((2, 3, 400, 420), bool)
    for t, z, y, x in corners:
        known[t, z, y : y + 40, x : x + 50] = True
    path = store / "0" / "labels" / "classes" / "0"
    create_array(path, known.shape, np.uint8, chunk=32, shard=64, kind="label")[...] = np.where(known, 1, 255)
    parts = annotated_parts(Seen({"path": "0", "chunk": 32, "shard": 64}, {}, store))
    inside = np.zeros(known.shape, int)
    for part in parts:
        inside[part] += 1
        assert known[part].any()
    near = ndimage.binary_dilation(known, np.ones((1, 1, 65, 65)))
    assert (inside[near] == 1).all()
    assert inside.max(initial=0) <= 1
    if len({corner[:2] for corner in corners}) == len(corners):  # one in each plane, t and z may touch
        assert inside.sum() <= len(corners) * (40 + 2 * 95) * (50 + 2 * 95) * 3


def test_a_region_is_predicted_as_it_is_in_the_whole(made, monkeypatch):
    monkeypatch.setattr("unetpipe.predictor.block_side", lambda *_: 16)
    torch.manual_seed(3)
    network = UNet(depth=1, features=4, dropout=0.0)
    predictor = Predictor([network], views=1, device=torch.device("cpu"), precision=torch.float32)
    seen = list_seen([made[0]["image"]], [read_json(made[0]["tissue"])])[0]
    source = open_array(seen.store / "0" / "0")
    whole = predict_region(predictor, source, 0, seen.statistics)
    region = (slice(0, 1), slice(13, 50), slice(40, 80))
    assert len(np.unique(whole)) > 9
    np.testing.assert_array_equal(predict_region(predictor, source, 0, seen.statistics, region), whole[:, *region])


def test_images_without_annotation_are_refused(made, tmp_path):
    empty = prepare(tmp_path / "empty", [(70, 80)])
    labels = Path(empty["image"]).parent / "0" / "labels" / "classes" / "0"
    zarr.open_array(labels, mode="r+")[...] = 255
    with pytest.raises(ValueError, match="nothing is annotated in the 1 images that the network is scored on, 00 the"):
        run([made[0], empty], tmp_path)


def scripted(monkeypatch, values):
    """Let the validations give these scores; returns the networks that they saw."""
    seen = []

    def score(_, network):
        seen.append({name: tensor.clone() for name, tensor in network.state_dict().items()})
        return Score(values[len(seen) - 1], 0.5)

    monkeypatch.setattr(Validation, "__call__", score)
    return seen


@pytest.mark.parametrize(
    ("metric", "values", "best"),
    [("f1", [0.1, 0.9, 0.9, 0.2], 1), ("pixel_error", [0.4, 0.3, 0.2, 0.3], 2), ("ap", [0.1, 0.2, 0.3, 0.4], 3)],
)
def test_the_best_network_is_kept(made, tmp_path, monkeypatch, metric, values, best):
    seen = scripted(monkeypatch, values)
    kept = run(made, tmp_path, validations=4, metric=metric)
    assert equal(kept, seen[best])
    note = read_json(tmp_path / "network.json")
    assert note["kept"] == {"step": 3 * (best + 1), "value": values[best], "threshold": 0.5}
    assert [point[3] for point in note["curve"] if point[3] is not None] == values


def test_patience_ends_a_run(made, tmp_path, monkeypatch):
    seen = scripted(monkeypatch, [0.2, 0.9, 0.5, 0.5, 1.0, 1.0])
    kept = run(made, tmp_path, validations=6, patience=2)
    assert len(seen) == 4
    assert equal(kept, seen[1])
    assert read_json(tmp_path / "network.json")["curve"][-1][0] == 8


@pytest.mark.parametrize("patience", [0, 1])
def test_interrupted_it_keeps_the_same_network(made, tmp_path, monkeypatch, patience):
    settings = {**LEARN, "steps": 24, "validations": 6, "metric": "pixel_error", "patience": patience}
    expected = run(made, tmp_path / "whole", **settings)
    original, stops = loop.learning_rate, [4, 9, 13]

    def stop_at(step, *others):
        if step + 1 in stops:
            stops.remove(step + 1)
            signal.raise_signal(signal.SIGTERM)
        return original(step, *others)

    monkeypatch.setattr(loop, "learning_rate", stop_at)
    for _ in range(4):
        try:
            found = run(made, tmp_path / "stopped", **settings)
            break
        except InterruptedError:
            continue
    assert equal(found, expected)
    notes = [(tmp_path / name / "network.json").read_text() for name in ("whole", "stopped")]
    assert notes[0] == notes[1]


def test_without_anything_to_be_scored_on_the_last_network_is_kept(made, tmp_path):
    alone = run(made, tmp_path / "alone", validation=([], [], []))
    scored = run(made, tmp_path / "scored", validations=1)  # at the end alone
    never = run(made, tmp_path / "never", validations=0)
    assert equal(alone, scored)
    assert equal(alone, never)
    assert read_json(tmp_path / "never" / "network.json")["kept"] is None


def test_images_of_other_channels_are_refused(made, tmp_path, monkeypatch):
    broken = list_seen([made[1]["image"]], [read_json(made[1]["tissue"])])
    broken = [seen._replace(image={**seen.image, "channels": ["a", "b"]}) for seen in broken]
    monkeypatch.setattr("unetpipe.train.setup.list_seen", lambda *_: broken)
    with pytest.raises(ValueError, match="image 00 has 2 channels, 00, the first to train on, 1"):
        run(made, tmp_path)


groups = st.lists(st.sampled_from("abcdefghij"), min_size=10, max_size=60).filter(lambda names: len(set(names)) >= 3)


@given(groups=groups, folds=st.integers(2, 3), seed=st.integers(0, 100))
def test_folds_leave_out_whole_groups_and_everything_once(groups, folds, seed):
    left = np.array([held_out(groups, fold, folds, seed) for fold in range(folds)])
    assert (left.sum(axis=0) == 1).all()
    for name in set(groups):
        assert len({tuple(column) for column, own in zip(left.T, groups, strict=True) if own == name}) == 1
    sizes = left.sum(axis=1)
    assert sizes.min() >= 1
    assert sizes.max() - sizes.min() <= max(Counter(groups).values())


def test_more_folds_than_groups_are_refused():
    with pytest.raises(ValueError, match=r"train.folds 3 is more than the 2 groups"):
        held_out(["a", "a", "b"], 0, 3, 1)


def test_a_fold_learns_from_the_others_and_is_scored_on_what_it_leaves_out(made, tmp_path):
    """The sample's images are groups of their own: each fold learns as from a sample of the other one alone."""
    none = ([], [], [])
    alone = [prepare(tmp_path / "data" / str(n), [shape], seed=n) for n, shape in enumerate([(70, 80), (60, 60)])]
    expected = [run([sample, sample], tmp_path / f"alone{n}", validation=none) for n, sample in enumerate(alone)]
    for fold in range(2):
        folder = tmp_path / str(fold)
        found = run(made, folder, validation=none, folds=2, fold=fold, groups=[""], validations=1)
        left = [other for other in range(2) if not equal(found, expected[other])]
        assert len(left) == 1
        validation = [[alone[left[0]][name]] for name in ("image", "tissue", "truth")]
        run([alone[1 - left[0]], alone[left[0]]], tmp_path / f"as{fold}", validation=validation, validations=1)
        notes = [read_json(path / "network.json") for path in (folder, tmp_path / f"as{fold}")]
        assert notes[0]["kept"] == notes[1]["kept"]


def test_an_ensemble_is_the_mean_of_its_networks(made, tmp_path):
    sample, paths = made[1], []
    for seed in range(3):
        torch.manual_seed(seed)
        paths.append(str(tmp_path / f"{seed}.json"))
        save_network(UNet(depth=1, features=4, dropout=0.0), paths[-1], {"precision": "float32"})
    found = []
    for networks in ([paths[0]], [paths[1]], [paths[2]], paths):
        store = tmp_path / str(len(found)) / "zarr.json"
        inputs = [sample["image"], sample["tissue"], networks]
        predict_part(*inputs, str(tmp_path / "part.json"), store=str(store), sample="s", block=64)
        publish_probabilities(*inputs, str(store), sample="s", block=64)
        found.append(open_all(store))
    *single, together = found
    assert np.std(single, axis=0).mean() > 1
    rounding = 1.01  # half a step of uint8 each, and of their mean
    assert np.abs(np.mean(single, axis=0) - together).max() <= rounding


def open_all(store):
    return np.concatenate([open_array(store.parent / series)[...].ravel().astype(float) for series in "01"])


def test_networks_of_two_kinds_are_not_averaged(made, tmp_path):
    for depth in (1, 2):
        save_network(UNet(depth=depth, features=2), tmp_path / f"{depth}.json", {"precision": "float32"})
    networks = [str(tmp_path / f"{depth}.json") for depth in (1, 2)]
    paths = [made[1]["image"], made[1]["tissue"], networks, str(tmp_path / "part.json")]
    with pytest.raises(ValueError, match=r"2.json has axes .*, .*1.json has .*; only networks of one kind"):
        predict_part(*paths, store=str(tmp_path / "p" / "zarr.json"), sample="s")
