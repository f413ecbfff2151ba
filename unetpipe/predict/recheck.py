"""Computes some blocks of a prediction again and compares."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from unetpipe.gpus import granted
from unetpipe.overlap_tile import read_block, written
from unetpipe.predict.job import open_job, units, units_with_tissue
from unetpipe.predict.part import make_predictor
from unetpipe.store import open_array, read_attributes

ALLOWED = 2.0  # of 255, mean over a block; bf16 differs from float32 by 0.13 (measured on a section of isbi2012)


def recheck(
    image: str, tissue: str, networks: Sequence[str], store: str, *, sample: str, count: int, device: str = "auto"
) -> list[str]:
    """What is wrong with some blocks, chosen at random.

    Parameters
    ----------
    image, tissue, networks
        See `predict_part`.
    store : path
        Root `zarr.json` of the store of probabilities.
    count : int
        Of blocks.
    """
    note = read_attributes(store)
    planes, side, _ = note["sides"]
    job = open_job(image, tissue, networks, sample=sample, block=side, planes=planes, views=note["views"])
    seen = [unit for unit, holds in units_with_tissue(job, units(job)) if holds]
    chosen = np.random.default_rng().choice(len(seen), min(count, len(seen)), replace=False)
    problems = []
    with granted(device) as (place,):
        predictor = make_predictor(job, networks, seen, place)
        for unit in (seen[number] for number in sorted(chosen)):
            source = open_array(job.images / job.entries[unit.number]["path"] / "0")
            target = open_array(Path(store).parent / job.entries[unit.number]["path"])
            found = predictor(read_block(source, unit.t, unit.block, job.statistics[unit.number]))
            stored = target[(unit.t, slice(None), *unit.block.write)].astype(int)
            apart = float(np.abs(written(found, unit.block).astype(int) - stored).mean())
            if apart > ALLOWED:
                problems.append(f"series {unit.number}, {unit.where}: computed again it differs by {apart:.1f} of 255")
    return problems
