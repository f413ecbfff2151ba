"""The paper's weight maps: what the loss pays for the background between touching objects."""

import logging
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from unetpipe.blocks import Done, Ledger, Task, raise_failures, run
from unetpipe.cells import NEAR, cell_side, count_kinds
from unetpipe.distances import two_nearest
from unetpipe.geometry import blocks, relative_spacing, widened, within
from unetpipe.manifest import array_digest, digest, read_json
from unetpipe.neighbours import extreme_ids
from unetpipe.revisions import REVISIONS
from unetpipe.store import (
    IGNORED,
    create_array,
    label_path,
    open_array,
    publish,
    read_attributes,
    remove_strays,
    write_region,
)

logger = logging.getLogger(__name__)
NEGLIGIBLE = 1e-7  # of w0: below it the border term is 0, which ends the search for the second nearest object
STEPS = 255  # the border term is stored in this many steps of w0
SLAB = 32  # planes of a volume that are computed together


def border_weight(
    labels: np.ndarray, *, border: float = 10.0, sigma: float = 5.0, spacing: Sequence[float] | None = None
) -> np.ndarray:
    """Extra weight of background between objects (Ronneberger et al. 2015, eq. 2, second term).

    Parameters
    ----------
    labels : (Y, X) or (Z, Y, X) int
        Instance labels, 0 is background; any ids.
    border : float
        w0, the weight where two objects touch.
    sigma : float
        Width of the ridge, in the unit of the spacing.
    spacing : sequence of float, optional
        Size of a pixel along each axis; 1 everywhere if not given.

    Returns
    -------
    (*space) float32
        border · exp(−(d1 + d2)² / 2σ²) with d1, d2 the distances to the nearest and second nearest
        object; 0 inside objects, and where it would be below 1e-7 · border.
    """
    ridge = two_nearest(labels, reach=reach(sigma), spacing=spacing)
    np.square(ridge, out=ridge)
    ridge *= -1 / (2 * sigma**2)
    np.exp(ridge, out=ridge)
    ridge *= border
    return ridge


def reach(sigma: float) -> float:
    """Distance at which the border term has fallen to 1e-7 of w0 (5.68 σ)."""
    return sigma * math.sqrt(-2 * math.log(NEGLIGIBLE))


def open_gaps(labels: np.ndarray, *, gap: int, spacing: Sequence[float] | None = None) -> np.ndarray:
    """Take a background gap from objects that touch (the paper opens the borders by morphology).

    Parameters
    ----------
    labels : (*space) int
        Instance labels.
    gap : int
        Width of the gap, half of it from each side, in the unit of the spacing; below 2 nothing is opened.

    Returns
    -------
    (*space) int
        The labels, 0 where another object is within gap / 2.
    """
    if gap < 2:
        return labels
    lowest, highest = extreme_ids(labels, gap / 2, spacing)
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
    dimensions: int = 2,
    workers: int = 1,
) -> None:
    """Write what training aims at, `{series}/target` (classes, gaps opened) and `border`, and `index`: where what is.

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
    dimensions : 2 or 3
        Distances lie in each plane, or in the volume: there a pixel is as long as the finest axis says.
    workers : int
        Threads; each holds one block.
    """
    images, store = Path(image).parent, Path(output).parent
    entries, annotated = read_attributes(image)["series"], read_json(truth)
    truths = annotated["series"]
    settings = {"border": border, "sigma": sigma, "gap": gap, "dimensions": dimensions}
    inputs = [
        [truth["digest"], relative_spacing(entry["pixel_size"], dimensions), entry["chunk"], entry["shard"]]
        for entry, truth in zip(entries, truths, strict=True)
    ]
    key = [REVISIONS["weights"], inputs, annotated["classes"], settings]
    with Ledger(store, "weights", key) as ledger:
        failures: dict[str, Exception] = {}
        tasks = [task for entry in entries for task in _tasks(images, store, entry, annotated["classes"], settings)]
        if any(task.name not in ledger.finished for task in tasks):
            Path(output).unlink(missing_ok=True)
        run(tasks, ledger, failures, workers=workers)
        raise_failures(sample, failures)
        remove_strays(store, ledger.shards())
        notes = ledger.notes()
        series = [_summary(entry["path"], [*notes[entry["path"]].values()], border) for entry in entries]
        note = {"revision": REVISIONS["weights"], "settings": settings, "classes": annotated["classes"]}
        publish(store, {"unetpipe": {**note, "series": series}})


