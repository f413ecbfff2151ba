"""Tiles for training: drawn from the annotated images on the device, a pure function of (seed, step).

Letters of shapes: B batch, C channels, Z Y X space; planes are volumes of one slice.
"""

import logging
import math
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import torch

from unetpipe.augment import Augmentation, recolour, sampling_field
from unetpipe.geometry import relative_spacing
from unetpipe.grey import to_unit
from unetpipe.manifest import read_json
from unetpipe.places import Place, Places
from unetpipe.sampling import Field, sample
from unetpipe.store import IGNORED, open_array, read_attributes

logger = logging.getLogger(__name__)


class Held(NamedTuple):
    """One annotated plane or volume on the training device."""

    name: str
    image_CZYX: torch.Tensor  # grey values, 0 … 1 between the percentiles of the series
    target_ZYX: torch.Tensor  # class, uint8
    border_ZYX: torch.Tensor  # border term, uint8
    scale: float  # of one step of the border term, class weights
    spacing: tuple[float, ...]  # z, y, x: size of a pixel in units of the finest

    @property
    def size(self) -> int:
        """Pixels."""
        return self.target_ZYX.numel()

    @property
    def shape(self) -> tuple[int, ...]:
        """Z, Y, X."""
        return tuple(self.target_ZYX.shape)

    def read(self, field: Field, margins: tuple[int, ...]):
        """Image, target and border term of a tile, see `sampling.sample`."""
        return sample(self.image_CZYX, self.target_ZYX, self.border_ZYX, field, margins)


class Stored(NamedTuple):
    """One annotated plane or volume that is read tile by tile, because not all of them fit into memory."""

    name: str
    image: Any  # Zarr array (t, c, z, y, x)
    target: Any  # Zarr array (t, z, y, x)
    border: Any  # likewise
    index: Any  # likewise (t, kinds, z, y, x), see `cells.count_kinds`
    front: tuple[int, slice]  # its time point and slices
    statistics: dict
    scale: float
    spacing: tuple[float, ...]

    @property
    def size(self) -> int:
        """Pixels."""
        return math.prod(self.shape)

    @property
    def shape(self) -> tuple[int, ...]:
        """Z, Y, X."""
        slices = self.front[1]
        return (slices.stop - slices.start, *self.target.shape[2:])

    def read(self, field: Field, margins: tuple[int, ...]):
        """The same as of a held one, from the window that the tile's coordinates lie in."""
        window, moved = field.window(self.shape)
        t, slices = self.front
        z = slice(slices.start + window[0].start, slices.start + window[0].stop)
        image = to_unit(self.image[t, :, z, *window[1:]], self.statistics, axis=0)
        target, border = (torch.from_numpy(array[t, z, *window[1:]]) for array in (self.target, self.border))
        return sample(torch.from_numpy(image), target, border, moved, margins)


Annotated = Held | Stored


class Drawing(NamedTuple):
    """How tiles are drawn."""

    sides: tuple[int, ...]  # of the input of the network, z y x, pixels
    margins: tuple[int, ...]  # by how much its output is shorter at each end
    batch: int  # tiles a step, of all ranks
    anywhere: float  # see `places.Places.draw`
    seed: int
    augmentation: Augmentation
    class_weights: torch.Tensor
    device: torch.device
    volumes: bool = False  # whether the network sees volumes, were they a plane deep
    rank: int = 0  # of the ranks that share a batch, see `ranks`
    ranks: int = 1

    def tiles(self, step: int) -> range:
        """Numbers of this rank's tiles in a step, counted through the whole run."""
        share = self.batch // self.ranks
        first = step * self.batch + self.rank * share
        return range(first, first + share)


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


class Material(NamedTuple):
    """What tiles are drawn from."""

    spaces: list[Annotated]
    places: Places


