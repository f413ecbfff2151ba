"""Finds regions whose annotation would teach a network most: where it is unsure, and unlike what it has learnt from."""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import ndimage
from scipy.spatial import KDTree
from scipy.stats import rankdata

from unetpipe.geometry import blocks, within
from unetpipe.grey import to_unit
from unetpipe.log import Progress
from unetpipe.manifest import read_json, write_bytes
from unetpipe.outlines import outline
from unetpipe.readers.outlines import ANNOTATED
from unetpipe.scheduling import compute
from unetpipe.store import IGNORED, label_path, open_array, read_attributes

logger = logging.getLogger(__name__)
MOST = 5000  # windows that are looked at; of more, evenly spread ones
HELD = 0.25  # share of a window that has to be tissue, or annotated
TOGETHER = 64  # windows between two steps of the progress bar
UNSURE = 0.5
FLAT = 0.01  # deviation of a feature below which it says nothing, of grey values between 0 and 1


class Image(NamedTuple):
    """One series."""

    sample: str
    store: Path
    found: Path  # its probabilities
    entry: dict
    tissue: dict  # its statistics


class Window(NamedTuple):
    """A square of one plane, cut off at the sides of the image."""

    image: Image
    t: int
    z: int
    plane: tuple[slice, slice]  # y, x


class Suggestion(NamedTuple):
    """A window, and why it is suggested."""

    window: Window
    uncertainty: float  # see `uncertainty`
    distance: float  # to the nearest window known before, in deviations of all; NaN where none was known


def suggest(
    results: Path, samples: Sequence[str] = (), *, count: int = 10, side: int = 512, workers: int = 1
) -> list[Suggestion]:
    """The windows to annotate next, the best first.

    Each is the one with the highest sum of two ranks: of its uncertainty, and of its distance to all that is annotated
    and was chosen before, by its grey values.

    Parameters
    ----------
    results : path
        Of a run.
    samples : sequence of str
        Where to look; all predicted ones without truth if none is given.
    count : int
        How many are wanted.
    side : int
        Of a window, pixels.

    Raises
    ------
    ValueError
        If a sample has truth already, or there is nothing to choose from.
    """
    names, drawn = _choose_samples(results, samples), _drawn(results)
    windows = _thinned([window for name in names for window in _windows(results, name, "tissue", side, drawn)])
    if not windows:
        raise ValueError(
            f"{', '.join(names)}: no window of {side} pixels holds tissue that nobody annotated; set --side lower"
        )
    looks = _look(windows, partial(_describe, predicted=True), workers)
    features, unsure = np.array([look[1:] for look in looks]), np.array([look[0] for look in looks])
    annotated = sorted(path.stem for path in results.glob("truth/*.json") if not _predicted(results, path.stem))
    known = _thinned([window for name in annotated for window in _windows(results, name, "classes", side)])
    learnt = [look[1:] for look in _look(known, partial(_describe, predicted=False), workers)]
    return [
        Suggestion(windows[place], float(unsure[place]), distance)
        for place, distance in choose(unsure, features, np.array(learnt), count)
    ]


def choose(unsure: np.ndarray, features: np.ndarray, known: np.ndarray, count: int) -> Iterator[tuple[int, float]]:
    """Places of the best windows and their distances, one after the other, each far from those before.

    Parameters
    ----------
    unsure : (n,)
    features : (n, f)
    known : (m, f)
        Of what is annotated; may be empty.
    """
    every = np.concatenate([features, known]) if len(known) else features
    spread = np.maximum(every.std(axis=0), FLAT)
    features, known = features / spread, known / spread if len(known) else known
    distance = KDTree(known).query(features)[0] if len(known) else np.full(len(features), np.inf)
    free = np.ones(len(features), bool)
    for _ in range(min(count, len(features))):
        score = rankdata(unsure) + rankdata(distance)
        best = int(np.argmax(np.where(free, score, -1)))
        yield best, float(distance[best]) if np.isfinite(distance[best]) else np.nan
        free[best] = False
        distance = np.minimum(distance, np.linalg.norm(features - features[best], axis=1))


