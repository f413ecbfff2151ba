"""Every stage, killed, on a full and on a read-only disk: one sentence says so, and it ends as if nothing had been."""

import re

import numpy as np
import pytest
from disturbed import STAGES, Bench, full, read_only, small_disk

CLOCK = -400 * 86400.0  # seconds: set back by more than a year
DISK = 2**24  # bytes


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    return Bench(tmp_path_factory.mktemp("faults"))


@pytest.mark.parametrize("name", STAGES)
def test_a_disturbed_stage_says_why_and_ends_the_same(bench, tmp_path, name):
    ends = []
    with small_disk(tmp_path / "disk", DISK) as mounted:
        disk = tmp_path / "disk"
        results = bench.copy(name, disk)
        if mounted:
            with full(disk, bench.needs(name) // 3):
                ends.append(bench.run(name, results))
            refused(ends[-1], disk, r"its disk is full, 0\.\d of 17 MB free; make room")
        ends.append(bench.run(name, results, die_at=moment(bench, name)))
        if mounted:
            with read_only(disk):
                ends.append(bench.run(name, results))
            refused(ends[-1], disk, "its disk is read-only; mount it writable")
        ends.append(bench.run(name, results, clock=CLOCK))
        assert ends[-1].code == 0, ends[-1].said
        assert bench.differences(name, results) == []
    assert sum(end.work for end in ends) <= bench.usual[name].work + len(ends) * STAGES[name].flight


def moment(bench, name):
    """One of a stage's dealings with files, the same in every run."""
    random = np.random.default_rng(list(name.encode()))
    return int(random.integers(1, bench.usual[name].dealings, endpoint=True))


def refused(ended, disk, sentence):
    assert ended.code == 1
    assert re.search(
        rf"(Error|series 0.*): {disk}/run/results/.* cannot be written: {sentence}.*, then run again", ended.said
    ), ended.said
    assert "Traceback" not in ended.said
    assert "Logging error" not in ended.said
