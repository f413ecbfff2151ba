"""A U-Net whose contracting path is a CNN of timm, with weights from a file or from timm's own cache.

Letters of shapes: B batch, C channels, Y X space, K classes.
"""

from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from unetpipe.geometry import Axis
from unetpipe.network import Network, crop, initialise, pair

LONGEST = 8192  # pixels; a context that reaches as far counts as unlimited


class PretrainedUNet(Network):
    """The features of a CNN as contracting path, the U-Net's expanding path, a full-resolution level on top.

    The CNN's convolutions are padded, so pixels near the border of a tile are wrong: the network
    measures how far its receptive field reaches and returns what lies farther inside.

    Parameters
    ----------
    backbone : str
        Name of a timm model that gives features, e.g. resnet34 or convnext_tiny.
    channels, classes : int
        Of the input and of the output.
    depth : int
        Features of the CNN down to 1 / 2^depth of the resolution are used.
    features : int
        Channels of the top level; they double with each halving.
    dropout : float
        Share of the lowest features that training drops.
    halo : int, optional
        Context of an output pixel on each side, a multiple of the stride; measured if not given.
    weights : path, optional
        A safetensors file of the CNN, see `find_weights`; random if not given.

    Raises
    ------
    ValueError
        If the CNN is unknown, gives no features of rising stride, or looks at the whole image.
    """

    backbone: Any

    def __init__(
        self,
        *,
        backbone: str,
        channels: int = 1,
        classes: int = 2,
        depth: int = 4,
        features: int = 32,
        dropout: float = 0.5,
        halo: int | None = None,
        weights: Path | None = None,
    ):
        super().__init__()
        self.backbone = _features_of(backbone, channels, depth, weights)
        strides = [1, *self.backbone.feature_info.reduction()]
        found = [features, *self.backbone.feature_info.channels()]
        widths = [features * stride for stride in strides[:-1]]
        self.top = pair(channels, features, (3, 3), normalise=True, padding=1)
        self.dropout = nn.Dropout(dropout)
        self.widen, self.up = nn.ModuleList(), nn.ModuleList()
        below = found[-1]
        for k in reversed(range(len(widths))):
            ratio = strides[k + 1] // strides[k]
            self.widen.append(nn.ConvTranspose2d(below, widths[k], ratio, stride=ratio))
            self.up.append(pair(widths[k] + found[k], widths[k], (3, 3), normalise=True, padding=1))
            below = widths[k]
        self.head = nn.Conv2d(features, classes, 1)
        for part in (self.top, self.widen, self.up, self.head):
            part.apply(initialise)
        halo = _measure_halo(self, backbone, channels, strides[-1]) if halo is None else halo
        self.axes = (Axis(stride=strides[-1], halo=halo, lost=0),) * 2
        shape = {"channels": channels, "classes": classes, "depth": depth, "features": features}
        self.arguments = {"backbone": backbone, **shape, "dropout": dropout, "halo": halo}

    def forward(self, x_BCYX: torch.Tensor) -> torch.Tensor:
        """Logits (B, K, Y − 2 halo, X − 2 halo); the sides must be multiples of the stride."""
        return crop(self.padded(x_BCYX), [axis.halo for axis in self.axes])

    def padded(self, x_BCYX: torch.Tensor) -> torch.Tensor:
        """Logits (B, K, Y, X), wrong near the borders."""
        skips = [self.top(x_BCYX), *self.backbone(2 * x_BCYX)]  # −1 … 1 spreads half as far as ImageNet's grey values
        x_BCYX = self.dropout(skips.pop())
        for widen, level in zip(self.widen, self.up, strict=True):
            x_BCYX = level(torch.cat([skips.pop(), widen(x_BCYX)], dim=1))
        return self.head(x_BCYX)


def find_weights(backbone: str, source: str) -> Path:
    """Where the weights of a timm model lie; nothing is downloaded.

    Parameters
    ----------
    source : str
        A safetensors file, or "cache": what timm has downloaded on this machine before.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such file, with what to do; if it is no safetensors file.
    """
    path = _cached(backbone) if source == "cache" else Path(source)
    if not path.exists():
        raise FileNotFoundError(f"train.pretrained names {path}, which does not exist; mend the path")
    if path.suffix != ".safetensors":
        raise ValueError(f"train.pretrained: {path} is no safetensors file; others may run code when they are opened")
    return path


