"""What a prediction needs, from the network and its block alone: whole numbers, no network, no image."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from unetpipe.geometry import Axis, unet_levels

PROCESS = 600e6  # bytes of the process with torch, zarr and dask, and of what its threads free late (measured)
ACTIVATIONS = 6  # of the first level, float32, that are alive at once (measured: 4 to 6)
COMPILER = 250e6  # bytes of torch.compile (measured: 170 MB)
CUDA = 3e9  # bytes of its libraries, where a GPU computes
CHANNELS = 4  # of an image that nobody has opened yet
WORKERS = 3  # threads of a prediction: while one computes, others read and write
LARGEST, ROOM = 1024, 6e9  # pixels and bytes of a block where the config says auto
GREY = 12  # bytes a pixel and channel of a block that waits: as stored, and scaled to float32 twice at most


def network_axes(settings: dict, dimensions: int, spacing: Sequence[float] | None = None) -> tuple[Axis, ...]:
    """Axes of the U-Net that settings of `train` describe."""
    levels = unet_levels(settings["depth"], spacing or [1.0] * dimensions)
    return tuple(axis.axis() for axis in levels)


def parameters(settings: dict, dimensions: int) -> int:
    """Weights of that U-Net, at most two hundredths too few: 3 × 3 convolutions, 2 × 2 up-convolutions."""
    widths = [settings["features"] * 2**level for level in range(settings["depth"] + 1)]
    kernel, up = 3**dimensions, 2**dimensions
    down = sum(kernel * (wide * (before + wide)) for before, wide in zip([1, *widths], widths, strict=False))
    return down + sum(3 * kernel * wide * wide + up * 2 * wide * wide for wide in widths[:-1])


class Kind(NamedTuple):
    """What decides on the memory that networks take: those of an ensemble differ in their weights alone."""

    features: int  # of the first level
    weights: int  # of all of them together
    axes: Sequence[Axis]
    channels: int  # of the image

    @classmethod
    def of_config(cls, config: dict) -> "Kind":
        """Of networks that are yet to be trained; a pretrained contracting path has room for 64 features."""
        settings, dimensions = config["train"], config["dimensions"]
        features = 64 if settings["backbone"] else settings["features"]
        weights = max(1, settings["folds"]) * parameters(settings, dimensions)
        return cls(features, weights, network_axes(settings, dimensions), CHANNELS)


def prediction_memory(kind: Kind, block: int, planes: int, *, compiled: bool = True) -> float:
    """Bytes of main memory that a job of `predict_part` takes on a CPU, whatever the size of the image.

    Parameters
    ----------
    block, planes : int
        See `predict.part.predict_part`.
    compiled : bool
        Whether there may be blocks enough for `torch.compile`, whose compiler stays in memory.
    """
    pixels = _pixels(kind.axes, block, planes)
    waiting = WORKERS * kind.channels * GREY * pixels
    return PROCESS + COMPILER * compiled + 8 * kind.weights + 4 * ACTIVATIONS * kind.features * pixels + waiting


def block_side(wanted: int | str, features: int, axes: Sequence[Axis], planes: int, chunk: int) -> int:
    """Side of a block: as wanted, or for "auto" the largest, up to 1024 pixels, whose activations take 6 GB at most.

    It follows from the network alone, not from the machine, so that all parts of a prediction agree. Larger
    blocks read less context twice: of the paper's network 1.4 times their pixels at 1024, 1.9 times at 512.

    Parameters
    ----------
    wanted : int or "auto"
    features, axes
        See `Kind`.
    planes : int
        See `prediction_memory`.
    chunk : int
        Of the store, pixels: a block is a whole number of chunks.
    """
    if wanted != "auto":
        return int(wanted)
    step = math.lcm(chunk, axes[-1].stride)
    side = step * max(1, LARGEST // step)
    while side > step and 4 * ACTIVATIONS * features * _pixels(axes, side, planes) > ROOM:
        side = step * max(1, side // step // 2)
    return side


def _pixels(axes: Sequence[Axis], block: int, planes: int) -> int:
    """That a block reads."""
    sides = (planes, block, block)[-len(axes) :]
    return math.prod(axis.input(side) for axis, side in zip(axes, sides, strict=True))


def prediction_mb(config: dict, kind: Kind, attempt: int) -> int:
    """MB to ask a scheduler for: what networks and block need, CUDA's libraries, and more each attempt."""
    planes = config["predict"]["planes"]
    block = block_side(config["predict"]["block"], kind.features, kind.axes, planes, config["ingest"]["chunk"])
    return attempt * math.ceil((prediction_memory(kind, block, planes) + CUDA) / 1e6)
