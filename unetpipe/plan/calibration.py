"""Times every stage on this machine: a small image, a few steps of training, a few calls of the network."""

import copy
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tifffile
import torch

from unetpipe.device import choose_device, choose_precision
from unetpipe.fitting import train_step
from unetpipe.geometry import tile_sides
from unetpipe.ingest import ingest
from unetpipe.label import write_objects
from unetpipe.mask import write_mask
from unetpipe.measure import write_measurements
from unetpipe.network import Network, laid_out
from unetpipe.overlap_tile import grid
from unetpipe.predictor import Predictor
from unetpipe.score import write_scores
from unetpipe.store import create_array, open_array, write_group
from unetpipe.truth import write_truth
from unetpipe.weights import write_weights

SIDE = 1024  # of the small image, pixels
TRIES = 3


class Costs(NamedTuple):
    """Seconds."""

    start: float  # of a job until it works
    heavy_start: float  # of one that loads torch
    pixel: dict[str, float]  # of each rule on the CPU
    step: float  # of training
    call: float  # of the network on a whole block, one view


def calibrate(config: dict, network: Network, tiles: tuple[int, int], threads: int) -> Costs:
    """Time everything; half a minute for a small network on two cores.

    Parameters
    ----------
    config : dict
        All sections, defaults included; `predict.block` a number.
    network : Network
        With any weights.
    tiles : (int, int)
        Side of a training tile, pixels, and tiles a step.
    """
    torch.set_num_threads(threads)
    light, heavy = _start("unetpipe.ingest"), _start("unetpipe.predict.part")
    with tempfile.TemporaryDirectory() as folder:
        pixel = {rule: timed(work) / SIDE**2 for rule, work in _stages(Path(folder), config, threads)}
    device = choose_device("auto")
    kind = (device, choose_precision(config["train"]["precision"], device))
    return Costs(light, heavy, pixel, _step(config, network, tiles, *kind), _call(config, network, *kind))


def timed(call: Callable) -> float:
    """Seconds that a call takes."""
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def _start(module: str) -> float:
    """Seconds until a job's imports are done."""
    call = [sys.executable, "-c", f"import {module}"]
    return min(timed(lambda: subprocess.run(call, check=True)) for _ in range(2))  # noqa: S603 - this Python


def _stages(folder: Path, config: dict, workers: int) -> Iterator[tuple[str, Callable]]:
    """Each rule on the CPU on an image of 1024 discs; each needs those before it."""
    _draw(folder)
    image, weights, found = (str(folder / name / "zarr.json") for name in ("image", "weights", "found"))
    truth, tissue, objects = (str(folder / f"{name}.json") for name in ("truth", "tissue", "objects"))
    common: dict[str, Any] = {"sample": "calibration"}
    shared = {**common, "workers": workers}
    yield "ingest", lambda: ingest([str(folder / "image.tif")], image, **shared)
    yield "truth", lambda: write_truth([str(folder / "ids.tif")], image, truth, **shared)
    yield "mask", lambda: write_mask(image, tissue, **shared)
    yield "weights", lambda: write_weights(image, truth, weights, **shared, **config["weights"])
    _pretend(Path(weights).parent, Path(found).parent)
    yield "label", lambda: write_objects(image, found, objects, **shared, **config["label"])
    outputs = str(folder / "objects.parquet"), str(folder / "objects.geojson.gz")
    yield "measure", lambda: write_measurements(image, found, objects, *outputs, **shared)
    samples = [["calibration", "test"]]
    scored = [image], [found], [outputs[0]]
    yield "score", lambda: write_scores(*scored, str(folder / "scores.tsv"), samples=samples, workers=workers)


def _draw(folder: Path) -> None:
    y, x = np.indices((SIDE, SIDE))
    cell = y // 32 * 32 + x // 32 + 1
    ids = np.where((y % 32 - 16) ** 2 + (x % 32 - 16) ** 2 < 144, cell, 0)
    grey = np.random.default_rng(0).normal(60, 8, ids.shape) + 100 * (ids > 0)
    tifffile.imwrite(folder / "image.tif", grey.clip(0, 255).astype(np.uint8))
    tifffile.imwrite(folder / "ids.tif", ids.astype(np.uint16))


def _pretend(weights: Path, store: Path) -> None:
    """Write the truth as probabilities."""
    target = open_array(weights / "0" / "target")[...]
    found = create_array(store / "0", (1, 1, *target.shape[1:]), np.uint8, chunk=256, shard=1024)
    found[...] = target[:, None] * np.uint8(255)
    write_group(store, {"unetpipe": {"sides": [1, 512, 512], "series": [{"path": "0", "digest": "truth"}]}})


def _step(config: dict, network: Network, tiles: tuple[int, int], device, precision) -> float:
    if config["network"]:
        return 0.0
    side, count = tiles
    sides, _ = tile_sides(network.axes, side, config["train"]["planes"])
    shape = (count, network.arguments["channels"], *sides[-len(network.axes) :])
    model = laid_out(copy.deepcopy(network).to(device), precision).train()
    batch = torch.rand(shape, device=device)
    return min(timed(lambda: train_step(model, batch, precision)) for _ in range(TRIES))


def _call(config: dict, network: Network, device, precision) -> float:
    predictor = Predictor([copy.deepcopy(network)], views=1, device=device, precision=precision)
    wanted = (config["predict"]["planes"], *[config["predict"]["block"]] * 2)
    axes, sides = grid((10**6,) * 3, wanted, network.axes)
    shape = [axis.input(side) for axis, side in zip(axes, sides, strict=True)]
    grey = np.random.default_rng(0).random((network.arguments["channels"], *shape), np.float32)
    return min(timed(lambda: predictor(grey)) for _ in range(TRIES))
