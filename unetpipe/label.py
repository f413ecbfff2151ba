"""Makes objects of probabilities: components of the foreground, the same as those of the whole image."""

import logging
from collections.abc import Callable
from functools import cached_property, partial
from math import prod
from operator import le
from pathlib import Path
from threading import Lock, local
from typing import NamedTuple

import numpy as np

from unetpipe.blocks import Done, Ledger, raise_failures
from unetpipe.components import Components, id_type, space_structure
from unetpipe.geometry import Region, relative_spacing, widened, within
from unetpipe.neighbours import close_gaps, gap_reach
from unetpipe.pyramid import Pyramid, write_pyramids
from unetpipe.revisions import REVISIONS
from unetpipe.scheduling import elsewhere
from unetpipe.splitting import Pieces
from unetpipe.store import (
    label_path,
    level_shapes,
    open_array,
    publish_label,
    publish_manifest,
    read_attributes,
    remove_strays,
)

logger = logging.getLogger(__name__)
FACES, CORNERS = 1, 3
latest = local()  # what `_probability` gave to each thread


class Settings(NamedTuple):
    """What decides which pixels are objects; see `write_objects`."""

    threshold: float
    min_size: int
    holes: int
    expand: int
    split: float = 0.0
    core: float = 0.0


class Spacing(NamedTuple):
    """Size of a pixel along each axis, the smallest is 1."""

    image: tuple[float, ...] = (1.0, 1.0)  # y, x or z, y, x
    network: tuple[float, ...] = (1.0, 1.0)  # along what its networks see, a plane or a volume: objects grow there

    @classmethod
    def of(cls, entry: dict, probabilities: dict) -> "Spacing":
        """Of an image's entry in its store, and the attributes of the store of probabilities."""
        dimensions = [3 if several > 1 else 2 for several in (entry["shape"][2], probabilities["sides"][0])]
        return cls(*(relative_spacing(entry["pixel_size"], number) for number in dimensions))


SQUARE = Spacing()


def write_objects(
    image: str,
    probabilities: str,
    output: str,
    *,
    sample: str,
    threshold: float = 0.5,
    min_size: int = 64,
    holes: int = 64,
    expand: int = 1,
    split: float = 0.0,
    core: float = 0.0,
    workers: int = 1,
) -> None:
    """Write `labels/objects` of every series and, last, the manifest with the number of objects.

    Parameters
    ----------
    image, probabilities : path
        Root `zarr.json` of the image store and of the store of probabilities.
    output : path
        Manifest.
    threshold : float
        Foreground is where the classes but the background together are more probable than this.
    min_size, holes : int
        Smaller objects are dropped, holes up to this size, enclosed by an object, are filled; pixels.
    expand : int
        Objects grow by so many pixels where they meet: half the gap that `weights` took. In each plane, or in the
        volume if the network was one for volumes; pixels are those of the finest axis there.
    split : float
        Objects are parted where the distance to the background falls by more than this between two of its summits,
        pixels, see `splitting.parted`; 0: never.
    core : float
        Objects are parted into what is more probable than this, and grow back over the foreground from there, see
        `splitting.grown`; 0: never.
    workers : int
        Threads; each holds one shard with its context.
    """
    store, entries = Path(image).parent, read_attributes(image)["series"]
    settings = Settings(threshold, min_size, holes, expand, split, core)
    note = read_attributes(probabilities)
    spacings = [Spacing.of(entry, note) for entry in entries]
    with Ledger(store, "objects", [REVISIONS["label"], note["series"], spacings, settings]) as ledger:
        failures: dict[str, Exception] = {}
        found = {
            e["path"]: Objects(Path(probabilities).parent / e["path"], e["shard"], settings, workers, spacing)
            for e, spacing in zip(entries, spacings, strict=True)
        }
        large = {path: objects for path, objects in found.items() if elsewhere() or not objects.small}
        counts = _count(large, ledger, failures)
        pyramids = [
            _pyramid(store, e, found[e["path"]], id_type(counts.get(e["path"], 0)))
            for e in entries
            if e["path"] not in failures
        ]
        digests = write_pyramids(pyramids, ledger, failures, workers=workers)
        counts = _count({path: found[path] for path in found.keys() - failures}, ledger, failures)
        raise_failures(sample, failures)
        shards, series = ledger.shards(), []
        for entry, pyramid in zip(entries, pyramids, strict=True):
            publish_label(store, entry, "objects", levels=entry["levels"], note={"revision": REVISIONS["label"]})
            remove_strays(pyramid.folder, shards)
            path = entry["path"]
            series.append({"path": path, "objects": counts[path], "digest": digests[pyramid.folder]})
        note = {"sample": sample, "revision": REVISIONS["label"], "settings": settings._asdict()}
        publish_manifest(output, store, {**note, "series": series})
        logger.info("%d objects in %s", sum(entry["objects"] for entry in series), sample)


