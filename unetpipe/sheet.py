"""Reads the sheet of samples, and finds everything that is wrong with it."""

import csv
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from unetpipe.patterns import find, unmatched
from unetpipe.schema import check_schema, load_schema

ANNOTATED = ("train", "val", "test")
csv.field_size_limit(2**31 - 1)  # a cell may name thousands of files


class Sample(NamedTuple):
    """One row of the sheet."""

    name: str
    split: str
    files: list[str]
    labels: list[str]
    group: str
    pixel_size: float | list[float] | None  # µm along y and x, or along z, y, x
    channels: list[str] | None
    parts: int
    inside: str = ""  # array or group in each file
    labels_inside: str = ""
    roi: tuple[str, ...] = ()  # GeoJSON of each file

    @property
    def ingestion(self) -> dict[str, Any]:
        """What the row says instead of the section ingest."""
        said = {"channels": self.channels, "pixel_size": self.pixel_size, "inside": self.inside}
        return {name: value for name, value in said.items() if value}


class Problems(list):
    """What is wrong, one sentence each."""

    def __str__(self) -> str:
        return "\n".join(f"  {number}. {text}" for number, text in enumerate(self, start=1))


def read_sheet(sheet: Path, base: Path, parts: int, problems: Problems) -> list[Sample]:
    """Read the rows of a sheet; what cannot be read is added to the problems.

    Parameters
    ----------
    base : path
        Where relative paths of the sheet start.
    parts : int
        Of prediction, where a row does not say.
    """
    columns = load_schema("samples")
    try:
        names, rows = read_lines(sheet)
    except (UnicodeError, csv.Error) as error:
        problems.append(f"{sheet}: {error}; save it as text in UTF-8, with tabs between the columns")
        return []
    missing = [name for name in columns["required"] if name not in names]
    if missing:
        problems.append(f"{sheet}: no column {', '.join(missing)}; the columns are separated by tabs")
        return []
    if not rows:
        problems.append(f"{sheet}: no rows; add one for every sample")
    problems += [f"{sheet.name}, line {number}: more cells than columns" for number, row in rows if None in row]
    problems += [f"{sheet}: several columns {name}; keep one" for name, count in Counter(names).items() if count > 1]
    filled = {
        number: {key: value.strip() for key, value in row.items() if key and value and value.strip()}
        for number, row in rows
    }
    unknown = set(names) - set(columns["properties"])
    if unknown:
        first = next(iter(filled.values()), {})
        problems += list(check_schema(dict.fromkeys(unknown, "") | first, "samples"))[:1]
        return []
    return [_sample(row, f"{sheet.name}, line {n}", base, parts, problems) for n, row in filled.items()]


def read_lines(sheet: Path) -> tuple[list[str], list[tuple[int, dict]]]:
    """Names of the columns, and the rows that hold something, with the numbers of their lines."""
    with open(sheet, newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, delimiter="\t")
        rows = [(reader.line_num, row) for row in reader]
        names = [*(reader.fieldnames or [])]
    return names, [(number, row) for number, row in rows if any(cell and str(cell).strip() for cell in row.values())]


def _sample(row: dict, place: str, base: Path, parts: int, problems: Problems) -> Sample:
    typed = {**row, **{key: _numbers(row[key]) for key in ("pixel_size", "parts") if key in row}}
    found = list(check_schema(typed, "samples"))
    problems += [f"{place}: {text}" for text in found]
    if found:
        typed = {"sample": row.get("sample", place), "split": row.get("split", ""), "path": row.get("path", "")}
    files, labels, roi = _files(typed, place, base, problems)
    channels = [name.strip() for name in typed["channels"].split(",")] if "channels" in typed else None
    return Sample(
        name=typed["sample"],
        split=typed["split"],
        files=files,
        labels=labels,
        group=typed.get("group", ""),
        pixel_size=typed.get("pixel_size"),
        channels=channels,
        parts=typed.get("parts", parts),
        inside=typed["path"].partition(":/")[2],
        roi=tuple(roi),
        labels_inside=typed.get("labels", "").partition(":/")[2],
    )


def _numbers(text: str):
    """One number, or three separated by commas."""
    parts = text.split(",")
    return [_number(part) for part in parts] if len(parts) == 3 else _number(text)


def _number(text: str):
    try:
        return int(text)
    except ValueError:
        try:
            return float(text)
        except ValueError:
            return text


