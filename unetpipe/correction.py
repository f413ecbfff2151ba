"""Rows of a sheet by which corrected regions become truth."""

import csv
import io
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from unetpipe.config import load_project, read_config
from unetpipe.manifest import write_bytes
from unetpipe.sheet import Sample, read_lines
from unetpipe.store import read_attributes
from unetpipe.suggestion import Image


class Written(NamedTuple):
    """What became of the corrections."""

    sheet: Path | None  # to which the rows belong, if there are any
    shared: list[Path]  # corrections without a row because their image's file holds several: a row would need them all


def write_rows(project: Path, files: Mapping[Path, Image], path: Path) -> Written:
    """Write one row for each file of corrections, with the columns of the project's sheet.

    An image that the project's sheet does not name, that several of its files may be, or that shares its file with
    others, has no row. Rows of an earlier call stay if the sheet does not have them, and their corrections are there.

    Parameters
    ----------
    project : path
        Folder of `config.yaml`, without which there are no rows.
    files : mapping of path to Image
        The corrections, GeoJSON, and what they are drawn on.
    path : path
        Where they are written, if there are any.
    """
    config = project / "config.yaml"
    if not config.exists():
        return Written(None, [])
    settings = read_config(config)
    samples = {sample.name: sample for sample in load_project(settings, project)[0]}
    sheet = project / settings["samples"]
    columns, rows = _read(sheet)
    base = Path(os.path.normpath(project / (settings["data"] or Path(settings["samples"]).parent)))
    shared = [corrections for corrections, image in files.items() if _shares_file(image)]
    alone = {corrections: image for corrections, image in files.items() if corrections not in shared}
    kept = _earlier(path, rows, base)
    own = [*_rows(alone, samples, rows, {*rows, *kept}, base)]
    if not own:
        return Written(None, shared)
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, delimiter="\t", lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows([*kept.values(), *own])
    write_bytes(path, text.getvalue().encode())
    return Written(sheet, shared)


def _read(sheet: Path) -> tuple[list[str], dict[str, dict[str, Any]]]:
    """Columns of a sheet, and its rows by sample."""
    columns, lines = read_lines(sheet)
    cells = [{name: cell.strip() for name, cell in row.items() if name and cell} for _, row in lines]
    return columns if "labels" in columns else [*columns, "labels"], {row.get("sample", ""): row for row in cells}


def _earlier(path: Path, rows: Mapping[str, dict[str, Any]], base: Path) -> dict[str, dict[str, Any]]:
    """Rows of an earlier call that still wait for the sheet."""
    before = _read(path)[1] if path.exists() else {}
    return {name: row for name, row in before.items() if name not in rows and (base / row["labels"]).exists()}


def _shares_file(image: Image) -> bool:
    sources = [entry["source"] for entry in read_attributes(image.store / "zarr.json")["series"]]
    return sources.count(image.entry["source"]) > 1


def _rows(
    files: Mapping[Path, Image],
    samples: Mapping[str, Sample],
    rows: Mapping[str, dict[str, Any]],
    taken: set[str],
    base: Path,
) -> Iterator[dict[str, Any]]:
    for corrections, image in files.items():
        sample = samples.get(image.sample)
        sources = [one for one in sample.files if Path(one).name == image.entry["source"]] if sample else []
        if sample and len(sources) == 1:
            place = _absolute if Path(rows[sample.name]["path"]).is_absolute() else _relative
            inside = f":/{sample.inside}" if sample.inside else ""
            name = _free(sample.name if len(sample.files) == 1 else f"{sample.name}-{Path(sources[0]).stem}", taken)
            yield rows[sample.name] | {
                "sample": name,
                "path": place(sources[0], base) + inside,
                "labels": place(corrections, base),
                "split": "train",
                "roi": "",
                "parts": "",
            }


def _relative(path: str | Path, base: Path) -> str:
    return os.path.relpath(path, base)


def _absolute(path: str | Path, _: Path) -> str:
    return str(Path(path).absolute())


def _free(name: str, taken: set[str]) -> str:
    """A name of a sample that no row has, and that is none for others from now on."""
    plain = re.sub(r"[^A-Za-z0-9._-]", "-", name)
    number = 1
    while (found := f"{plain}-corrected{'' if number == 1 else f'-{number}'}") in taken:
        number += 1
    taken.add(found)
    return found
