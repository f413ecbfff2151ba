"""The text of a config that holds only what matters for the data, each line with its reason."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import yaml

from unetpipe.config import DEFAULTS
from unetpipe.notes import SCALE
from unetpipe.readers.series import RGB
from unetpipe.start.annotations import Annotations

VOLUME = 8  # planes from which a stack is taken for a volume
SLIDE = 4096  # pixels of a side from which empty glass is worth skipping
SPARSE = 0.05  # share of the pixels below which the 99th percentile of grey values lies within the background
TINY = 10  # pixels of a piece that is rather debris
COLUMN = 24  # where comments begin
Line = tuple[str, str]  # what is set, and why


class Trained(NamedTuple):
    """A network that is to predict."""

    path: str  # as the config names it
    note: dict[str, Any]  # its JSON
    objects: dict[str, Any]  # how objects were made in the run that trained it, as far as all were made alike


def write_config(
    *,
    data: str | None,
    shapes: Sequence[Sequence[int]],
    channels: Sequence[tuple[str, ...]],
    pixel_sizes: Sequence[float],
    annotations: Annotations | None,
    trained: Trained | None,
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
    pixel_sizes : sequence of float
        µm along x, of the images of which it is known.
    annotations : Annotations, optional
        What the labels hold.
    trained : Trained, optional
        What predicts, where nothing is to be trained.
    """
    learnt = trained.note if trained else {}
    sections = {
        "ingest": [*_channels(channels, learnt), *_resample(pixel_sizes, learnt)],
        "truth": list(_truth(annotations)) if annotations else [],
        "mask": list(_mask(shapes, annotations, learnt)),
        "weights": list(_weights(annotations)) if annotations and not trained else [],
        "label": list(_as_before(trained) if trained else _label(annotations) if annotations else []),
    }
    head = [
        "# Written by unetpipe init, once; it is yours to edit. Guesses say so: look at them.",
        "# All other keys keep their defaults. Every key, its unit and its default:",
        f"# {DEFAULTS}",
        "",
        *_lines(_top(data, shapes, annotations, trained)),
    ]
    below = [["", f"{name}:", *_lines(lines, "  ")] for name, lines in sections.items() if lines]
    return "\n".join([*head, *(line for section in below for line in section)]) + "\n"


def _lines(lines, indent: str = "") -> Iterator[str]:
    for setting, reason in lines:
        yield f"{indent}{setting}".ljust(COLUMN) + f" # {reason}" if reason else f"{indent}{setting}"


def _flow(value) -> str:
    """A value on one line, in quotes only where YAML needs them."""
    return yaml.safe_dump([value], default_flow_style=True, allow_unicode=True, width=math.inf)[1:-2]


def _top(data: str | None, shapes, annotations: Annotations | None, trained: Trained | None) -> Iterator[Line]:
    yield "samples: samples.tsv", "the sheet: rows and their splits are edited there"
    if data:
        yield f"data: {_flow(data)}", "where its relative paths start"
    if trained:
        yield f"network: {_flow(trained.path)}", "trained already: it predicts all images"
        yield f"dimensions: {len(trained.note['axes'])}", "as the network"
        return
    if not annotations:
        yield "network: null", "nothing is annotated: set it to the network.json of a trained network"
    planes = [shape[2] for shape in shapes]
    if min(planes) >= VOLUME:
        yield "dimensions: 3", f"guessed: {min(planes)} planes and more are a volume; 2: each plane is an image"
    else:
        yield "dimensions: 2", "planes" if max(planes) == 1 else f"guessed: {min(planes)} planes are no volume"


def _channels(channels: Sequence[tuple[str, ...]], learnt: dict[str, Any]) -> Iterator[Line]:
    named = len(set(channels)) == 1 and not all(name.isdecimal() for name in channels[0])
    names = list(channels[0]) if named else list(range(len(channels[0])))
    if learnt and len(names) > len(learnt["channels"]):
        same = set(learnt["channels"]) <= set(names)
        reason = "" if same else f"guessed: the network was trained on {', '.join(learnt['channels'])}; "
        chosen = learnt["channels"] if same else names[: len(learnt["channels"])]
        yield f"channels: {_flow(chosen)}", f"{reason}of {', '.join(map(str, names))}"
    elif not learnt and len(names) > 1 and channels[0] != RGB:
        yield f"channels: {_flow(names)}", "all; keep those in which the objects show"


def _resample(pixel_sizes: Sequence[float], learnt: dict[str, Any]) -> Iterator[Line]:
    size = learnt["pixel_size"][2] if learnt.get("pixel_size") else None
    if size and any(not 1 / SCALE < own / size < SCALE for own in pixel_sizes):
        least, most = min(pixel_sizes), max(pixel_sizes)
        there = f"{least:.4g} µm" if least == most else f"{least:.4g} to {most:.4g} µm"
        yield f"resample: {size:.6g}", f"µm a pixel, at which the network was trained; the images have {there}"


def _truth(annotations: Annotations) -> Iterator[Line]:
    if annotations.kind == "instances":
        yield "kind: instances", f"guessed: {annotations.reason}; if values name classes: classes"
    else:
        yield "kind: classes", f"guessed: {annotations.reason}; the pieces become the objects"
        tiny = f"half of the pieces have at most {annotations.sizes[1]} pixels: " if annotations.sizes[1] < TINY else ""
        yield (
            f"classes: {annotations.classes}",
            f"{tiny}is the first the background? The others cover {annotations.cover:.0%}",
        )
    if annotations.ignore is not None:
        yield f"ignore: {annotations.ignore}", "guessed: pixels that nobody annotated"


def _mask(shapes, annotations: Annotations | None, learnt: dict[str, Any]) -> Iterator[Line]:
    if max(max(shape[-2:]) for shape in shapes) < SLIDE:
        yield "contrast: 0", "no slides: nothing in images of this size is empty glass"
    if learnt:
        yield f"percentiles: {_flow(learnt['percentiles'])}", "those that the network was trained with"
    elif annotations and annotations.sparsest < SPARSE:
        yield "percentiles: [1, 99.8]", f"objects cover as little as {annotations.sparsest:.1%} of an image"


def _weights(annotations: Annotations) -> Iterator[Line]:
    if annotations.kind == "classes":
        yield "gap: 0", "the classes part the objects already: nothing has to be opened"


def _as_before(trained: Trained) -> Iterator[Line]:
    usual, kept = yaml.safe_load(DEFAULTS.read_text())["label"], trained.note.get("kept")
    for name, value in trained.objects.items():
        if value != usual.get(name):
            yield f"{name}: {_flow(value)}", "as in the run that trained the network"
    if kept and not trained.objects:
        yield f"threshold: {kept['threshold']}", "at which the network was best on images held out"


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
