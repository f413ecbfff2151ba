"""No two jobs compute on one GPU, and none waits for ever; the GPUs are names here, the processes are real."""

import errno
import logging
import subprocess
import sys
import time
import uuid

import pytest
import torch

from unetpipe import locks
from unetpipe.gpus import granted, reserved

JOB = """
import sys, time
from pathlib import Path
from unetpipe.gpus import reserved
folder, count = Path(sys.argv[1]), int(sys.argv[2])
with reserved(["a", "b"], count, folder) as numbers:
    begun = time.time()
    time.sleep(0.3)
    print(*numbers, begun, time.time())
"""


def start(folder, count):
    command = [sys.executable, "-c", JOB, folder, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_jobs_beside_each_other_never_share_and_all_get_their_turn(tmp_path):
    """Two of the five need both GPUs: taken one by one, each could hold what the other waits for."""
    jobs = [start(tmp_path, count) for count in (1, 2, 1, 2, 1)]
    spans = []
    for job in jobs:
        *numbers, begun, ended = job.communicate(timeout=120)[0].split()
        assert job.returncode == 0
        spans += [(number, float(begun), float(ended)) for number in numbers]
    assert len(spans) == 7
    for number, begun, ended in spans:
        others = [other for other in spans if other[0] == number and other != (number, begun, ended)]
        assert all(ended <= other_begun or other_ended <= begun for _, other_begun, other_ended in others)


def test_a_free_one_is_taken_before_any_is_waited_for(tmp_path):
    with reserved(["a", "b"], 1, tmp_path) as first, reserved(["a", "b"], 1, tmp_path) as second:
        assert (first, second) == ([0], [1])


def test_a_job_gets_different_ones_where_the_folder_knows_no_locks(tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOSYS, "no locks")

    monkeypatch.setattr(locks.fcntl, "flock", flock)
    with reserved(["a", "b"], 2, tmp_path) as numbers:
        assert numbers == [0, 1]


def test_who_waits_says_for_whom_and_a_killed_job_holds_nothing(tmp_path, caplog, monkeypatch):
    with subprocess.Popen(
        [sys.executable, "-c", JOB.replace("0.3", "600"), tmp_path, "2"], stdout=subprocess.DEVNULL
    ) as other:
        while not (tmp_path / "b.lock").exists() or not (tmp_path / "b.lock").read_text():
            time.sleep(0.05)
        monkeypatch.setattr(time, "sleep", lambda _: other.kill() or other.wait())
        with caplog.at_level(logging.WARNING), reserved(["a", "b"], 1, tmp_path) as numbers:
            assert numbers == [0]
    assert f"all of which are taken: process {other.pid} on" in caplog.text


def test_gpus_are_known_by_their_identity_whatever_number_a_job_sees(tmp_path, monkeypatch):
    """Under Slurm every job calls its first GPU 0; each of the two is another."""
    seen = {"identity": uuid.uuid4()}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda _: type("Properties", (), {"uuid": seen["identity"]})
    )
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with granted("cuda") as first:
        seen["identity"] = uuid.uuid4()
        with granted("auto") as second:
            assert first == second == [torch.device("cuda", 0)]
        with pytest.raises(RuntimeError, match=r"asked for 2 GPUs or more and sees 1"), granted("cuda", 2):
            pass


def test_on_a_cpu_nothing_is_waited_for():
    with granted("cpu", 2) as first, granted("cpu", 1) as second:
        assert (first, second) == ([torch.device("cpu")] * 2, [torch.device("cpu")])
