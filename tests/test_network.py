"""The network is the paper's, and a saved one is the same network."""

import math

import pytest
import torch
from torch import nn

from unetpipe.geometry import unet_halo, unet_input
from unetpipe.manifest import read_json, write_json
from unetpipe.network import UNet, load_network, save_network


def test_the_papers_network():
    network = UNet()
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    assert len(convolutions) == 23
    assert sum(p.numel() for p in network.parameters()) == 31_030_658


def test_the_papers_sizes():
    network = UNet(features=2).eval()
    assert network(torch.zeros(1, 1, 572, 572)).shape == (1, 2, 388, 388)


def test_weights_are_drawn_as_the_paper_says():
    torch.manual_seed(0)
    layer = UNet().down[1][2]  # 3 × 3 over 128 channels
    assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / (9 * 128)), rel=0.02)  # 147,456 samples


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_an_output_pixel_sees_its_halo_and_no_more(depth):
    torch.manual_seed(depth)
    network = UNet(features=2, depth=depth, dropout=0.0).eval()
    for parameter in network.parameters():
        parameter.data.abs_()  # so that no path is cut by a rectifier
    side = unet_input(2**depth, depth)
    image = torch.rand(1, 1, side, side, requires_grad=True)
    halo = unet_halo(depth)
    output = network(image)
    output[0, 0, 0, 0].backward()
    rows = image.grad[0, 0].abs().sum(dim=1).nonzero()
    assert rows.min() == 0
    assert rows.max() <= 2 * halo + 2**depth - 1
    assert output.shape[-1] == side - 2 * halo


@pytest.mark.parametrize("normalise", [False, True])
def test_a_saved_network_is_the_same(tmp_path, normalise):
    network = UNet(features=3, depth=2, channels=2, classes=3, normalise=normalise).eval()
    save_network(network, tmp_path / "network.json", {"halo": unet_halo(2)})
    again, note = load_network(tmp_path / "network.json")
    image = torch.rand(1, 2, 60, 60)
    assert torch.equal(network(image), again(image))
    assert note["halo"] == 20


def test_a_tampered_file_is_refused(tmp_path):
    path = tmp_path / "network.json"
    save_network(UNet(features=2, depth=1), path, {})
    weights = path.with_suffix(".safetensors")
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises(ValueError, match="is not the file that"):
        load_network(path)


def test_an_unknown_argument_is_refused(tmp_path):
    path = tmp_path / "network.json"
    save_network(UNet(features=2, depth=1), path, {})
    note = read_json(path)
    note["arguments"]["colour"] = 1
    write_json(path, note)
    with pytest.raises(ValueError, match="colour"):
        load_network(path)


def test_missing_weights_are_named(tmp_path):
    path = tmp_path / "network.json"
    save_network(UNet(features=2, depth=1), path, {})
    path.with_suffix(".safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="safetensors is missing"):
        load_network(path)
