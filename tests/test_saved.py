"""A saved network is the same network, and nothing else is taken for it."""

import pytest
import torch

from unetpipe.manifest import read_json, write_json
from unetpipe.network import UNet
from unetpipe.notes import axes_of
from unetpipe.saved import load_network, save_network

NETWORKS = [
    {"depth": 2, "channels": 2, "classes": 3, "normalise": True},
    {"depth": 2, "downsample": "stride"},
    {"depth": 1, "dimensions": 3, "spacing": [3.0, 1.0, 1.0]},
]


@pytest.mark.parametrize("arguments", NETWORKS)
def test_a_saved_network_is_the_same(tmp_path, arguments):
    network = UNet(features=3, **arguments).eval()
    save_network(network, tmp_path / "network.json", {"channels": ["a"]})
    again, note = load_network(tmp_path / "network.json")
    image = torch.rand(1, network.arguments["channels"], *[axis.input(3) for axis in network.axes])
    assert torch.equal(network(image), again(image))
    assert note["channels"] == ["a"]
    assert axes_of(note) == network.axes == again.axes


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "network.json"
    save_network(UNet(features=2, depth=1), path, {})
    return path


def test_a_tampered_file_is_refused(saved):
    weights = saved.with_suffix(".safetensors")
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises(ValueError, match="is not the file that"):
        load_network(saved)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [("colour", 1, "colour"), ("features", 3, "size mismatch"), ("dimensions", 3, "do not fit")],
)
def test_other_arguments_are_refused(saved, key, value, message):
    note = read_json(saved)
    note["arguments"][key] = value
    write_json(saved, note)
    with pytest.raises(ValueError, match=message):
        load_network(saved)


def test_other_axes_are_refused(saved):
    write_json(saved, {**read_json(saved), "axes": [[2, 4, 4], [2, 8, 4]]})
    with pytest.raises(ValueError, match="are not those of its arguments"):
        load_network(saved)


def test_missing_weights_are_named(saved):
    saved.with_suffix(".safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="safetensors is missing"):
        load_network(saved)
