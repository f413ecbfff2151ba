"""Reads the config and the sheet, and finds everything that is wrong with them before any job starts."""

import csv
import difflib
import math
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import yaml
from jsonschema import Draft202012Validator

from unetpipe.manifest import read_json
from unetpipe.patterns import find

SCHEMAS = Path(__file__).parents[1] / "workflow" / "schemas"
DEFAULTS = Path(__file__).parents[1] / "config" / "config.yaml"
SPLITS = ("train", "val", "test", "predict")
ANNOTATED = ("train", "val", "test")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class Sample(NamedTuple):
    """One row of the sheet."""

    name: str
    split: str
    files: list[str]
    labels: list[str]
    group: str
    pixel_size: float | None  # µm
    channels: list[str] | None
    parts: int
    inside: str = ""  # array or group in each file
    labels_inside: str = ""
    roi: tuple[str, ...] = ()  # GeoJSON of each file


class Problems(list):
    """What is wrong, one sentence each."""

    def __str__(self) -> str:
        return "\n".join(f"  {number}. {text}" for number, text in enumerate(self, start=1))


def read_config(path: Path) -> dict:
    """A config file over the defaults, section by section, as Snakemake takes them; what is no YAML is refused."""
    try:
        changes = yaml.safe_load(path.read_text()) or {}
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is no YAML: {error}") from error
    return _over(yaml.safe_load(DEFAULTS.read_text()), changes)


def _over(base: dict, changes: dict) -> dict:
    nested = {k: _over(base[k], v) for k, v in changes.items() if isinstance(v, dict) and isinstance(base.get(k), dict)}
    return {**base, **changes, **nested}


def load_project(config: dict, folder: Path) -> tuple[list[Sample], Problems]:
    """Read the sheet that a config names and check both.

    Parameters
    ----------
    config : dict
        All sections, defaults included.
    folder : path
        Where relative paths of the config start.

    Returns
    -------
    list of Sample, Problems
        The samples are complete only where there are no problems.
    """
    problems = Problems(f"config: {text}" for text in check_schema(config, "config"))
    if problems:
        return [], problems
    sheet = folder / config["samples"]
    if not sheet.exists():
        return [], Problems([f"config: samples names {sheet}, which does not exist; write the sheet or mend the path"])
    base = Path(os.path.normpath(folder / config["data"] if config["data"] else sheet.parent))
    samples = read_sheet(sheet, base, config["predict"]["parts"], problems)
    problems += [*check_sheet(samples, config), *check_values(config, folder)]
    return samples, problems


# ---------------------------------------------------------------- schema


def check_schema(content: dict, schema: str) -> Iterator[str]:
    """What a JSON Schema has against a value; unknown keys with the nearest right one."""
    errors = sorted(_validator(schema).iter_errors(content), key=lambda error: list(map(str, error.path)))
    for error in errors:
        place = ".".join(str(step) for step in error.absolute_path)
        if error.validator == "additionalProperties":
            yield from _unknown_keys(place, error)
        elif error.validator == "required":
            absent = [key for key in error.validator_value if key not in error.instance]
            yield f"{place + ': ' if place else ''}{', '.join(absent)} missing"
        elif error.validator == "pattern":
            yield f"{place}: {error.instance!r} may have letters, digits, dots, dashes and underscores only"
        elif error.validator == "anyOf":
            yield f"{place}: {error.instance!r} is neither {' nor '.join(map(_named, error.validator_value))}"
        else:
            yield f"{place}: {error.message}"


@cache  # a sheet has a row for each of thousands of slides
def _validator(schema: str) -> Draft202012Validator:
    return Draft202012Validator(yaml.safe_load((SCHEMAS / f"{schema}.schema.yaml").read_text()))


def _named(option: dict) -> str:
    """One of several kinds of value that a key may have."""
    if "const" in option:
        return str(option["const"])
    return f"an {option['type']} of at least {option['minimum']}" if "minimum" in option else f"a {option['type']}"


def _unknown_keys(place: str, error) -> Iterator[str]:
    known = error.schema.get("properties", {})
    for key in sorted(set(error.instance) - set(known)):
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.4)
        advice = f"did you mean {near[0]}?" if near else f"allowed are {', '.join(known)}"
        yield f"unknown key {place + '.' if place else ''}{key}; {advice}"


# ---------------------------------------------------------------- sheet


def read_sheet(sheet: Path, base: Path, parts: int, problems: Problems) -> list[Sample]:
    """Read the rows of a sheet; what cannot be read is added to the problems.

    Parameters
    ----------
    base : path
        Where relative paths of the sheet start.
    parts : int
        Of prediction, where a row does not say.
    """
    with open(sheet, newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, delimiter="\t")
        rows = list(reader)
        columns = _validator("samples").schema
        missing = [name for name in columns["required"] if name not in (reader.fieldnames or [])]
    if missing:
        problems.append(f"{sheet}: no column {', '.join(missing)}; the columns are separated by tabs")
        return []
    if not rows:
        problems.append(f"{sheet}: no rows; add one for every sample")
    filled = [{key: value.strip() for key, value in row.items() if key and value and value.strip()} for row in rows]
    for number, row in enumerate(rows, start=2):
        if None in row:
            problems.append(f"{sheet.name}, line {number}: more cells than columns")
    unknown = set(reader.fieldnames or []) - set(columns["properties"])
    if unknown:
        problems += list(check_schema(dict.fromkeys(unknown, "") | filled[0] if filled else {}, "samples"))[:1]
        return []
    return [_sample(row, f"{sheet.name}, line {n}", base, parts, problems) for n, row in enumerate(filled, start=2)]


