"""An interrupted training ends as one that never was; batches depend on seed and step alone."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scenes import SIDES, prepare

from unetpipe.ingest import ingest
from unetpipe.locks import held
from unetpipe.loss import class_weights
from unetpipe.manifest import read_json
from unetpipe.mask import write_mask
from unetpipe.network import UNet
from unetpipe.optimiser import learning_rate
from unetpipe.train import loop, train
from unetpipe.weights import write_weights

SMALL = {"depth": 1, "features": 2, "tile": 20, "batch": 1, "steps": 12, "dropout": 0.3, "precision": "float32"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return prepare(tmp_path_factory.mktemp("train"), [(70, 80), (60, 60)])


def run(made, folder, **changes):
    train([made["image"]], [made["tissue"]], [made["weights"]], str(folder / "network.json"), **{**SMALL, **changes})
    return load_file(folder / "network.safetensors")


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_one_seed_gives_one_network(made, tmp_path):
    first, again, other = (run(made, tmp_path / n, seed=s) for n, s in (("a", 1), ("b", 1), ("c", 2)))
    assert equal(first, again)
    assert not equal(first, other)


def test_a_second_training_of_one_network_is_refused(made, tmp_path):
    with held(tmp_path / ".lock"), pytest.raises(BlockingIOError, match="is being written by process"):
        run(made, tmp_path)
    run(made, tmp_path)


@pytest.mark.parametrize("stops", [[1], [4, 9], [11]])
def test_interrupted_equals_uninterrupted(made, tmp_path, monkeypatch, stops):
    expected = run(made, tmp_path / "whole")
    original = loop.learning_rate

    def stop_at(step, *others):
        if step + 1 in remaining:
            remaining.remove(step + 1)
            signal.raise_signal(signal.SIGTERM)
        return original(step, *others)

    remaining = list(stops)
    monkeypatch.setattr(loop, "learning_rate", stop_at)
    for step in stops:
        with pytest.raises(InterruptedError, match=f"saved at step {step};"):
            run(made, tmp_path / "stopped")
        assert not (tmp_path / "stopped" / "network.json").exists()
    assert equal(expected, run(made, tmp_path / "stopped"))
    curves = [(tmp_path / name / "network.json").read_text() for name in ("whole", "stopped")]
    assert curves[0] == curves[1]


DRIVER = """
import json, sys
from unetpipe.train import loop, train
loop.SAVE_EVERY = 0
inputs, output, settings = json.loads(sys.argv[1])
train(*inputs, output, **settings)
"""


def test_killed_at_random_moments_it_ends_with_the_same_weights(made, tmp_path):
    """A checkpoint after every step, so that some of the kills fall into the writing of one."""
    settings = {**SMALL, "steps": 300}
    inputs = [[made[name]] for name in ("image", "tissue", "weights")]
    expected = run(made, tmp_path / "whole", steps=300)
    call = [sys.executable, "-c", DRIVER, json.dumps([inputs, str(tmp_path / "killed" / "network.json"), settings])]
    random, steps = np.random.default_rng(0), []
    for _ in range(4):
        with subprocess.Popen(call) as process:
            before = newest(tmp_path / "killed")
            while newest(tmp_path / "killed") == before and process.poll() is None:
                time.sleep(0.01)
            time.sleep(random.uniform(0, 0.3))
            process.kill()
        steps.append(newest(tmp_path / "killed"))
    assert steps == sorted(steps)
    assert 0 < steps[0] < 300
    assert equal(expected, run(made, tmp_path / "killed", steps=300))


def newest(folder):
    """Step of the newest checkpoint, 0 where there is none."""
    return max((int(path.stem.split("-")[1]) for path in folder.glob("checkpoint-*.pt")), default=0)


def test_a_loss_that_is_no_number_names_step_and_sample(made, tmp_path, monkeypatch):
    original = loop.batches

    def spoil(material, drawing, steps, **others):
        for step, (image, target, weight) in zip(steps, original(material, drawing, steps, **others), strict=True):
            yield image * (torch.nan if step == 5 else 1), target, weight

    monkeypatch.setattr(loop, "batches", spoil)
    with pytest.raises(FloatingPointError, match=r"at step 6, drawn from 0[01] at z, y, x .*; look at its pixels"):
        run(made, tmp_path)
    assert newest(tmp_path) <= 5
    monkeypatch.undo()
    assert equal(run(made, tmp_path / "whole"), run(made, tmp_path))


def test_what_was_chosen_at_the_first_start_is_kept(made, tmp_path, monkeypatch):
    """With less memory another tile would be chosen; the run is the one that was begun."""
    settings = {"tile": "auto", "batch": "auto", "steps": 4}
    expected = run(made, tmp_path / "whole", memory=1000, **settings)
    less = run(made, tmp_path / "less", memory=1, **settings)
    assert not equal(expected, less)
    original = loop.learning_rate

    def stop_at_two(step, *others):
        if step == 1:
            signal.raise_signal(signal.SIGUSR1)
        return original(step, *others)

    monkeypatch.setattr(loop, "learning_rate", stop_at_two)
    with pytest.raises(InterruptedError, match="SIGUSR1: training saved at step 2;"):
        run(made, tmp_path / "stopped", memory=1000, **settings)
    monkeypatch.undo()
    assert equal(expected, run(made, tmp_path / "stopped", memory=1, **settings))


def test_a_run_ends_before_its_run_time_does(made, tmp_path, monkeypatch):
    monkeypatch.setattr("unetpipe.watch.Watch.reason", lambda *_: "the run time of 5 minutes is nearly over")
    with pytest.raises(InterruptedError, match="the run time of 5 minutes is nearly over: training saved at step 1;"):
        run(made, tmp_path, minutes=5)
    assert newest(tmp_path) == 1


def test_out_of_memory_names_what_to_set(made, tmp_path, monkeypatch):
    def exhausted(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(loop, "weighted_cross_entropy", exhausted)
    with pytest.raises(MemoryError, match=r"1 tiles of 20 pixels on 1 devices ran out of memory; set train.tile to 16"):
        run(made, tmp_path)


def test_large_gradients_are_clipped(made, tmp_path):
    """Plain descent moves the weights by at most rate × norm."""
    settings = {"optimiser": "sgd", "steps": 1, "learning_rate": 1.0}
    free, clipped, same = (run(made, tmp_path / str(c), clip=c, **settings) for c in (0.0, 1e-3, 1e9))
    assert equal(free, same)
    torch.manual_seed(1)
    start = UNet(depth=1, features=2, dropout=0.3).state_dict()
    moved = torch.cat([(clipped[name] - start[name]).flatten() for name in start]).norm()
    assert moved == pytest.approx(1e-3, rel=1e-2)  # float32 differences of weights a thousand times as large


def test_the_curve_is_a_table_too(made, tmp_path):
    run(made, tmp_path)
    rows = [line.split("\t") for line in (tmp_path / "curve.tsv").read_text().splitlines()]
    assert rows[0] == ["step", "loss", "learning_rate", "score", "threshold"]
    points = [[float(value) if value else None for value in row] for row in rows[1:]]
    assert points == read_json(tmp_path / "network.json")["curve"]


def test_a_finished_run_is_published_again_without_a_step(made, tmp_path, monkeypatch):
    expected = run(made, tmp_path)
    monkeypatch.setattr(loop, "weighted_cross_entropy", None)
    assert equal(expected, run(made, tmp_path))


def test_images_that_do_not_fit_are_read_tile_by_tile(made, tmp_path, caplog):
    caplog.set_level("INFO")
    held, stored, again = (run(made, tmp_path / str(n), memory=m, steps=4) for n, m in enumerate((100, 0, 0)))
    assert "they are read tile by tile" in caplog.text
    assert equal(stored, again)
    assert equal(held, stored), "a job that is given more memory goes on as the one before"


def test_a_changed_setting_starts_a_new_run(made, tmp_path):
    run(made, tmp_path)
    assert equal(run(made, tmp_path, learning_rate=1e-2), run(made, tmp_path / "fresh", learning_rate=1e-2))


def other_border(made):
    write_weights(made["image"], made["truth"], made["weights"], sample="s", border=40)


def other_percentiles(made):
    write_mask(made["image"], made["tissue"], sample="s", contrast=0, percentiles=(10, 80))


def other_pixel_size(made):
    data = Path(made["image"]).parents[2] / "data" / "images"
    sides = {**SIDES, "pixel_size": [1, 3, 1], "override": True}
    ingest(sorted(map(str, data.iterdir())), made["image"], sample="s", **sides)


@pytest.mark.parametrize("change", [other_border, other_percentiles, other_pixel_size])
def test_changed_inputs_start_a_new_run(tmp_path, change):
    made = prepare(tmp_path, [(70, 80)])
    before = run(made, tmp_path / "a")
    change(made)
    again, fresh = run(made, tmp_path / "a"), run(made, tmp_path / "fresh")
    assert equal(again, fresh)
    assert not equal(again, before)


@pytest.mark.parametrize("change", [{"downsample": "stride"}, {"dice": 1.0}, {"backbone": "test_resnet"}])
def test_other_kinds_are_one_run_too(made, tmp_path, change):
    settings = {"steps": 3, "depth": 2, **change}
    assert equal(run(made, tmp_path / "a", **settings), run(made, tmp_path / "b", **settings))
    assert not equal(run(made, tmp_path / "a", **settings), run(made, tmp_path / "c", steps=3, depth=2))


def test_volumes_of_other_voxels_are_refused(tmp_path):
    made = [prepare(tmp_path / str(z), [(12, 40, 40)], spacing=(z, 0.5, 0.5), dimensions=3) for z in (0.5, 2.0)]
    paths = ([m[name] for m in made] for name in ("image", "tissue", "weights"))
    with pytest.raises(ValueError, match=r"00 has voxels of \[2.0, 0.5, 0.5\] µm, .*: one network cannot learn both"):
        train(*paths, str(tmp_path / "network.json"), dimensions=3, **SMALL)


def test_planes_are_no_volumes(made, tmp_path):
    with pytest.raises(ValueError, match="00, 01: one slice is no volume; set dimensions to 2"):
        run(made, tmp_path, dimensions=3)


def test_it_learns(made, tmp_path):
    run(made, tmp_path, steps=150, learning_rate=1e-2, features=4, normalise=True)
    losses = [loss for _, loss, *_ in read_json(tmp_path / "network.json")["curve"]]
    assert np.median(losses[-20:]) < 0.6 * np.median(losses[:5])


def test_class_weights_are_inverse_to_their_share():
    weights = class_weights(np.array([300, 100]), 1.0)
    assert weights[1] / weights[0] == pytest.approx(3)
    assert (weights * [0.75, 0.25]).sum() == pytest.approx(1)
    assert class_weights(np.array([300, 100]), 0.0).tolist() == [1, 1]


def test_an_absent_class_is_named():
    with pytest.raises(ValueError, match="class 1 has no pixel"):
        class_weights(np.array([300, 0]), 1.0)


def test_the_rate_rises_and_falls():
    rates = [learning_rate(step, 100, 1.0) for step in range(100)]
    assert rates[0] == 0.2
    assert max(rates) == 1.0
    assert rates[-1] < 1e-3
    assert np.argmax(rates) in (4, 5)
