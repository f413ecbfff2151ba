"""Brings annotations beside their images: instance ids and classes as labels of the image store."""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from scipy import ndimage

from unetpipe.blocks import Ledger, raise_failures
from unetpipe.components import Components, space_structure
from unetpipe.geometry import Region, blocks
from unetpipe.manifest import digest
from unetpipe.pyramid import Pyramid, write_pyramids
from unetpipe.readers import each_once, open_series
from unetpipe.readers.outlines import NOT_ANNOTATED
from unetpipe.readers.rescaled import nearest
from unetpipe.readers.series import Plane, Series
from unetpipe.revisions import REVISIONS
from unetpipe.sources import changes, file_states, source_digest
from unetpipe.store import IGNORED, label_path, level_shapes, publish_label, publish_manifest, read_attributes

logger = logging.getLogger(__name__)
LABELS = ("truth", "classes")
MOST_ID = 2**32 - 1
Reader = Callable[[Region], np.ndarray]  # of a region (t, z, y, x)


def classes_of(
    values: np.ndarray, *, kind: str = "instances", classes: Sequence[int] = (0, 255), ignore: int | None = None
) -> np.ndarray:
    """Class of every annotated pixel.

    Parameters
    ----------
    values : (*space) int
        As they stand in the annotation.
    kind : "instances" or "classes"
        Instance ids: everything but 0 is class 1. Classes: as `classes` lists them.
    classes : sequence of int
        The values that mean class 0 (background), 1, 2, …
    ignore : int, optional
        The value of pixels that nobody annotated.

    Returns
    -------
    (*space) uint8
        255 where ignored.

    Raises
    ------
    ValueError
        If a class annotation has a value that is not listed.
    """
    found = (values > 0).astype(np.uint8) if kind == "instances" else _look_up(values, classes, ignore)
    return found if ignore is None else np.where(values == ignore, np.uint8(IGNORED), found)


def _look_up(values, classes, ignore) -> np.ndarray:
    order = np.argsort(classes)
    ranked = np.asarray(classes)[order]
    place = np.clip(np.searchsorted(ranked, values), 0, len(ranked) - 1)
    strange = (ranked[place] != values) & (values != ignore if ignore is not None else True)
    if strange.any():
        raise ValueError(
            f"annotation has the value {values[strange][0]}, which truth.classes {list(classes)} does not list; "
            "add it there or set truth.ignore to it"
        )
    return order[place].astype(np.uint8)


def write_truth(
    paths: list[str],
    image: str,
    output: str,
    *,
    sample: str,
    kind: str = "instances",
    classes: Sequence[int] = (0, 255),
    ignore: int | None = None,
    inside: str = "",
    workers: int = 1,
) -> None:
    """Write `labels/truth` (ids) and `labels/classes` of every series of a sample.

    Parameters
    ----------
    paths : list of path
        Annotation files, one series for each series of the image, in the same order; GeoJSON of outlines as well, see
        `readers.outlines`.
    image : path
        Root `zarr.json` of the image store.
    output : path
        Manifest, written last: the digests of both labels of each series.
    kind, classes, ignore
        See `classes_of`. The objects of a class annotation are its connected components, or its outlines.
    inside : str
        Array or group inside each file, see `readers.open_series`.
    workers : int
        Threads; each holds one shard.

    Raises
    ------
    RuntimeError
        If an annotation cannot be read, has other sides than its image or strange values, or is written meanwhile.
    """
    store, entries = Path(image).parent, read_attributes(image)["series"]
    settings = {"kind": kind, "classes": list(classes), "ignore": ignore}
    before = file_states(paths)
    key = [
        REVISIONS["truth"],
        [e["digest"] for e in entries],
        [source_digest(path) for path in paths],
        inside,
        settings,
    ]
    with Ledger(store, "truth", key) as ledger:
        failures: dict[str, Exception] = {}
        pyramids = []
        for entry, annotation in zip(entries, _annotations(paths, inside, len(entries), sample), strict=True):
            try:
                pyramids += _pyramids(store, entry, annotation, settings, workers)
            except (ValueError, OSError) as error:
                failures[entry["path"]] = error
        digests = write_pyramids(pyramids, ledger, failures, workers=workers)
        failed = {f"{name} ({entries[int(name)]['name']})": error for name, error in failures.items()}
        raise_failures(sample, failed | changes(before))
        for entry in entries:
            for name in LABELS:
                publish_label(store, entry, name, levels=entry["levels"], note={"revision": REVISIONS["truth"]})
        series = [_summary(store, entry, digests) for entry in entries]
        count = 2 if kind == "instances" else len(classes)
        note = {"sample": sample, "revision": REVISIONS["truth"], "settings": settings, "classes": count}
        publish_manifest(output, store, {**note, "series": series})
        logger.info("%d annotated series of %s", len(series), sample)


