"""The ledger believes only what still holds, and one failed series does not stop the others."""

import json
import os
import resource
import time
from functools import partial

import pytest
from dask.callbacks import Callback

from unetpipe.blocks import Done, Ledger, Stage, Task, raise_failures, run
from unetpipe.manifest import file_checksum


def writer(path, text, calls):
    def work():
        calls.append(path.name)
        path.write_text(text)
        return Done([path], note=text)

    return work


def write(store, key, names, calls, **options):
    with Ledger(store, "stage", key, **options) as ledger:
        run([Task("0", name, writer(store / name, name, calls)) for name in names], ledger, {}, workers=2)
    return ledger


def test_a_second_run_does_nothing(tmp_path):
    calls = []
    write(tmp_path, "key", "abc", calls)
    again = write(tmp_path, "key", "abc", calls)
    assert sorted(calls) == ["a", "b", "c"]
    assert again.notes()["0"] == {"0 a": "a", "0 b": "b", "0 c": "c"}


def test_another_key_starts_anew(tmp_path):
    calls = []
    write(tmp_path, "key", "ab", calls)
    write(tmp_path, "other", "ab", calls)
    assert sorted(calls) == ["a", "a", "b", "b"]


@pytest.mark.parametrize("damage", [lambda p: p.write_text("x"), lambda p: p.unlink()])
def test_a_damaged_shard_is_written_again(tmp_path, damage):
    calls = []
    write(tmp_path, "key", "abc", calls)
    damage(tmp_path / "b")
    write(tmp_path, "key", "abc", calls)
    assert sorted(calls) == ["a", "b", "b", "c"]


def test_a_torn_last_line_costs_one_block(tmp_path):
    calls = []
    write(tmp_path, "key", "abc", calls)
    path = tmp_path / ".ledger" / "stage" / "all.jsonl"
    path.write_text(path.read_text()[:-20])
    write(tmp_path, "key", "abc", calls)
    assert len(calls) == 4


@pytest.mark.parametrize("damage", [b"\xff\xfe", b"[1, 2]\n", b'{"naMe": 1}\n', b'{"name": "0 d"}\n'])
def test_a_damaged_line_costs_no_other(tmp_path, damage):
    calls = []
    write(tmp_path, "key", "abc", calls)
    with open(tmp_path / ".ledger" / "stage" / "all.jsonl", "ab") as file:
        file.write(damage)
    write(tmp_path, "key", "abcd", calls)
    assert sorted(calls) == ["a", "b", "c", "d"]
    write(tmp_path, "key", "abcd", calls)
    assert len(calls) == 4


def test_a_start_that_dies_forgets_nothing(tmp_path, monkeypatch):
    calls = []
    write(tmp_path, "key", "abc", calls)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: 1 / 0)  # before the new ledger is renamed into place
        with pytest.raises(ZeroDivisionError):
            write(tmp_path, "key", "abcd", calls)
    write(tmp_path, "key", "abcd", calls)
    assert sorted(calls) == ["a", "b", "c", "d", "d"]


def test_a_run_that_finishes_nothing_leaves_the_ledger_of_another_key(tmp_path):
    calls = []
    write(tmp_path, "key", "abc", calls)
    with Ledger(tmp_path, "stage", "other") as refused:
        assert not refused.finished
    write(tmp_path, "key", "abc", calls)
    assert sorted(calls) == ["a", "b", "c"]


def test_a_line_is_noted_whole_or_not_at_all(tmp_path):
    """A disk that takes the first ten bytes of a line."""
    with Ledger(tmp_path, "stage", "key") as ledger:
        ledger.record("0 a", Done())
        size = ledger.path.stat().st_size
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, before[1]))
        try:
            with pytest.raises(OSError, match=r"all.jsonl cannot be written: its disk is full"):
                ledger.record("0 b", Done())
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert ledger.path.stat().st_size == size
        assert "0 b" not in ledger.finished
        ledger.record("0 c", Done())
    assert list(Ledger(tmp_path, "stage", "key").finished) == ["0 a", "0 c"]


def test_a_part_believes_the_others(tmp_path):
    calls = []
    write(tmp_path, "key", "ab", calls, part="0")
    write(tmp_path, "key", "abc", calls, part="1")
    assert sorted(calls) == ["a", "b", "c"]


def test_a_part_reads_no_shards_but_its_own_and_forgets_none(tmp_path, monkeypatch):
    """The others were its own when there were fewer parts."""
    write(tmp_path, "key", "abcd", [], part="0")
    read, calls = [], []
    monkeypatch.setattr("unetpipe.blocks.file_checksum", lambda path: read.append(path.name) or file_checksum(path))
    write(tmp_path, "key", "ae", calls, part="0", among={"0 a", "0 e"})
    assert (calls, sorted(read)) == (["e"], ["a", "e"])
    assert sorted(Ledger(tmp_path, "stage", "key").finished) == ["0 a", "0 b", "0 c", "0 d", "0 e"]


