"""Draws splits and makes the rows of a sheet.

Small images of one split become one row, a pattern that names them: their scores are then pooled, with intervals over
the images, and a row costs up to seven jobs of some seconds each, whatever it holds. Large ones (slides, volumes) are a
row each, so that their jobs run side by side and one that fails holds up no other. Training images of several groups
are a row for each group, because folds are drawn by row and group. The labels of a pattern are a pattern too
(`truth/*_mask.png`): to move an image to another split, move its name between the paths.
"""

import random
import re
from collections import Counter
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

from unetpipe.patterns import find
from unetpipe.start.pairing import Source, natural, without_suffix

LARGE = 2**24  # pixels of an image that is a row of its own
SPECIAL = re.compile(r"[*?\[\]{},]")  # has a meaning in patterns


class Image(NamedTuple):
    """An image, and what is to become of it."""

    source: Source
    label: Source | None
    group: str
    pixels: int
    sized: bool  # whether the file itself says what --pixel-size does
    split: str = "predict"


class Row(NamedTuple):
    """Images of one sample, as the sheet names them."""

    sample: str
    path: str
    labels: str
    split: str
    group: str
    sized: bool


def draw_splits(images: Sequence[Image], seed: int | None) -> list[Image]:
    """Give annotated images their splits, whole groups at once.

    Of n groups (an image without one is its own) a fifth is for test, a tenth for val where there are five or more;
    at least one each, as far as one is left to learn from.

    Parameters
    ----------
    seed : int, optional
        The same seed and groups draw the same splits. None: the last are for test and those before them for val, so
        that of images that follow one another none has a neighbour in another split but at the two borders.
    """
    groups = sorted({_group(image) for image in images if image.label}, key=natural, reverse=True)
    if seed is not None:
        random.Random(seed).shuffle(groups)  # noqa: S311 - nothing secret
    test = min(max(1, round(len(groups) / 5)), len(groups) - 1)
    val = max(1, round(len(groups) / 10)) if len(groups) >= 5 else 0
    drawn = dict.fromkeys(groups, "train") | dict.fromkeys(groups[:test], "test")
    drawn |= dict.fromkeys(groups[test : test + val], "val")
    return [image._replace(split=drawn[_group(image)]) if image.label else image for image in images]


def _group(image: Image) -> str:
    return image.group or f"{image.source}"


def make_rows(images: Sequence[Image], base: Path) -> list[Row]:
    """Rows of a sheet whose relative paths start at `base`, train first."""
    ends = _ends([_relative(image.source, base) for image in images])
    rows = []
    for part in ([image for image in images if image.label], [image for image in images if not image.label]):
        patterns = Patterns([image for image in part if image.pixels < LARGE], base)
        for (split, group, _), members in _together(part).items():
            if len(members) > 1 and (named := patterns.of(members)):
                rows.append(Row(_plain(f"{split}-{group}" if group else split), *named, split, group, members[0].sized))
                continue
            for image in members:
                shared = image.pixels < LARGE and len(members) == 1 and split != "predict"
                name = (f"{split}-{group}" if group else split) if shared else _own_name(image, base, ends)
                rows.append(Row(_plain(name), *patterns.alone(image), split, image.group, image.sized))
    order = ("train", "val", "test", "predict")
    return _distinct(sorted(rows, key=lambda row: order.index(row.split)))


def _together(images: Sequence[Image]) -> dict[tuple, list[Image]]:
    """Images that may share a row, by split and group."""
    found: dict[tuple, list[Image]] = {}
    for image in images:
        group = image.group if image.split == "train" else ""
        own = image.source if image.pixels >= LARGE else image.sized
        found.setdefault((image.split, group, own), []).append(image)
    return found


def _relative(source: Source, base: Path) -> str:
    return source.path.absolute().relative_to(base).as_posix()


def _own_name(image: Image, base: Path, ends: tuple[str, str]) -> str:
    """What is left of an image's path without what all have in common."""
    return without_suffix(_relative(image.source, base))[len(ends[0]) :].removesuffix(without_suffix(ends[1]))


