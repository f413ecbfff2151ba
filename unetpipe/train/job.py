"""Trains the U-Net on the annotated samples, so that a stopped run goes on as if it had never stopped."""

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unetpipe.augment import Augmentation
from unetpipe.checkpoint import load_checkpoint
from unetpipe.device import be_deterministic, choose_device, choose_precision
from unetpipe.fitting import MOST, SHARE, TILE, Choices, fit, step_memory, worth_compiling
from unetpipe.geometry import relative_spacing, tile_sides
from unetpipe.loss import class_weights
from unetpipe.manifest import digest, file_digest, read_json, write_bytes
from unetpipe.network import Network, UNet, laid_out
from unetpipe.pretrained import PretrainedUNet, find_weights
from unetpipe.ranks import agree, rank, size, together
from unetpipe.revisions import REVISIONS
from unetpipe.saved import save_network
from unetpipe.store import read_attributes
from unetpipe.tiles import Drawing, Material, draw_batch, list_series, load
from unetpipe.train.loop import Run, optimise
from unetpipe.watch import Watch

logger = logging.getLogger(__name__)


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
    tile: int | str = "auto",
    planes: int = 16,
    batch: int | str = "auto",
    anywhere: float = 0.5,
    steps: int = 3000,
    optimiser: str = "adamw",
    learning_rate: float = 5e-4,
    clip: float = 1.0,
    balance: float = 1.0,
    dice: float = 0.0,
    precision: str = "auto",
    compile: bool | str = "auto",  # noqa: A002 - torch's own word
    deterministic: bool = False,
    seed: int = 1,
    augment: dict | None = None,
    device: str = "auto",
    devices: int = 1,
    threads: int = 1,
    memory: int = 8000,
    minutes: float = 0,
) -> None:
    """Train a network and write it with what prediction needs to know.

    Parameters
    ----------
    images, tissues, weights : list of path
        Root `zarr.json` of the image stores, manifests of their tissue, root `zarr.json` of their
        weights; one of each for every training sample.
    output : path
        `network.json`, written last; `network.safetensors`, `curve.tsv` and the checkpoints lie beside it.
    dimensions, depth, features, downsample, dropout, normalise
        See `network.UNet`.
    backbone, pretrained : str, optional
        See `pretrained.PretrainedUNet` and `pretrained.find_weights`; the U-Net's own contracting
        path, random weights if not given.
    tile, planes : int
        Side of the output that one step sees, and its depth in volumes, pixels; raised to the next
        valid ones. `tile` "auto": the paper's 388, less where the images are smaller or memory is short.
    batch : int or "auto"
        Tiles a step, of all devices. Auto: as many as have the pixels of the paper's tile, at most 16, on each device.
    anywhere : float
        Share of tiles drawn from anywhere, see `places.Places.draw`.
    steps : int
        Updates of the weights.
    optimiser : "adamw" or "sgd"
        AdamW, or the paper's gradient descent with momentum 0.99; the rate falls as a cosine.
    clip : float
        Largest norm of the gradient; 0: any.
    balance : float
        0: all classes weigh alike; 1: by the inverse of their share of pixels.
    dice : float
        Weight of a soft Dice term beside the cross-entropy.
    precision : "auto", "bf16" or "float32"
        Auto: bf16 where it is the faster.
    compile : "auto" or bool
        Auto: tried where the run is long, and taken where it is faster.
    deterministic : bool
        The same bits in every run on a GPU too, which is slower.
    augment : dict
        See `augment.Augmentation`.
    device : "auto", "cpu" or "cuda"
    devices : int
        GPUs of the job; each has a process of its own, and its share of the batch.
    threads : int
        For arithmetic on the CPU.
    memory : int
        Of the job, MB: training images that do not fit into half of it (a third of a GPU's) are read tile by tile.
    minutes : float
        Run time of the job; the run saves its state and ends shortly before. 0: no limit.

    Raises
    ------
    InterruptedError
        If a scheduler asked the run to end; it is saved and the next start goes on.
    FloatingPointError
        If the loss is no number any more.
    MemoryError
        If a step does not fit into memory.
    """
    call = {**locals()}
    settings = {name: value for name, value in call.items() if name not in INPUTS | MACHINE}
    with Watch(minutes) as watch, together("unetpipe.train", call, devices):
        torch.set_num_threads(max(1, threads // size()))
        be_deterministic(wanted=deterministic)
        place = choose_device(device, rank())
        if place.type == "cuda":
            torch.cuda.set_device(place)
        series = list_series(images, tissues, weights)
        classes = max(read_attributes(path)["classes"] for path in weights)
        network = build(series, classes, settings).to(place)
        inputs = [[entry[part]["digest"] for part in ("image", "tissue", "weights")] for entry in series]
        key = digest([REVISIONS["train"], inputs, network.arguments, settings, _pretrained_digest(settings)])
        folder = Path(output).parent
        state = agree(load_checkpoint(folder, key) if rank() == 0 else None)
        whole = _memory(place, memory)
        material = load(series, dimensions, place, limit=whole / (3 if place.type == "cuda" else 2))
        draw = partial(make_drawing, network, series, settings, place)
        if state:
            choices = Choices(**state["choices"])
            if rank() == 0:
                _refuse_batch(choices.batch)
        else:
            free = SHARE * (_memory(place, memory) if place.type == "cuda" else whole / 2)
            choices = agree(choose(network, material, settings, draw, free) if rank() == 0 else None)
        drawing, run = draw(choices), Run(settings, choices, key, folder)
        network = laid_out(network, choose_precision(choices.precision, place))
        logger.info("%d x %s, %d steps: %s", size(), place.type, steps, choices)
        try:
            curve = optimise(network, material, drawing, run, state, watch)
        except torch.OutOfMemoryError as error:
            raise MemoryError(
                f"a step with {choices.batch} tiles of {choices.tile} pixels on {size()} devices ran out of memory; "
                f"set train.tile to {int(choices.tile * 0.8)}, train.batch lower, or both to auto"
            ) from error
        if rank() == 0:
            note = {
                "revision": REVISIONS["train"],
                "key": run.key,
                "channels": series[0]["image"]["channels"],
                "percentiles": read_json(tissues[0])["settings"]["percentiles"],
                "precision": choices.precision,
                "settings": settings,
                "choices": choices._asdict(),
                "class_weights": drawing.class_weights.tolist(),
                "curve": curve,
            }
            write_bytes(folder / "curve.tsv", _table(curve).encode())
            save_network(network, output, note)


INPUTS = {"images", "tissues", "weights", "output"}
MACHINE = {"device", "devices", "threads", "memory", "minutes"}  # what does not make another run


# ---------------------------------------------------------------- before the first step


def build(series: list[dict], classes: int, settings: dict) -> Network:
    """The network of these settings, with its first weights."""
    shape: dict[str, Any] = {name: settings[name] for name in ("depth", "features", "dropout")}
    shape |= {"channels": len(series[0]["image"]["channels"]), "classes": classes}
    torch.manual_seed(settings["seed"])
    if settings["backbone"]:
        start = find_weights(settings["backbone"], settings["pretrained"]) if settings["pretrained"] else None
        return PretrainedUNet(backbone=settings["backbone"], weights=start, **shape)
    kind = {name: settings[name] for name in ("dimensions", "downsample", "normalise")}
    return UNet(spacing=_one_spacing(series) if settings["dimensions"] == 3 else None, **shape, **kind)


def _pretrained_digest(settings: dict) -> str | None:
    source = settings["pretrained"]
    return file_digest(find_weights(settings["backbone"], source)) if source else None


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


def _memory(place: torch.device, memory: int) -> float:
    """Bytes that are free on a GPU, or those of the job."""
    return torch.cuda.mem_get_info(place)[0] if place.type == "cuda" else memory * 1e6 / size()


def choose(
    network: Network, material: Material, settings: dict, draw: Callable[[Choices], Drawing], free: float
) -> Choices:
    """What the settings leave open: precision, tile and batch that fit into memory, compiling.

    Parameters
    ----------
    draw : function
        See `make_drawing`.
    free : float
        Bytes that a step may take.
    """
    place = next(network.parameters()).device
    arithmetic = choose_precision(settings["precision"], place)
    tile, tiles = _choose_sides(network, material, settings, (place, arithmetic), free)
    choices = Choices(str(arithmetic).removeprefix("torch."), tile, tiles * size())
    if settings["compile"] != "auto":
        return choices._replace(compiled=settings["compile"])
    image, *_ = draw_batch(material, draw(choices), 0)
    network = laid_out(network, arithmetic)
    return choices._replace(compiled=worth_compiling(network, image, settings["steps"], arithmetic))


def _choose_sides(network: Network, material: Material, settings: dict, kind: tuple, free: float) -> tuple[int, int]:
    """Side of the tiles, and how many a device takes in a step."""
    fixed = settings["tile"] != "auto", settings["batch"] != "auto"
    if fixed[1]:
        _refuse_batch(settings["batch"])
    longest = max(max(space.shape[1:]) for space in material.spaces)
    tile = settings["tile"] if fixed[0] else min(TILE, longest)
    equal = round((TILE / tile) ** 2) if settings["dimensions"] == 2 else 1
    tiles = settings["batch"] // size() if fixed[1] else min(max(1, equal), MOST)
    if all(fixed):
        return tile, tiles

    def needed(tile: int, tiles: int) -> float:
        sides, _ = tile_sides(network.axes, tile, settings["planes"])
        return step_memory(network, (tiles, network.arguments["channels"], *sides[-len(network.axes) :]), *kind)

    return fit(tile, tiles, needed, free, fixed=fixed)


def _refuse_batch(batch: int) -> None:
    """Every device takes the same number of tiles; a run that goes on keeps its batch."""
    if batch % size():
        raise ValueError(
            f"train.batch {batch} is not a multiple of the job's {size()} devices; set it so, or the resource gpu of "
            "train to a divisor of it"
        )


def make_drawing(network: Network, series: list[dict], settings: dict, place, choices: Choices) -> Drawing:
    """How the tiles of these settings are drawn."""
    sides, margins = tile_sides(network.axes, choices.tile, settings["planes"])
    frequencies = np.sum([entry["weights"]["pixels"] for entry in series], axis=0)[: network.arguments["classes"]]
    weights = class_weights(frequencies, settings["balance"])
    return Drawing(
        sides=sides,
        margins=margins,
        batch=choices.batch,
        anywhere=settings["anywhere"],
        seed=settings["seed"],
        augmentation=Augmentation(**settings["augment"] or {}),
        class_weights=torch.tensor(weights, dtype=torch.float32, device=place),
        device=place,
        rank=rank(),
        ranks=size(),
    )


def _table(curve: list[list[float]]) -> str:
    rows: list = [["step", "loss", "learning_rate"], *curve]
    return "".join("\t".join(map(str, row)) + "\n" for row in rows)
