"""What training chooses for the machine where the config says auto: tile, batch, and whether to compile."""

import copy
import logging
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn

from unetpipe.device import say_uncompiled
from unetpipe.network import laid_out

logger = logging.getLogger(__name__)
TILE = 388  # the paper's output, pixels
LEAST = 16  # pixels
MOST = 16  # tiles
SHARE = 0.8  # of the memory that is free, for one step
WORTH = 1200.0  # seconds that a run must take in eager mode before compiling is tried: it takes about a minute
GAIN = 0.95  # of the time of an eager step that a compiled one may take


class Choices(NamedTuple):
    """Made at the first start of a run, and kept in its checkpoints."""

    precision: str
    tile: int
    batch: int
    compiled: bool = False


def wanted_tiles(settings: dict, longest: int) -> tuple[int, int]:
    """Side of a tile and tiles a step of one device, where memory does not matter.

    Parameters
    ----------
    settings : dict
        Keyword arguments of `train.train`.
    longest : int
        Side of the training images, pixels.
    """
    tile = min(TILE, longest) if settings["tile"] == "auto" else settings["tile"]
    equal = round((TILE / tile) ** 2) if settings["dimensions"] == 2 else 1
    return tile, min(max(1, equal), MOST) if settings["batch"] == "auto" else settings["batch"]


# ---------------------------------------------------------------- memory


def fit(
    tile: int, tiles: int, step_memory: Callable[[int, int], float], limit: float, *, fixed: tuple[bool, bool]
) -> tuple[int, int]:
    """Take tiles away, then make them smaller, until a step fits into memory.

    Parameters
    ----------
    tile, tiles : int
        What is wanted: side of a tile, pixels, and how many a device takes in a step.
    step_memory : function of (tile, tiles)
        Bytes that a step takes, infinite where it does not fit.
    limit : float
        Bytes.
    fixed : (bool, bool)
        Whether the side, and the number, must stay as they are.

    Raises
    ------
    MemoryError
        If nothing is left to make smaller.
    """
    while (needed := step_memory(tile, tiles)) > limit:
        if tiles > 1 and not fixed[1]:
            tiles -= 1
        elif tile > LEAST and not fixed[0]:
            tile = max(LEAST, int(tile * 0.8))
        else:
            raise MemoryError(
                f"a step with {tiles} tiles of {tile} pixels needs {needed / 1e9:.1f} GB, {limit / 1e9:.1f} GB are "
                "free; set train.tile and train.batch to auto, or train.features lower"
            )
    return tile, tiles


def step_memory(network: nn.Module, shape: tuple[int, ...], device: torch.device, precision: torch.dtype) -> float:
    """Bytes that a training step takes for an input (B, C, *space), the weights and their moments included.

    On a GPU the peak of a real step, infinite where it runs out of memory; on a CPU what the step keeps for
    its way back, counted without computing, and a quarter more for what it needs in between.
    """
    if device.type == "cuda":
        return _measured(network, shape, device, precision)
    kept: dict[int, torch.UntypedStorage] = {}  # alive, so that no two have one id

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[id(storage)] = storage
        return tensor

    ghost = copy.deepcopy(network).to("meta")
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        ghost(torch.empty(shape, device="meta")).sum()
    weights = sum(tensor.numel() * tensor.element_size() for tensor in ghost.parameters())
    return 1.25 * sum(storage.nbytes() for storage in kept.values()) + 4 * weights


def _measured(network: nn.Module, shape: tuple[int, ...], device: torch.device, precision: torch.dtype) -> float:
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    try:
        train_step(copy.deepcopy(network), torch.zeros(shape, device=device), precision)
    except torch.OutOfMemoryError:
        return float("inf")
    finally:
        torch.cuda.empty_cache()
    weights = sum(tensor.numel() * tensor.element_size() for tensor in network.parameters())
    return torch.cuda.max_memory_allocated(device) - before + 2 * weights


# ---------------------------------------------------------------- compiling


def worth_compiling(network: nn.Module, image: torch.Tensor, steps: int, precision: torch.dtype) -> bool:
    """Whether a run of so many steps ends earlier if it is compiled: tried where it is long, and said in the log."""
    eager = _seconds(copy.deepcopy(network), image, precision)
    if eager * steps < WORTH:
        logger.info("%.3f s a step: not compiled, %d steps are too few to repay it", eager, steps)
        return False
    try:
        compiled = _seconds(torch.compile(copy.deepcopy(network)), image, precision)
    except RuntimeError as error:
        say_uncompiled(error, "training")
        return False
    chosen = compiled < GAIN * eager
    says = "compiled" if chosen else "not compiled"
    logger.info("%s: %.3f s a step compiled, %.3f s eager, %d steps", says, compiled, eager, steps)
    return chosen


def compile_or_not(network: Any, image: torch.Tensor, precision: torch.dtype) -> Any:
    """The compiled network; itself, with a warning, where no compiler works."""
    before = copy.deepcopy(network.state_dict())
    compiled = torch.compile(network)
    try:
        train_step(compiled, image, precision)
    except RuntimeError as error:
        say_uncompiled(error, "training")
        return network
    finally:
        network.load_state_dict(before)
    return compiled


def _seconds(network: Any, image: torch.Tensor, precision: torch.dtype) -> float:
    """Of a step forwards and back: the fastest of three, after one to warm up."""
    taken = []
    for _ in range(4):
        begun = time.monotonic()
        train_step(network, image, precision)
        if image.device.type == "cuda":
            torch.cuda.synchronize(image.device)
        taken.append(time.monotonic() - begun)
    return min(taken[1:])


def train_step(network: Any, image: torch.Tensor, precision: torch.dtype) -> None:
    """Forwards and back, without an update of the weights."""
    with torch.autocast(image.device.type, precision, enabled=precision != torch.float32):
        logits = network(laid_out(image, precision))
    logits.float().logsumexp(dim=1).mean().backward()
    network.zero_grad(set_to_none=True)