def _cached(backbone: str) -> Path:
    timm = import_timm()
    import huggingface_hub

    repository = timm.get_pretrained_cfg(backbone).hf_hub_id
    found = repository and huggingface_hub.try_to_load_from_cache(repository, "model.safetensors")
    if not isinstance(found, str):
        raise FileNotFoundError(
            f"the weights of {backbone} are not in {huggingface_hub.constants.HF_HUB_CACHE}; where there is a network "
            f"run: python -c \"import timm; timm.create_model('{backbone}', pretrained=True)\" and copy that folder, "
            "or set train.pretrained to a file model.safetensors of that model"
        )
    return Path(found)


def _features_of(backbone: str, channels: int, depth: int, weights: Path | None) -> nn.Module:
    timm = import_timm()
    if not timm.is_model(backbone):
        near = timm.list_models(f"{backbone[:6]}*")[:5]
        raise ValueError(f"timm {timm.__version__} has no model {backbone!r}; near are {', '.join(near) or 'none'}")
    every = timm.create_model(backbone, features_only=True).feature_info.reduction()
    used = [number for number, stride in enumerate(every) if 1 < stride <= 2**depth]
    strides = [every[number] for number in used]
    if not used or any(b <= a or b % a for a, b in zip([1, *strides], strides, strict=False)):
        raise ValueError(
            f"{backbone} gives features of strides {every}; a depth of {depth} needs rising ones below 2^depth"
        )
    stored = read_weights(backbone, weights) if weights else None
    source = {"pretrained": True, "pretrained_cfg_overlay": {"state_dict": stored}} if stored else {}
    return timm.create_model(backbone, features_only=True, out_indices=used, in_chans=channels, **source)


def read_weights(backbone: str, path: Path) -> dict[str, torch.Tensor]:
    """All that a timm model has but its classifier: timm itself would take what fits and leave the rest random.

    Raises
    ------
    ValueError
        If the file is broken, or is another model's.
    """
    try:
        stored = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"train.pretrained: {path} is no whole safetensors file ({error}); copy it again") from error
    wanted = import_timm().create_model(backbone, num_classes=0).state_dict()
    unfit = [
        name
        for name, tensor in wanted.items()
        if not name.endswith("num_batches_tracked") and (name not in stored or stored[name].shape != tensor.shape)
    ]
    if unfit:
        raise ValueError(
            f"train.pretrained: {path} holds no weights of {backbone}: {len(unfit)} of its {len(wanted)} tensors are "
            f"missing or of another shape, {unfit[0]} the first; take the model.safetensors that timm has for it"
        )
    return stored


@torch.inference_mode()
def _measure_halo(network: PretrainedUNet, name: str, channels: int, stride: int) -> int:
    """How far one block of inputs reaches, in whole strides: what is not a number spreads as far as anything can."""
    network.eval()
    length = 512
    while length <= LONGEST:
        strip = torch.zeros(1, channels, length, 2 * stride)
        start = length // 2 // stride * stride
        strip[:, :, start : start + stride] = torch.nan
        rows = network.padded(strip).isnan().any(dim=(0, 1, 3)).nonzero().flatten().tolist()
        if rows[0] > 0 and rows[-1] < length - 1:
            network.train()
            return -(-max(start - rows[0], rows[-1] - (start + stride - 1)) // stride) * stride
        length *= 2
    raise ValueError(
        f"{name} looks at the whole image (attention, or a mean over all of it), so tiles cannot equal the whole; "
        "choose a purely convolutional one, e.g. resnet34 or convnext_tiny"
    )


def import_timm() -> ModuleType:
    """Import timm, also where torch and torchvision are of different builds.

    timm imports torchvision for a few names. Beside a CPU build of torch the operators of
    torchvision's usual build do not load, and its import then fails at two of them: they are declared.
    """
    try:
        import torchvision  # noqa: F401  # whether it can be imported is the question
    except RuntimeError:
        for operator in ("nms", "qnms"):
            torch.library.define(f"torchvision::{operator}", "(Tensor a, Tensor b, float c) -> Tensor")
    import timm

    return timm
