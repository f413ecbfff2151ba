"""What there is to count in an image and its truth, part by part."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from unetpipe.geometry import Region, blocks
from unetpipe.metrics import Overlaps, Pairs, class_counts, matches, mean_iou, rand_and_information
from unetpipe.nearest import Apart, apart, border_places, distances, thinned
from unetpipe.scheduling import compute
from unetpipe.store import IGNORED
from unetpipe.totals import THRESHOLDS
from unetpipe.warping import warping_error

PLANE, VOLUME = (1024, 1024), (16, 512, 512)  # what is looked at at once, pixels
WARPED = 4096**2  # pixels of the largest plane whose truth is warped: it is looked at as a whole
COUNTED = ("objects", "outlined", "classes", "known", "seams")
Reader = Callable[[Region], np.ndarray]


class Compared(NamedTuple):
    """One image, or one time point of it, with its truth; readers give any region of it."""

    shape: tuple[int, ...]  # (y, x) or (z, y, x)
    truth: Reader  # instance labels, 0 is background
    found: Reader
    classes: Reader  # annotated, 255 where nobody looked
    found_classes: Reader
    kinds: int  # of classes, background among them
    spacing: tuple[float, ...]  # size of a pixel along each axis; the smallest is 1
    seams: tuple[int, ...] | None = None  # sides of the blocks that were predicted, if they count; 1: no seam that way

    @classmethod
    def of(cls, truth: np.ndarray, found: np.ndarray, classes: np.ndarray) -> "Compared":
        """Images (y, x) or (z, y, x) in memory, all classes but the background as one."""
        flat = [image[0] if image.ndim == 3 and len(image) == 1 else image for image in (truth, found, classes)]
        foreground = (flat[1] > 0).astype(np.uint8)
        read = [image.__getitem__ for image in (*flat[:2], one_class(flat[2]), foreground)]
        return cls(flat[0].shape, read[0], read[1], read[2], read[3], 2, (1.0,) * flat[0].ndim)


def one_class(classes: np.ndarray) -> np.ndarray:
    """All classes but the background as 1; what nobody looked at stays so."""
    return np.where(classes == IGNORED, IGNORED, classes > 0).astype(np.uint8)


class TimePoint:
    """One time point of a label array (t, z, y, x), or a plane of it, read when it is called."""

    def __init__(self, array, front: tuple[int, ...]):
        self.array, self.front = array, front

    def __call__(self, region: Region) -> np.ndarray:
        """Labels of a region."""
        return self.array[(*self.front, *region)]


class Part(NamedTuple):
    """What is counted in one region."""

    objects: Pairs  # true and found objects, where known
    outlined: Pairs  # the same with the borders of found objects thinned, in true objects
    classes: Pairs  # true and found, where known
    known: Pairs  # found objects, and whether the truth is known
    borders: tuple[Apart, ...]  # from the truth's border to that of what was found, and back; of known pixels
    seams: Pairs  # objects at the seams: 0 true ones, 1 found ones


def count_region(image: Compared, region: Region, *, borders: bool, thin: bool) -> Part:
    """Count what is in one region."""
    truth, found, classes = (read(region) for read in (image.truth, image.found, image.classes))
    known = classes != IGNORED
    return Part(
        Pairs.of(truth, found, known),
        _outlined(image, region, truth, known & (truth > 0)) if thin else NONE,
        Pairs.of(classes, image.found_classes(region), known),
        Pairs.of(found, known.astype(np.uint8), found > 0),
        _borders(image, region, known) if borders else (),
        _at_seams(image, region, truth, found) if image.seams else NONE,
    )


NONE = Pairs(*np.zeros((3, 0), np.int64))


def _outlined(image: Compared, region: Region, truth: np.ndarray, inside: np.ndarray) -> Pairs:
    if not inside.any():
        return NONE
    return Pairs.of(truth, thinned(image.found, image.shape, region, inside, image.spacing), inside)


def _borders(image: Compared, region: Region, known: np.ndarray) -> tuple[Apart, Apart]:
    truth, found = (partial(_mask, read) for read in (image.truth, image.found))
    return apart(truth, found, image.shape, region, known, image.spacing)


def _mask(read: Reader, region: Region) -> np.ndarray:
    return read(region) > 0


def _at_seams(image: Compared, region: Region, truth: np.ndarray, found: np.ndarray) -> Pairs:
    parts = [NONE]
    for axis, (side, part) in enumerate(zip(image.seams or (), region, strict=True)):
        places = np.arange(part.start, part.stop)
        behind, before = places % side == 0, (places + 1) % side == 0
        beside = (behind & (places > 0) | before & (places < image.shape[axis] - 1)) & (side > 1)
        for number, labels in enumerate((truth, found)):
            ids = np.unique(np.compress(beside, labels, axis))
            ids = ids[ids > 0]
            parts.append(Pairs(np.full(len(ids), number), ids, np.ones(len(ids), np.int64)))
    return Pairs(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def score(
    image: Compared,
    *,
    thresholds: Sequence[float] = THRESHOLDS,
    borders: bool = True,
    thin: bool = True,
    workers: int = 1,
) -> dict[str, float]:
    """What `totals.pooled` needs to know of an image.

    Parameters
    ----------
    thresholds : sequence of float
        Least intersections over union of a matched pair.
    borders : bool
        Whether to look for the distances of borders, and in planes that are not too large for the warping error, too.
    thin : bool
        Whether to thin the borders of found objects, which Rand and information scores need: long where few are found.
    workers : int
        Threads; each holds one block with its surroundings.
    """
    sides = PLANE if len(image.shape) == 2 else VOLUME
    regions = [block.write for block in blocks(image.shape, sides)]
    parts: tuple[Part, ...] = compute(partial(count_region, image, borders=borders, thin=thin), regions, workers)
    objects, outlined, classes, known, seams = (Pairs.add(getattr(part, name) for part in parts) for name in COUNTED)
    table = _judged(objects, known)
    figures = {"truths": len(table.truth), "objects": len(table.found), "covered": mean_iou(table) * len(table.truth)}
    for threshold in thresholds:
        pairs = matches(table, threshold)
        figures |= {f"matched {threshold}": len(pairs), f"overlap {threshold}": table.iou[pairs].sum()}
    figures |= rand_and_information(outlined) if thin else {}
    figures["rand_error"] = 1 - rand_and_information(objects)["rand"]
    figures |= _class_figures(classes, image.kinds)
    if borders:
        figures["hausdorff_95"] = _hausdorff([part.borders for part in parts], image, regions, workers)
        if len(image.shape) == 2 and math.prod(image.shape) <= WARPED:
            figures["warping_error"] = _warping_error(image)
    if image.seams:
        figures |= _seam_figures(table, matches(table, thresholds[0]), seams)
    return figures


def score_at_half(image: Compared, workers: int = 1, *, thin: bool = True) -> dict[str, float]:
    """What choosing between settings needs to know: objects match at an intersection over union of 0.5."""
    return score(image, thresholds=THRESHOLDS[:1], borders=False, thin=thin, workers=workers)


def _judged(objects: Pairs, known: Pairs) -> Overlaps:
    """Objects, but for found ones of which less than half lies where the truth is known."""
    table = Overlaps.of(objects)
    ids, place = np.unique(known.first, return_inverse=True)
    total = np.bincount(place, known.pixels, len(ids))[np.searchsorted(ids, table.found_ids)]
    return table.without(table.found < total / 2)


def _class_figures(pairs: Pairs, count: int) -> dict[str, float]:
    """Pixels of each class, and the share of those whose class is not the true one."""
    figures: dict[str, float] = {}
    for number in range(1, count):
        names = (f"{kind} {number}" for kind in ("shared", "false", "missed"))
        figures |= dict(zip(names, class_counts(pairs, number), strict=True))
    wrong, known = pairs.pixels[pairs.first != pairs.second].sum(), pairs.pixels.sum()
    return {**figures, "pixel_error": wrong / known if known else 0.0}


def _warping_error(image: Compared) -> float:
    whole = tuple(slice(0, size) for size in image.shape)
    truth, found, classes = (read(whole) for read in (image.truth, image.found, image.classes))
    return warping_error(truth > 0, found > 0, classes != IGNORED)


def _seam_figures(table: Overlaps, pairs: np.ndarray, seams: Pairs) -> dict[str, float]:
    """Objects, and those of them that are matched, at the seams and elsewhere; true and found ones together."""
    both = table.true_ids, table.found_ids
    hit = np.concatenate([np.isin(ids, ids[own]) for ids, own in zip(both, table.pairs[pairs].T, strict=True)])
    at = np.concatenate([np.isin(ids, seams.second[seams.first == k]) for k, ids in enumerate(both)])
    return {
        "seams": int(at.sum()),
        "seams matched": int((at & hit).sum()),
        "inside": int((~at).sum()),
        "inside matched": int((~at & hit).sum()),
    }


def _hausdorff(borders: list[tuple[Apart, ...]], image: Compared, regions: list[Region], workers: int) -> float:
    """The larger of the two directions' 95th percentiles of border distances (Huttenlocher et al. 1993).

    In units of the spacing; 0 if no known pixel is on a border, the image's diagonal if one of the masks is empty.
    """
    ways = list(zip(*borders, strict=True))
    near = [np.concatenate([part.distances for part in way]) for way in ways]
    far = [np.concatenate([part.far for part in way]) for way in ways]
    if not any(map(len, (*near, *far))):
        return 0.0
    if not all(sum(part.pixels for part in way) for way in ways):
        return float(np.linalg.norm(np.multiply(image.shape, image.spacing)))
    masks = [partial(_mask, read) for read in (image.found, image.truth)]
    for k, places in enumerate(far):
        if len(places):
            others = compute(partial(border_places, masks[k], image.shape), regions, workers)
            beyond = distances(places, np.concatenate(others), image.spacing, workers)
            near[k] = np.concatenate([near[k], beyond])
    return max(float(np.percentile(some, 95)) for some in near if len(some))
