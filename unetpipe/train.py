"""Trains the U-Net on the annotated samples, so that a stopped run goes on as if it had never stopped.

Letters of shapes: B batch, C channels, Y X space, K classes.
"""

import logging
import math
import signal
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional

from unetpipe.augment import Augmentation
from unetpipe.device import choose_device, choose_precision
from unetpipe.geometry import unet_halo, unet_input, unet_output
from unetpipe.log import Progress
from unetpipe.manifest import digest, replacing
from unetpipe.network import UNet, channels_last, save_network
from unetpipe.revisions import REVISIONS
from unetpipe.store import IGNORED, read_attributes
from unetpipe.tiles import Drawing, Plane, draw_batch, list_series, load_planes

logger = logging.getLogger(__name__)
SAVE_EVERY = 60.0  # seconds between checkpoints
CURVE_POINTS = 100


class Run(NamedTuple):
    """What makes a training run the same one when it starts again."""

    plan: dict
    precision: torch.dtype
    key: str
    folder: Path  # of the checkpoint


def train(
    images: list[str],
    tissues: list[str],
    weights: list[str],
    output: str,
    *,
    depth: int = 4,
    features: int = 32,
    dropout: float = 0.5,
    normalise: bool = False,
    tile: int = 388,
    batch: int = 1,
    steps: int = 2000,
    optimiser: str = "adamw",
    learning_rate: float = 5e-4,
    balance: float = 1.0,
    precision: str = "auto",
    seed: int = 1,
    augment: dict | None = None,
    device: str = "auto",
    threads: int = 1,
) -> None:
    """Train a network and write it with what prediction needs to know.

    Parameters
    ----------
    images, tissues, weights : list of path
        Root `zarr.json` of the image stores, manifests of their tissue, root `zarr.json` of their
        weights; one of each for every training sample.
    output : path
        `network.json`, written last; `network.safetensors` and the checkpoint lie beside it.
    depth, features, dropout, normalise
        See `network.UNet`.
    tile : int
        Side of the output that one step sees, pixels; raised to the next valid one.
    batch : int
        Tiles a step.
    steps : int
        Updates of the weights.
    optimiser : "adamw" or "sgd"
        AdamW, or the paper's gradient descent with momentum 0.99; the rate falls as a cosine.
    balance : float
        0: all classes weigh alike; 1: by the inverse of their share of pixels.
    precision : "auto", "bf16" or "float32"
        Auto: bf16 where the hardware has it.
    augment : dict
        See `augment.Augmentation`.
    device : "auto", "cpu" or "cuda"
    threads : int
        For arithmetic on the CPU.

    Raises
    ------
    InterruptedError
        If a scheduler asked the run to end; it is saved and the next start goes on.
    """
    torch.set_num_threads(threads)
    place = choose_device(device)
    arithmetic = choose_precision(precision, place)
    series = list_series(images, tissues, weights)
    classes = max(read_attributes(path)["classes"] for path in weights)
    shape = {"depth": depth, "features": features, "dropout": dropout, "normalise": normalise, "classes": classes}
    plan = {"tile": tile, "batch": batch, "steps": steps, "optimiser": optimiser, "learning_rate": learning_rate}
    plan |= {"balance": balance, "precision": str(arithmetic), "seed": seed, "augment": augment or {}}
    inputs = [[entry[part]["digest"] for part in ("image", "tissue", "weights")] for entry in series]
    frequencies = np.sum([entry["weights"]["pixels"] for entry in series], axis=0)[:classes]
    drawing = Drawing(
        sides=(unet_input(tile, depth), unet_output(tile, depth)),
        batch=batch,
        seed=seed,
        augmentation=Augmentation(**augment or {}),
        class_weights=torch.tensor(class_weights(frequencies, balance), dtype=torch.float32, device=place),
        device=place,
    )
    torch.manual_seed(seed)
    channels = series[0]["image"]["channels"]
    network = channels_last(UNet(channels=len(channels), **shape).to(place))
    run = Run(plan, arithmetic, digest([REVISIONS["train"], inputs, shape, plan]), Path(output).parent)
    curve = optimise(network, [plane for entry in series for plane in load_planes(entry, place)], drawing, run)
    note = {
        "revision": REVISIONS["train"],
        "key": run.key,
        "channels": channels,
        "precision": str(arithmetic).removeprefix("torch."),
        "halo": unet_halo(depth),
        "settings": shape | plan,
        "class_weights": drawing.class_weights.tolist(),
        "curve": curve,
    }
    save_network(network, output, note)


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


