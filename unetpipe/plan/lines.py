"""Blocks, memory, disk and time of every rule of every sample."""

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from unetpipe.config import listed
from unetpipe.fitting import step_memory, wanted_tiles
from unetpipe.geometry import relative_spacing, tile_sides
from unetpipe.needs import PROCESS, Kind, block_side, prediction_memory
from unetpipe.network import Network, UNet
from unetpipe.overlap_tile import volume_blocks
from unetpipe.plan.calibration import Costs
from unetpipe.readers.series import Series
from unetpipe.saved import load_network
from unetpipe.seams import LARGEST, MOST, ONE_OF
from unetpipe.sheet import Sample

PYRAMID = 4 / 3  # pixels of all levels over those of the first
LABEL_BYTES = {"truth": 5, "mask": 1, "label": 4}  # a pixel of what a rule adds to the image's store


class Size(NamedTuple):
    """What a sample holds."""

    shapes: list[tuple[int, ...]]  # t, c, z, y, x of every series
    pixel_size: tuple[float, ...] | None  # z, y, x of the first, µm
    raw: int  # bytes

    @classmethod
    def of(cls, series: Sequence[Series]) -> "Size":
        """Of the series of a sample as they will be stored."""
        raw = sum(math.prod(one.shape) * one.dtype.itemsize for one in series)
        return cls([one.shape for one in series], series[0].pixel_size, raw)

    @property
    def pixels(self) -> int:
        """Of all series, without channels."""
        return sum(math.prod(shape) // shape[1] for shape in self.shapes)


class Line(NamedTuple):
    """One rule of one sample."""

    sample: str
    rule: str
    jobs: int
    work: str
    memory: float | None  # bytes of a job on the CPU, where network and block decide it
    disk: float  # bytes, before compression
    seconds: float  # of all its jobs


def make_network(config: dict, folder: Path, sizes: dict[str, Size]) -> Network:
    """The network that will predict, with random weights if it is yet to be trained.

    Raises
    ------
    ValueError
        If its contracting path is a pretrained one.
    """
    given, settings = listed(config["network"]), config["train"]
    if given:
        return load_network(folder / given[0])[0]
    if settings["backbone"]:
        raise ValueError("config: the plan knows the paper's contracting path only; set train.backbone to null for it")
    kind = {name: settings[name] for name in ("depth", "features", "dropout", "downsample", "normalise")}
    first, dimensions, truth = next(iter(sizes.values())), config["dimensions"], config["truth"]
    classes = len(truth["classes"]) if truth["kind"] == "classes" else 2
    spacing = relative_spacing(first.pixel_size, 3) if dimensions == 3 else None
    return UNet(channels=first.shapes[0][1], classes=classes, dimensions=dimensions, spacing=spacing, **kind)


def _settled(config: dict, network: Network) -> dict:
    """The config with the side of a block where it says auto."""
    block, planes = config["predict"]["block"], config["predict"]["planes"]
    side = block_side(block, network.arguments["features"], network.axes, planes, config["ingest"]["chunk"])
    return {**config, "predict": {**config["predict"], "block": side}}


class Plan:
    """What a run takes on a machine of these costs; its `config` says auto no more where blocks are concerned.

    Parameters
    ----------
    config : dict
        All sections, defaults included.
    samples : list of Sample
    sizes : dict of sample → Size
    network : Network
        See `make_network`.
    """

    def __init__(self, config: dict, samples: list[Sample], sizes: dict[str, Size], network: Network):
        self.config, self.samples, self.sizes, self.network = _settled(config, network), samples, sizes, network
        self.networks = len(listed(config["network"])) or max(1, config["train"]["folds"])
        self.trains = not config["network"]

    def tiles(self) -> tuple[int, int]:
        """Side of the training tiles, and tiles a step, where memory suffices."""
        own = [s.name for s in self.samples if s.split == "train"] or self.sizes
        longest = max(max(shape[-2:]) for name in own for shape in self.sizes[name].shapes)
        return wanted_tiles({**self.config["train"], "dimensions": self.config["dimensions"]}, longest)

    def lines(self, costs: Costs) -> Iterator[Line]:
        """One line for every rule of every sample, and of all samples."""
        for sample in self.samples:
            yield from self._of(sample, costs)
        if self.trains:
            yield self._training(costs)
        scored = sum(self.sizes[s.name].pixels for s in self.samples if s.split in ("val", "test"))
        if scored:
            yield self._on_pixels("all", "score", scored, 0, costs)
        yield Line("all", "report", 1, f"{len(self.samples)} samples", None, 0, 2 * costs.start)

    def _of(self, sample: Sample, costs: Costs) -> Iterator[Line]:
        size, name = self.sizes[sample.name], sample.name
        annotated, predicted = sample.split != "predict", sample.split != "train"
        yield self._on_pixels(name, "ingest", size.raw, size.raw * PYRAMID, costs)
        rules = ["mask", *(["truth"] if annotated else []), *(["label"] if predicted else [])]
        for rule in rules:
            yield self._on_pixels(name, rule, size.pixels, LABEL_BYTES[rule] * size.pixels * PYRAMID, costs)
        if not predicted and self.trains:
            yield self._on_pixels(name, "weights", size.pixels, 2 * size.pixels, costs)
        if predicted:
            yield self._prediction(sample, size, costs)
            yield self._on_pixels(name, "measure", size.pixels, 0, costs)

    @staticmethod
    def _on_pixels(sample: str, rule: str, amount: int, disk: float, costs: Costs) -> Line:
        work = f"{amount / 1e6:.1f} M{'B' if rule == 'ingest' else 'px'}"
        return Line(sample, rule, 1, work, None, disk, costs.start + costs.pixel[rule] * amount)

    def _sides(self) -> tuple[int, int, int]:
        block = self.config["predict"]["block"]
        return self.config["predict"]["planes"], block, block

    def _calls(self, size: Size) -> tuple[int, float]:
        """Blocks of a sample with those that check seams, and how many whole ones cost as much."""
        axes, sides, blocks, cost = self.network.axes, self._sides(), 0, 0.0
        full = math.prod(axis.input(side) for axis, side in zip(axes, sides[-len(axes) :], strict=True))
        for shape in size.shapes:
            cut = volume_blocks(shape[2:], sides, axes)
            blocks += shape[0] * len(cut)
            cost += shape[0] * len(cut) * math.prod(p.stop - p.start for p in cut[0].read[-len(axes) :]) / full
        beside = blocks > sum(shape[0] * (shape[2] if len(axes) == 2 else 1) for shape in size.shapes)
        checks = min(MOST, -(-blocks // ONE_OF)) if beside else 0
        window = [axis.input(min(side, LARGEST)) for axis, side in zip(axes, sides[-len(axes) :], strict=True)]
        return blocks + checks, cost + checks * math.prod(window) / full

    def _prediction(self, sample: Sample, size: Size, costs: Costs) -> Line:
        calls, whole = self._calls(size)
        arguments, predict = self.network.arguments, self.config["predict"]
        weights = self.networks * sum(tensor.numel() for tensor in self.network.parameters())
        kind = Kind(arguments["features"], weights, self.network.axes, arguments["channels"])
        memory = prediction_memory(kind, predict["block"], predict["planes"])
        seconds = whole * costs.call * predict["views"] * self.networks + sample.parts * costs.heavy_start + costs.start
        disk = size.pixels * (arguments["classes"] - 1)
        return Line(sample.name, "predict", sample.parts + 1, f"{calls} blocks at most", memory, disk, seconds)

    def _training(self, costs: Costs) -> Line:
        settings, axes = self.config["train"], self.network.axes
        folds, (side, count) = max(1, settings["folds"]), self.tiles()
        sides, _ = tile_sides(axes, side, settings["planes"])
        shape = (count, self.network.arguments["channels"], *sides[-len(axes) :])
        memory = PROCESS + step_memory(self.network, shape, torch.device("cpu"), torch.float32)
        seen = [s for s in self.samples if s.split == ("train" if settings["folds"] else "val")]
        calls = settings["validations"] * sum(self._calls(self.sizes[s.name])[1] for s in seen) / folds
        seconds = folds * (costs.heavy_start + settings["steps"] * costs.step + calls * costs.call)
        disk = folds * 40 * sum(tensor.numel() for tensor in self.network.parameters())  # two checkpoints with moments
        return Line("all", "train", folds, f"{settings['steps']} steps of {count} x {side}²", memory, disk, seconds)


def table(lines: Iterable[Line]) -> str:
    """The plan as text, the sum last."""
    known = [*lines]
    total = Line("all", "sum", sum(o.jobs for o in known), "", None, *_sums(known))
    rows = [("sample", "rule", "jobs", "work", "memory", "disk", "time")]
    for one in (*known, total):
        memory = _bytes(one.memory) if one.memory else ""
        rows.append((one.sample, one.rule, str(one.jobs), one.work, memory, _bytes(one.disk), _clock(one.seconds)))
    widths = np.max([[len(cell) for cell in row] for row in rows], axis=0)
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def _sums(lines: list[Line]) -> tuple[float, float]:
    return sum(one.disk for one in lines), sum(one.seconds for one in lines)


def _bytes(count: float) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"


def _clock(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