def uncertainty(probability: np.ndarray) -> float:
    """Share of pixels whose two likeliest classes differ by less than `UNSURE` in probability.

    It follows the number of corrections that a window needs more closely than the mean entropy does
    (`benchmarks/suggest.py`): low probabilities everywhere do not add up.

    Parameters
    ----------
    probability : (k, y, x) uint8
        p × 255 of the classes but the background.
    """
    parts = np.concatenate([255 - probability.sum(axis=0, dtype=np.int64)[None], probability])
    lower, upper = np.sort(parts, axis=0)[-2:]
    return float((upper - lower < 255 * UNSURE).mean())


def appearance(grey: np.ndarray) -> np.ndarray:
    """Mean, deviation, 5th and 95th percentile and mean slope of each channel, (c, y, x) → (5 c,)."""
    numbers = [grey.mean(axis=(1, 2)), grey.std(axis=(1, 2)), *np.percentile(grey, (5, 95), axis=(1, 2))]
    slope = np.abs(np.diff(grey, axis=1)).mean(axis=(1, 2)) + np.abs(np.diff(grey, axis=2)).mean(axis=(1, 2))
    return np.concatenate([*numbers, slope])


# ---------------------------------------------------------------- windows


def _predicted(results: Path, name: str) -> bool:
    return (results / "probabilities" / f"{name}.zarr" / "zarr.json").exists()


def _choose_samples(results: Path, samples: Sequence[str]) -> list[str]:
    every = sorted(path.parent.name.removesuffix(".zarr") for path in results.glob("probabilities/*.zarr/zarr.json"))
    for name in samples:
        if name not in every:
            raise ValueError(f'sample "{name}" is not predicted; {", ".join(every[:8]) or "none"} are')
        if (results / "truth" / f"{name}.json").exists():
            raise ValueError(f'sample "{name}" has truth already; leave it to its split')
    chosen = list(samples) or [name for name in every if not (results / "truth" / f"{name}.json").exists()]
    if not chosen:
        raise ValueError(f"{results}: no predicted sample is without truth; add rows of split predict, and run again")
    return chosen


def _drawn(results: Path) -> dict[str, list[Path]]:
    """Where an image is annotated, the label `classes` of each sample that holds it, by the digest of the image."""
    stores = [results / "images" / f"{path.stem}.ome.zarr" for path in results.glob("truth/*.json")]
    series = [(store, entry) for store in stores for entry in read_attributes(store / "zarr.json")["series"]]
    drawn: dict[str, list[Path]] = {}
    for store, entry in series:
        drawn.setdefault(entry["digest"], []).append(label_path(store, entry["path"], "classes"))
    return drawn


def _windows(
    results: Path, name: str, label: str, side: int, drawn: Mapping[str, Sequence[Path]] | None = None
) -> Iterator[Window]:
    """Windows of a sample of which enough is annotated, or tissue that is not yet in what is drawn."""
    store = results / "images" / f"{name}.ome.zarr"
    statistics = read_json(results / "tissue" / f"{name}.json")["series"]
    for entry, tissue in zip(read_attributes(store / "zarr.json")["series"], statistics, strict=True):
        level = tissue["level"]
        coarse = open_array(label_path(store, entry["path"], label) / str(level))[...]
        held = (coarse != IGNORED) if label == "classes" else coarse > 0
        for classes in (drawn or {}).get(entry["digest"], ()):
            held &= open_array(classes / str(level))[...] == IGNORED
        image = Image(name, store, results / "probabilities" / f"{name}.zarr" / entry["path"], entry, tissue)
        t, _, z, y, x = entry["shape"]
        for block in blocks((t, z, y, x), (1, 1, side, side)):
            at, depth, *plane = block.write
            share = held[at, depth, *(slice(part.start >> level, -(-part.stop >> level)) for part in plane)].mean()
            small = any(part.stop - part.start < min(side, size) / 2 for part, size in zip(plane, (y, x), strict=True))
            if share >= HELD and not small:
                yield Window(image, at.start, depth.start, (plane[0], plane[1]))