def weighted_cross_entropy(logits_BKYX, target_BYX, weight_BYX) -> torch.Tensor:
    """The paper's energy, eq. 1, as a mean: −Σ w log softmax(a)_target / Σ w."""
    safe = torch.where(target_BYX == IGNORED, 0, target_BYX)
    loss = functional.cross_entropy(logits_BKYX.float(), safe, reduction="none")
    return (weight_BYX * loss).sum() / weight_BYX.sum().clamp_min(1e-6)


def optimise(network: UNet, planes: list[Plane], drawing: Drawing, run: Run) -> list[list[float]]:
    """The training loop; returns the loss curve as [step, mean loss] pairs.

    Raises
    ------
    InterruptedError
        If a signal asked the run to end.
    """
    steps, checkpoint = run.plan["steps"], run.folder / "checkpoint.pt"
    optimiser = make_optimiser(network, run.plan)
    start, curve, losses = _resume(checkpoint, run.key, network, optimiser)
    stop = _watch_for_signals()
    progress = Progress(steps - start, "steps")
    saved = time.monotonic()
    network.train()
    for step in range(start, steps):
        torch.manual_seed(drawing.seed * 2**32 + step)  # dropout
        image, target, weight = draw_batch(planes, drawing, step)
        with torch.autocast(drawing.device.type, run.precision, enabled=run.precision != torch.float32):
            logits = network(2 * image - 1)
        loss = weighted_cross_entropy(logits, target, weight)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, steps, run.plan["learning_rate"])
        optimiser.step()
        losses.append(loss.detach())
        if (step + 1) % max(1, steps // CURVE_POINTS) == 0:
            curve.append([step + 1, torch.stack(losses).mean().item()])
            losses.clear()
        progress.advance(f"loss {curve[-1][1]:.4f}" if curve else "")
        if stop or step + 1 == steps or time.monotonic() - saved > SAVE_EVERY:
            _save(checkpoint, run.key, step + 1, network, optimiser, (curve, losses))
            saved = time.monotonic()
        if stop:
            raise InterruptedError(f"{stop[0]}: training saved at step {step + 1}; start again to go on")
    return curve


def learning_rate(step: int, steps: int, highest: float) -> float:
    """Rises over the first twentieth of the steps, then falls to 0 as a cosine."""
    warm = max(1, steps // 20)
    if step < warm:
        return highest * (step + 1) / warm
    return highest * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def make_optimiser(network: UNet, plan: dict) -> torch.optim.Optimizer:
    """AdamW, or the gradient descent with momentum 0.99 of the paper's section 3."""
    if plan["optimiser"] == "sgd":
        return torch.optim.SGD(network.parameters(), lr=plan["learning_rate"], momentum=0.99, fused=True)
    return torch.optim.AdamW(network.parameters(), lr=plan["learning_rate"], weight_decay=1e-4, fused=True)


def _watch_for_signals() -> list[str]:
    """A list that is filled when a scheduler asks the run to end."""
    received: list[str] = []
    for name in ("SIGTERM", "SIGUSR1"):
        signal.signal(getattr(signal, name), lambda *_, name=name: received.append(name))
    return received


def _save(path: Path, key: str, step: int, network, optimiser, history) -> None:
    state = {"key": key, "step": step, "network": network.state_dict(), "history": history}
    with replacing(path) as aside:
        torch.save({**state, "optimiser": optimiser.state_dict()}, aside)
    logger.info("checkpoint at step %d", step)


def _resume(path: Path, key: str, network, optimiser) -> tuple[int, list, list]:
    """Step, curve and losses not yet in it, from a checkpoint of the same run; 0 where there is none."""
    if not path.exists():
        return 0, [], []
    state = torch.load(path, weights_only=True)
    if state["key"] != key:
        logger.warning("%s belongs to other inputs or settings: a new run starts", path)
        return 0, [], []
    network.load_state_dict(state["network"])
    optimiser.load_state_dict(state["optimiser"])
    logger.info("going on from step %d", state["step"])
    return state["step"], *state["history"]
