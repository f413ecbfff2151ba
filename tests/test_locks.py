"""One writer at a time, whatever became of the last one."""

import errno
import fcntl
import logging
import subprocess
import sys

import pytest
from disturbed import full, small_disk

from unetpipe.locks import held

HOLD = """
import sys, time
from unetpipe.locks import held
with held(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_writer_is_told_who_the_first_is(tmp_path):
    with subprocess.Popen([sys.executable, "-c", HOLD, tmp_path / "x" / ".lock"], stdout=subprocess.PIPE) as first:
        first.stdout.readline()
        with pytest.raises(
            BlockingIOError, match=rf"x is being written by process {first.pid} on .*; wait for it to end"
        ):
            with held(tmp_path / "x" / ".lock"):
                pass
        first.kill()
    with held(tmp_path / "x" / ".lock"):  # a dead process holds nothing
        assert (tmp_path / "x" / ".lock").read_text().startswith("process ")
    assert (tmp_path / "x" / ".lock").read_text() == ""


def test_a_failure_lets_go(tmp_path):
    with pytest.raises(ZeroDivisionError), held(tmp_path / ".lock"):
        1 / 0  # noqa: B018 - raises
    with held(tmp_path / ".lock"):
        pass


def test_file_systems_without_locks_are_warned_of(tmp_path, monkeypatch, caplog):
    def refuse(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with caplog.at_level(logging.WARNING), held(tmp_path / ".lock"):
        pass
    assert "no locks on this file system" in caplog.text


def test_a_full_disk_is_said_where_nobody_can_even_sign(tmp_path):
    disk = tmp_path / "disk"
    with small_disk(disk, 2**16) as mounted:
        if not mounted:
            pytest.skip("a tmpfs can be mounted by root only")
        with (
            full(disk, 0),
            pytest.raises(OSError, match=r"disk/\.lock cannot be written: its disk is full, 0\.0 of 0 MB"),
        ):
            with held(disk / ".lock"):
                pass
