"""The network is the paper's, and what it does follows from its arguments."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from unetpipe.network import UNet, channels_last, laid_out

KERNELS = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def layers(network):
    return [module for module in network.modules() if isinstance(module, KERNELS)]


def test_the_papers_network():
    network = UNet()
    assert len(layers(network)) == 23
    assert sum(p.numel() for p in network.parameters()) == 31_030_658
    assert [layer.out_channels for layer in layers(network.down)] == [64, 64, 128, 128, 256, 256, 512, 512, 1024, 1024]


def test_the_papers_sizes():
    network = UNet(features=2).eval()
    assert network(torch.zeros(1, 1, 572, 572)).shape == (1, 2, 388, 388)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_weights_are_drawn_as_the_paper_says(dimensions):
    torch.manual_seed(0)
    for layer in layers(UNet(features=32, depth=2, dimensions=dimensions, downsample="stride")):
        up = isinstance(layer, nn.ConvTranspose2d | nn.ConvTranspose3d)  # there one input meets each output
        incoming = layer.in_channels * (1 if up else math.prod(layer.kernel_size))
        error = 4 / math.sqrt(2 * layer.weight.numel())  # four standard errors of a standard deviation
        assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / incoming), rel=error)
        assert not layer.bias.any()


arguments = st.fixed_dictionaries(
    {
        "channels": st.integers(1, 3),
        "classes": st.integers(2, 4),
        "depth": st.integers(1, 3),
        "features": st.integers(1, 3),
        "downsample": st.sampled_from(["pool", "stride"]),
        "normalise": st.booleans(),
        "dropout": st.sampled_from([0.0, 0.5]),
    }
)
spacings = st.sampled_from([(1, 1), (1, 3), (1, 1, 1), (2, 1, 1), (5, 1, 1), (1, 1.5, 4)])


@settings(max_examples=10)
@given(arguments=arguments, spacing=spacings, seed=st.integers(0, 99))
def test_an_output_pixel_sees_its_halo_and_no_more(arguments, spacing, seed):
    torch.manual_seed(seed)
    network = UNet(dimensions=len(spacing), spacing=spacing, **arguments).eval()
    for parameter in network.parameters():
        parameter.data.abs_().add_(0.1)  # so that no path is cut by a rectifier
    sides = [axis.input(2) for axis in network.axes]
    image = torch.zeros(1, arguments["channels"], *sides)
    output = network(image)
    assert output.shape == (1, arguments["classes"], *(axis.output(2) for axis in network.axes))
    for number, axis in enumerate(network.axes):
        last, reached = axis.output(2) - 1, dependence(network, image, number)
        for at in {0, last}:
            seen = np.flatnonzero(reached[:, at])
            assert seen[0] >= at // axis.stride * axis.stride  # where what pooling takes together begins
            assert seen[-1] <= at + axis.stride - 1 + 2 * axis.halo
        assert reached[0, 0]
        assert reached[sides[number] - 1, last]


def dependence(network, image, number):
    """Whether outputs depend on inputs: (input, output) positions along an axis; what is no number shows it."""
    seen = []
    for position in range(image.shape[2 + number]):
        marked = image.clone()
        marked.select(2 + number, position).fill_(torch.nan)
        with torch.inference_mode():
            seen.append(network(marked).isnan().movedim(2 + number, 0).flatten(1).any(dim=1))
    return torch.stack(seen).numpy()


@pytest.mark.parametrize("dimensions", [2, 3])
def test_channels_last_gives_the_same(dimensions):
    network = UNet(features=4, depth=1, dimensions=dimensions).eval()
    image = torch.rand(1, 1, *[axis.input(2) for axis in network.axes])
    expected = network(image)
    torch.testing.assert_close(channels_last(network)(channels_last(image)), expected, rtol=1e-4, atol=1e-5)  # order


def test_an_unknown_downsampling_is_refused():
    with pytest.raises(ValueError, match="'max' is not one of"):
        UNet(downsample="max")


@pytest.mark.parametrize(("precision", "last"), [(torch.float32, False), (torch.bfloat16, True)])
def test_the_layout_follows_from_the_arithmetic(precision, last):
    network, image = UNet(features=2, depth=1), torch.rand(1, 2, 36, 36)
    found = [laid_out(image, precision), laid_out(network, precision).down[0][2].weight]
    assert [tensor.is_contiguous(memory_format=torch.channels_last) for tensor in found] == [last, last]