def test_a_line_that_holds_is_believed_whatever_another_part_says(tmp_path):
    """Part 3 wrote a block whose shard was damaged; part 0 wrote it again, with other bytes."""
    for part, content in (("3", b"before"), ("0", b"now")):
        (tmp_path / "shard").write_bytes(content)
        with Ledger(tmp_path, "stage", "key", part=part) as ledger:
            assert "0 a" not in ledger.finished
            ledger.record("0 a", Done([tmp_path / "shard"], note=part))
    for part in ("0", "3", "publish"):
        assert Ledger(tmp_path, "stage", "key", part=part).finished["0 a"]["note"] == "0"
    with Ledger(tmp_path, "stage", "key", part="3") as ledger:
        ledger.begin()
    assert Ledger(tmp_path, "stage", "key").finished["0 a"]["note"] == "0"


def test_two_writers_of_one_part_are_refused(tmp_path):
    said = r"stage is being written by process \d+ on .*; wait for it to end"
    with Ledger(tmp_path, "stage", "key"), pytest.raises(BlockingIOError, match=said):
        Ledger(tmp_path, "stage", "key")
    with Ledger(tmp_path, "stage", "key"):
        pass


def test_a_missing_block_is_named(tmp_path):
    ledger = write(tmp_path, "key", "ab", [])
    with pytest.raises(RuntimeError, match=r"1 blocks are not accounted for \(0 c"):
        ledger.check_coverage(["0 a", "0 b", "0 c"])


def test_one_failed_series_leaves_the_others_whole(tmp_path):
    def fail():
        raise ValueError("no pixels")

    failures = {}
    ledger = Ledger(tmp_path, "stage", "key")
    tasks = [Task("0", "a", fail), Task("0", "b", fail), Task("1", "a", writer(tmp_path / "a", "a", []))]
    run(tasks, ledger, failures, workers=1)
    assert list(ledger.finished) == ["1 a"]
    with pytest.raises(RuntimeError, match=r'sample "s07": 1 series .*\n  series 0: no pixels'):
        raise_failures("s07", failures)


def test_the_ledger_is_lines_of_json(tmp_path):
    write(tmp_path, "key", "a", [])
    lines = (tmp_path / ".ledger" / "stage" / "all.jsonl").read_text().splitlines()
    assert [sorted(json.loads(line)) for line in lines] == [["key"], ["name", "note", "shards", "skipped"]]


def test_every_stage_is_a_task_and_no_more_blocks_are_held_than_workers(tmp_path):
    """Counted by Dask's own callback; a block is held from its reading until it is written."""
    counted, held, most = [], set(), []

    def read(name):
        held.add(name)
        most.append(len(held))
        time.sleep(0.002)
        return name

    def write(name):
        held.remove(name)
        (tmp_path / name).write_text(name)
        return Done([tmp_path / name], note=name)

    names = [f"{number:03d}" for number in range(600)]  # more than Dask is told of at once
    stages = {name: (Stage("read", partial(read, name)), Stage("network", str.upper)) for name in names}
    tasks = [Task("0", name, write, before=stages[name]) for name in names]
    with (
        Ledger(tmp_path, "stage", "key") as ledger,
        Callback(pretask=lambda key, *_: counted.append(key.split(" of run ")[0])),
    ):
        spent = run(tasks, ledger, {}, workers=3)
    assert sorted(counted) == sorted(f"{stage} 0 {name}" for stage in ("read", "network", "write") for name in names)
    assert ledger.notes()["0"] == {f"0 {name}": name for name in names}
    assert max(most) == 3
    assert spent["read"] > 600 * 0.002


@pytest.mark.parametrize("broken", ["read", "network", "write"])
def test_a_stage_that_fails_ends_its_series(tmp_path, broken):
    def stage(name):
        def call(*_):
            if name == broken:
                raise ValueError(f"no {name}")
            return Done() if name == "write" else 1

        return call

    before = tuple(Stage(name, stage(name)) for name in ("read", "network"))
    failures = {}
    with Ledger(tmp_path, "stage", "key") as ledger:
        run([Task("0", name, stage("write"), before=before) for name in "abc"], ledger, failures, workers=2)
    assert str(failures["0"]) == f"no {broken}"
    assert not ledger.finished


def test_what_is_finished_is_recorded_though_another_block_of_its_series_failed(tmp_path):
    failures = {}

    def write():
        failures["0"] = ValueError("another block failed meanwhile")
        return Done(note="finished")

    with Ledger(tmp_path, "stage", "key") as ledger:
        run([Task("0", "a", write)], ledger, failures, workers=1)
    assert ledger.notes()["0"] == {"0 a": "finished"}
