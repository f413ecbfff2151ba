"""What a prediction needs, from the network and its block alone: whole numbers, no network, no image."""

import math
from collections.abc import Sequence

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


def prediction_memory(
    features: int,
    weights: int,
    axes: Sequence[Axis],
    block: int,
    planes: int,
    *,
    channels: int,
    workers: int,
    compiled: bool = True,
) -> float:
    """Bytes of main memory that a job of `predict_part` takes on a CPU, whatever the size of the image.

    Parameters
    ----------
    features, weights : int
        Channels of the first level, weights of all networks together.
    axes
        Of the network.
    block, planes : int
        See `predict.part.predict_part`.
    channels : int
        Of the image.
    workers : int
        Blocks that are held at once.
    compiled : bool
        Whether there may be blocks enough for `torch.compile`, whose compiler stays in memory.
    """
    pixels = _pixels(axes, block, planes)
    waiting = workers * channels * GREY * pixels
    return PROCESS + COMPILER * compiled + 8 * weights + 4 * ACTIVATIONS * features * pixels + waiting


def block_side(wanted: int | str, features: int, axes: Sequence[Axis], planes: int, chunk: int) -> int:
    """Side of a block: as wanted, or for "auto" the largest, up to 1024 pixels, whose activations take 6 GB at most.

    It follows from the network alone, not from the machine, so that all parts of a prediction agree. Larger
    blocks read less context twice: of the paper's network 1.4 times their pixels at 1024, 1.9 times at 512.

    Parameters
    ----------
    wanted : int or "auto"
    features, axes, planes
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


def prediction_mb(config: dict, attempt: int) -> int:
    """MB to ask a scheduler for: what the config's network and block need, CUDA's libraries, and more each attempt.

    A contracting path that is not the paper's is given the room of 64 features at most.
    """
    settings, dimensions = config["train"], config["dimensions"]
    weights = max(1, settings["folds"]) * parameters(settings, dimensions)
    features = 64 if settings["backbone"] or config["network"] else settings["features"]
    axes, planes = network_axes(settings, dimensions), config["predict"]["planes"]
    block = block_side(config["predict"]["block"], features, axes, planes, config["ingest"]["chunk"])
    need = prediction_memory(features, weights, axes, block, planes, channels=CHANNELS, workers=WORKERS)
    return attempt * math.ceil((need + CUDA) / 1e6)
