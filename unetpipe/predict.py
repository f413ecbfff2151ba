"""Overlap-tile prediction of whole stores: blocks give what the whole image would give.

Letters of shapes: C channels, Z Y X space, K classes; planes are volumes of one slice.
"""

import logging
from functools import partial
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import numpy as np
import torch

from unetpipe.blocks import Done, Ledger, Task, raise_failures, run
from unetpipe.device import choose_device, choose_precision
from unetpipe.geometry import Axis, Block, blocks, reflect
from unetpipe.grey import to_unit
from unetpipe.manifest import array_digest, digest, read_json, write_json
from unetpipe.network import Network, channels_last
from unetpipe.revisions import REVISIONS
from unetpipe.saved import axes_of, load_network
from unetpipe.store import (
    create_array,
    label_path,
    open_array,
    read_attributes,
    remove_strays,
    write_group,
    write_region,
)

logger = logging.getLogger(__name__)


class Predictor:
    """A network on its device, called by one thread at a time.

    Parameters
    ----------
    network : UNet or PretrainedUNet
    views : int
        1, or 8: the mean over all rotations and mirror images of the plane (the paper's results average seven).
    device : torch.device
    precision : torch.dtype
    """

    def __init__(self, network: Network, *, views: int, device: torch.device, precision: torch.dtype):
        self.network = channels_last(network.to(device)).eval()
        self.views, self.device, self.precision = views, device, precision
        self.lock = Lock()

    def __call__(self, grey_CZYX: np.ndarray) -> np.ndarray:
        """Probabilities of the classes but the background, uint8 of p × 255; each axis is 2 halo shorter.

        Parameters
        ----------
        grey_CZYX : float32
            0 … 1 between the percentiles of the series; valid sides.
        """
        planar = len(self.network.axes) == 2
        with self.lock, torch.inference_mode():
            tile = torch.from_numpy(grey_CZYX[:, 0] if planar else grey_CZYX).to(self.device)[None] * 2 - 1
            mean = torch.stack([self._view(tile, number) for number in range(self.views)]).mean(dim=0)
            found = (mean[0, 1:] * 255).round().to(torch.uint8).cpu().numpy()
        return found[:, None] if planar else found

    def _view(self, tile: torch.Tensor, number: int) -> torch.Tensor:
        turns, mirrored = number % 4, number >= 4
        turned = channels_last(torch.rot90(tile.flip(-1) if mirrored else tile, turns, (-2, -1)))
        with torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32):
            logits = self.network(turned)
        back = torch.rot90(torch.softmax(logits.float(), dim=1), -turns, (-2, -1))
        return back.flip(-1) if mirrored else back


class Job(NamedTuple):
    """What all parts of one sample's prediction agree on."""

    images: Path
    entries: list[dict]
    statistics: list[dict]
    network: dict
    block: int
    planes: int
    views: int

    @property
    def key(self) -> list:
        """What the ledger's lines hold for."""
        pairs = zip(self.entries, self.statistics, strict=True)
        inputs = [[e["digest"], s["digest"], s["low"], s["high"]] for e, s in pairs]
        network = [self.network["digest"], self.network["precision"]]
        return [REVISIONS["predict"], inputs, network, self.block, self.planes, self.views]


class Unit(NamedTuple):
    """One network call: a block of one plane or volume of one series."""

    number: int  # of the series
    t: int
    block: Block  # axes z, y, x

    @property
    def name(self) -> str:
        """Of its line in the ledger."""
        return f"{self.number} {self.where}"

    @property
    def where(self) -> str:
        """Time point and corner."""
        z, y, x = (part.start for part in self.block.write)
        return f"t {self.t}, z {z}, y {y}, x {x}"


