"""The paper's weight maps: what the loss pays for the background between touching objects."""

import logging
from functools import partial
from pathlib import Path

import numpy as np
from scipy import ndimage

from unetpipe.blocks import Done, Ledger, Task, raise_failures, run
from unetpipe.geometry import blocks
from unetpipe.manifest import array_digest, digest, read_json
from unetpipe.neighbours import extreme_ids
from unetpipe.revisions import REVISIONS
from unetpipe.store import (
    IGNORED,
    create_array,
    label_path,
    open_array,
    read_attributes,
    remove_strays,
    write_group,
    write_region,
)

logger = logging.getLogger(__name__)
REACH = 6.0  # in sigmas: beyond, the border term is below 2e-8 w0
STEPS = 255  # the border term is stored in this many steps of w0


def border_weight(labels: np.ndarray, *, border: float = 10.0, sigma: float = 5.0) -> np.ndarray:
    """Extra weight of background between objects (Ronneberger et al. 2015, eq. 2, second term).

    Parameters
    ----------
    labels : (*space) int
        Instance labels, 0 is background; any ids.
    border : float
        w0, the weight where two objects touch.
    sigma : float
        Width of the ridge, pixels.

    Returns
    -------
    (*space) float32
        border · exp(−(d1 + d2)² / 2σ²) with d1, d2 the distances to the nearest and second nearest
        object; 0 inside objects, and where the second is farther than 6 σ.
    """
    nearest = np.full((2, *labels.shape), np.inf, dtype=np.float32)
    margin = int(np.ceil(REACH * sigma))
    _, dense = np.unique(labels, return_inverse=True)
    dense = dense.reshape(labels.shape) + (0 if (labels == 0).any() else 1)
    for number, box in enumerate(ndimage.find_objects(dense), start=1):
        grown = tuple(slice(max(0, s.start - margin), s.stop + margin) for s in box)
        distance = ndimage.distance_transform_edt(dense[grown] != number)
        first, second = nearest[0][grown], nearest[1][grown]
        np.minimum(second, np.maximum(first, distance), out=second)
        np.minimum(first, distance, out=first)
    ridge = border * np.exp(-(nearest.sum(axis=0) ** 2) / (2 * sigma**2))
    return np.where((labels == 0) & (nearest[1] <= margin), ridge, 0).astype(np.float32)


def open_gaps(labels: np.ndarray, *, gap: int) -> np.ndarray:
    """Take a background gap from objects that touch (the paper opens the borders by morphology).

    Parameters
    ----------
    labels : (*space) int
        Instance labels.
    gap : int
        Width of the gap, pixels, half of it from each side; below 2 nothing is opened.

    Returns
    -------
    (*space) int
        The labels, 0 where another object is within gap / 2.
    """
    if gap < 2:
        return labels
    lowest, highest = extreme_ids(labels, gap / 2)
    return np.where(lowest < highest, 0, labels)


def write_weights(
    image: str,
    truth: str,
    output: str,
    *,
    sample: str,
    border: float = 10.0,
    sigma: float = 5.0,
    gap: int = 2,
    workers: int = 1,
) -> None:
    """Write what training aims at: `{series}/target` (classes, gaps opened) and `{series}/border`.

    Parameters
    ----------
    image, truth : path
        Root `zarr.json` of the image store, manifest of its truth.
    output : path
        Root `zarr.json` of the weights store, written last. It notes the pixels of each class.
    border, sigma
        See `border_weight`; stored in 255 steps of `border`.
    gap
        See `open_gaps`.
    workers : int
        Threads; each holds one block.
    """
    images, store = Path(image).parent, Path(output).parent
    Path(output).unlink(missing_ok=True)
    entries, annotated = read_attributes(image)["series"], read_json(truth)
    truths = annotated["series"]
    settings = {"border": border, "sigma": sigma, "gap": gap}
    key = [REVISIONS["weights"], [entry["digest"] for entry in truths], settings]
    with Ledger(store, "weights", key) as ledger:
        failures: dict[str, Exception] = {}
        tasks = [task for entry in entries for task in _tasks(images, store, entry, settings)]
        run(tasks, ledger, failures, workers=workers)
        raise_failures(sample, failures)
        remove_strays(store, ledger.shards())
        series = [_summary(entry["path"], ledger) for entry in entries]
        note = {"revision": REVISIONS["weights"], "settings": settings, "classes": annotated["classes"]}
        write_group(store, {"unetpipe": {**note, "series": series}})


def _summary(path: str, ledger: Ledger) -> dict:
    notes = ledger.notes(path).values()
    counts = np.sum([np.asarray(note["pixels"]) for note in notes], axis=0)
    return {"path": path, "pixels": counts.tolist(), "digest": digest([note["digests"] for note in notes])}


def _tasks(images: Path, store: Path, entry: dict, settings: dict) -> list[Task]:
    ids, classes = (open_array(label_path(images, entry["path"], name) / "0") for name in ("truth", "classes"))
    sides = {"chunk": entry["chunk"], "shard": entry["shard"], "kind": "label"}
    steps = {"unetpipe": {"scale": settings["border"] / STEPS}}
    target = create_array(store / entry["path"] / "target", ids.shape, np.uint8, **sides)
    border = create_array(store / entry["path"] / "border", ids.shape, np.uint8, **sides, attributes=steps)
    work = partial(_write_block, ids, classes, target, border, settings)
    regions = [block.write for block in blocks(ids.shape, target.shards)]
    return [Task(entry["path"], str([part.start for part in region]), partial(work, region)) for region in regions]


def _write_block(ids, classes, target, border, settings: dict, region) -> Done:
    """Targets and border term of one shard of a plane, from as much context as they depend on."""
    reach = int(np.ceil(REACH * settings["sigma"])) + settings["gap"]
    window, inside = _widen(region, ids.shape, reach)
    opened = open_gaps(ids[window][0, 0], gap=settings["gap"])
    ridge = border_weight(opened, border=settings["border"], sigma=settings["sigma"])[inside]
    steps = np.rint(ridge * (STEPS / settings["border"]) if settings["border"] else ridge).astype(np.uint8)
    found = classes[region][0, 0]
    aims = np.where((opened[inside] > 0) | (found == IGNORED), found, 0)
    files = [*write_region(target, region, aims[None, None]), *write_region(border, region, steps[None, None])]
    note = {
        "digests": [array_digest(aims), array_digest(steps)],
        "pixels": np.bincount(aims.flat, minlength=256).tolist(),
    }
    return Done(files, note)


def _widen(region, shape, reach: int):
    """A region with its context inside the image, and where it lies in there (plane axes only)."""
    plane = [
        slice(max(0, part.start - reach), min(size, part.stop + reach))
        for part, size in zip(region[2:], shape[2:], strict=True)
    ]
    inside = tuple(
        slice(part.start - wide.start, part.stop - wide.start) for part, wide in zip(region[2:], plane, strict=True)
    )
    return (*region[:2], *plane), inside
