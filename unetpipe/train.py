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

from unetpipe.augment import Augmentation, recolour, sample, sampling_field
from unetpipe.device import choose_device, choose_precision
from unetpipe.geometry import unet_halo, unet_input, unet_output
from unetpipe.log import Progress
from unetpipe.manifest import digest, read_json, replacing
from unetpipe.network import UNet, save_network
from unetpipe.revisions import REVISIONS
from unetpipe.store import open_array, read_attributes

logger = logging.getLogger(__name__)
IGNORED = 255  # class of pixels that nobody annotated
SAVE_EVERY = 60.0  # seconds between checkpoints
CURVE_POINTS = 100


class Plane(NamedTuple):
    """One annotated plane on the training device."""

    image_CYX: torch.Tensor  # grey values, 0 … 1 between the percentiles of the series
    truth_2YX: torch.Tensor  # target class and border term


class Settings(NamedTuple):
    """What one step needs to know."""

    sides: tuple[int, int]  # of the input and of the output of the network, pixels
    batch: int
    seed: int
    augmentation: Augmentation
    class_weights: torch.Tensor
    device: torch.device
    precision: torch.dtype


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
    folder = Path(output).parent
    place = choose_device(device)
    notes = [_series(image, tissue, weight) for image, tissue, weight in zip(images, tissues, weights, strict=True)]
    series = [entry for note in notes for entry in note]
    classes = max(read_attributes(path)["classes"] for path in weights)
    shape = {"depth": depth, "features": features, "dropout": dropout, "normalise": normalise, "classes": classes}
    plan = {"tile": tile, "batch": batch, "steps": steps, "optimiser": optimiser, "learning_rate": learning_rate}
    plan |= {"balance": balance, "precision": precision, "seed": seed, "augment": augment or {}}
    inputs = [[entry[part]["digest"] for part in ("image", "tissue", "weights")] for entry in series]
    key = digest([REVISIONS["train"], inputs, shape, plan])

    frequencies = np.sum([entry["weights"]["pixels"] for entry in series], axis=0)[:classes]
    settings = Settings(
        sides=(unet_input(tile, depth), unet_output(tile, depth)),
        batch=batch,
        seed=seed,
        augmentation=Augmentation(**augment or {}),
        class_weights=torch.tensor(class_weights(frequencies, balance), dtype=torch.float32, device=place),
        device=place,
        precision=choose_precision(precision, place),
    )
    torch.manual_seed(seed)
    channels = len(series[0]["image"]["channels"])
    network = UNet(channels=channels, **shape).to(place, memory_format=torch.channels_last)
    planes = [plane for entry in series for plane in _load(entry, place)]
    curve = _optimise(network, planes, settings, plan, key, folder / "checkpoint.pt")
    note = {
        "revision": REVISIONS["train"],
        "key": key,
        "channels": series[0]["image"]["channels"],
        "precision": str(settings.precision).removeprefix("torch."),
        "halo": unet_halo(depth),
        "settings": shape | plan,
        "class_weights": settings.class_weights.tolist(),
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
        raise ValueError(f"class {absent} has no pixel in the training truths; annotate it or take it from truth.classes")
    share = frequencies / frequencies.sum()
    weight = share ** (-balance)
    return weight / (weight * share).sum()


def weighted_cross_entropy(logits_BKYX, target_BYX, weight_BYX) -> torch.Tensor:
    """The paper's energy, eq. 1, as a mean: −Σ w log softmax(a)_target / Σ w."""
    safe = torch.where(target_BYX == IGNORED, 0, target_BYX)
    loss = functional.cross_entropy(logits_BKYX.float(), safe, reduction="none")
    return (weight_BYX * loss).sum() / weight_BYX.sum().clamp_min(1e-6)


def _series(image: str, tissue: str, weights: str) -> list[dict]:
    """What is known of every series of one sample, and where its arrays lie."""
    parts = zip(
        read_attributes(image)["series"],
        read_json(tissue)["series"],
        read_attributes(weights)["series"],
        strict=True,
    )
    folders = {"images": Path(image).parent, "truth": Path(weights).parent}
    return [{"image": i, "tissue": t, "weights": w, **folders} for i, t, w in parts]


def _load(entry: dict, device: torch.device) -> list[Plane]:
    """All (t, z) planes of one series."""
    path = entry["image"]["path"]
    pixels = open_array(entry["images"] / path / "0")[...]
    target, border = (open_array(entry["truth"] / path / name) for name in ("target", "border"))
    scale = border.attrs["unetpipe"]["scale"]
    truth = np.stack([target[...].astype(np.float32), border[...] * np.float32(scale)], axis=1)
    low, high = (np.asarray(entry["tissue"][name], np.float32)[:, None, None, None] for name in ("low", "high"))
    grey = (pixels.astype(np.float32) - low) / np.maximum(high - low, 1e-6)
    return [
        Plane(*(torch.from_numpy(np.ascontiguousarray(values[t, :, z])).to(device) for values in (grey, truth)))
        for t in range(grey.shape[0])
        for z in range(grey.shape[2])
    ]


def draw_batch(planes: list[Plane], settings: Settings, step: int):
    """The tiles of one step, a pure function of (seed, step).

    Returns
    -------
    image (B, C, Y, X) float32, target (B, Y, X) int64, weight (B, Y, X) float32
        Target and weight cover what the network's output covers.
    """
    generator = torch.Generator().manual_seed(settings.seed * 2**32 + step)
    areas = torch.tensor([plane.image_CYX[0].numel() for plane in planes], dtype=torch.float64)
    chosen = torch.multinomial(areas, settings.batch, replacement=True, generator=generator)
    tiles = [_draw_tile(planes[index], settings, generator) for index in chosen.tolist()]
    image, target, border = (torch.stack(parts) for parts in zip(*tiles, strict=True))
    known = target != IGNORED
    weight = torch.where(known, settings.class_weights[torch.where(known, target, 0)] + border, 0)
    return image.contiguous(memory_format=torch.channels_last), target, weight


def _draw_tile(plane: Plane, settings: Settings, generator: torch.Generator):
    wide, narrow = settings.sides
    y, x = (torch.rand(2, generator=generator) * torch.tensor(plane.image_CYX.shape[1:])).tolist()
    field = sampling_field((y, x), (wide, wide), settings.augmentation, generator).to(settings.device)
    image = recolour(sample(plane.image_CYX, field, "bicubic"), settings.augmentation, generator)
    margin = (wide - narrow) // 2
    inner = field[margin : margin + narrow, margin : margin + narrow]
    target = sample(plane.truth_2YX[:1], inner, "nearest")[0].round().long()
    border = sample(plane.truth_2YX[1:], inner, "bilinear")[0]
    return image, target, border


def _optimise(network: UNet, planes: list[Plane], settings: Settings, plan: dict, key: str, checkpoint: Path):
    """The training loop; returns the loss curve as [step, loss] pairs."""
    optimiser = _optimiser(network, plan)
    start, curve, losses = _resume(checkpoint, key, network, optimiser)
    stop = _watch_for_signals()
    progress = Progress(plan["steps"] - start, "steps")
    every = max(1, plan["steps"] // CURVE_POINTS)
    saved = time.monotonic()
    network.train()
    for step in range(start, plan["steps"]):
        torch.manual_seed(settings.seed * 2**32 + step)  # dropout
        image, target, weight = draw_batch(planes, settings, step)
        with torch.autocast(settings.device.type, settings.precision, enabled=settings.precision != torch.float32):
            logits = network(2 * image - 1)
        loss = weighted_cross_entropy(logits, target, weight)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, plan["steps"], plan["learning_rate"])
        optimiser.step()
        losses.append(loss.detach())
        if (step + 1) % every == 0:
            curve.append([step + 1, torch.stack(losses).mean().item()])
            losses.clear()
        progress.advance(f"loss {curve[-1][1]:.4f}" if curve else "")
        if stop or time.monotonic() - saved > SAVE_EVERY:
            _save(checkpoint, key, step + 1, network, optimiser, (curve, losses))
            saved = time.monotonic()
            if stop:
                raise InterruptedError(f"{stop[0]}: training saved at step {step + 1}; start again to go on")
    if start < plan["steps"]:
        _save(checkpoint, key, plan["steps"], network, optimiser, (curve, losses))
    return curve


def learning_rate(step: int, steps: int, highest: float) -> float:
    """Rises over the first twentieth of the steps, then falls to 0 as a cosine."""
    warm = max(1, steps // 20)
    if step < warm:
        return highest * (step + 1) / warm
    return highest * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def _optimiser(network: UNet, plan: dict) -> torch.optim.Optimizer:
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
