"""Several devices take the same steps as one: tested with processes on the CPU."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scenes import prepare

from unetpipe.manifest import read_json
from unetpipe.tiles import draw_batch, list_series, load
from unetpipe.train import train
from unetpipe.train.job import build, make_drawing

PLAIN = {
    "depth": 1,
    "features": 2,
    "tile": 20,
    "batch": 4,
    "steps": 3,
    "dropout": 0.0,
    "optimiser": "sgd",
    "precision": "float32",
    "device": "cpu",
}
DRIVER = """
import json, sys
from unetpipe.log import log_to
from unetpipe.train import loop, train
loop.SAVE_EVERY = 0
call, log = json.loads(sys.argv[1])
log_to(log)
train(**call)
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return prepare(tmp_path_factory.mktemp("ranks"), [(70, 80), (60, 60)])


def call(made, folder, **changes):
    inputs = {"images": [made["image"]], "tissues": [made["tissue"]], "weights": [made["weights"]]}
    return {**inputs, "output": str(folder / "network.json"), **PLAIN, **changes}


def run(made, folder, **changes):
    train(**call(made, folder, **changes))
    return load_file(folder / "network.safetensors")


@pytest.mark.parametrize(
    "changes", [{"dice": 1.0}, {"steps": 1, "learning_rate": 1.0, "clip": 0.0}, {"validations": 3}]
)
def test_two_ranks_go_where_one_goes_with_the_same_batch(made, tmp_path, changes):
    """After one step of plain descent at rate 1 the difference of the weights is the gradient."""
    seen = [[made[name]] for name in ("image", "tissue", "truth")] if "validations" in changes else ([], [], [])
    one, two = (run(made, tmp_path / str(n), devices=n, validation=seen, **changes) for n in (1, 2))
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=1e-4, atol=1e-5)  # float32 sums in another order
    curves = [read_json(tmp_path / str(devices) / "network.json")["curve"] for devices in (1, 2)]
    assert [point[3:] for point in curves[0]] == [point[3:] for point in curves[1]]
    losses = [torch.tensor([point[:3] for point in curve]) for curve in curves]
    torch.testing.assert_close(*losses, rtol=1e-4, atol=1e-5)  # likewise


def test_a_batch_is_the_same_however_many_share_it(made):
    series = list_series([made["image"]], [made["tissue"]], [made["weights"]])
    settings = {"seed": 1, "planes": 1, "balance": 1.0, "anywhere": 0.5, "augment": None, "pretrained": None}
    shape = {"dimensions": 2, "depth": 1, "features": 2, "dropout": 0.0, "downsample": "pool", "normalise": False}
    network = build(series, 2, {**settings, **shape, "backbone": None})
    choices = type("Choices", (), {"tile": 20, "batch": 4})
    drawing = make_drawing(network, np.array([5, 1]), settings, torch.device("cpu"), choices)
    material = load(series, 2, torch.device("cpu"))
    whole = draw_batch(material, drawing, 7)
    for ranks in (2, 4):
        shares = [draw_batch(material, drawing._replace(rank=rank, ranks=ranks), 7) for rank in range(ranks)]
        for part, pieces in zip(whole, zip(*shares, strict=True), strict=True):
            assert torch.equal(part, torch.cat(pieces))


def test_a_batch_that_cannot_be_shared_is_refused(made, tmp_path):
    with pytest.raises(ValueError, match=r"train.batch 3 is not a multiple of the job's 2 devices"):
        run(made, tmp_path, batch=3, devices=2)


def test_a_run_that_goes_on_with_other_devices_never_loses_a_tile(made, tmp_path, monkeypatch):
    monkeypatch.setattr("unetpipe.watch.Watch.reason", lambda *_: "SIGTERM")
    with pytest.raises(InterruptedError):
        run(made, tmp_path, batch="auto", tile=388)
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"train.batch 1 is not a multiple of the job's 2 devices; set it so, or"):
        run(made, tmp_path, batch="auto", tile=388, devices=2)


def test_no_gpu_asked_for_is_one_process(made, tmp_path):
    one, none = (run(made, tmp_path / str(devices), devices=devices) for devices in (1, 0))
    assert all(torch.equal(one[name], none[name]) for name in one)


def start(made, folder, **changes):
    message = json.dumps([call(made, folder, devices=2, **changes), str(folder / "log")])
    return subprocess.Popen([sys.executable, "-c", DRIVER, message], stderr=subprocess.PIPE, text=True)


def wait_for_a_checkpoint(folder, process):
    while not list(folder.glob("checkpoint-*.pt")) and process.poll() is None:
        time.sleep(0.02)


def children(process):
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"


LONG = {"steps": 60, "dropout": 0.3, "optimiser": "adamw"}


@pytest.fixture(scope="module")
def through(made, tmp_path_factory):
    """The weights of two ranks that were never stopped."""
    return run(made, tmp_path_factory.mktemp("through"), devices=2, **LONG)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the other rank through /proc")
@pytest.mark.parametrize(
    "victim",
    ["the first, asked", pytest.param("the first, killed", marks=pytest.mark.long), "the other, killed"],
)
def test_stopped_anywhere_two_ranks_go_on_and_end_with_the_same_weights(made, through, tmp_path, victim):
    process = start(made, tmp_path, **LONG)
    wait_for_a_checkpoint(tmp_path, process)
    (other,) = children(process)
    if victim == "the first, asked":
        process.send_signal(signal.SIGTERM)
    else:
        os.kill(process.pid if victim == "the first, killed" else other, signal.SIGKILL)
    _, said = process.communicate(timeout=60)
    assert process.returncode != 0
    expected = {"the first, asked": "SIGTERM: training saved at step", "the other, killed": "rank 1 of 2 failed"}
    assert expected.get(victim, "") in said
    deadline = time.monotonic() + 40
    while alive(other) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not alive(other)
    assert not (tmp_path / "network.json").exists()
    on = run(made, tmp_path, devices=2, **LONG)
    assert all(torch.equal(on[name], through[name]) for name in through)