def _summary(store: Path, entry: dict, digests: dict) -> dict:
    labels = {name: digests[label_path(store, entry["path"], name)] for name in LABELS}
    return {"path": entry["path"], "digest": digest(labels)}


def _annotations(paths: list[str], inside: str, expected: int, sample: str) -> list[Series]:
    """The series of all annotation files, in order; all files that do not open are named."""
    failures: dict[str, Exception] = {}

    def read(path: str) -> list[Series]:
        try:
            return open_series(path, inside, palette=False)
        except (ValueError, OSError) as error:
            failures[str(path)] = error
            return []

    found = [series for _, several in each_once(paths, read) for series in several]
    raise_failures(sample, failures)
    if len(found) != expected:
        raise ValueError(
            f'sample "{sample}": {len(found)} annotations for {expected} images; each needs one of its own'
        )
    return found


def check_annotations(paths: list[str], inside: str, images: Sequence[Series], sample: str) -> None:
    """Refuse annotations that are not one for each image, or of other sides, see `write_truth`."""
    for image, annotation in zip(images, _annotations(paths, inside, len(images), sample), strict=True):
        sides = image.origin.sides if image.origin else image.shape[3:]
        fitting(annotation, (image.shape[0], image.shape[2], *sides))


def _pyramids(store: Path, entry: dict, annotation: Series, settings: dict, workers: int) -> list[Pyramid]:
    """The two labels of a series, each with the levels of its image."""
    shape = (entry["shape"][0], *entry["shape"][2:])
    origin = Plane(**entry["origin"]) if entry["origin"] else None
    annotation = fitting(annotation, (*shape[:2], *(origin.sides if origin else shape[2:])))
    if origin:
        annotation = annotation._replace(read=nearest(annotation.read, origin))
    if annotation.kinds:
        ids, classes = _outline_readers(annotation, settings)
    else:
        ids, classes = _readers(annotation, shape, settings, entry["shard"], workers)
    levels = level_shapes(shape, entry["chunk"])
    sides = (entry["chunk"], entry["shard"], "label")
    return [
        Pyramid(entry["path"], label_path(store, entry["path"], name), levels, np.dtype(dtype), read, *sides)
        for name, dtype, read in (("truth", np.uint32, ids), ("classes", np.uint8, classes))
    ]


def fitting(annotation: Series, expected: tuple[int, ...]) -> Series:
    """An annotation with the sides of its image (t, z, y, x); outlines end anywhere within.

    Raises
    ------
    ValueError
        If it has other sides, several channels, or no integers.
    """
    found = (annotation.shape[0], *annotation.shape[2:])
    if annotation.shape[1] != 1 or annotation.dtype.kind not in "uib":
        raise ValueError(
            f"annotation {annotation.name} has {annotation.shape[1]} channels of {annotation.dtype}; "
            "labels need one channel of integers: a number per object, or a value per class"
        )
    if annotation.kinds and any(size > most for size, most in zip(found, expected, strict=True)):
        raise ValueError(
            f"outlines of {annotation.name} reach to (t, z, y, x) {found}, their image to {expected}; they belong to "
            "another image, or to another magnification of it"
        )
    if not annotation.kinds and found != expected:
        raise ValueError(
            f"annotation {annotation.name} has (t, z, y, x) {found}, its image {expected}; save it at that size"
        )
    return annotation._replace(shape=(expected[0], 1, *expected[1:]))


