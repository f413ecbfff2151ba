"""The U-Net of Ronneberger, Fischer and Brox (MICCAI 2015), and how it lies on disk.

Letters of shapes: B batch, C channels, Y X space, K classes.
"""

import math
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn
from torch.nn import functional

from unetpipe.manifest import file_digest, read_json, write_bytes, write_json


class UNet(nn.Module):
    """Valid-convolution U-Net: an output pixel has seen only real context (section 2, figure 1).

    Parameters
    ----------
    channels, classes : int
        Of the input and of the output.
    depth : int
        Number of poolings.
    features : int
        Channels of the first level; they double at each pooling.
    dropout : float
        Share of the lowest level's features that training drops.
    normalise : bool
        Batch normalisation after each convolution (not in the paper).
    """

    def __init__(
        self,
        *,
        channels: int = 1,
        classes: int = 2,
        depth: int = 4,
        features: int = 64,
        dropout: float = 0.5,
        normalise: bool = False,
    ):
        super().__init__()
        self.arguments = {
            "channels": channels,
            "classes": classes,
            "depth": depth,
            "features": features,
            "dropout": dropout,
            "normalise": normalise,
        }
        widths = [features * 2**level for level in range(depth + 1)]
        inputs = [channels, *widths]
        self.down = nn.ModuleList([_pair(inputs[k], widths[k], normalise=normalise) for k in range(depth + 1)])
        self.dropout = nn.Dropout(dropout)
        self.widen = nn.ModuleList([nn.ConvTranspose2d(2 * w, w, 2, stride=2) for w in reversed(widths[:-1])])
        self.up = nn.ModuleList([_pair(2 * w, w, normalise=normalise) for w in reversed(widths[:-1])])
        self.head = nn.Conv2d(features, classes, 1)
        self.apply(_initialise)

    def forward(self, x_BCYX: torch.Tensor) -> torch.Tensor:
        """Logits (B, K, Y − 2 halo, X − 2 halo); the sides must be valid, see `geometry.unet_input`."""
        skips = []
        for level in self.down[:-1]:
            x_BCYX = level(x_BCYX)
            skips.append(x_BCYX)
            x_BCYX = functional.max_pool2d(x_BCYX, 2)
        x_BCYX = self.dropout(self.down[-1](x_BCYX))
        for widen, level in zip(self.widen, self.up, strict=True):
            x_BCYX = widen(x_BCYX)
            x_BCYX = level(torch.cat([_crop(skips.pop(), x_BCYX), x_BCYX], dim=1))
        return self.head(x_BCYX)


def channels_last(network: UNet) -> UNet:
    """Lay the weights out with the channels last, as convolutions in bf16 want them."""
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's hints lack it


def _pair(channels: int, width: int, *, normalise: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    for source in (channels, width):
        layers.append(nn.Conv2d(source, width, 3, bias=not normalise))
        layers += [nn.BatchNorm2d(width)] if normalise else []
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


def _crop(skip_BCYX: torch.Tensor, like_BCYX: torch.Tensor) -> torch.Tensor:
    (y, x), (high, wide) = skip_BCYX.shape[2:], like_BCYX.shape[2:]
    top, left = (y - high) // 2, (x - wide) // 2
    return skip_BCYX[:, :, top : top + high, left : left + wide]


def _initialise(layer: nn.Module) -> None:
    """Gaussian of standard deviation √(2 / N), N the incoming nodes of a neuron (section 3)."""
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        kernel = math.prod(layer.kernel_size) if isinstance(layer, nn.Conv2d) else 1
        nn.init.normal_(layer.weight, std=math.sqrt(2 / (layer.in_channels * kernel)))
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def save_network(network: UNet, path: str | Path, note: dict) -> None:
    """Write the weights (safetensors) and, last, the JSON that rebuilds the network.

    Parameters
    ----------
    path : path
        The JSON file; the weights lie beside it as `network.safetensors`.
    note : dict
        What prediction needs beside the weights, e.g. classes; kept under its own keys.
    """
    weights = Path(path).with_suffix(".safetensors")
    write_bytes(weights, save({name: tensor.contiguous().cpu() for name, tensor in network.state_dict().items()}))
    write_json(path, {"arguments": network.arguments, "digest": file_digest(weights), **note})


def load_network(path: str | Path) -> tuple[UNet, dict]:
    """Rebuild a network and return it, in evaluation mode, with its note.

    Raises
    ------
    FileNotFoundError, ValueError
        If a file is missing, is not the one that the JSON was written with, or does not fit.
    """
    note, weights = read_json(path), Path(path).with_suffix(".safetensors")
    if not weights.exists():
        raise FileNotFoundError(f"{weights} is missing; it belongs beside {path}")
    if file_digest(weights) != note["digest"]:
        raise ValueError(f"{weights} is not the file that {path} was written with; copy both again or train anew")
    try:
        network = UNet(**note["arguments"])
        network.load_state_dict(load_file(weights))
    except (TypeError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"{path}: arguments and weights do not fit this version's U-Net: {error}") from error
    return network.eval(), note
