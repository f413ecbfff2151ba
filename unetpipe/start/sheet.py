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
    sized: bool  # whether the file says how large a pixel is
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
        patterns = Patterns([image for image in part if not _is_special(image)], base)
        for (split, group, sized, own), members in _together(part, patterns).items():
            single = own or (split == "predict" and len(members) == 1)
            name = _own_name(members[0], base, ends) if single else f"{split}-{group}" if group else split
            rows.append(Row(_plain(name), *patterns.of(members), split, group, sized))
    order = ("train", "val", "test", "predict")
    return _distinct(sorted(rows, key=lambda row: order.index(row.split)))


def _together(images: Sequence[Image], patterns: "Patterns") -> dict[tuple, list[Image]]:
    """Images by split, group, whether they are sized, and the image itself where it is a row of its own."""
    found: dict[tuple, list[Image]] = {}
    for image in images:
        alone = _is_special(image) or not patterns
        group = image.group if image.split == "train" or alone else ""
        found.setdefault((image.split, group, image.sized, image.source if alone else None), []).append(image)
    return found


def _is_special(image: Image) -> bool:
    """Too large to share a row, or named with characters that patterns take for wildcards."""
    return image.pixels >= LARGE or any(SPECIAL.search(str(source)) for source in (image.source, image.label))


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
    """Names several files at once: what comes before and after what differs, of images and of labels.

    False where that cannot be: labels are named otherwise than their images, or lie in arrays of several names.
    """

    def __init__(self, images: Sequence[Image], base: Path):
        self.base = base
        self.ends = _ends([_relative(image.source, base) for image in images])
        pairs = [(self._key(image.source), _relative(image.label, base)) for image in images if image.label]
        self.label_ends = _label_ends(pairs)
        arrays = ({image.source.inside for image in images}, {image.label.inside for image in images if image.label})
        self.same = all(len(names) < 2 for names in arrays)

    def __bool__(self) -> bool:
        return self.same and self.label_ends is not None

    def _key(self, source: Source) -> str:
        """What tells an image from the others."""
        path = _relative(source, self.base)
        return path[len(self.ends[0]) : len(path) - len(self.ends[1])]

    def of(self, images: Sequence[Image]) -> tuple[str, str]:
        """Path and labels of a row."""
        image, label, *_ = images[0]
        inside = [f":/{source.inside}" if source and source.inside else "" for source in (image, label)]
        if len(images) == 1:
            named = [_escaped(_relative(source, self.base)) if source else "" for source in (image, label)]
            return named[0] + inside[0], named[1] + inside[1]
        keys = [self._key(one.source) for one in images]
        listed = f"{{{','.join(keys)}}}"
        found = set(find("*".join(self.ends), self.base).values())
        every = found == {self.base / _relative(one.source, self.base) for one in images}
        path = ("*" if every else listed).join(self.ends) + inside[0]
        if not label or not self.label_ends:
            return path, ""
        return path, (listed if "/" in listed else "*").join(self.label_ends) + inside[1]


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
