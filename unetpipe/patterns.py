"""Finds the files that a pattern names, and what its wildcards matched, so that labels pair with images."""

import os
import re
from collections.abc import Collection, Iterable, Iterator
from itertools import product
from pathlib import Path

WILD = re.compile(r"[*?\[{]")
WILDCARD = re.compile(r"(\{[^}]*\}|\[[^\]]*\]|\*|\?)")
STEP = re.compile(r"(?:\{[^}]*\}|[^/])+")  # of a path: there may be slashes between braces
Match = tuple[tuple[str, ...], Path]  # what the wildcards stand for, and where


def find(pattern: str, folder: Path) -> dict[tuple[str, ...], Path]:
    """Files of a pattern, by what its wildcards matched.

    Parameters
    ----------
    pattern : str
        A path, with `*`, `?`, `[0-7]` and `{one,two}` where it names several files. As in a shell a wildcard matches
        no `/`, and no name that begins with a dot; only the folders that the pattern names are looked into.
    folder : path
        Where a relative pattern starts.

    Returns
    -------
    dict of tuple of str → path
        Sorted; the key of a path without wildcards is empty. No entry where nothing matches.

    Raises
    ------
    ValueError
        If what stands in square brackets is no choice of letters.
    """
    whole = str(folder / pattern)
    found: list[Match] = [((), Path("/") if whole.startswith("/") else Path())]
    for step in STEP.findall(whole):
        found = [(key + more, path) for key, parent in found for more, path in _children(parent, step)]
    return dict(sorted(found, key=lambda match: match[1]))


def _children(parent: Path, step: str) -> Iterator[Match]:
    """What one step of a pattern leads to; nothing where a folder may not be looked into, or is gone."""
    if os.path.exists(parent / step):  # noqa: PTH110 - unlike Path's it knows that no file has a name of a megabyte
        yield (), parent / step
    elif WILD.search(step):
        expression = _expression(step)
        for name in _names(parent, step):
            if match := expression.fullmatch(name):
                yield match.groups(), parent / name


def _names(parent: Path, step: str) -> Iterable[str]:
    if "/" in step:
        paths = (path for plain in _without_braces(step) for path in find(plain, parent).values())
        return sorted({path.relative_to(parent).as_posix() for path in paths})
    try:
        return [path.name for path in parent.iterdir() if not path.name.startswith(".")]
    except OSError:
        return []


def _without_braces(step: str) -> Iterator[str]:
    """One pattern for each choice of the words between braces."""
    pieces = WILDCARD.split(step)
    for choice in product(*(piece[1:-1].split(",") if piece.startswith("{") else [piece] for piece in pieces)):
        yield "".join(choice)


def _expression(step: str) -> re.Pattern:
    try:
        return re.compile(translate(step))
    except re.error as error:
        raise ValueError(f"{step} is no pattern: {error}") from error


def unmatched(pattern: str, found: Collection[tuple[str, ...]]) -> list[str]:
    """The words between braces that no file has, of the keys that `find` gave."""
    wild = WILDCARD.findall(pattern)
    if any(len(key) < len(wild) for key in found):
        return []  # a file has that very name
    seen = dict(enumerate(map(set, zip(*found, strict=True))))
    words = [(k, word) for k, piece in enumerate(wild) if piece.startswith("{") for word in piece[1:-1].split(",")]
    return [word for k, word in words if word not in seen.get(k, ()) and not WILD.search(word)]


def translate(pattern: str) -> str:
    r"""Regular expression of a pattern: one group for every outermost wildcard.

    >>> translate("0[0-7].png")
    '0([0-7])\\.png'
    >>> translate("{a*,b}/?.tif")
    '((?:a[^/]*|b))/([^/])\\.tif'
    """
    pieces = WILDCARD.split(pattern)
    return "".join(f"({_wild(piece)})" if number % 2 else re.escape(piece) for number, piece in enumerate(pieces))


def _wild(piece: str) -> str:
    if piece.startswith("{"):
        return f"(?:{'|'.join(map(_ungrouped, piece[1:-1].split(',')))})"
    return {"*": "[^/]*", "?": "[^/]"}.get(piece, piece.replace("[!", "[^"))


def _ungrouped(option: str) -> str:
    pieces = WILDCARD.split(option)
    return "".join(_wild(piece) if number % 2 else re.escape(piece) for number, piece in enumerate(pieces))