def _sample(row: dict, place: str, base: Path, parts: int, problems: Problems) -> Sample:
    typed = {**row, **{key: _number(row[key]) for key in ("pixel_size", "parts") if key in row}}
    found = list(check_schema(typed, "samples"))
    problems += [f"{place}: {text}" for text in found]
    if found:
        typed = {"sample": row.get("sample", place), "split": row.get("split", ""), "path": row.get("path", "")}
    files, labels, roi = _files(typed, place, base, problems)
    channels = typed["channels"].split(",") if "channels" in typed else None
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
    images = find(_outside(row["path"]), base) if row["path"] else {}
    if row["path"] and not images:
        problems.append(f'{place}, sample "{name}": {base / row["path"]} names no file; mend path or the key data')
    beside = {key: _beside(key, row, images, place, base, problems) for key in ("labels", "roi") if key in row}
    whole = [key for key in images if all(key in found for found in beside.values())]
    lists = [[str(found[key]) for key in whole] for found in (images, *beside.values())]
    named = dict(zip(["path", *beside], lists, strict=True))
    return named["path"], named.get("labels", []), named.get("roi", [])


def _beside(column: str, row: dict, images: dict, place: str, base: Path, problems: Problems) -> dict:
    """The file of a column for every image, by what the wildcards matched in the image's."""
    found = find(_outside(row[column]), base)
    name = row["sample"]
    if not found:
        problems.append(f'{place}, sample "{name}": {base / row[column]} names no file; mend {column} or the key data')
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
    splits = defaultdict[str, set[str]](set)
    for sample in samples:
        splits[sample.group].add(sample.split)
    for group in sorted(splits.keys() - {""}):
        if len(splits[group]) > 1:
            straddled = ", ".join(sorted(splits[group]))
            yield f'group "{group}" straddles the splits {straddled}; put all its samples into one'
    if samples and not config["network"] and not any(sample.split == "train" for sample in samples):
        yield "no sample is in split train; annotate one, or set network to the network.json of a trained network"
    training = [sample for sample in samples if sample.split == "train"]
    groups = len({sample.group for sample in training} - {""}) + sum(len(s.files) for s in training if not s.group)
    if training and groups < config["train"]["folds"] and not config["network"]:
        yield (
            f"config: train.folds {config['train']['folds']} is more than the {groups} groups of the training images; "
            "set it lower, or name finer groups in the column group"
        )


# ---------------------------------------------------------------- values


def check_values(config: dict, folder: Path) -> Iterator[str]:
    """What a schema cannot say: numbers that have to fit each other, files that have to exist."""
    networks = [folder / path for path in listed(config["network"])]
    missing = [path for path in networks if not path.exists()]
    for path in missing:
        yield f"config: network names {path}, which does not exist; mend the path, or set it to null to train one"
    if missing:
        return
    yield from _check_network(config, folder)
    yield from _check_scale(config, networks)
    yield from _check_sides(config, _strides(config, networks))
    low, high = config["mask"]["percentiles"]
    if low >= high:
        yield f"config: mask.percentiles {low}, {high} do not rise; set the lower one first"


def listed(value) -> list:
    """A value that may be one, several or none, as a list."""
    return value if isinstance(value, list) else [value] if value else []


def _strides(config: dict, networks: list[Path]) -> list[int]:
    """Of what the blocks have to be multiples, one number an axis: of a network that is yet to be trained the most."""
    if networks:
        return [stride for stride, *_ in read_json(networks[0])["axes"]]
    return [2 ** config["train"]["depth"]] * config["dimensions"]


def _check_network(config: dict, folder: Path) -> Iterator[str]:
    backbone, pretrained = config["train"]["backbone"], config["train"]["pretrained"]
    if backbone and config["dimensions"] == 3:
        yield f"config: train.backbone {backbone} sees planes only; set dimensions to 2, or train.backbone to null"
    if pretrained and not backbone:
        yield f"config: train.pretrained {pretrained} are weights of a timm model; name it in train.backbone"
    if pretrained not in (None, "cache") and not (folder / pretrained).exists():
        yield f"config: train.pretrained names {folder / pretrained}, which does not exist; mend the path"


def _check_scale(config: dict, networks: list[Path]) -> Iterator[str]:
    learnt = read_json(networks[0]).get("pixel_size") if networks else None
    wanted = config["ingest"]["resample"]
    if learnt and wanted and not math.isclose(wanted, learnt[1], rel_tol=0.02):
        yield (
            f"config: ingest.resample is {wanted} µm, network {networks[0]} was trained on {learnt[1]:.4g} µm; "
            "set it to that"
        )


def _check_sides(config: dict, strides: list[int]) -> Iterator[str]:
    chunk, shard, block = config["ingest"]["chunk"], config["ingest"]["shard"], config["predict"]["block"]
    if shard % chunk:
        right = -(-shard // chunk) * chunk
        yield f"config: ingest.shard {shard} is not a multiple of ingest.chunk {chunk}; set it to {right}"
    sides = {"planes": strides[-3:-2], "block": strides[-1:] if block != "auto" else []}
    for key, stride in sides.items():
        side = config["predict"][key]
        if stride and side % stride[0]:
            yield (
                f"config: predict.{key} {side} is not a multiple of the network's stride {stride[0]} (2^depth), so "
                f"blocks would pool on other phases than the whole image; set it to {-(-side // stride[0]) * stride[0]}"
            )
    if block != "auto" and block % chunk:
        yield (
            f"config: predict.block {block} is not a multiple of ingest.chunk {chunk}, so two blocks would write one "
            f"chunk; set it to {-(-block // chunk) * chunk}"
        )
