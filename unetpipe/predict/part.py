"""Predicts one part of a sample's blocks into the shared store of probabilities."""

import logging
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import torch

from unetpipe.blocks import Done, Ledger, Stage, Task, raise_failures, run
from unetpipe.device import choose_device, choose_precision
from unetpipe.geometry import Region
from unetpipe.gpus import granted
from unetpipe.manifest import array_digest, digest
from unetpipe.needs import WORKERS, Kind, prediction_memory
from unetpipe.overlap_tile import read_block, written
from unetpipe.predict.job import Job, Unit, open_job, seam_name, seams, units, units_with_tissue, worth_compiling
from unetpipe.predictor import Predictor
from unetpipe.saved import load_network
from unetpipe.scheduling import elsewhere
from unetpipe.seams import Window, compare
from unetpipe.store import create_array, open_array, publish_manifest, write_region

logger = logging.getLogger(__name__)


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
    block: int | str = "auto",
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
        Root `zarr.json` of the store of probabilities: deleted before a block is computed, written by
        `publish_probabilities`.
    part, parts : int
        This part of so many: every `parts`-th block.
    block, planes : int
        Side of what one network call writes, and its depth in volumes, pixels: multiples of the
        network's stride, `block` also of the chunk, or "auto", see `needs.block_side`.
    views : int
        See `predictor.Predictor`.
    device, threads
        Where and with how many threads to compute.

    Raises
    ------
    RuntimeError
        If a series cannot be predicted, after all others; it names all that failed.
    """
    torch.set_num_threads(threads)
    job = open_job(image, tissue, networks, sample=sample, block=block, planes=planes, views=views)
    every = units_with_tissue(job, units(job))
    seen = [unit for unit, holds in every if holds]
    mine = every[part::parts]
    names = {unit.name for unit, _ in mine}
    checks = [check for check in seams(job, seen) if check[0].name in names]
    names |= {seam_name(check) for check in checks}
    with Ledger(Path(store).parent, "predict", job.key, part=str(part), among=names) as ledger:
        failures: dict[str, Exception] = {}
        if names - ledger.finished.keys():
            with nullcontext([device]) if elsewhere() else granted(device) as (place,):
                network = Networks(partial(make_predictor, job, networks, seen), place, threads)
                if not elsewhere():
                    network.ready()  # what is wrong with a network is told before any block
                Path(store).unlink(missing_ok=True)
                arrays = _open(job, [unit for unit, _ in mine], Path(store).parent)
                _run(ledger, failures, network, _tasks(job, mine, arrays, network))
                if not failures:
                    run(_checks(job, checks, arrays, network), ledger, failures, workers=WORKERS)
        raise_failures(sample, failures)
        publish_manifest(output, Path(store).parent, {"sample": sample, "key": digest(job.key), "blocks": len(mine)})


class Networks:
    """A predictor that is made in the process that predicts, when its first block comes.

    Parameters
    ----------
    make : function of a torch.device
        See `make_predictor`.
    place : torch.device or str
        A name is chosen by there, see `device.choose_device`.
    threads : int
        For arithmetic on the CPU.
    """

    def __init__(self, make: Callable[[torch.device], Predictor], place: torch.device | str, threads: int):
        self.make, self.place, self.threads = make, place, threads
        self.lock, self.token = Lock(), uuid.uuid4().hex
        self.made: Predictor | None = None

    def __reduce__(self) -> tuple:
        return _known, (self.token, self.make, self.place, self.threads)

    def ready(self) -> Predictor:
        """The predictor, made if it was not yet."""
        with self.lock:
            if self.made is None:
                torch.set_num_threads(self.threads)
                place = choose_device(self.place) if isinstance(self.place, str) else self.place
                self.made = self.make(place)
            return self.made

    def __call__(self, grey_CZYX: np.ndarray, *, rare: bool = False) -> np.ndarray:
        """See `predictor.Predictor`."""
        return self.ready()(grey_CZYX, rare=rare)


_known_lock, _latest = Lock(), dict[str, Networks]()


def _known(token: str, *arguments: Any) -> Networks:
    """The same object whenever the same networks reach this process, which keeps it until others come."""
    with _known_lock:
        if token not in _latest:
            _latest.clear()
            _latest[token] = Networks(*arguments)
        return _latest[token]


def make_predictor(job: Job, networks: Sequence[str], seen: list[Unit], place: torch.device) -> Predictor:
    """The networks on their device, compiled if that pays."""
    precision = choose_precision(job.networks[0]["precision"], place)
    rebuilt = [load_network(network)[0] for network in networks]
    compiled = worth_compiling(job, seen)
    weights = sum(tensor.numel() for network in rebuilt for tensor in network.parameters())
    _say_needs(job, weights, compiled=compiled)
    return Predictor(rebuilt, views=job.views, device=place, precision=precision, compiled=compiled)


def _run(ledger: Ledger, failures: dict[str, Exception], network: Networks, tasks: list[Task]) -> None:
    """Run the blocks, and say where the time went."""
    begun = time.monotonic()
    spent = run(tasks, ledger, failures, workers=WORKERS)
    spent["network"] = network.made.busy if network.made else spent["network"]  # without waiting for it
    said = ", ".join(f"{stage} {spent[stage]:.1f} s" for stage in ("read", "network", "write"))
    logger.info("%s, which overlap; %.1f s in all", said, time.monotonic() - begun)


class Arrays(NamedTuple):
    """What a series is read from and written to."""

    source: Any
    target: Any


def _open(job: Job, mine: list[Unit], store: Path) -> dict[int, Arrays]:
    """Arrays of the series that have blocks here."""
    return {
        number: Arrays(
            open_array(job.images / job.entries[number]["path"] / "0"),
            _create(job, store, number),
        )
        for number in sorted({unit.number for unit in mine})
    }


def _tasks(job: Job, mine: list[tuple[Unit, bool]], arrays: dict[int, Arrays], network: Networks) -> list[Task]:
    return [
        _task(job, unit, arrays[unit.number], network)
        if holds
        else Task(str(unit.number), unit.where, _skip_block, (unit, arrays[unit.number].target))
        for unit, holds in mine
    ]


def _task(job: Job, unit: Unit, arrays: Arrays, network: Networks) -> Task:
    read = Stage("read", read_block, (arrays.source, unit.t, unit.block, job.statistics[unit.number]))
    given = (unit, arrays.target)
    return Task(str(unit.number), unit.where, _write_block, given, (read, Stage("network", network)))


def _checks(job: Job, checks: list, arrays: dict[int, Arrays], network: Networks) -> list[Task]:
    tasks, rarely = [], Stage("network", partial(network, rare=True))
    for unit, window in checks:
        here = arrays[unit.number]
        read = Stage("read", read_block, (here.source, unit.t, window.block, job.statistics[unit.number]))
        tasks.append(Task("seams", unit.name, _compare, (unit, window, here.target), (read, rarely)))
    return tasks


def _compare(unit: Unit, window: Window, target, found: np.ndarray) -> Done:
    return Done(note=compare(target[(unit.t, slice(None), *window.block.write)], found, window))


def _create(job: Job, store: Path, number: int):
    entry = job.entries[number]
    t, _, z, y, x = entry["shape"]
    shape = (t, job.networks[0]["arguments"]["classes"] - 1, z, y, x)
    return create_array(store / entry["path"], shape, np.uint8, chunk=entry["chunk"], shard=job.block)


def _say_needs(job: Job, weights: int, *, compiled: bool) -> None:
    sides = (job.planes, job.block, job.block)[-len(job.axes) :]
    more = np.prod([axis.input(side) / side for axis, side in zip(job.axes, sides, strict=True)])
    features, channels = (job.networks[0]["arguments"][name] for name in ("features", "channels"))
    kind = Kind(features, weights, job.axes, channels)
    memory = prediction_memory(kind, job.block, job.planes, compiled=compiled)
    halos = " x ".join(str(axis.halo) for axis in job.axes)
    logger.info(
        "the network's receptive field reaches %s pixels: %.2f times the pixels of a block are read", halos, more
    )
    logger.info("%.2f GB of memory are needed where a CPU computes, whatever the size of the image", memory / 1e9)


def _region(unit: Unit, target) -> Region:
    return slice(unit.t, unit.t + 1), slice(0, target.shape[1]), *unit.block.write


def _skip_block(unit: Unit, target) -> Done:
    return Done(write_region(target, _region(unit, target), np.zeros((), np.uint8)), skipped="no tissue")


def _write_block(unit: Unit, target, found: np.ndarray) -> Done:
    values = written(found, unit.block)
    return Done(write_region(target, _region(unit, target), values[None]), array_digest(values))
