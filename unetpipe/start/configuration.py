"""The text of a config that holds only what matters for the data, each line with its reason."""

import math
from collections.abc import Iterator, Sequence

import yaml

from unetpipe.config import DEFAULTS
from unetpipe.readers.series import RGB
from unetpipe.start.annotations import Annotations

VOLUME = 8  # planes from which a stack is taken for a volume
SLIDE = 4096  # pixels of a side from which empty glass is worth skipping
SPARSE = 0.05  # share of the pixels below which the 99th percentile of grey values lies within the background
TINY = 10  # pixels of a piece that is rather debris
COLUMN = 24  # where comments begin
Line = tuple[str, str]  # what is set, and why


def write_config(
    *,
    data: str | None,
    shapes: Sequence[Sequence[int]],
    channels: Sequence[tuple[str, ...]],
    annotations: Annotations | None,
) -> str:
    """Text of the config.

    Parameters
    ----------
    data : str, optional
        Where the sheet's paths start, if not at the sheet.
    shapes : sequence of (t, c, z, y, x)
        Of the annotated images; of all where none is.
    channels : sequence of tuple of str
        Names, of every image.
    annotations : Annotations, optional
        What the labels hold.
    """
    sections = {
        "ingest": list(_ingest(channels)),
        "truth": list(_truth(annotations)) if annotations else [],
        "mask": list(_mask(shapes, annotations)),
        "weights": list(_weights(annotations)) if annotations else [],
        "label": list(_label(annotations)) if annotations else [],
    }
    head = [
        "# Written by unetpipe init, once; it is yours to edit. Guesses say so: look at them.",
        "# All other keys keep their defaults. Every key, its unit and its default:",
        f"# {DEFAULTS}",
        "",
        *_lines(_top(data, shapes, annotations)),
    ]
    below = [["", f"{name}:", *_lines(lines, "  ")] for name, lines in sections.items() if lines]
    return "\n".join([*head, *(line for section in below for line in section)]) + "\n"


def _lines(lines, indent: str = "") -> Iterator[str]:
    for setting, reason in lines:
        yield f"{indent}{setting}".ljust(COLUMN) + f" # {reason}" if reason else f"{indent}{setting}"


def _flow(value) -> str:
    """A value on one line, in quotes only where YAML needs them."""
    return yaml.safe_dump([value], default_flow_style=True, allow_unicode=True, width=math.inf)[1:-2]


def _top(data: str | None, shapes, annotations: Annotations | None) -> Iterator[Line]:
    yield "samples: samples.tsv", "the sheet: rows and their splits are edited there"
    if data:
        yield f"data: {_flow(data)}", "where its relative paths start"
    if not annotations:
        yield "network: null", "nothing is annotated: set it to the network.json of a trained network"
    planes = [shape[2] for shape in shapes]
    if min(planes) >= VOLUME:
        yield "dimensions: 3", f"guessed: {min(planes)} planes and more are a volume; 2: each plane is an image"
    else:
        yield "dimensions: 2", "planes" if max(planes) == 1 else f"guessed: {min(planes)} planes are no volume"


def _ingest(channels: Sequence[tuple[str, ...]]) -> Iterator[Line]:
    if len(channels[0]) > 1 and channels[0] != RGB:
        named = len(set(channels)) == 1 and not all(name.isdecimal() for name in channels[0])
        names = channels[0] if named else range(len(channels[0]))
        yield f"channels: {_flow(list(names))}", "all; keep those in which the objects show"


def _truth(annotations: Annotations) -> Iterator[Line]:
    if annotations.kind == "instances":
        yield "kind: instances", f"guessed: {annotations.reason}; if values name classes: classes"
        return
    yield "kind: classes", f"guessed: {annotations.reason}; the pieces become the objects"
    tiny = f"half of the pieces have at most {annotations.sizes[1]} pixels: " if annotations.sizes[1] < TINY else ""
    yield (
        f"classes: {annotations.classes}",
        f"{tiny}is the first the background? The others cover {annotations.cover:.0%}",
    )
    if annotations.ignore is not None:
        yield f"ignore: {annotations.ignore}", "guessed: pixels that nobody annotated"


def _mask(shapes, annotations: Annotations | None) -> Iterator[Line]:
    if max(max(shape[-2:]) for shape in shapes) < SLIDE:
        yield "contrast: 0", "no slides: nothing in images of this size is empty glass"
    if annotations and annotations.sparsest < SPARSE:
        yield "percentiles: [1, 99.8]", f"objects cover as little as {annotations.sparsest:.1%} of an image"


def _weights(annotations: Annotations) -> Iterator[Line]:
    if annotations.kind == "classes":
        yield "gap: 0", "the classes part the objects already: nothing has to be opened"


def _label(annotations: Annotations) -> Iterator[Line]:
    smallest, median, largest = annotations.sizes
    least = _round_down(annotations.least / 2)
    yield f"min_size: {least}", f"pixels; annotated objects have {smallest} to {largest}, half of them up to {median}"
    yield f"holes: {least}", "likewise"
    if annotations.kind == "classes":
        yield "expand: 0", "no gap was opened"


def _round_down(value: float) -> int:
    """To one digit that is not 0; at least 1."""
    step = 10 ** max(0, math.floor(math.log10(max(1.0, value))))
    return max(1, int(value // step * step))
