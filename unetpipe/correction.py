"""Rows of a sheet by which corrected regions become truth."""

import csv
import io
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from unetpipe.config import load_project, read_config
from unetpipe.manifest import write_bytes
from unetpipe.sheet import Sample
from unetpipe.suggestion import Image


def write_rows(project: Path, files: Mapping[Path, Image], path: Path) -> Path | None:
    """Write one row for each file of corrections, with the columns of the project's sheet.

    An image that the project's sheet does not name, or that several of its files may be, has no row.

    Parameters
    ----------
    project : path
        Folder of `config.yaml`, without which there are no rows.
    files : mapping of path to Image
        The corrections, GeoJSON, and what they are drawn on.
    path : path
        Where they are written, if there are any.

    Returns
    -------
    path or None
        The sheet to which the rows belong, if there are any.
    """
    config = project / "config.yaml"
    if not config.exists():
        return None
    settings = read_config(config)
    samples = {sample.name: sample for sample in load_project(settings, project)[0]}
    sheet = project / settings["samples"]
    columns, rows = _read(sheet)
    base = Path(os.path.normpath(project / (settings["data"] or Path(settings["samples"]).parent)))
    own = [*_rows(files, samples, rows, base)]
    if not own:
        return None
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, delimiter="\t", lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(own)
    write_bytes(path, text.getvalue().encode())
    return sheet


def _read(sheet: Path) -> tuple[list[str], dict[str, dict[str, Any]]]:
    """Columns of a sheet, and its rows by sample."""
    with open(sheet, newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, delimiter="\t")
        cells = [{name: cell.strip() for name, cell in row.items() if name and cell} for row in reader]
        rows = {row["sample"]: row for row in cells}
        columns = [*(reader.fieldnames or [])]
    return columns if "labels" in columns else [*columns, "labels"], rows


def _rows(
    files: Mapping[Path, Image], samples: Mapping[str, Sample], rows: Mapping[str, dict[str, Any]], base: Path
) -> Iterator[dict[str, Any]]:
    taken = set(rows)
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