def load(series: list[dict], dimensions: int, device: torch.device, *, limit: float = math.inf) -> Material:
    """All (t, z) planes, or all volumes, of the series: held on the device if they fit, else read tile by tile.

    Parameters
    ----------
    series
        See `list_series`.
    limit : float
        What they may take of the device's memory, bytes.
    """
    spaces = [space for entry in series for space in _spaces(entry, dimensions)]
    shapes, cells = [space.shape for space in spaces], [space.index.attrs["unetpipe"]["cell"] for space in spaces]
    places = Places([space.index[space.front[0], :, space.front[1]] for space in spaces], shapes, cells)
    needed = sum(space.size * (4 * space.image.shape[1] + 2) for space in spaces)
    if needed <= limit:
        return Material([_hold(space, device) for space in spaces], places)
    logger.info("%.1f GB of training images, %.1f GB allowed: they are read tile by tile", needed / 1e9, limit / 1e9)
    return Material([*spaces], places)


def _spaces(entry: dict, dimensions: int) -> list[Stored]:
    path = entry["image"]["path"]
    image = open_array(entry["images"] / path / "0")
    target, border, index = (open_array(entry["truth"] / path / name) for name in ("target", "border", "index"))
    scale = border.attrs["unetpipe"]["scale"]
    spacing = (1.0, *relative_spacing(entry["image"]["pixel_size"], dimensions))[-3:]
    depth = image.shape[2]
    slabs = [slice(z, z + 1) for z in range(depth)] if dimensions == 2 else [slice(0, depth)]
    fronts = [(t, slices) for t in range(image.shape[0]) for slices in slabs]
    parts = entry["image"]["name"], image, target, border, index
    return [Stored(*parts, front, entry["tissue"], scale, spacing) for front in fronts]


def _hold(space: Stored, device: torch.device) -> Held:
    t, slices = space.front
    image = to_unit(space.image[t, :, slices], space.statistics, axis=0)
    arrays = (image, space.target[t, slices], space.border[t, slices])
    pixels, target, border = (torch.from_numpy(array).to(device) for array in arrays)
    return Held(space.name, pixels, target, border, space.scale, space.spacing)


def choose(material: Material, drawing: Drawing, step: int) -> list[Place]:
    """Which of the annotated images the tiles of a step come from, and where their middles lie."""
    return [
        material.places.draw(drawing.anywhere, _generator(drawing, number, "cpu")) for number in drawing.tiles(step)
    ]


def batches(material: Material, drawing: Drawing, steps: range, *, ahead: int = 1) -> Iterator[tuple]:
    """The batches of some steps, drawn by threads while the device works: the same ones, however many draw ahead."""
    with ThreadPoolExecutor(ahead) as pool:
        waiting: deque[Future] = deque()
        for step in steps:
            waiting.append(pool.submit(draw_batch, material, drawing, step))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def draw_batch(material: Material, drawing: Drawing, step: int):
    """The tiles of one step, each a pure function of the seed and its number.

    Returns
    -------
    image (B, C, Z, Y, X) float32, target (B, Z, Y, X) int64, weight (B, Z, Y, X) float32
        Without Z where the tile is a plane. Target and weight cover what the network's output covers.
    """
    tiles = [_draw_tile(material, drawing, number) for number in drawing.tiles(step)]
    image, target, border = (torch.stack(parts).to(drawing.device) for parts in zip(*tiles, strict=True))
    known = target != IGNORED
    weight = torch.where(known, drawing.class_weights[torch.where(known, target, 0)] + border, 0)
    if not drawing.volumes:
        image, target, weight = image.squeeze(2), target.squeeze(1), weight.squeeze(1)
    return image, target, weight


def tile_seed(seed: int, number: int) -> int:
    """A seed for one tile: torch's generator on the CPU takes 32 bits, so runs begin far apart in them."""
    return ((seed - 1) * 0x9E3779B9 + number) % 2**32


def _generator(drawing: Drawing, number: int, device) -> torch.Generator:
    return torch.Generator(device).manual_seed(tile_seed(drawing.seed, number))


def _draw_tile(material: Material, drawing: Drawing, number: int):
    generator, noise = _generator(drawing, number, "cpu"), _generator(drawing, number, drawing.device)
    place = material.places.draw(drawing.anywhere, generator)
    space = material.spaces[place.space]
    field = sampling_field(place.at, drawing.sides, space.spacing, drawing.augmentation, generator)
    image, target, border = space.read(field, drawing.margins)
    coloured = recolour(image.to(drawing.device), drawing.augmentation, generator, noise)
    return coloured, target.long(), border * space.scale
