"""Predicts whole stores, block by block, in parts that several jobs share."""

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from unetpipe.blocks import Done, Ledger, Task, raise_failures, run
from unetpipe.device import choose_device, choose_precision
from unetpipe.geometry import Axis, Block
from unetpipe.manifest import array_digest, digest, read_json, write_json
from unetpipe.overlap_tile import Predictor, predict_block, volume_blocks
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


class Job(NamedTuple):
    """What all parts of one sample's prediction agree on."""

    images: Path
    entries: list[dict]
    statistics: list[dict]
    networks: list[dict]
    block: int
    planes: int
    views: int

    @property
    def axes(self) -> tuple[Axis, ...]:
        """Of the networks."""
        return axes_of(self.networks[0])

    @property
    def key(self) -> list:
        """What the ledger's lines hold for."""
        pairs = zip(self.entries, self.statistics, strict=True)
        inputs = [[e["digest"], s["digest"], s["low"], s["high"]] for e, s in pairs]
        networks = [[note["digest"], note["precision"]] for note in self.networks]
        return [REVISIONS["predict"], inputs, networks, self.block, self.planes, self.views]


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


def open_job(
    image: str, tissue: str, networks: Sequence[str], *, sample: str, block: int, planes: int, views: int
) -> Job:
    """Read the manifests; refuse networks that differ, and an image that they were not made for."""
    notes, entries = [read_json(network) for network in networks], read_attributes(image)["series"]
    for network, note in zip(networks, notes, strict=True):
        for what, value in _kind(note).items():
            if value != _kind(notes[0])[what]:
                raise ValueError(
                    f"network {network} has {what} {value}, {networks[0]} has {_kind(notes[0])[what]}; "
                    "only networks of one kind can be averaged"
                )
    expected = notes[0]["arguments"]["channels"]
    for entry in entries:
        if entry["shape"][1] != expected:
            raise ValueError(
                f'sample "{sample}": image {entry["name"]} has {entry["shape"][1]} channels, '
                f"network {networks[0]} was trained on {expected}; choose {expected} of {', '.join(entry['channels'])} "
                "in the column channels of its row, or in ingest.channels for all rows"
            )
    return Job(Path(image).parent, entries, read_json(tissue)["series"], notes, block, planes, views)


def _kind(note: dict) -> dict:
    """What the networks of an ensemble have in common."""
    return {name: note["arguments"][name] for name in ("channels", "classes")} | {
        name: note[name] for name in ("axes", "precision")
    }


def units(job: Job) -> list[Unit]:
    """All network calls of a sample, in a fixed order."""
    return [
        Unit(number, t, block)
        for number, entry in enumerate(job.entries)
        for t in range(entry["shape"][0])
        for block in volume_blocks(entry["shape"][2:], (job.planes, job.block, job.block), job.axes)
    ]


def predict_part(
    image: str,
    tissue: str,
    networks: Sequence[str],
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
    image, tissue : path
        Root `zarr.json` of the image store, manifest of its tissue.
    networks : sequence of path
        `network.json` of each; of several the mean probability is taken.
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
    job = open_job(image, tissue, networks, sample=sample, block=block, planes=planes, views=views)
    with Ledger(Path(store).parent, "predict", job.key, part=str(part)) as ledger:
        failures: dict[str, Exception] = {}
        mine = units(job)[part::parts]
        if any(unit.name not in ledger.finished for unit in mine):
            _say_context(job)
            place = choose_device(device)
            precision = choose_precision(job.networks[0]["precision"], place)
            rebuilt = [load_network(network)[0] for network in networks]
            predictor = Predictor(rebuilt, views=views, device=place, precision=precision)
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
    shape = (t, job.networks[0]["arguments"]["classes"] - 1, z, y, x)
    return create_array(store / entry["path"], shape, np.uint8, chunk=entry["chunk"], shard=job.block)


def _coarse_tissue(job: Job, number: int) -> np.ndarray:
    """Tissue (t, z, y, x) at the level at which it was found."""
    folder = label_path(job.images, job.entries[number]["path"], "tissue")
    return open_array(folder / str(job.statistics[number]["level"]))[...]


def _say_context(job: Job) -> None:
    sides = (job.planes, job.block, job.block)[-len(job.axes) :]
    more = np.prod([axis.input(side) / side for axis, side in zip(job.axes, sides, strict=True)])
    halos = " x ".join(str(axis.halo) for axis in job.axes)
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
    found = predict_block(predictor, source, unit.t, unit.block, statistics)
    return Done(write_region(target, region, found[None]), array_digest(found))


def publish_probabilities(
    image: str,
    tissue: str,
    networks: Sequence[str],
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
    job = open_job(image, tissue, networks, sample=sample, block=block, planes=planes, views=views)
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
            "networks": [network["digest"] for network in job.networks],
            "blocks": {"computed": skipped.count(""), "no tissue": skipped.count("no tissue")},
            "series": series,
        }
        write_group(store, {"unetpipe": note})
