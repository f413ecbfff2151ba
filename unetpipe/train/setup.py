"""What stands before the first step: the network, its data, and what follows from the machine."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from unetpipe.augment import Augmentation
from unetpipe.device import choose_precision
from unetpipe.fitting import Choices, fit, step_memory, wanted_tiles, worth_compiling
from unetpipe.geometry import relative_spacing, tile_sides
from unetpipe.loss import class_weights
from unetpipe.manifest import file_digest, read_json
from unetpipe.network import Network, UNet, laid_out
from unetpipe.pretrained import PretrainedUNet, find_weights
from unetpipe.ranks import rank, size
from unetpipe.store import read_attributes
from unetpipe.tiles import Drawing, Material, draw_batch, list_series
from unetpipe.train.validation import METRICS, Seen, Validation, list_seen

logger = logging.getLogger(__name__)
FEW = 3  # images, by which one network is hardly told from another


class Data(NamedTuple):
    """The annotated series of a run."""

    training: list[dict]  # see `tiles.list_series`
    seen: list[Seen]  # those that the network is scored on while it learns
    digests: list  # of all of them
    frequencies: np.ndarray  # (K,) int: pixels of each class in the training truths


def list_data(
    images: list[str], tissues: list[str], weights: list[str], validation: Sequence[Sequence[str]], settings: dict
) -> Data:
    """What a run learns from, and what it is scored on.

    Parameters
    ----------
    validation : sequence of three lists of path
        Images, tissues and truths of other samples; without them a fold is scored on what it leaves out.
    """
    series = list_series(images, tissues, weights)
    digests = [[*_learnt(entry["image"], entry["tissue"]), entry["weights"]["digest"]] for entry in series]
    seen = list_seen(validation[0], [read_json(path) for path in validation[1]]) if settings["validations"] else []
    truths = [entry["digest"] for path in validation[2] for entry in read_json(path)["series"]]
    if seen:
        digests.append([_learnt(one.image, one.statistics) for one in seen] + truths)
    every = _frequencies(series)
    if settings["folds"]:
        groups = list(_groups(images, settings["groups"]))
        left = held_out(groups, settings["fold"], settings["folds"], settings["seed"])
        seen = [Seen(e["image"], e["tissue"], e["images"]) for e, out in zip(series, left, strict=True) if out]
        series = [entry for entry, out in zip(series, left, strict=True) if not out]
    channels = series[0]["image"]["channels"]
    for image in (*(entry["image"] for entry in series), *(one.image for one in seen)):
        if len(image["channels"]) != len(channels):
            raise ValueError(
                f"image {image['name']} has {len(image['channels'])} channels, {series[0]['image']['name']}, the first "
                f"to train on, {len(channels)}; choose the same in the column channels of its row"
            )
    own = _frequencies(series)
    frequencies = np.where(own > 0, own, every)  # a rare class may lie in what a fold leaves out
    return Data(series, seen if settings["validations"] else [], digests, frequencies)


def _frequencies(series: list[dict]) -> np.ndarray:
    return np.sum([entry["weights"]["pixels"] for entry in series], axis=0)


def _learnt(image: dict, statistics: dict) -> list:
    """What makes the grey values that a network sees, and their pixels' shape."""
    return [image["digest"], image["pixel_size"], *(statistics[name] for name in ("digest", "low", "high"))]


def _groups(images: list[str], groups: Sequence[str]):
    """The group of every series: its sample's, or itself."""
    for number, (image, group) in enumerate(zip(images, groups or [""] * len(images), strict=True)):
        for entry in read_attributes(image)["series"]:
            yield group or f" {number} {entry['path']}"


def held_out(groups: Sequence[str], fold: int, folds: int, seed: int) -> list[bool]:
    """Which series a fold of a cross-validation leaves out: whole groups, the folds as equal as groups allow.

    Parameters
    ----------
    groups : sequence of str
        Of each series.
    seed : int
        Of the order in which groups of one size are dealt out.
    """
    sizes = Counter(groups)
    if len(sizes) < folds:
        raise ValueError(
            f"train.folds {folds} is more than the {len(sizes)} groups of the training images; set it lower, or name "
            "finer groups in the column group"
        )
    names = np.random.default_rng(seed).permutation(sorted(sizes)).tolist()
    totals, chosen = [0] * folds, {}
    for name in sorted(names, key=sizes.__getitem__, reverse=True):
        chosen[name] = totals.index(min(totals))
        totals[chosen[name]] += sizes[name]
    return [chosen[group] == fold for group in groups]


def make_validation(data: Data, settings: dict, weights: list[str], choices: Choices, place) -> Validation | None:
    """What scores the network while it learns, where there is anything to score it on."""
    if settings["metric"] not in METRICS:
        raise ValueError(f"train.metric {settings['metric']!r} is not one of {', '.join(METRICS)}")
    if not data.seen:
        return None
    if len(data.seen) < FEW:
        logger.warning(
            "%d images choose the best network, of so few close scores differ by chance; put more into split val",
            len(data.seen),
        )
    gap = read_attributes(weights[0])["settings"]["gap"]
    arithmetic = {"device": place, "precision": choose_precision(choices.precision, place)}
    return Validation(data.seen, metric=settings["metric"], expand=gap // 2, **arithmetic)


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


def pretrained_digest(settings: dict) -> str | None:
    """Of the file of pretrained weights, where there is one."""
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


def free_memory(place: torch.device, memory: int) -> float:
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
        refuse_batch(settings["batch"])
    tile, tiles = wanted_tiles(settings, max(max(space.shape[1:]) for space in material.spaces))
    tiles = tiles // size() if fixed[1] else tiles
    if all(fixed):
        return tile, tiles

    def needed(tile: int, tiles: int) -> float:
        sides, _ = tile_sides(network.axes, tile, settings["planes"])
        return step_memory(network, (tiles, network.arguments["channels"], *sides[-len(network.axes) :]), *kind)

    return fit(tile, tiles, needed, free, fixed=fixed)


def refuse_batch(batch: int) -> None:
    """Every device takes the same number of tiles; a run that goes on keeps its batch."""
    if batch % size():
        raise ValueError(
            f"train.batch {batch} is not a multiple of the job's {size()} devices; set it so, or the resource gpu of "
            "train to a divisor of it"
        )


def make_drawing(network: Network, frequencies: np.ndarray, settings: dict, place, choices: Choices) -> Drawing:
    """How the tiles of these settings are drawn."""
    sides, margins = tile_sides(network.axes, choices.tile, settings["planes"])
    weights = class_weights(frequencies[: network.arguments["classes"]], settings["balance"])
    return Drawing(
        sides=sides,
        margins=margins,
        batch=choices.batch,
        anywhere=settings["anywhere"],
        seed=settings["seed"],
        augmentation=Augmentation(**settings["augment"] or {}),
        class_weights=torch.tensor(weights, dtype=torch.float32, device=place),
        device=place,
        volumes=len(network.axes) == 3,
        rank=rank(),
        ranks=size(),
    )