def _thinned(windows: list[Window]) -> list[Window]:
    return windows[:: -(-len(windows) // MOST) or 1]


def _look(windows: list[Window], describe, workers: int) -> list[np.ndarray]:
    progress = Progress(-(-len(windows) // TOGETHER), f"times {TOGETHER} windows")
    found: list[np.ndarray] = []
    for start in range(0, len(windows), TOGETHER):
        found += compute(describe, windows[start : start + TOGETHER], workers)
        progress.advance()
    return found


def _describe(window: Window, *, predicted: bool) -> np.ndarray:
    """Uncertainty, where it is predicted, and appearance."""
    image, (at, z, plane) = window.image, window[1:]
    pixels = open_array(image.store / image.entry["path"] / "0")[(at, slice(None), z, *plane)]
    grey = to_unit(pixels, image.tissue, axis=0)
    unsure = uncertainty(open_array(image.found)[(at, slice(None), z, *plane)]) if predicted else 0.0
    return np.concatenate([[unsure], appearance(grey)])


# ---------------------------------------------------------------- files


def by_file(suggestions: Sequence[Suggestion], folder: Path) -> dict[Path, list[Suggestion]]:
    """The suggestions of each image, by the GeoJSON file in the folder that is to hold them.

    Raises
    ------
    FileExistsError
        If one of them exists: it may have been edited.
    """
    files: dict[Path, list[Suggestion]] = {}
    for suggestion in suggestions:
        files.setdefault(folder / _file_name(suggestion.window.image), []).append(suggestion)
    for path in files:
        if path.exists():
            raise FileExistsError(f"{path} exists, and may have been edited; move it, or name another folder with --to")
    return files


def write_suggestions(files: Mapping[Path, Sequence[Suggestion]]) -> None:
    """Write a GeoJSON file for each image: its regions, of class `Region*`, and the objects found there."""
    for path, several in files.items():
        seen: set[tuple[int, ...]] = set()
        features = [feature for suggestion in several for feature in _features(suggestion.window, seen)]
        lines = ",\n".join(map(json.dumps, features))
        write_bytes(path, f'{{"type": "FeatureCollection", "features": [\n{lines}\n]}}\n'.encode())


def _file_name(image: Image) -> str:
    several = len(read_attributes(image.store / "zarr.json")["series"]) > 1
    return f"{image.sample}/{Path(image.entry['name']).name}.geojson" if several else f"{image.sample}.geojson"


def _features(window: Window, seen: set[tuple[int, ...]]) -> Iterator[dict[str, Any]]:
    """The region, then the objects that reach into it, whole as far as one side beyond, but for those seen before."""
    image, (at, z, plane) = window.image, window[1:]
    steps = tuple(image.entry["origin"]["steps"]) if image.entry["origin"] else (1.0, 1.0)
    placed = {"plane": {"c": -1, "z": z, "t": at}}
    whole = np.ones([part.stop - part.start for part in plane], bool)
    yield _annotation(outline(whole, plane[0].start, plane[1].start, steps) | placed, ANNOTATED)
    wide = tuple(slice(max(0, 2 * part.start - part.stop), 2 * part.stop - part.start) for part in plane)
    labels = open_array(label_path(image.store, image.entry["path"], "objects") / "0")[(at, z, *wide)]
    probability = open_array(image.found)[(at, slice(None), z, *wide)]
    present = np.unique(labels[within(plane, wide)]).tolist()
    ids = np.array([k for k in present if k and (at, z, k) not in seen], labels.dtype)
    seen.update((at, z, k) for k in ids.tolist())
    numbers = np.where(np.isin(labels, ids), np.searchsorted(ids, labels) + 1, 0)
    for number, box in enumerate(ndimage.find_objects(numbers), start=1):
        mask = numbers[box] == number
        kind = int(probability[(slice(None), *box)][:, mask].mean(axis=1).argmax()) + 1
        y, x = (w.start + part.start for w, part in zip(wide, box, strict=True))
        yield _annotation(outline(mask, y, x, steps) | placed, f"class {kind}")


def _annotation(geometry: dict, kind: str) -> dict[str, Any]:
    properties = {"objectType": "annotation", "classification": {"name": kind}}
    return {"type": "Feature", "geometry": geometry, "properties": properties}
