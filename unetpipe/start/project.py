"""Writes what a project begins with, `samples.tsv` and `config.yaml`, from what images and labels hold."""

import csv
import difflib
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from unetpipe.inspection import inspect
from unetpipe.manifest import read_json, write_bytes
from unetpipe.notes import read_notes
from unetpipe.readers import open_series
from unetpipe.readers.series import UNKNOWN_DEPTH
from unetpipe.sheet import Problems, unusable
from unetpipe.start.annotations import Annotations, describe, look
from unetpipe.start.configuration import Trained, write_config
from unetpipe.start.pairing import Source, find_pairs, groups_of, some
from unetpipe.start.sequence import neighbours_alike
from unetpipe.start.sheet import Image, Row, draw_splits, make_rows
from unetpipe.truth import fitting


class Begun(NamedTuple):
    """What was found and written."""

    images: list[Image]
    annotations: Annotations | None
    likeness: tuple[float, float] | None  # see `sequence.neighbours_alike`
    unsized: int  # images whose files do not say how large a pixel is
    unspaced: int  # volumes of which nobody says how far apart their planes are
    written: list[Path]
    kept: dict[Path, str]  # files that were there before, and how what would have been written differs from them


def begin(
    project: Path,
    images: Sequence[str],
    labels: Sequence[str] = (),
    *,
    network: str | Path | None = None,
    group: str | None = None,
    pixel_size: Sequence[float] = (),
    seed: int = 1,
) -> Begun:
    """Look at all files, then write sheet and config where they do not exist yet.

    Parameters
    ----------
    project : path
        Folder, made if it does not exist.
    images, labels
        See `pairing.find_pairs`; images without labels become rows of split predict.
    network : path, optional
        The JSON of one that is trained already: all annotated images are then for test.
    group : str, optional
        See `pairing.groups_of`.
    pixel_size : sequence of float
        µm, where the files do not say: one along y and x, or three along z, y, x.
    seed : int
        See `sheet.draw_splits`.

    Raises
    ------
    FileNotFoundError, ValueError
        If no image is found, labels do not pair, a file cannot be read or does not fit the others; all that is wrong
        is named, and nothing is written.
    """
    pairs, problems = find_pairs(images, labels)
    named = (str(source.path.absolute()) for source in (*pairs, *filter(None, pairs.values())))
    _raise([f"{path!r} has {why}; rename it" for path in named if (why := unusable(path))])
    _raise(problems)
    held = {source: inspect(*source) for source in pairs}
    held |= {label: inspect(*label, palette=False) for label in pairs.values() if label}
    _raise([_refused(source, row) for source, rows in held.items() for row in rows if row["problem"]])
    pairs = _first_files(pairs, held)
    trained = _trained(network, project) if network else None
    _raise([*_misfits(pairs, held), *_other_channels(pairs, held), *_too_few_channels(pairs, held, trained)])
    found = list(_images(pairs, held, group, pixel_size))
    ordered = [open_series(*image.source)[0] for image in found if image.label and not image.group]
    likeness = None if trained else neighbours_alike(ordered)
    found = _for_test(found) if trained else draw_splits(found, None if likeness else seed)
    annotations = _annotations([image.label for image in found if image.label])
    base = Path(os.path.commonpath([source.path.absolute().parent for source in held]))
    rows = make_rows(found, base)
    shapes = {source: held[source][0]["shape"] for source in pairs}
    texts = {
        project / "samples.tsv": _sheet(rows, pixel_size),
        project / "config.yaml": write_config(
            data=_near(base, project),
            shapes=[shapes[image.source] for image in found if image.label] or list(shapes.values()),
            channels=[tuple(held[source][0]["channels"]) for source in pairs],
            pixel_sizes=[*_pixel_sizes(pairs, held, pixel_size)],
            annotations=annotations,
            trained=trained,
        ),
    }
    written, kept = _write(texts)
    unsized = sum(not image.sized for image in found)
    unspaced = 0 if len(pixel_size) == 3 else sum(not all(map(_is_spaced, held[source])) for source in pairs)
    return Begun(found, annotations, likeness, unsized, unspaced, written, kept)


def _trained(network: str | Path, project: Path) -> Trained:
    path = Path(network).absolute()
    note, *_ = read_notes([str(path)])
    near = path.is_relative_to(project.absolute().parent)
    of_a_run = sorted(path.parents[2].glob("objects/*.json")) if path.parts[-3:-2] == ("network",) else []
    made = [read_json(found)["settings"] for found in of_a_run]
    alike = made[0] if made and all(one == made[0] for one in made) else {}
    return Trained(os.path.relpath(path, project) if near else str(path), note, alike)


def _for_test(images: Sequence[Image]) -> list[Image]:
    """Where nothing is trained, whatever is annotated says how good the network is."""
    return [image._replace(split="test") if image.label else image for image in images]


def _raise(problems: Sequence[str]) -> None:
    if problems:
        shown = [*problems[:10], f"{len(problems) - 10} more of the kind"] if len(problems) > 11 else problems
        raise ValueError(f"nothing was written; mend first:\n{Problems(shown)}")