def _summary(path: str, notes: list[dict], border: float) -> dict:
    """The border term is stored in steps: its digest says nothing of how large they are."""
    counts = np.sum([np.asarray(note["pixels"]) for note in notes], axis=0)
    return {"path": path, "pixels": counts.tolist(), "digest": digest([border, [note["digests"] for note in notes]])}


class Arrays(NamedTuple):
    """What the blocks of a series are read from and written to."""

    ids: Any  # Zarr arrays (t, z, y, x)
    classes: Any
    target: Any
    border: Any
    index: Any  # (t, kinds, z, y, x), a pixel for a cell
    total: int  # of classes

    @property
    def cell(self) -> int:
        """Side of a cell, pixels."""
        return self.index.attrs["unetpipe"]["cell"]


def _open(images: Path, store: Path, entry: dict, count: int, settings: dict) -> Arrays:
    ids, classes = (open_array(label_path(images, entry["path"], name) / "0") for name in ("truth", "classes"))
    sides = {"chunk": entry["chunk"], "shard": entry["shard"]}
    notes = {"target": {}, "border": {"unetpipe": {"scale": settings["border"] / STEPS}}}
    target, border = (
        create_array(store / entry["path"] / name, ids.shape, np.uint8, **sides, kind="label", attributes=note)
        for name, note in notes.items()
    )
    cell = cell_side(entry["chunk"])
    t, z, *plane = ids.shape
    shape, side = (t, count + 1, z, *(-(-size // cell) for size in plane)), entry["shard"] // cell
    note = {"unetpipe": {"cell": cell}}
    index = create_array(store / entry["path"] / "index", shape, np.uint16, chunk=side, shard=side, attributes=note)
    return Arrays(ids, classes, target, border, index, count)


def _tasks(images: Path, store: Path, entry: dict, count: int, settings: dict) -> list[Task]:
    arrays = _open(images, store, entry, count, settings)
    spacing = relative_spacing(entry["pixel_size"], settings["dimensions"])
    side = (1, SLAB if len(spacing) == 3 else 1, *arrays.target.shards[2:])
    regions = [block.write for block in blocks(arrays.ids.shape, side)]
    work = partial(_write_block, arrays, settings, spacing)
    return [Task(entry["path"], str([part.start for part in region]), work, (region,)) for region in regions]


def _write_block(arrays: Arrays, settings: dict, spacing, region) -> Done:
    """Targets, border term and index of one block, from as much context as they depend on."""
    span = reach(settings["sigma"]) + settings["gap"] / 2
    front = arrays.ids.ndim - len(spacing)
    margins = [0] * front + [math.ceil(span / step) for step in spacing]
    window = widened(region, margins, arrays.ids.shape)
    inside = within(region, window)
    flat = tuple(range(front))
    opened = open_gaps(arrays.ids[window].squeeze(flat), gap=settings["gap"], spacing=spacing)
    ridge = border_weight(opened, border=settings["border"], sigma=settings["sigma"], spacing=spacing)
    opened, ridge = (np.expand_dims(values, flat)[inside] for values in (opened, ridge))
    steps = np.rint(ridge * (STEPS / settings["border"]) if settings["border"] else ridge).astype(np.uint8)
    found = arrays.classes[region]
    aims = np.where((opened > 0) | (found == IGNORED), found, 0)
    cells = count_kinds(aims[0], steps[0] >= NEAR * STEPS, arrays.total, arrays.cell)
    place = (*region[:1], slice(0, len(cells)), region[1], *(_cells(part, arrays.cell) for part in region[2:]))
    parts = ((arrays.target, region, aims), (arrays.border, region, steps), (arrays.index, place, cells[None]))
    note = {
        "digests": [array_digest(values) for *_, values in parts],
        "pixels": np.bincount(aims.flat, minlength=256).tolist(),
    }
    return Done([file for part in parts for file in write_region(*part)], note)


def _cells(part: slice, cell: int) -> slice:
    return slice(part.start // cell, -(-part.stop // cell))
