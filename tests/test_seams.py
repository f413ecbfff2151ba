"""Windows across the borders of blocks show whether blocks give what one pass gives."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scenes import prepare

from unetpipe.geometry import Axis
from unetpipe.network import UNet
from unetpipe.overlap_tile import grid, read_block, volume_blocks, written
from unetpipe.predict import part
from unetpipe.predict.part import predict_part
from unetpipe.predict.publish import publish_probabilities
from unetpipe.saved import save_network
from unetpipe.seams import NOTABLE, across, chosen
from unetpipe.store import read_attributes

AXES = {
    "planes": (Axis(stride=4, halo=9, lost=2), Axis(stride=4, halo=9, lost=2)),
    "volume": (Axis(stride=2, halo=3, lost=1), Axis(stride=4, halo=9, lost=2), Axis(stride=4, halo=9, lost=2)),
}


@given(
    axes=st.sampled_from(["planes", "volume"]),
    shape=st.tuples(st.integers(1, 20), st.integers(1, 90), st.integers(1, 90)),
    side=st.sampled_from([8, 20, 32]),
    ahead=st.booleans(),
    largest=st.sampled_from([8, 16, 256]),
)
def test_a_window_lies_across_every_border_on_its_side(axes, shape, side, ahead, largest):
    sides = (4, side, side)
    full, steps = grid(shape, sides, AXES[axes])
    for block in volume_blocks(shape, sides, AXES[axes]):
        window = across(block, shape, sides, AXES[axes], ahead=ahead, largest=largest)
        beside = [p.stop < n if ahead else p.start > 0 for p, n in zip(block.write, shape, strict=True)]
        if window is None:
            # half of it is no multiple of the stride
            narrow = [min(step, largest) < 2 * axis.stride for step, axis in zip(steps, full, strict=True)]
            assert all(n or not b for n, b in zip(narrow, beside, strict=True))
            continue
        parts = zip(block.read, block.write, window.block.read, window.block.write, window.origin, strict=True)
        for (read, write, moved, compared, origin), axis, step in zip(parts, full, steps, strict=True):
            assert (moved.start - read.start) % axis.stride == 0  # poolings meet the same phase
            wide = axis.output(min(step, largest))
            assert moved.stop - moved.start == wide + 2 * axis.halo <= read.stop - read.start
            assert origin - moved.start == axis.halo
            assert write.start <= compared.start < compared.stop <= write.stop
            assert origin <= compared.start < compared.stop <= origin + wide
            if origin != write.start:
                assert origin < write.start or origin + wide > write.stop  # the neighbour's pixels are inside


@given(count=st.integers(0, 400))
def test_few_windows_are_chosen_evenly(count):
    picked = chosen(range(count))
    assert len(picked) == min(8, -(-count // 16))
    assert len(set(picked)) == len(picked)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """An image of many blocks, and a network that was never trained."""
    folder = tmp_path_factory.mktemp("seams")
    made = prepare(folder, [(290, 270)])
    torch.manual_seed(3)
    made["network"] = str(folder / "network.json")
    save_network(UNet(features=4, depth=2, dropout=0.0), made["network"], {"precision": "float32"})
    return made


def predict(made, folder):
    paths, store = [made["image"], made["tissue"], [made["network"]]], str(folder / "p.zarr" / "zarr.json")
    predict_part(*paths, str(folder / "0.json"), store=store, sample="s", block=64)
    publish_probabilities(*paths, store, sample="s", block=64)
    return read_attributes(store)["seams"]


def test_blocks_that_fit_together_are_certified(made, tmp_path):
    seams = predict(made, tmp_path)
    assert seams["windows"] == 2
    assert seams["largest_difference"] <= 1 / 255  # of uint8
    assert seams["changed"] <= 1e-3  # kernels round by tile shape


def mirrored_at_its_own_border(source, t, block, statistics):
    """The usual fault: each block is padded by its own mirror image instead of its neighbours."""
    seen = read_block(source, t, block, statistics)
    inside = tuple(
        slice(max(0, w.start - r.start), seen.shape[axis] - max(0, r.stop - w.stop))
        for axis, (r, w) in enumerate(zip(block.read, block.write, strict=True), start=1)
    )
    pad = [(0, 0), *((i.start, n - i.stop) for i, n in zip(inside, seen.shape[1:], strict=True))]
    return np.pad(seen[(slice(None), *inside)], pad, mode="reflect")


def mirrored_on_one_side(source, t, block, statistics):
    seen = read_block(source, t, block, statistics)
    halo = block.write[2].start - block.read[2].start
    return np.pad(seen[..., halo:], [(0, 0)] * 3 + [(halo, 0)], mode="reflect")


def written_one_pixel_aside(found, block):
    return np.roll(written(found, block), 1, axis=-1)


FAULTS = {
    "read_block": [mirrored_at_its_own_border, mirrored_on_one_side],
    "written": [written_one_pixel_aside],
}


@pytest.mark.parametrize(("name", "fault"), [(name, fault) for name, faults in FAULTS.items() for fault in faults])
def test_a_wrong_halo_shows(made, tmp_path, monkeypatch, caplog, name, fault):
    monkeypatch.setattr(part, name, fault)
    assert predict(made, tmp_path)["largest_difference"] > NOTABLE
    assert "do not use them" in caplog.text
