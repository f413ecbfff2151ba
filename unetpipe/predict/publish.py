"""Publishes a store of probabilities, once every block is accounted for."""

from collections.abc import Sequence
from pathlib import Path

from unetpipe.blocks import Ledger
from unetpipe.manifest import digest
from unetpipe.predict.job import open_job, seam_name, seams, units, units_with_tissue
from unetpipe.revisions import REVISIONS
from unetpipe.seams import certificate
from unetpipe.store import publish, remove_strays


def publish_probabilities(
    image: str,
    tissue: str,
    networks: Sequence[str],
    output: str,
    *,
    sample: str,
    block: int | str = "auto",
    planes: int = 32,
    views: int = 1,
    parts: Sequence[str] = (),
) -> None:
    """Write the root of a store of probabilities, once every block is accounted for.

    Parameters
    ----------
    image, tissue, networks, block, planes, views
        See `predict_part`.
    output : path
        Root `zarr.json` of the store.
    parts : sequence of path
        Manifests of the parts, which an error names: without them the parts run again.

    Raises
    ------
    RuntimeError
        If a block is neither computed nor skipped for a reason.
    """
    job = open_job(image, tissue, networks, sample=sample, block=block, planes=planes, views=views)
    store = Path(output).parent
    with Ledger(store, "predict", job.key, part="publish") as ledger:
        todo = units(job)
        seen = [unit for unit, holds in units_with_tissue(job, todo) if holds]
        windows = [seam_name(check) for check in seams(job, seen)]
        advice = f"delete {Path(parts[0]).parent} and run again: " if parts else "run it again: "
        ledger.check_coverage((*(unit.name for unit in todo), *windows), advice + "only these are computed")
        ledger.begin()  # under its key the store is published, see `verification`
        remove_strays(store, ledger.shards())
        skipped = [ledger.finished[unit.name]["skipped"] for unit in todo]
        notes = ledger.notes()
        series = [
            {"path": entry["path"], "digest": digest(notes[str(number)])} for number, entry in enumerate(job.entries)
        ]
        note = {
            "sample": sample,
            "revision": REVISIONS["predict"],
            "networks": [network["digest"] for network in job.networks],
            "views": job.views,
            "sides": [job.planes if len(job.axes) == 3 else 1, job.block, job.block],
            "blocks": {"computed": skipped.count(""), "no tissue": skipped.count("no tissue")},
            "seams": certificate(sample, [ledger.finished[name]["note"] for name in windows]),
            "series": series,
        }
        publish(store, {"unetpipe": note})
