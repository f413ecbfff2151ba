"""Tiles for training: drawn from the planes on the device, a pure function of (seed, step).

Letters of shapes: B batch, C channels, Y X space.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from unetpipe.augment import Augmentation, recolour, sample, sampling_field
from unetpipe.grey import to_unit
from unetpipe.manifest import read_json
from unetpipe.store import IGNORED, open_array, read_attributes


class Plane(NamedTuple):
    """One annotated plane on the training device."""

    image_CYX: torch.Tensor  # grey values, 0 … 1 between the percentiles of the series
    truth_2YX: torch.Tensor  # target class and border term


class Drawing(NamedTuple):
    """How tiles are drawn."""

    sides: tuple[int, int]  # of the input and of the output of the network, pixels
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


def load_planes(entry: dict, device: torch.device) -> list[Plane]:
    """All (t, z) planes of one series."""
    path = entry["image"]["path"]
    pixels = open_array(entry["images"] / path / "0")[...]
    target, border = (open_array(entry["truth"] / path / name) for name in ("target", "border"))
    scale = border.attrs["unetpipe"]["scale"]
    truth = np.stack([target[...].astype(np.float32), border[...] * np.float32(scale)], axis=1)
    grey = to_unit(pixels, entry["tissue"], axis=1)
    return [
        Plane(*(torch.from_numpy(np.ascontiguousarray(values[t, :, z])).to(device) for values in (grey, truth)))
        for t in range(grey.shape[0])
        for z in range(grey.shape[2])
    ]


def draw_batch(planes: list[Plane], drawing: Drawing, step: int):
    """The tiles of one step, a pure function of (seed, step).

    Returns
    -------
    image (B, C, Y, X) float32, target (B, Y, X) int64, weight (B, Y, X) float32
        Target and weight cover what the network's output covers.
    """
    generator = torch.Generator().manual_seed(drawing.seed * 2**32 + step)
    areas = torch.tensor([plane.image_CYX[0].numel() for plane in planes], dtype=torch.float64)
    chosen = torch.multinomial(areas, drawing.batch, replacement=True, generator=generator)
    tiles = [_draw_tile(planes[index], drawing, generator) for index in chosen.tolist()]
    image, target, border = (torch.stack(parts) for parts in zip(*tiles, strict=True))
    known = target != IGNORED
    weight = torch.where(known, drawing.class_weights[torch.where(known, target, 0)] + border, 0)
    return image.contiguous(memory_format=torch.channels_last), target, weight


def _draw_tile(plane: Plane, drawing: Drawing, generator: torch.Generator):
    wide, narrow = drawing.sides
    y, x = (torch.rand(2, generator=generator) * torch.tensor(plane.image_CYX.shape[1:])).tolist()
    field = sampling_field((y, x), (wide, wide), drawing.augmentation, generator).to(drawing.device)
    image = recolour(sample(plane.image_CYX, field, "bicubic"), drawing.augmentation, generator)
    margin = (wide - narrow) // 2
    inner = field[margin : margin + narrow, margin : margin + narrow]
    target = sample(plane.truth_2YX[:1], inner, "nearest")[0].round().long()
    border = sample(plane.truth_2YX[1:], inner, "bilinear")[0]
    return image, target, border