def _plain(name: str) -> str:
    """A name that a sheet allows."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._") or "image"


def _distinct(rows: Sequence[Row]) -> list[Row]:
    """The same rows, with numbers where a name occurs more than once."""
    count = Counter(row.sample for row in rows)
    numbers = {name: iter(range(1, n + 1)) for name, n in count.items()}
    return [
        row._replace(sample=f"{row.sample}-{next(numbers[row.sample])}") if count[row.sample] > 1 else row
        for row in rows
    ]


class Patterns:
    """Names several images at once: by what their paths, and those of their labels, begin and end with."""

    def __init__(self, images: Sequence[Image], base: Path):
        self.base = base
        self.ends = _ends([_relative(image.source, base) for image in images])
        pairs = [(self._key(image.source), _relative(image.label, base)) for image in images if image.label]
        self.label_ends = _label_ends(pairs)

    def _key(self, source: Source) -> str:
        """What tells an image from the others."""
        path = _relative(source, self.base)
        return path[len(self.ends[0]) : len(path) - len(self.ends[1])]

    def alone(self, image: Image) -> tuple[str, str]:
        """Path and labels of one image."""
        path, labels = (_escaped(_relative(source, self.base)) if source else "" for source in image[:2])
        return path + _array(image.source), labels + _array(image.label)

    def of(self, images: Sequence[Image]) -> tuple[str, str] | None:
        """Path and labels of several; None if no pattern means them and nothing else."""
        arrays = {(_array(image.source), _array(image.label)) for image in images}
        if self.label_ends is None or len(arrays) > 1:
            return None
        (array, label_array), annotated = arrays.pop(), images[0].label is not None
        wanted = {self.base / _relative(i.source, self.base): i.label and i.label.path.absolute() for i in images}
        listed = ",".join(SPECIAL.sub("?", self._key(image.source)) for image in images)
        for middle, label_middle in product(("*", f"{{{listed}}}"), repeat=2):
            path = middle.join(map(_escaped, self.ends))
            labels = label_middle.join(map(_escaped, self.label_ends)) if annotated else ""
            beside = find(labels, self.base) if annotated else {}
            if {file: beside.get(key) for key, file in find(path, self.base).items()} == wanted:
                return path + array, labels + label_array
        return None


def _array(source: Source | None) -> str:
    return f":/{source.inside}" if source and source.inside else ""


def _escaped(path: str) -> str:
    """A pattern that means this path alone."""
    return re.sub(r"[*?\[{]", lambda match: r"[\[]" if match[0] == "[" else f"[{match[0]}]", path)


def _ends(paths: Sequence[str]) -> tuple[str, str]:
    """What all paths begin and end with, names and numbers in between whole."""
    if len(paths) < 2:
        paths = [*paths, ""]
        bare = without_suffix(paths[0])
        return bare.rpartition("/")[0] + "/" * ("/" in bare), paths[0][len(bare) :]
    start = re.sub(r"[A-Za-z0-9]*$", "", _common(paths))
    end = _common([path[len(start) :][::-1] for path in paths])[::-1]
    return start, re.sub(r"^[A-Za-z0-9]*", "", end)


def _common(paths: Sequence[str]) -> str:
    """The characters with which all begin."""
    first, last = min(paths), max(paths)
    return first[: next((k for k, pair in enumerate(zip(first, last, strict=False)) if len({*pair}) > 1), len(first))]


def _label_ends(pairs: Sequence[tuple[str, str]]) -> tuple[str, str] | None:
    """What comes before and after the key of the image in the path of each of its labels, if it is the same in all."""
    if len(pairs) < 2:
        return "", ""
    key, path = pairs[0]
    for place in range(len(path) - len(key), -1, -1):
        start, end = path[:place], path[place + len(key) :]
        if all(other == start + name + end for name, other in pairs):
            return start, end
    return None