def _refused(source: Source, row: dict) -> str:
    named = source.path.name in row["problem"]
    return f"{'' if named else f'{source}: '}{row['problem']}; mend it, or leave it out"


def _first_files(pairs: dict, held: dict) -> dict:
    """Without the files that are read together with one before them, as one image."""
    kept: dict[tuple, Source] = {}
    for image in pairs:
        kept.setdefault(tuple(held[image][0]["files"]) or (image,), image)
    return {image: pairs[image] for image in kept.values()}


def _misfits(pairs: dict, held: dict) -> Iterator[str]:
    """Labels that do not fit their image."""
    for image, label in pairs.items():
        if not label:
            continue
        if len(held[image]) != len(held[label]):
            yield (
                f"{label} has {len(held[label])} series, its image {image} {len(held[image])}; "
                "save one label image for each image"
            )
            continue
        for mine, theirs in zip(open_series(*label, palette=False), held[image], strict=True):
            try:
                fitting(mine, _sides(theirs))
            except ValueError as error:
                yield f"{label}, labels of {image}: {error}"


def _sides(row: dict) -> tuple[int, ...]:
    t, _, z, y, x = row["shape"]
    return t, z, y, x


def _other_channels(pairs: dict, held: dict) -> Iterator[str]:
    """Images that have not as many channels as most."""
    by_count: dict[int, list[Source]] = {}
    for image in pairs:
        by_count.setdefault(held[image][0]["shape"][1], []).append(image)
    most = max(by_count, key=lambda count: len(by_count[count]))
    for count in sorted(by_count.keys() - {most}):
        yield (
            f"{some(by_count[count])} ({len(by_count[count])} in all) have {count} channels, most images have {most}; "
            "a network sees one number of channels: save them with as many, or leave them out of --images"
        )


def _pixel_sizes(pairs: dict, held: dict, given: Sequence[float]) -> Iterator[float]:
    """µm along x, as far as file or command line say."""
    for row in (row for image in pairs for row in held[image]):
        if size := row["pixel_size"] or given:
            yield size[-1]


def _too_few_channels(pairs: dict, held: dict, trained: Trained | None) -> Iterator[str]:
    """Where a network needs more than the images have."""
    image = next(iter(pairs))
    there, names = held[image][0]["shape"][1], trained.note["channels"] if trained else []
    if there < len(names):
        yield f"{image} has {there} channels, the network was trained on {len(names)}: {', '.join(names)}; take another"


def _images(pairs: dict, held: dict, group: str | None, pixel_size: Sequence[float]) -> Iterator[Image]:
    groups = groups_of([image for image, label in pairs.items() if label], group)
    for image, label in pairs.items():
        pixels = sum(t * z * y * x for row in held[image] for t, z, y, x in [_sides(row)])
        sized = all(row["pixel_size"] and (len(pixel_size) < 3 or _is_spaced(row)) for row in held[image])
        yield Image(image, label, next(groups) if label else "", pixels, sized)


def _is_spaced(row: dict) -> bool:
    """Whether a file says how far apart its planes are, if it has several."""
    return row["shape"][2] == 1 or bool(row["pixel_size"] and row["pixel_size"][0] != UNKNOWN_DEPTH)


def _annotations(labels: Sequence[Source]) -> Annotations | None:
    every = [series for label in labels for series in open_series(*label, palette=False)]
    return describe([look(series) for series in every], drawn=any(s.kinds for s in every)) if every else None


def _near(base: Path, project: Path) -> str | None:
    """The folder of the data as the config names it: relative where both can be moved together, else absolute."""
    real = project.resolve()  # as which it is read: `..` leads out of the folder itself, not out of a link to it
    relative = base.is_relative_to(real.parent)
    return None if base in (project.absolute(), real) else os.path.relpath(base, real) if relative else str(base)


def _sheet(rows: Sequence[Row], pixel_size: Sequence[float]) -> str:
    """Text of the sheet; columns that nobody needs are left out."""
    size = ",".join(f"{side:g}" for side in pixel_size)
    lines = [[row.sample, row.path, row.labels, row.split, row.group, "" if row.sized else size] for row in rows]
    wanted = [True, True, True, True, any(row.group for row in rows), not all(row.sized for row in rows)]
    table = [["sample", "path", "labels", "split", "group", "pixel_size"], *lines]
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    writer.writerows([cell for cell, is_wanted in zip(line, wanted, strict=True) if is_wanted] for line in table)
    return text.getvalue()


def _write(texts: dict[Path, str]) -> tuple[list[Path], dict[Path, str]]:
    """Write the files that do not exist; of those that do, how they differ."""
    kept = {path: _difference(path, text) for path, text in texts.items() if path.exists()}
    written = [path for path in texts if path not in kept]
    for path in written:
        write_bytes(path, texts[path].encode())
    return written, kept


def _difference(path: Path, text: str) -> str:
    mine, theirs = path.read_text("utf-8-sig", errors="replace").splitlines(), text.splitlines()
    return "\n".join(difflib.unified_diff(mine, theirs, f"{path}, kept", "as it would be written", n=0, lineterm=""))