def _count(found: "dict[str, Objects]", ledger: Ledger, failures: dict[str, Exception]) -> dict[str, int]:
    """Find the objects of one series after the other, unless the ledger knows how many there are."""
    counts = {}
    for path, objects in found.items():
        name = f"{path} components"
        try:
            if name not in ledger.finished:
                ledger.record(name, Done(note=objects.count()))
            counts[path] = ledger.finished[name]["note"]
        except Exception as error:
            logger.exception("series %s: %s", path, error)  # noqa: TRY401 - the terminal gets no traceback
            failures[path] = error
    return counts


class Objects:
    """The objects of one series, found when they are first asked for.

    Parameters
    ----------
    probabilities : path
        Array (t, K − 1, z, y, x) of p × 255.
    block : int
        Side of what one thread holds, pixels.
    spacing : Spacing
        Square pixels of a planar network, if not given.
    """

    def __init__(self, probabilities: Path, block: int, settings: Settings, workers: int, spacing: Spacing = SQUARE):
        self.spacing, self.near = (1.0, *spacing.image)[-3:], spacing.network
        self.array = open_array(probabilities)
        t, _, z, y, x = self.array.shape
        self.shape, self.block = (t, z, y, x), (1, 1, block, block)
        self.settings, self.workers = settings, workers
        self.reach = (0, 0, *gap_reach(settings.expand, self.near))[-4:]  # pixels that decide how objects grow
        self.lock = Lock()

    @property
    def small(self) -> bool:
        """Whether the thread that writes the only block may find them: 32 bits are enough for any ids of theirs."""
        return all(map(le, self.shape, self.block)) and id_type(prod(self.shape)) == np.uint32

    @cached_property
    def _found(self) -> tuple[int, Callable]:
        """How many objects there are, and what paints their ids."""
        read = partial(_foreground, self.array, self.settings.threshold)
        if self.settings.holes:
            others = partial(_background, read)
            structure = space_structure(CORNERS)
            empty = Components(others, self.shape, self.block, structure, boxes=True, workers=self.workers)
            read = partial(_without_holes, read, empty, (empty.sizes <= self.settings.holes) & self._enclosed(empty))
        split, core, least = self.settings.split, self.settings.core, self.settings.min_size
        parts = Components(
            read,
            self.shape,
            self.block,
            space_structure(FACES),
            boxes=split > 0 or core > 0,
            rim=max(self.reach[2:]),
            workers=self.workers,
        )
        if split or core:
            pieces = Pieces(
                parts,
                height=split,
                min_size=least,
                spacing=self.spacing,
                core=255 * core,
                levels=partial(_probability, self.array) if core else None,
                workers=self.workers,
            )
            return pieces.count, pieces.paint
        ids = parts.canonical_ids(parts.sizes >= least)
        return int(ids.max(initial=0)), partial(parts.paint, values=ids)

    def _enclosed(self, parts: Components) -> np.ndarray:
        """Which of them the edge of the image does not cut."""
        space = [1, 2, 3] if self.shape[1] > 1 else [2, 3]
        ends = np.array(self.shape)[space]
        return np.all((parts.low[:, space] > 0) & (parts.high[:, space] < ends), axis=1)

    def __getstate__(self) -> dict:
        """What another process needs to paint them: all are found."""
        self.count()
        return {name: value for name, value in self.__dict__.items() if name != "lock"}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self.lock = Lock()

    def count(self) -> int:
        """Find all objects: how many there are."""
        with self.lock:
            count, _ = self._found
        return count

    def read(self, region) -> np.ndarray:
        """Ids in a region, objects grown."""
        with self.lock:
            _, paint = self._found
        window = widened(region, self.reach, self.shape)
        inner, dimensions = within(region, window), len(self.near)
        images = paint(window)[inner[:-dimensions]]
        grown = [
            close_gaps(images[front], self.settings.expand, self.near, inner[-dimensions:])
            for front in np.ndindex(images.shape[:-dimensions])
        ]
        return np.stack(grown).reshape([part.stop - part.start for part in region])


def _probability(array, region: Region) -> np.ndarray:
    """Of the classes but the background together, x 255; a thread asks several times in a row for that of one block."""
    if getattr(latest, "asked", None) != (id(array), region):
        t, z, y, x = region
        latest.array, latest.asked = array, (id(array), region)
        latest.values = array[t, :, z, y, x].sum(axis=1, dtype=np.uint32)
    return latest.values


def _foreground(array, threshold: float, region: Region) -> np.ndarray:
    """Where they are more probable than the threshold."""
    return _probability(array, region) > 255 * threshold


def _background(foreground: Callable[[Region], np.ndarray], region: Region) -> np.ndarray:
    return ~foreground(region)


def _without_holes(foreground, empty: Components, filled: np.ndarray, region: Region) -> np.ndarray:
    return foreground(region) | empty.paint(region, filled)


def _pyramid(store: Path, entry: dict, objects: Objects, dtype: np.dtype) -> Pyramid:
    folder = label_path(store, entry["path"], "objects")
    levels = level_shapes(objects.shape, entry["chunk"])
    sides = (entry["chunk"], entry["shard"], "label")
    return Pyramid(entry["path"], folder, levels, dtype, objects.read, *sides)
