"""Prediction that is killed, runs out of disk, or is started twice loses and repeats nothing, and ends the same."""

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import disturbed
import numpy as np
import pytest
import torch
from scenes import prepare

from unetpipe.network import UNet
from unetpipe.predict import part
from unetpipe.predict.part import predict_part
from unetpipe.predict.publish import publish_probabilities
from unetpipe.saved import save_network

DRIVER = """
import json, sys, time
import unetpipe.predict.part as part
from unetpipe.predictor import Predictor
call, counter, pause = json.loads(sys.argv[1])
network = Predictor.__call__

def counted(self, grey, **how):
    found = network(self, grey, **how)
    with open(counter, "ab") as file:
        file.write(b".")
    time.sleep(pause)
    return found

Predictor.__call__ = counted
part.predict_part(*call.pop("paths"), **call)
"""
KILLS = 5


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """An image of 70 blocks, and a network that was never trained."""
    folder = tmp_path_factory.mktemp("faults")
    made = prepare(folder, [(320, 420)])
    torch.manual_seed(3)
    made["network"] = str(folder / "network.json")
    save_network(UNet(features=4, depth=2, dropout=0.0), made["network"], {"precision": "float32"})
    return made


def call(made, folder, **changes):
    paths = [made["image"], made["tissue"], [made["network"]], str(folder / f"{changes.get('part', 0)}.json")]
    return {"paths": paths, "store": str(folder / "p.zarr" / "zarr.json"), "sample": "s", "block": 64, **changes}


def start(made, folder, *, counter=None, pause=0.0, **changes):
    message = json.dumps([call(made, folder, **changes), str(counter or folder / "calls"), pause])
    return subprocess.Popen([sys.executable, "-c", DRIVER, message], stderr=subprocess.PIPE, text=True)


def finish(made, folder):
    paths = [made["image"], made["tissue"], [made["network"]], str(folder / "p.zarr" / "zarr.json")]
    publish_probabilities(*paths, sample="s", block=64)


def content(folder):
    files = (folder / "p.zarr").rglob("*")
    return {p.relative_to(folder): p.read_bytes() for p in files if p.is_file() and ".ledger" not in p.parts}


@pytest.fixture(scope="module")
def undisturbed(made, tmp_path_factory):
    """What one run in one go leaves."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with start(made, folder) as process:
        assert process.wait() == 0, process.stderr.read()
    finish(made, folder)
    return content(folder), len((folder / "calls").read_bytes())


def test_killed_each_time_it_ends_with_the_same_bytes_and_repeats_only_what_was_in_flight(made, undisturbed, tmp_path):
    expected, calls = undisturbed
    random, counter = np.random.default_rng(2), tmp_path / "calls"
    counter.touch()
    for number in range(KILLS):
        with start(made, tmp_path, pause=0.02) as process:
            before = counter.stat().st_size
            while counter.stat().st_size < before + 2 and process.poll() is None:
                time.sleep(0.005)
            time.sleep(random.uniform(0, 0.1))
            process.kill()
        assert process.returncode == -9, number  # it had not ended before
    with start(made, tmp_path) as process:
        assert process.wait() == 0, process.stderr.read()
    finish(made, tmp_path)
    assert content(tmp_path) == expected
    assert calls <= counter.stat().st_size <= calls + KILLS * part.WORKERS


def test_four_processes_leave_the_bytes_of_one(made, undisturbed, tmp_path):
    processes = [start(made, tmp_path, counter=tmp_path / f"calls{n}", part=n, parts=4) for n in range(4)]
    for process in processes:
        _, said = process.communicate()
        assert process.returncode == 0, said
    finish(made, tmp_path)
    assert content(tmp_path) == undisturbed[0]
    assert sum((tmp_path / f"calls{n}").stat().st_size for n in range(4)) == undisturbed[1]


def test_the_second_process_on_one_part_is_refused(made, tmp_path):
    with start(made, tmp_path, pause=10) as first:
        while not (tmp_path / "calls").exists() and first.poll() is None:
            time.sleep(0.01)
        with start(made, tmp_path) as second:
            _, said = second.communicate()
        assert second.returncode != 0
        assert re.search(r"is being written by process \d+ on .*; wait for it to end", said)
        first.kill()


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 256 KiB, where one can be mounted."""
    with disturbed.small_disk(tmp_path / "small", 2**18) as mounted:
        if not mounted:
            pytest.skip("a tmpfs can be mounted by root only")
        yield tmp_path / "small"


def test_a_full_disk_is_said_and_after_space_is_made_it_goes_on(made, undisturbed, tmp_path, small_disk):
    expected, calls = undisturbed
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(180 * 1024))
    counter = tmp_path / "calls"
    with start(made, small_disk, counter=counter) as process:
        _, said = process.communicate()
    assert process.returncode != 0
    assert re.search(r"p\.zarr/0/c/.* cannot be written: its disk is full, 0\.0 of 0 MB free; make room", said)
    assert 'sample "s"' in said
    before = counter.stat().st_size
    assert 0 < before < calls
    ballast.unlink()
    with start(made, small_disk, counter=counter) as process:
        assert process.wait() == 0, process.stderr.read()
    finish(made, small_disk)
    assert content(small_disk) == expected
    assert counter.stat().st_size <= calls + 2 * part.WORKERS


def test_damaged_weights_are_said_once_before_any_block(made, tmp_path):
    for suffix in (".json", ".safetensors"):
        shutil.copy(Path(made["network"]).with_suffix(suffix), tmp_path / f"n{suffix}")
    weights = tmp_path / "n.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\1\2\3")
    with start({**made, "network": str(tmp_path / "n.json")}, tmp_path) as process:
        _, said = process.communicate()
    assert process.returncode != 0
    assert "n.safetensors" in said
    assert "series could not be" not in said
    assert not (tmp_path / "calls").exists()


def test_an_output_that_cannot_be_written_is_named(made, tmp_path):
    (tmp_path / "p.zarr").write_text("a file, where the store has to be")
    with pytest.raises(OSError, match=r"p\.zarr"):
        predict_part(*(arguments := call(made, tmp_path)).pop("paths"), **arguments)


def test_the_store_is_no_path_to_be_half_read(made, undisturbed, tmp_path):
    """Until publishing there is no root, so that no reader takes a store that is still written for a whole one."""
    with start(made, tmp_path) as process:
        assert process.wait() == 0
    assert not Path(tmp_path / "p.zarr" / "zarr.json").exists()
    finish(made, tmp_path)
    assert content(tmp_path) == undisturbed[0]
