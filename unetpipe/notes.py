"""What networks expect of images, as their JSON says it, without their weights."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from unetpipe.geometry import Axis
from unetpipe.needs import Kind

SCALE = 1.25  # times the pixel size of the training images that an image's may be, and the inverse


def read_notes(paths: Sequence[str]) -> list[dict]:
    """The JSON of networks whose probabilities are to be averaged.

    Raises
    ------
    ValueError
        If one is no network, or they are not of one kind.
    """
    notes = [read_note(path) for path in paths]
    for path, note in zip(paths, notes, strict=True):
        for what, value in _kind(note).items():
            first = _kind(notes[0])[what]
            if not (_near(value, first) if what == "pixel_size" else value == first):
                raise ValueError(
                    f"network {path} has {what} {value}, {paths[0]} has {first}; "
                    "only networks of one kind can be averaged"
                )
    return notes


def _near(one: Sequence[float] | None, other: Sequence[float] | None) -> bool:
    """Whether a network that was trained on pixels of one size sees what one of the other size does."""
    return not one or not other or 1 / SCALE < one[2] / other[2] < SCALE


def read_note(path: str | Path) -> dict:
    """The JSON of a network.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is none.
    """
    if not Path(path).is_file():
        wrong = "is a folder; name the network.json in it" if Path(path).is_dir() else "does not exist; mend the path"
        raise FileNotFoundError(f"network {path} {wrong}")
    try:
        note = json.loads(Path(path).read_bytes())
    except ValueError:
        note = None
    if not isinstance(note, dict) or not {"arguments", "axes", "digest"} <= note.keys():
        raise ValueError(f"{path} is no network, or is damaged; name the network.json that a training wrote")
    return note


def _kind(note: dict) -> dict:
    arguments = {name: note["arguments"][name] for name in ("channels", "classes")}
    return arguments | {name: note.get(name) for name in ("axes", "precision", "percentiles", "pixel_size")}


def axes_of(note: dict) -> tuple[Axis, ...]:
    """Halo and valid sizes along each axis, from the JSON of a network."""
    return tuple(Axis(*axis) for axis in note["axes"])


def kind_of(paths: Sequence[str], notes: Sequence[dict]) -> Kind:
    """What decides on the memory that trained networks take, of their paths and JSON."""
    arguments = notes[0]["arguments"]
    stored = sum(Path(path).with_suffix(".safetensors").stat().st_size for path in paths)
    return Kind(arguments["features"], stored // 4, axes_of(notes[0]), arguments["channels"])


class Expected(NamedTuple):
    """What images have to be like."""

    channels: int
    names: Sequence[str]  # of the channels, where they are known
    pixel_size: Sequence[float] | None  # z, y, x, µm; None: any
    whose: str  # who expects it, and a verb


def expected_by(network: str, note: dict) -> Expected:
    """What a network expects, of a path and a JSON."""
    count, names = note["arguments"]["channels"], note.get("channels", ())
    return Expected(count, names, note.get("pixel_size"), f"network {network} was trained on")


def check_image(entry: dict, sample: str, expected: Expected) -> None:
    """Refuse a series that a network could not predict.

    Parameters
    ----------
    entry : dict
        Its `shape` (t, c, z, y, x), `pixel_size`, `channels` and `name`.
    sample : str
        Named in what is said.

    Raises
    ------
    ValueError
        If it has another number of channels, the same in another order, or pixels of another size.
    """
    said, count = f'sample "{sample}": image {entry["name"]} has', expected.channels
    if entry["shape"][1] != count:
        raise ValueError(
            f"{said} {entry['shape'][1]} channels, {expected.whose} {count}; choose {count} of "
            f"{', '.join(entry['channels'])} in the column channels of its row, in ingest.channels for all rows, or by "
            "--channels of unetpipe predict"
        )
    if sorted(entry["channels"]) == sorted(expected.names) and [*entry["channels"]] != [*expected.names]:
        raise ValueError(
            f"{said} the channels {', '.join(entry['channels'])} in this order, {expected.whose} "
            f"{', '.join(expected.names)}; write these in the column channels of its row, or in ingest.channels"
        )
    own, learnt = entry["pixel_size"], expected.pixel_size
    if own and learnt and not _near(own, learnt):
        raise ValueError(
            f"{said} pixels of {own[2]:.4g} µm, {expected.whose} {learnt[2]:.4g} µm; set ingest.resample to "
            f"{learnt[2]:.4g}, or mend the pixel size of its row (ingest.override)"
        )
