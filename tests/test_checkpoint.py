"""A checkpoint is taken whole or not at all, and never from another run."""

import pytest
import torch

from unetpipe.checkpoint import load_checkpoint, save_checkpoint


def state(step, key="a"):
    return {"key": key, "step": step, "network": {"weight": torch.full((3,), float(step))}, "history": ([[1, 0.5]], [])}


@pytest.fixture
def folder(tmp_path):
    for step in (3, 9, 12):
        save_checkpoint(tmp_path, state(step))
    return tmp_path


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_last_two_are_kept_and_the_newest_is_taken(folder):
    assert names(folder) == ["checkpoint-00000009.pt", "checkpoint-00000012.pt"]
    found = load_checkpoint(folder, "a")
    assert found["step"] == 12
    assert torch.equal(found["network"]["weight"], torch.full((3,), 12.0))
    assert found["history"] == ([[1, 0.5]], [])


@pytest.mark.parametrize("length", [0, 7, 500, -1])
def test_a_truncated_one_gives_way_to_the_one_before(folder, caplog, length):
    path = folder / "checkpoint-00000012.pt"
    path.write_bytes(path.read_bytes()[:length])
    assert load_checkpoint(folder, "a")["step"] == 9
    assert "checkpoint-00000012.pt is not whole" in caplog.text


def test_one_changed_bit_is_seen(folder):
    path = folder / "checkpoint-00000012.pt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert load_checkpoint(folder, "a")["step"] == 9


def test_none_is_whole(folder):
    for path in folder.iterdir():
        path.write_bytes(b"")
    assert load_checkpoint(folder, "a") is None


def test_damaged_ones_do_not_crowd_out_the_next(folder):
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes()[:-1])
    assert load_checkpoint(folder, "a") is None
    save_checkpoint(folder, state(3))
    assert load_checkpoint(folder, "a")["step"] == 3


def test_another_run_starts_anew_and_leaves_nothing_behind(folder, caplog):
    assert load_checkpoint(folder, "b") is None
    assert "belongs to other inputs or settings: a new run starts" in caplog.text
    assert names(folder) == []


def test_what_a_killed_process_had_begun_is_deleted(folder):
    (folder / ".0123abcd.checkpoint-00000015.pt").write_bytes(b"half")
    assert load_checkpoint(folder, "a")["step"] == 12
    assert names(folder) == ["checkpoint-00000009.pt", "checkpoint-00000012.pt"]


def test_nothing_is_there_at_first(tmp_path):
    assert load_checkpoint(tmp_path / "none", "a") is None
