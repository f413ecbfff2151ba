"""Trains the U-Net on the annotated samples, so that a stopped run goes on as if it had never stopped."""

import logging
import signal
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from unetpipe.augment import Augmentation
from unetpipe.checkpoint import load_checkpoint, save_checkpoint
from unetpipe.device import choose_device, choose_precision
from unetpipe.geometry import Axis, relative_spacing
from unetpipe.log import Progress
from unetpipe.loss import soft_dice, weighted_cross_entropy
from unetpipe.manifest import digest, file_digest, read_json
from unetpipe.network import Network, UNet, channels_last
from unetpipe.optimiser import learning_rate, make_optimiser
from unetpipe.pretrained import PretrainedUNet, find_weights
from unetpipe.revisions import REVISIONS
from unetpipe.saved import save_network
from unetpipe.store import read_attributes
from unetpipe.tiles import Annotated, Drawing, batches, choose, list_series, load, step_seed

logger = logging.getLogger(__name__)
SAVE_EVERY = 60.0  # seconds between checkpoints
CURVE_POINTS = 100
LOADERS = 4  # threads that draw tiles for a GPU


class Run(NamedTuple):
    """What makes a training run the same one when it starts again."""

    plan: dict
    precision: torch.dtype
    key: str
    folder: Path  # of the checkpoints


def train(
    images: list[str],
    tissues: list[str],
    weights: list[str],
    output: str,
    *,
    dimensions: int = 2,
    depth: int = 4,
    features: int = 32,
    downsample: str = "pool",
    dropout: float = 0.5,
    normalise: bool = False,
    backbone: str | None = None,
    pretrained: str | None = None,
    tile: int = 388,
    planes: int = 16,
    batch: int = 1,
    steps: int = 2000,
    optimiser: str = "adamw",
    learning_rate: float = 5e-4,
    balance: float = 1.0,
    dice: float = 0.0,
    precision: str = "auto",
    seed: int = 1,
    augment: dict | None = None,
    device: str = "auto",
    threads: int = 1,
    memory: int = 8000,
) -> None:
    """Train a network and write it with what prediction needs to know.

    Parameters
    ----------
    images, tissues, weights : list of path
        Root `zarr.json` of the image stores, manifests of their tissue, root `zarr.json` of their
        weights; one of each for every training sample.
    output : path
        `network.json`, written last; `network.safetensors` and the checkpoint lie beside it.
    dimensions, depth, features, downsample, dropout, normalise
        See `network.UNet`.
    backbone, pretrained : str, optional
        See `pretrained.PretrainedUNet` and `pretrained.find_weights`; the U-Net's own contracting
        path, random weights if not given.
    tile, planes : int
        Side of the output that one step sees, and its depth in volumes, pixels; raised to the next
        valid ones.
    batch : int
        Tiles a step.
    steps : int
        Updates of the weights.
    optimiser : "adamw" or "sgd"
        AdamW, or the paper's gradient descent with momentum 0.99; the rate falls as a cosine.
    balance : float
        0: all classes weigh alike; 1: by the inverse of their share of pixels.
    dice : float
        Weight of a soft Dice term beside the cross-entropy.
    precision : "auto", "bf16" or "float32"
        Auto: bf16 where it is the faster.
    augment : dict
        See `augment.Augmentation`.
    device : "auto", "cpu" or "cuda"
    threads : int
        For arithmetic on the CPU.
    memory : int
        Of the job, MB: training images that do not fit into half of it (a third of a GPU's) are read tile by tile.

    Raises
    ------
    InterruptedError
        If a scheduler asked the run to end; it is saved and the next start goes on.
    FloatingPointError
        If the loss is no number any more.
    """
    torch.set_num_threads(threads)
    place = choose_device(device)
    arithmetic = choose_precision(precision, place)
    series = list_series(images, tissues, weights)
    frequencies = np.sum([entry["weights"]["pixels"] for entry in series], axis=0)
    shape: dict[str, Any] = {"depth": depth, "features": features, "dropout": dropout}
    shape |= {"channels": len(series[0]["image"]["channels"])}
    shape |= {"classes": max(read_attributes(path)["classes"] for path in weights)}
    kind: dict[str, Any] = {"dimensions": dimensions, "downsample": downsample, "normalise": normalise}
    torch.manual_seed(seed)
    if backbone:
        start = find_weights(backbone, pretrained) if pretrained else None
        network: Network = PretrainedUNet(backbone=backbone, weights=start, **shape)
    else:
        start = None
        network = UNet(spacing=_one_spacing(series) if dimensions == 3 else None, **shape, **kind)
    network = channels_last(network.to(place))
    sides, margins = tile_sides(network.axes, tile, planes)
    drawing = Drawing(
        sides=sides,
        margins=margins,
        batch=batch,
        seed=seed,
        augmentation=Augmentation(**augment or {}),
        class_weights=_class_weights(frequencies[: shape["classes"]], balance, place),
        device=place,
    )
    plan = {"tile": tile, "planes": planes, "batch": batch, "steps": steps, "optimiser": optimiser, "seed": seed}
    plan |= {"learning_rate": learning_rate, "balance": balance, "dice": dice, "augment": augment or {}}
    plan |= {"precision": str(arithmetic), "pretrained": start and file_digest(start)}
    inputs = [[entry[part]["digest"] for part in ("image", "tissue", "weights")] for entry in series]
    key = digest([REVISIONS["train"], inputs, network.arguments, plan])
    run = Run(plan, arithmetic, key, Path(output).parent)
    limit = torch.cuda.mem_get_info()[0] / 3 if place.type == "cuda" else memory * 1e6 / 2
    curve = optimise(network, load(series, dimensions, place, limit=limit), drawing, run)
    note = {
        "revision": REVISIONS["train"],
        "key": run.key,
        "channels": series[0]["image"]["channels"],
        "percentiles": read_json(tissues[0])["settings"]["percentiles"],
        "precision": str(arithmetic).removeprefix("torch."),
        "settings": plan,
        "class_weights": drawing.class_weights.tolist(),
        "curve": curve,
    }
    save_network(network, output, note)