def open_job(image: str, tissue: str, network: str, *, sample: str, block: int, planes: int, views: int) -> Job:
    """Read the manifests; refuse an image that the network was not made for."""
    note, entries = read_json(network), read_attributes(image)["series"]
    expected = note["arguments"]["channels"]
    for entry in entries:
        if entry["shape"][1] != expected:
            raise ValueError(
                f'sample "{sample}": image {entry["name"]} has {entry["shape"][1]} channels, '
                f"network {network} was trained on {expected}; choose {expected} of {', '.join(entry['channels'])} "
                "in the column channels of its row, or in ingest.channels for all rows"
            )
    return Job(Path(image).parent, entries, read_json(tissue)["series"], note, block, planes, views)


def units(job: Job) -> list[Unit]:
    """All network calls of a sample, in a fixed order."""
    return [
        Unit(number, t, block)
        for number, entry in enumerate(job.entries)
        for t in range(entry["shape"][0])
        for block in volume_blocks(entry["shape"][2:], (job.planes, job.block, job.block), axes_of(job.network))
    ]


def volume_blocks(shape, sides, axes: tuple[Axis, ...]) -> list[Block]:
    """Blocks of a volume, slice by slice for a planar network; one that is smaller than a block is one of its size.

    Parameters
    ----------
    shape, sides : (z, y, x)
        Of the volume and of a block, pixels.
    axes
        Of the network.
    """
    if len(axes) == 2:
        axes, sides = (Axis(stride=1, halo=0, lost=0), *axes), (1, *sides[1:])
    fitting = [
        min(side, -(-size // axis.stride) * axis.stride) for size, side, axis in zip(shape, sides, axes, strict=True)
    ]
    halo = [(axis.halo, axis.halo + axis.output(side) - side) for side, axis in zip(fitting, axes, strict=True)]
    return list(blocks(shape, fitting, halo))


def predict_part(
    image: str,
    tissue: str,
    network: str,
    output: str,
    *,
    store: str,
    sample: str,
    part: int = 0,
    parts: int = 1,
    block: int = 512,
    planes: int = 32,
    views: int = 1,
    device: str = "auto",
    threads: int = 1,
) -> None:
    """Predict one part of a sample's blocks into the shared store of probabilities.

    Parameters
    ----------
    image, tissue, network : path
        Root `zarr.json` of the image store, manifest of its tissue, `network.json`.
    output : path
        Manifest of this part, written last.
    store : path
        Root `zarr.json` of the store of probabilities; `publish_probabilities` writes it, not this.
    part, parts : int
        This part of so many: every `parts`-th block.
    block, planes : int
        Side of what one network call writes, and its depth in volumes, pixels: multiples of the
        network's stride, `block` also of the chunk.
    views : int
        See `Predictor`.
    device, threads
        Where and with how many threads to compute.

    Raises
    ------
    RuntimeError
        If a series cannot be predicted, after all others; it names all that failed.
    """
    torch.set_num_threads(threads)
    job = open_job(image, tissue, network, sample=sample, block=block, planes=planes, views=views)
    with Ledger(Path(store).parent, "predict", job.key, part=str(part)) as ledger:
        failures: dict[str, Exception] = {}
        mine = units(job)[part::parts]
        if any(unit.name not in ledger.finished for unit in mine):
            rebuilt, note = load_network(network)
            _say_context(rebuilt.axes, job)
            place = choose_device(device)
            predictor = Predictor(
                rebuilt, views=views, device=place, precision=choose_precision(note["precision"], place)
            )
            tasks = _tasks(job, mine, Path(store).parent, predictor)
            run(tasks, ledger, failures, workers=2)  # one reads and writes while the other computes
        raise_failures(sample, failures)
        write_json(output, {"sample": sample, "key": digest(job.key), "blocks": len(mine)})


def _tasks(job: Job, mine: list[Unit], store: Path, predictor: Predictor) -> list[Task]:
    arrays = {number: _create(job, store, number) for number in sorted({unit.number for unit in mine})}
    sources = {n: open_array(job.images / job.entries[n]["path"] / "0") for n in arrays}
    masks = {n: _coarse_tissue(job, n) for n in arrays}
    return [
        Task(
            str(unit.number),
            unit.where,
            partial(_predict_block, unit, sources[n], masks[n], job.statistics[n], arrays[n], predictor),
        )
        for unit in mine
        for n in [unit.number]
    ]


def _create(job: Job, store: Path, number: int):
    entry = job.entries[number]
    t, _, z, y, x = entry["shape"]
    shape = (t, job.network["arguments"]["classes"] - 1, z, y, x)
    return create_array(store / entry["path"], shape, np.uint8, chunk=entry["chunk"], shard=job.block)


def _coarse_tissue(job: Job, number: int) -> np.ndarray:
    """Tissue (t, z, y, x) at the level at which it was found."""
    folder = label_path(job.images, job.entries[number]["path"], "tissue")
    return open_array(folder / str(job.statistics[number]["level"]))[...]


def _say_context(axes: tuple[Axis, ...], job: Job) -> None:
    sides = (job.planes, job.block, job.block)[-len(axes) :]
    more = np.prod([axis.input(side) / side for axis, side in zip(axes, sides, strict=True)])
    halos = " x ".join(str(axis.halo) for axis in axes)
    logger.info(
        "the network's receptive field reaches %s pixels: %.2f times the pixels of a block are read", halos, more
    )


def _predict_block(unit: Unit, source, tissue, statistics: dict, target, predictor: Predictor) -> Done:
    z, y, x = unit.block.write
    scale = 2 ** statistics["level"]
    seen = tissue[unit.t, z, y.start // scale : -(-y.stop // scale), x.start // scale : -(-x.stop // scale)]
    region = (slice(unit.t, unit.t + 1), slice(0, target.shape[1]), *unit.block.write)
    if not seen.any():
        return Done(write_region(target, region, np.zeros((), np.uint8)), skipped="no tissue")
    pixels = read_mirrored(source, (unit.t, slice(None)), unit.block.read)
    found = predictor(to_unit(pixels, statistics, axis=0))
    found = found[(slice(None), *(slice(0, part.stop - part.start) for part in unit.block.write))]
    return Done(write_region(target, region, found[None]), array_digest(found))


def read_mirrored(array, front: tuple, window: tuple[slice, ...]) -> np.ndarray:
    """Read a window of the last axes that may leave the array: mirrored there as NumPy's `reflect`."""
    sizes = array.shape[-len(window) :]
    index = [reflect(part.start, part.stop, size) for part, size in zip(window, sizes, strict=True)]
    pixels = array[(*front, *(slice(along.min(), along.max() + 1) for along in index))]
    return pixels[(..., *np.ix_(*(along - along.min() for along in index)))]


def publish_probabilities(
    image: str,
    tissue: str,
    network: str,
    output: str,
    *,
    sample: str,
    block: int = 512,
    planes: int = 32,
    views: int = 1,
) -> None:
    """Write the root of a store of probabilities, once every block is accounted for.

    Raises
    ------
    RuntimeError
        If a block is neither computed nor skipped for a reason.
    """
    job = open_job(image, tissue, network, sample=sample, block=block, planes=planes, views=views)
    store = Path(output).parent
    Path(output).unlink(missing_ok=True)
    with Ledger(store, "predict", job.key, part="publish") as ledger:
        todo = units(job)
        ledger.check_coverage(unit.name for unit in todo)
        remove_strays(store, ledger.shards())
        skipped = [ledger.finished[unit.name]["skipped"] for unit in todo]
        series = [
            {"path": entry["path"], "digest": digest(ledger.notes(str(number)))}
            for number, entry in enumerate(job.entries)
        ]
        note = {
            "sample": sample,
            "revision": REVISIONS["predict"],
            "network": job.network["digest"],
            "blocks": {"computed": skipped.count(""), "no tissue": skipped.count("no tissue")},
            "series": series,
        }
        write_group(store, {"unetpipe": note})
