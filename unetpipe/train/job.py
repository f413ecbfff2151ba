"""Trains the U-Net on the annotated samples, so that a stopped run goes on as if it had never stopped."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch

from unetpipe.checkpoint import load_checkpoint
from unetpipe.curve import curve_table
from unetpipe.device import be_deterministic, choose_precision
from unetpipe.fitting import SHARE, Choices
from unetpipe.geometry import common_pixel_size
from unetpipe.gpus import granted
from unetpipe.locks import held
from unetpipe.manifest import digest, read_json, write_bytes
from unetpipe.network import laid_out
from unetpipe.ranks import agree, rank, size, together
from unetpipe.revisions import REVISIONS
from unetpipe.saved import save_network
from unetpipe.store import read_attributes
from unetpipe.tiles import load
from unetpipe.train.loop import Run, optimise
from unetpipe.train.setup import (
    build,
    choose,
    free_memory,
    list_data,
    make_drawing,
    make_validation,
    pretrained_digest,
    refuse_batch,
)
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
    validations: int = 10,
    metric: str = "f1",
    patience: int = 0,
    folds: int = 0,
    seed: int = 1,
    augment: dict | None = None,
    validation: Sequence[Sequence[str]] = ((), (), ()),
    fold: int | None = None,
    groups: Sequence[str] = (),
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
    validations : int
        How often the network is scored on what it does not learn from; the best is kept. 0: the last is.
    metric : str
        What is best, one of `validation.METRICS`.
    patience : int
        Validations without a better network after which training ends; 0: never.
    folds, fold : int
        Of a cross-validation, and which of them is left out here; 0 folds: nothing is.
    augment : dict
        See `augment.Augmentation`.
    validation : sequence of three lists of path
        Root `zarr.json` of the image stores, manifests of tissue and of truth, of the samples to be scored on.
    groups : sequence of str
        Of each training sample: a group is never divided among folds; "" is a group of each series' own.
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
    BlockingIOError
        If another process trains in the same folder.
    InterruptedError
        If a scheduler asked the run to end; it is saved and the next start goes on.
    FloatingPointError
        If the loss is no number any more.
    MemoryError
        If a step does not fit into memory.
    """
    call = {**locals()}
    settings = {name: value for name, value in call.items() if name not in INPUTS | MACHINE}
    folder = Path(output).parent
    with _alone(folder, device, devices) as places, Watch(minutes) as watch, together("unetpipe.train", call, devices):
        torch.set_num_threads(max(1, threads // size()))
        be_deterministic(wanted=deterministic)
        place = agree(places)[rank()]
        if place.type == "cuda":
            torch.cuda.set_device(place)
        data = list_data(images, tissues, weights, validation, settings)
        series = data.training
        classes = max(read_attributes(path)["classes"] for path in weights)
        network = build(series, classes, settings).to(place)
        key = digest([REVISIONS["train"], data.digests, network.arguments, settings, pretrained_digest(settings)])
        state = agree(load_checkpoint(folder, key) if rank() == 0 else None)
        whole = free_memory(place, memory)
        material = load(series, dimensions, place, limit=whole / (3 if place.type == "cuda" else 2))
        draw = partial(make_drawing, network, data.frequencies, settings, place)
        if state:
            choices = Choices(**state["choices"])
            if rank() == 0:
                refuse_batch(choices.batch)
        else:
            free = SHARE * (free_memory(place, memory) if place.type == "cuda" else whole / 2)
            choices = agree(choose(network, material, settings, draw, free) if rank() == 0 else None)
        drawing, run = draw(choices), Run(settings, choices, key, folder)
        network = laid_out(network, choose_precision(choices.precision, place))
        scored = make_validation(data, settings, weights, choices, place)
        logger.info("%d x %s, %d steps: %s", size(), place.type, steps, choices)
        try:
            history = optimise(network, material, drawing, run, state, watch, scored)
        except torch.OutOfMemoryError as error:
            raise MemoryError(
                f"a step with {choices.batch} tiles of {choices.tile} pixels on {size()} devices ran out of memory; "
                f"set train.tile to {int(choices.tile * 0.8)}, train.batch lower, or both to auto"
            ) from error
        if rank() == 0:
            seen = read_json(tissues[0])["settings"]
            note = {
                "revision": REVISIONS["train"],
                "key": run.key,
                "channels": series[0]["image"]["channels"],
                "pixel_size": common_pixel_size([entry["image"]["pixel_size"] for entry in series]),
                "percentiles": seen.pop("percentiles"),
                "mask": seen,
                "precision": choices.precision,
                "settings": settings,
                "choices": choices._asdict(),
                "class_weights": drawing.class_weights.tolist(),
                "curve": history.curve,
                "kept": history.kept(),
            }
            write_bytes(folder / "curve.tsv", curve_table(history.curve).encode())
            save_network(network, output, note)


@contextmanager
def _alone(folder: Path, device: str, count: int) -> Iterator[list[torch.device]]:
    """The first of several processes keeps others, of another job, out of the folder and off the devices."""
    if rank() > 0:
        yield []
        return
    with held(folder / ".lock"), granted(device, max(1, count)) as places:
        yield places


INPUTS = {"images", "tissues", "weights", "validation", "output"}
MACHINE = {"device", "devices", "threads", "memory", "minutes"}  # what does not make another run