def tile_sides(axes: tuple[Axis, ...], tile: int, planes: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Sides of a network's input, and by how much its output is shorter at each end, z y x; one plane if it is flat."""
    flat = (Axis(stride=1, halo=0, lost=0),) * (3 - len(axes))
    wanted = (planes if len(axes) == 3 else 1, tile, tile)
    every = (*flat, *axes)
    return tuple(axis.input(side) for axis, side in zip(every, wanted, strict=True)), tuple(axis.halo for axis in every)


def _one_spacing(series: list[dict]) -> tuple[float, ...]:
    """The relative size of a voxel, which all training volumes share."""
    flat = [entry["image"]["name"] for entry in series if entry["image"]["shape"][2] == 1]
    if flat:
        raise ValueError(
            f"{', '.join(flat[:3])}: one slice is no volume; set dimensions to 2, or train on volumes alone"
        )
    first, *others = [entry["image"] for entry in series]
    spacing = relative_spacing(first["pixel_size"], 3)
    for other in others:
        if not np.allclose(relative_spacing(other["pixel_size"], 3), spacing, rtol=0.1):
            raise ValueError(
                f"{other['name']} has voxels of {other['pixel_size']} µm, {first['name']} of {first['pixel_size']} µm: "
                "one network cannot learn both; train on volumes whose voxels have one shape"
            )
    return spacing


def class_weights(frequencies: np.ndarray, balance: float) -> np.ndarray:
    """w_c of the paper's eq. 2: share of each class to the power −balance, of mean 1 over the pixels.

    Parameters
    ----------
    frequencies : (K,) int
        Pixels of each class in all training truths.

    Raises
    ------
    ValueError
        If a class does not occur.
    """
    if (frequencies == 0).any():
        absent = int(np.flatnonzero(frequencies == 0)[0])
        raise ValueError(
            f"class {absent} has no pixel in the training truths; annotate it or take it from truth.classes"
        )
    share = frequencies / frequencies.sum()
    weight = share ** (-balance)
    return weight / (weight * share).sum()


def _class_weights(frequencies, balance: float, device: torch.device) -> torch.Tensor:
    return torch.tensor(class_weights(frequencies, balance), dtype=torch.float32, device=device)


def optimise(network: nn.Module, spaces: list[Annotated], drawing: Drawing, run: Run) -> list[list[float]]:
    """The training loop; returns the loss curve as [step, mean loss] pairs.

    Raises
    ------
    InterruptedError
        If a signal asked the run to end.
    FloatingPointError
        If the loss is no number any more; the last checkpoint is from before.
    """
    steps = run.plan["steps"]
    optimiser = make_optimiser(network, run.plan)
    start, curve, losses = _resume(run, network, optimiser)
    stop = _watch_for_signals()
    progress = Progress(steps - start, "steps")
    begun = saved = time.monotonic()
    waited = 0.0
    drawn = batches(spaces, drawing, range(start, steps), ahead=1 if drawing.device.type == "cpu" else LOADERS)
    network.train()
    for step in range(start, steps):
        torch.manual_seed(step_seed(drawing.seed, step))  # dropout
        asked = time.monotonic()
        image, target, weight = next(drawn)
        waited += time.monotonic() - asked
        with torch.autocast(drawing.device.type, run.precision, enabled=run.precision != torch.float32):
            logits = network(2 * image - 1)
        loss = weighted_cross_entropy(logits, target, weight)
        if run.plan["dice"]:
            loss = loss + run.plan["dice"] * soft_dice(logits, target)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, steps, run.plan["learning_rate"])
        optimiser.step()
        losses.append(loss.detach())
        due = stop or step + 1 == steps or time.monotonic() - saved > SAVE_EVERY
        full = (step + 1) % max(1, steps // CURVE_POINTS) == 0
        if due or full:
            _check(losses, step, spaces, drawing)
        if full:
            curve.append([step + 1, torch.stack(losses).mean().item()])
            losses.clear()
        progress.advance(f"loss {curve[-1][1]:.4f}" if curve else "")
        if due:
            state = {"key": run.key, "step": step + 1, "network": network.state_dict(), "history": (curve, losses)}
            save_checkpoint(run.folder, {**state, "optimiser": optimiser.state_dict()})
            saved = time.monotonic()
        if stop:
            raise InterruptedError(f"{stop[0]}: training saved at step {step + 1}; start again to go on")
    logger.info("%.1f %% of the time was spent waiting for tiles", 100 * waited / max(1e-9, time.monotonic() - begun))
    return curve


def _check(losses: list[torch.Tensor], step: int, spaces: list[Annotated], drawing: Drawing) -> None:
    """Refuse to go on from a loss that is no number, and say where it came from."""
    broken = (~torch.stack(losses).isfinite()).nonzero().flatten().tolist()
    if broken:
        first = step - len(losses) + 1 + broken[0]
        names = ", ".join(spaces[index].name for index in choose(spaces, drawing, first))
        raise FloatingPointError(
            f"the loss is no number at step {first + 1}, drawn from {names}; look at its pixels and labels, "
            "or set train.learning_rate lower, or train.precision to float32"
        )


def _resume(run: Run, network: nn.Module, optimiser) -> tuple[int, list, list]:
    """Step, curve and losses not yet in it, from a checkpoint of the same run; 0 where there is none."""
    state = load_checkpoint(run.folder, run.key)
    if state is None:
        return 0, [], []
    network.load_state_dict(state["network"])
    optimiser.load_state_dict(state["optimiser"])
    return state["step"], *state["history"]


def _watch_for_signals() -> list[str]:
    """A list that is filled when a scheduler asks the run to end."""
    received: list[str] = []
    for name in ("SIGTERM", "SIGUSR1"):
        signal.signal(getattr(signal, name), lambda *_, name=name: received.append(name))
    return received
