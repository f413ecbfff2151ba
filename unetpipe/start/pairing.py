"""Finds images and the labels that belong to them, by the names of the files."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

from unetpipe.inspection import find_files
from unetpipe.patterns import WILD, find
from unetpipe.readers import SUFFIXES, outlines

WORDS = frozenset(
    {"annotation", "annotations", "cp", "gt", "id", "ids", "identities", "image", "images", "img", "instance"}
    | {"instances", "label", "labelled", "labels", "mask", "masks", "object", "objects", "raw", "seg", "segmentation"}
    | {"simple", "truth", "0000"}
)  # of a file's name that say what it is, not which: a_img.tif, a_0000.tif (nnU-Net) and a_cp_masks.png are all a

WORD, RUN = re.compile(r"[^\W_]+"), re.compile(r"[^\W\d_]+|\d+")  # of image0.tif: image0; image and 0


class Source(NamedTuple):
    """A file, or an array inside of one."""

    path: Path
    inside: str = ""

    def __str__(self) -> str:
        return f"{self.path}:/{self.inside}" if self.inside else str(self.path)


Key = tuple[str, ...]  # what tells one file from others


def find_pairs(images: Sequence[str], labels: Sequence[str]) -> tuple[dict[Source, Source | None], list[str]]:
    """Every image with its labels, or with None.

    What the wildcards of two patterns matched has to be equal, as in a sheet; where it is not, the names without such
    words as `mask`; where they are not either, letters and digits are words of their own: image0 and mask0 are both 0.
    One image and one file of labels belong together whatever their names. Files that are labels are no images, so both
    may lie in one folder.

    Parameters
    ----------
    images, labels : sequence of str
        Files, folders and patterns; `file.h5:/array` for an array inside.

    Returns
    -------
    dict of Source → Source or None, list of str
        In the order of the names; the second says which labels do not pair, and what to do.

    Raises
    ------
    FileNotFoundError
        If something names no file.
    """
    annotations = find_sources(labels, (*SUFFIXES, *outlines.SUFFIXES))
    places = {*map(_place, annotations)}
    pictures = {source: key for source, key in find_sources(images).items() if _place(source) not in places}
    if not pictures:
        raise FileNotFoundError(f"--images names nothing but the labels ({some(annotations)}); name the images")
    if len(pictures) == len(annotations) == 1:
        return dict(zip(pictures, annotations, strict=True)), []
    ways = [
        (words(pictures, word), words(annotations, word))
        for word, words in product((WORD, RUN), (_path_words, _name_words))
        if annotations
    ]
    if len(images) == len(labels) == 1 and WILD.search(images[0]) and WILD.search(labels[0]):
        ways.insert(0, (pictures, annotations))
    if not ways:
        return dict.fromkeys(pictures), []
    found = [_match(*keys) for keys in ways]
    return min(found, key=lambda pairs_and_problems: len(pairs_and_problems[1]))


def _place(source: Source) -> tuple[str, str]:
    """Where it lies, however its path is spelt."""
    return os.path.normpath(source.path.absolute()), source.inside


def find_sources(patterns: Sequence[str], suffixes: tuple[str, ...] = SUFFIXES) -> dict[Source, Key]:
    """Files of paths, folders and patterns, with what the wildcards matched; of folders those with the suffixes."""
    found: dict[Source, Key] = {}
    for pattern in patterns:
        outside, _, inside = str(Path(pattern).expanduser()).partition(":/")
        matched = {(): Path(outside)} if Path(outside).exists() else find(outside, Path())
        files = {Source(file, inside): key for key, path in matched.items() for file in find_files([path], suffixes)}
        if not files:
            raise FileNotFoundError(f"{pattern} names no image file; mend the path (quote patterns: '*.tif')")
        found |= files
    return found


def _path_words(sources: Iterable[Source], word: re.Pattern) -> dict[Source, Key]:
    """The words of each path below the folder that all have in common."""
    root = os.path.commonpath([source.path.absolute().parent for source in sources])
    return {source: _words(str(source.path.absolute().relative_to(root)), word) for source in sources}


def _name_words(sources: Iterable[Source], word: re.Pattern) -> dict[Source, Key]:
    """The words of each file's name."""
    return {source: _words(source.path.name, word) for source in sources}


def _words(path: str, word: re.Pattern) -> Key:
    """All but those that say what the file is."""
    return tuple(found for found in word.findall(without_suffix(path)) if found.lower() not in WORDS)


def without_suffix(path: str) -> str:
    """A path without the longest suffix that a format has.

    >>> without_suffix("plate.1/a_mask.ome.tif")
    'plate.1/a_mask'
    """
    known = [suffix for suffix in (*SUFFIXES, *outlines.SUFFIXES) if path.lower().endswith(suffix)]
    return path[: -len(max(known, key=len))].removesuffix(".ome") if known else path.rpartition(".")[0] or path


def natural(name: str) -> list[tuple[int, str]]:
    """Orders names as people do: t2 before t10.

    >>> sorted(["t10", "t2"], key=natural)
    ['t2', 't10']
    """
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def _match(images: Mapping[Source, Key], labels: Mapping[Source, Key]) -> tuple[dict[Source, Source | None], list[str]]:
    """Images with the labels of equal key; and what is left over or ambiguous."""
    named: dict[Key, list[Source]] = {}
    for image, key in images.items():
        named.setdefault(key, []).append(image)
    by_key: dict[Key, Source] = {}
    alone, problems = [], []
    for label, key in labels.items():
        same = named.get(key, [])
        if not same:
            alone.append(label)
        elif len(same) > 1:
            problems.append(f"{label} may be the labels of {some(same)}; rename them so that one has its name")
        elif key in by_key:
            problems.append(f"{label} and {by_key[key]} are both labels of {same[0]}; leave one out of --labels")
        by_key.setdefault(key, label)
    if alone:
        problems.append(
            f"{some(alone)} ({len(alone)} in all): labels of no image; images are {some(images)}. Names have to "
            "agree where the wildcards of --images and --labels are, or but for words such as _mask: rename these "
            "labels, or leave them out of --labels"
        )
    return {image: by_key.get(images[image]) for image in sorted(images, key=lambda one: natural(str(one)))}, problems


def some(sources: Iterable[Source]) -> str:
    """The first two of several."""
    first, *others = map(str, sources)
    return ", ".join([first, *others[:1], *(["…"] if len(others) > 1 else [])])


def groups_of(sources: Sequence[Source], expression: str | None) -> Iterator[str]:
    """Group of each image: what a regular expression finds in its path; else its folder, where there are three or more.

    Raises
    ------
    ValueError
        If the expression finds nothing in a path, or is none.
    """
    if expression is None:
        folders = [source.path.parent.name for source in sources]
        yield from folders if len(set(folders)) > 2 else [""] * len(sources)
        return
    try:
        search = re.compile(expression).search
    except re.error as error:
        raise ValueError(f"--group {expression} is no regular expression: {error}") from error
    for source in sources:
        match = search(str(source.path))
        if not match:
            raise ValueError(f"--group {expression} finds nothing in {source.path}; widen it")
        yield match[1] if match.re.groups else match[0]
