"""Tiles for training: drawn from the annotated images on the device, a pure function of (seed, step).

Letters of shapes: B batch, C channels, Z Y X space; planes are volumes of one slice.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from unetpipe.augment import Augmentation, recolour, sampling_field
from unetpipe.geometry import relative_spacing
from unetpipe.grey import to_unit
from unetpipe.manifest import read_json
from unetpipe.network import channels_last
from unetpipe.sampling import sample
from unetpipe.store import IGNORED, open_array, read_attributes


class Annotated(NamedTuple):
    """One annotated plane or volume on the training device."""

    name: str
    image_CZYX: torch.Tensor  # grey values, 0 … 1 between the percentiles of the series
    target_ZYX: torch.Tensor  # class, uint8
    border_ZYX: torch.Tensor  # border term, uint8
    scale: float  # of one step of the border term, class weights
    spacing: tuple[float, ...]  # z, y, x: size of a pixel in units of the finest


class Drawing(NamedTuple):
    """How tiles are drawn."""

    sides: tuple[int, ...]  # of the input of the network, z y x, pixels
    margins: tuple[int, ...]  # by how much its output is shorter at each end
    batch: int
    seed: int
    augmentation: Augmentation
    class_weights: torch.Tensor
    device: torch.device


def list_series(images: list[str], tissues: list[str], weights: list[str]) -> list[dict]:
    """What is known of every training series, and where its arrays lie.

    Parameters
    ----------
    images, tissues, weights : list of path
        Root `zarr.json` of the image stores, manifests of their tissue, root `zarr.json` of their
        weights; one of each for every sample.
    """
    return [entry for paths in zip(images, tissues, weights, strict=True) for entry in _series_of(*map(Path, paths))]


def _series_of(image: Path, tissue: Path, weights: Path) -> list[dict]:
    parts = (read_attributes(image)["series"], read_json(tissue)["series"], read_attributes(weights)["series"])
    folders = {"images": image.parent, "truth": weights.parent}
    return [{"image": i, "tissue": t, "weights": w, **folders} for i, t, w in zip(*parts, strict=True)]


def load(entry: dict, dimensions: int, device: torch.device) -> list[Annotated]:
    """All (t, z) planes of one series, or all its volumes."""
    path = entry["image"]["path"]
    pixels = open_array(entry["images"] / path / "0")[...]
    target, border = (open_array(entry["truth"] / path / name) for name in ("target", "border"))
    grey = to_unit(pixels, entry["tissue"], axis=1)
    scale = border.attrs["unetpipe"]["scale"]
    spacing = (1.0, *relative_spacing(entry["image"]["pixel_size"], dimensions))[-3:]
    depth = grey.shape[2]
    slabs = [slice(z, z + 1) for z in range(depth)] if dimensions == 2 else [slice(0, depth)]
    name = entry["image"]["name"]
    return [
        Annotated(
            name, _to(grey[t][:, z], device), _to(target[t, z], device), _to(border[t, z], device), scale, spacing
        )
        for t in range(len(grey))
        for z in slabs
    ]


def _to(values: np.ndarray, device: torch.device) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values)).to(device)


def choose(spaces: list[Annotated], drawing: Drawing, step: int) -> list[int]:
    """Which of the annotated images the tiles of a step come from."""
    return _choose(spaces, drawing, _generator(drawing, step, "cpu"))


def draw_batch(spaces: list[Annotated], drawing: Drawing, step: int):
    """The tiles of one step, a pure function of (seed, step).

    Returns
    -------
    image (B, C, Z, Y, X) float32, target (B, Z, Y, X) int64, weight (B, Z, Y, X) float32
        Without Z where the tile is a plane. Target and weight cover what the network's output covers.
    """
    generator = _generator(drawing, step, "cpu")
    noise = _generator(drawing, step, drawing.device)
    chosen = _choose(spaces, drawing, generator)
    tiles = [_draw_tile(spaces[index], drawing, generator, noise) for index in chosen]
    image, target, border = (torch.stack(parts) for parts in zip(*tiles, strict=True))
    known = target != IGNORED
    weight = torch.where(known, drawing.class_weights[torch.where(known, target, 0)] + border, 0)
    if drawing.sides[0] == 1:
        image, target, weight = image.squeeze(2), target.squeeze(1), weight.squeeze(1)
    return channels_last(image), target, weight


def step_seed(seed: int, step: int) -> int:
    """A seed for one step: torch's generator on the CPU takes 32 bits, so runs begin far apart in them."""
    return ((seed - 1) * 0x9E3779B9 + step) % 2**32


def _generator(drawing: Drawing, step: int, device) -> torch.Generator:
    return torch.Generator(device).manual_seed(step_seed(drawing.seed, step))


def _choose(spaces: list[Annotated], drawing: Drawing, generator: torch.Generator) -> list[int]:
    """At random, larger ones more often."""
    sizes = torch.tensor([space.target_ZYX.numel() for space in spaces], dtype=torch.float64)
    return torch.multinomial(sizes, drawing.batch, replacement=True, generator=generator).tolist()


def _draw_tile(space: Annotated, drawing: Drawing, generator: torch.Generator, noise: torch.Generator):
    at = (torch.rand(3, generator=generator) * torch.tensor(space.target_ZYX.shape)).long().tolist()
    field = sampling_field(at, drawing.sides, space.spacing, drawing.augmentation, generator)
    truth = space.target_ZYX, space.border_ZYX
    image, target, border = sample(space.image_CZYX, *truth, field, drawing.margins)
    return recolour(image, drawing.augmentation, generator, noise), target.long(), border * space.scale
