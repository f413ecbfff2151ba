"""A file is there whole or not at all, and nothing is left beside it."""

import ctypes
import errno
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import xxhash

from unetpipe.manifest import digest, flush_folder, read_json, replacing, write_json
from unetpipe.sources import PIECE, source_digest

WRITE = """
import sys, time
from unetpipe.manifest import replacing
with replacing(sys.argv[1]) as aside:
    aside.write_text("half")
    print("writing", flush=True)
    time.sleep(60)
"""


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_what_a_killed_process_left_is_deleted_by_the_next_one(tmp_path):
    write_json(tmp_path / "a.json", 1)
    with subprocess.Popen([sys.executable, "-c", WRITE, tmp_path / "a.json"], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        write_json(tmp_path / "a.json", 2)
        write_json(tmp_path / "b.json", 3)
        assert len(names(tmp_path)) == 3  # a living process keeps its own
        process.kill()
    write_json(tmp_path / "b.json", 4)
    assert len(names(tmp_path)) == 3  # not of this name
    write_json(tmp_path / "a.json", 5)
    assert names(tmp_path) == ["a.json", "b.json"]
    assert read_json(tmp_path / "a.json") == 5


def test_a_failure_leaves_the_old_file_alone(tmp_path):
    write_json(tmp_path / "a.json", 1)
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "a.json") as aside:
        aside.rename(tmp_path / "b.json")
    assert names(tmp_path) == ["a.json", "b.json"]
    assert read_json(tmp_path / "a.json") == 1


def test_many_writers_of_one_file_disturb_each_other_not(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: write_json(tmp_path / "a.json", number), range(400)))
    assert names(tmp_path) == ["a.json"]
    assert read_json(tmp_path / "a.json") in range(400)


def test_the_digest_of_a_source_is_that_of_its_pieces(tmp_path):
    """Wherever one read ends; another order of the pieces is another file."""
    content = np.random.default_rng(0).bytes(2 * PIECE + 12345)
    pieces = [content[start : start + PIECE] for start in range(0, len(content), PIECE)]
    (tmp_path / "a").write_bytes(content)
    assert source_digest(tmp_path / "a") == digest([["", len(p), xxhash.xxh3_128(p).hexdigest()] for p in pieces])
    (tmp_path / "b").write_bytes(pieces[1] + pieces[0] + pieces[2])
    assert source_digest(tmp_path / "b") != source_digest(tmp_path / "a")


def test_a_folder_is_flushed_and_what_the_disk_then_refuses_is_said(tmp_path, monkeypatch):
    flush_folder(tmp_path)

    def full(_) -> int:
        ctypes.set_errno(errno.ENOSPC)
        return -1

    monkeypatch.setattr("unetpipe.manifest.LIBC", SimpleNamespace(syncfs=full))
    with pytest.raises(OSError, match=f"{tmp_path} cannot be written: its disk is full"):
        flush_folder(tmp_path)
