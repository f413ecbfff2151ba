"""Finds the files that a pattern names, and what its wildcards matched, so that labels pair with images."""

import re
from pathlib import Path

WILD = re.compile(r"[*?\[{]")


def find(pattern: str, folder: Path) -> dict[tuple[str, ...], Path]:
    """Files of a pattern, by what its wildcards matched.

    Parameters
    ----------
    pattern : str
        A path, with `*`, `?`, `[0-7]` and `{one,two}` where it names several files.
    folder : path
        Where a relative pattern starts.

    Returns
    -------
    dict of tuple of str → path
        Sorted; the key of a path without wildcards is empty. No entry where nothing matches.
    """
    whole = folder / pattern
    parts = whole.parts
    fixed = next((number for number, part in enumerate(parts) if WILD.search(part)), len(parts))
    if fixed == len(parts):
        return {(): whole} if whole.exists() else {}
    root, rest = Path(*parts[:fixed]), "/".join(parts[fixed:])
    expression = re.compile(translate(rest))
    candidates = root.rglob("*") if "/" in rest else root.glob("*")
    found = [(expression.fullmatch(path.relative_to(root).as_posix()), path) for path in sorted(candidates)]
    return {match.groups(): path for match, path in found if match}


def translate(pattern: str) -> str:
    r"""Regular expression of a pattern: one group for every outermost wildcard.

    >>> translate("0[0-7].png")
    '0([0-7])\\.png'
    >>> translate("{a*,b}/?.tif")
    '((?:a[^/]*|b))/([^/])\\.tif'
    """
    pieces = re.split(r"(\{[^}]*\}|\[[^\]]*\]|\*|\?)", pattern)
    return "".join(f"({_wild(piece)})" if number % 2 else re.escape(piece) for number, piece in enumerate(pieces))


def _wild(piece: str) -> str:
    if piece.startswith("{"):
        options = [re.sub(r"\(((?!\?:).*?)\)", r"\1", translate(option)) for option in piece[1:-1].split(",")]
        return f"(?:{'|'.join(options)})"
    return {"*": "[^/]*", "?": "[^/]"}.get(piece, piece.replace("[!", "[^"))