def _files(row: dict, place: str, base: Path, problems: Problems) -> tuple[list[str], list[str], list[str]]:
    """Files of a row, its labels and its regions, paired by what the wildcards matched."""
    name = row["sample"]
    images = _find(_outside(row["path"]), base, f'{place}, sample "{name}"', "path", problems) if row["path"] else {}
    beside = {key: _beside(key, row, images, place, base, problems) for key in ("labels", "roi") if key in row}
    whole = [key for key in images if all(key in found for found in beside.values())]
    lists = [[str(found[key]) for key in whole] for found in (images, *beside.values())]
    named = dict(zip(["path", *beside], lists, strict=True))
    bad = [(path, why) for several in lists for path in several if (why := unusable(path))]
    problems += [f'{place}, sample "{name}": {path!r} has {why}; rename it ({len(bad)} such)' for path, why in bad[:1]]
    return named["path"], named.get("labels", []), named.get("roi", [])


def unusable(path: str | Path) -> str:
    """What Snakemake or a sheet cannot bear in a path; nothing if it is well."""
    if {*"{}"} & {*str(path)}:
        return "braces in its path, which Snakemake takes for wildcards"
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return "no UTF-8 in its path"
    return ""


def _find(pattern: str, base: Path, place: str, column: str, problems: Problems) -> dict[tuple[str, ...], Path]:
    """The files of a pattern; every word of it that stands for none is a problem."""
    try:
        found = find(pattern, base)
    except ValueError as error:
        problems.append(f"{place}: {column}: {error}; mend it")
        return {}
    if not found:
        problems.append(f"{place}: {base / pattern} names no file; mend {column} or the key data")
    elif absent := unmatched(pattern, found):
        problems.append(f"{place}: no file for {', '.join(absent[:3])} ({len(absent)} in all) in {column}")
    return found


def _beside(column: str, row: dict, images: dict, place: str, base: Path, problems: Problems) -> dict:
    """The file of a column for every image, by what the wildcards matched in the image's."""
    name = row["sample"]
    found = _find(_outside(row[column]), base, f'{place}, sample "{name}"', column, problems)
    if not found:
        return {}
    if len(images) == len(found) == 1:
        return dict(zip(images, found.values(), strict=True))
    alone = [str(path) for key, path in images.items() if key not in found]
    if alone:
        problems.append(f'{place}, sample "{name}": no {column} for {", ".join(alone[:3])} ({len(alone)} in all)')
    return found


def _outside(path: str) -> str:
    """The file of `file.h5:/array`."""
    return path.partition(":/")[0]


def check_sheet(samples: list[Sample], config: dict) -> Iterator[str]:
    """What the rows of a sheet have against each other and against the config."""
    rows = Counter(sample.name for sample in samples)
    for name in sorted(name for name, count in rows.items() if count > 1):
        yield f'sample "{name}" stands in {rows[name]} rows; give each row a name of its own'
    for sample in samples:
        if sample.split in ANNOTATED and sample.files and not sample.labels:
            yield f'sample "{sample.name}" is in split {sample.split} but has no labels; add them or take split predict'
    yield from _leaks([sample for sample in samples if sample.split in ANNOTATED])
    if samples and not config["network"] and not any(sample.split == "train" for sample in samples):
        yield "no sample is in split train; annotate one, or set network to the network.json of a trained network"
    training = [sample for sample in samples if sample.split == "train"]
    groups = len({sample.group for sample in training} - {""}) + sum(len(s.files) for s in training if not s.group)
    if training and groups < config["train"]["folds"] and not config["network"]:
        yield (
            f"config: train.folds {config['train']['folds']} is more than the {groups} groups of the training images; "
            "set it lower, or name finer groups in the column group"
        )


def _leaks(annotated: list[Sample]) -> Iterator[str]:
    """Groups and images in several splits: the scores would be those of what was learnt by heart."""
    groups, images = defaultdict[str, set[str]](set), defaultdict[tuple[str, str], set[str]](set)
    for sample in annotated:
        groups[sample.group].add(sample.split)
        for file in sample.files:
            images[file, sample.inside].add(sample.split)
    for group in sorted(groups.keys() - {""}):
        if len(groups[group]) > 1:
            straddled = ", ".join(sorted(groups[group]))
            yield f'group "{group}" straddles the splits {straddled}; put all its samples into one'
    several = [(file, ", ".join(sorted(splits))) for (file, _), splits in images.items() if len(splits) > 1]
    if several:
        yield "{} is in the splits {} ({} such images in all); leave each in one".format(*several[0], len(several))