def _readers(annotation: Series, shape, settings: dict, shard: int, workers: int) -> tuple[Reader, Reader]:
    """Of ids and of classes."""
    classes = partial(_read_classes, annotation, settings)
    if settings["kind"] == "instances":
        _refuse_mask(annotation, shape, shard)
        return partial(_read_ids, annotation, settings["ignore"]), classes
    return _component_ids(classes, shape, shard, len(settings["classes"]), workers), classes


def _outline_readers(drawn: Series, settings: dict) -> tuple[Reader, Reader]:
    """The same of outlines, which number their objects and name their classes."""
    if settings["kind"] == "instances":
        numbers = np.arange(len(drawn.kinds)) > 0
    else:
        numbers = _class_numbers(drawn, len(settings["classes"]))
    return partial(_read_ids, drawn, NOT_ANNOTATED), partial(_read_kinds, drawn, numbers.astype(np.uint8))


def _class_numbers(drawn: Series, count: int) -> np.ndarray:
    """Class of each object, from what its outline is called: 2, or class 2."""
    known = {name: k for k in range(1, count) for name in (str(k), f"class {k}")}
    for kind in drawn.kinds[1:]:
        if kind not in known:
            raise ValueError(
                f'{drawn.name} has outlines of class "{kind}"; with {count} truth.classes theirs are '
                f"{', '.join(f'class {k}' for k in range(1, count))}; name them so, or set truth.kind to instances"
            )
    return np.array([0, *(known[kind] for kind in drawn.kinds[1:])])


def _read_kinds(drawn: Series, numbers: np.ndarray, region) -> np.ndarray:
    values = _values(drawn, region)
    unknown = values == NOT_ANNOTATED
    return np.where(unknown, np.uint8(IGNORED), numbers[np.where(unknown, 0, values)])


def _refuse_mask(annotation: Series, shape, shard: int) -> None:
    """A mask of 0 and 255 in several pieces is no instance annotation: it would be one object."""
    pieces = 0
    for block in blocks(shape, (1, 1, shard, shard)):
        values = _values(annotation, block.write)
        if not np.isin(values, (0, 255)).all():
            return
        pieces += ndimage.label(values[0, 0])[1]
    if pieces > 1:
        raise ValueError(
            f"annotation {annotation.name} has no value but 0 and 255, in {pieces} pieces: a mask, no numbers; "
            "set truth.kind to classes (its pieces become the objects), or number the objects"
        )


def _values(annotation: Series, region) -> np.ndarray:
    t, z, y, x = region
    return annotation.read((t, slice(0, 1), z, y, x))[:, 0]


def _read_classes(annotation: Series, settings: dict, region) -> np.ndarray:
    return classes_of(_values(annotation, region), **settings)


def _read_ids(annotation: Series, ignore: int | None, region) -> np.ndarray:
    values = _values(annotation, region).astype(np.int64)
    if ignore is not None:
        values[values == ignore] = 0
    if values.min(initial=0) < 0 or values.max(initial=0) > MOST_ID:
        unknown = f", or set truth.ignore to {values.min()}" if values.min() < 0 else ""
        raise ValueError(f"ids {values.min()} … {values.max()} leave 0 … {MOST_ID}; number the objects anew{unknown}")
    return values


def _component_ids(classes, shape, shard: int, count: int, workers: int):
    """A reader of ids of the connected components of each class, numbered class by class."""
    painters, last = [], 0
    for number in range(1, count):
        parts = Components(
            partial(_is, classes, number), shape, (1, 1, shard, shard), space_structure(1), workers=workers
        )
        ids = parts.canonical_ids(np.ones(len(parts.sizes), dtype=bool))
        painters.append(partial(parts.paint, values=ids + np.uint32(last)))
        last += len(ids)
    return partial(_paint_all, painters)


def _is(classes, number: int, region) -> np.ndarray:
    return classes(region) == number


def _paint_all(painters, region) -> np.ndarray:
    return sum(painter(region) for painter in painters)
