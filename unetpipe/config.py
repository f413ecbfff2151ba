"""Reads the config and the sheet that it names, and finds everything that is wrong with them before any job starts."""

import math
import os
from collections.abc import Iterator
from pathlib import Path

import yaml

from unetpipe.geometry import SAME
from unetpipe.notes import read_notes
from unetpipe.schema import check_schema
from unetpipe.sheet import Problems, Sample, check_sheet, read_sheet, unusable

DEFAULTS = Path(__file__).parents[1] / "config" / "config.yaml"


def read_config(path: Path) -> dict:
    """A config file over the defaults, section by section, as Snakemake takes them; what is no YAML is refused."""
    return _over(yaml.safe_load(DEFAULTS.read_text()), read_changes(path))


def read_changes(path: Path) -> dict:
    """What a config file sets.

    Raises
    ------
    ValueError
        If it is no YAML, has no sections, or a key twice in one: of two YAML takes the second and says nothing.
    """
    try:
        with open(path, encoding="utf-8") as file:
            changes = yaml.load(file, Once) or {}  # noqa: S506 - a safe loader
    except (yaml.YAMLError, UnicodeError) as error:
        raise ValueError(f"{path} is no YAML: {error}") from error
    if not isinstance(changes, dict):
        raise ValueError(  # noqa: TRY004 - as of any other text that is no config
            f"{path} holds no sections but a {type(changes).__name__}; it begins like samples: samples.tsv"
        )
    return changes


class Once(yaml.SafeLoader):
    """Refuses a key that stands twice in a section."""

    def construct_mapping(self, node, deep=False):  # noqa: FBT002 - as in the class above
        """Keys and values of a section."""
        lines = {}
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            line = key.start_mark.line + 1
            if key.value in lines:
                here = f"{key.start_mark.name}, line {line}"
                raise ValueError(f"{here}: {key.value} stands in line {lines[key.value]} already; make one of the two")
            lines[key.value] = line
        return super().construct_mapping(node, deep)


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
    folder = folder.resolve()  # `..` leads out of the folder itself, not out of a link to it
    sheet = folder / config["samples"]
    if not sheet.is_file():
        wrong = "is a folder" if sheet.is_dir() else "does not exist"
        return [], Problems([f"config: samples names {sheet}, which {wrong}; write the sheet or mend the path"])
    base = Path(os.path.normpath(folder / config["data"] if config["data"] else sheet.parent))
    samples = read_sheet(sheet, base, config["predict"]["parts"], problems)
    problems += [*check_sheet(samples, config), *check_values(config, folder)]
    return samples, problems


# ---------------------------------------------------------------- values


def check_values(config: dict, folder: Path) -> Iterator[str]:
    """What a schema cannot say: numbers that have to fit each other, files that have to exist."""
    networks = [folder / path for path in listed(config["network"])]
    absent = [*_absent(networks)]
    yield from absent
    if absent:
        return
    try:
        notes = read_notes([str(path) for path in networks])
    except ValueError as error:
        yield f"config: {error}"
        return
    yield from _check_network(config, folder)
    train = config["train"]
    if train["deterministic"] and config["dimensions"] == 3 and train["downsample"] == "pool":
        yield (
            "config: train.deterministic cannot be had on a GPU where volumes are pooled; set train.downsample to "
            "stride, or leave deterministic false: a CPU gives the same bits in any case"
        )
    yield from _check_given(config, networks, notes)
    yield from _check_sides(config, _strides(config, notes))
    threshold, core = config["label"]["threshold"], config["label"]["core"]
    if 0 < core <= threshold:
        yield (
            f"config: label.core {core} is not above label.threshold {threshold}, so no object would be parted; set it "
            "higher, or to 0"
        )
    kind, classes, ignore = (config["truth"][key] for key in ("kind", "classes", "ignore"))
    if kind == "classes" and ignore in classes:
        yield (
            f"config: truth.ignore {ignore} is one of truth.classes {classes}, so none of its pixels would count; set "
            "it to the value of what nobody annotated, or to null"
        )
    low, high = config["mask"]["percentiles"]
    if low >= high:
        yield f"config: mask.percentiles {low}, {high} do not rise; set the lower one first"


def _absent(networks: list[Path]) -> Iterator[str]:
    """Networks that cannot be opened under their names."""
    for path in networks:
        if not path.is_file():
            wrong = "is a folder; name the network.json in it" if path.is_dir() else "does not exist; mend the path"
            yield f"config: network names {path}, which {wrong}, or set it to null to train one"
        elif why := unusable(path):
            yield f"config: network {str(path)!r} has {why}; rename it"


def listed(value) -> list:
    """A value that may be one, several or none, as a list."""
    return value if isinstance(value, list) else [value] if value else []


def given_networks(project: Path) -> list[Path]:
    """Those that the `config.yaml` in a project's folder names, as far as they are there; none without such a file."""
    config = project / "config.yaml"
    named = listed(read_config(config)["network"]) if config.exists() else []
    return [path for name in named if (path := project / name).exists()]


def _strides(config: dict, notes: list[dict]) -> list[int]:
    """Of what the blocks have to be multiples, one number an axis: of a network that is yet to be trained the most."""
    if notes:
        return [stride for stride, *_ in notes[0]["axes"]]
    return [2 ** config["train"]["depth"]] * config["dimensions"]


def _check_network(config: dict, folder: Path) -> Iterator[str]:
    backbone, pretrained = config["train"]["backbone"], config["train"]["pretrained"]
    if backbone and config["dimensions"] == 3:
        yield f"config: train.backbone {backbone} sees planes only; set dimensions to 2, or train.backbone to null"
    if pretrained and not backbone:
        yield f"config: train.pretrained {pretrained} are weights of a timm model; name it in train.backbone"
    if pretrained not in (None, "cache") and not (folder / pretrained).exists():
        yield f"config: train.pretrained names {folder / pretrained}, which does not exist; mend the path"


def _check_given(config: dict, networks: list[Path], notes: list[dict]) -> Iterator[str]:
    """What a trained network has against the config."""
    percentiles, wanted = config["mask"]["percentiles"], config["ingest"]["resample"]
    for path, note in zip(networks, notes, strict=True):
        weights = path.with_suffix(".safetensors")
        if not weights.is_file():
            yield f"config: network {path} has no {weights.name} beside it; copy both files"
        if (others := note.get("percentiles", percentiles)) != percentiles:
            yield (
                f"config: mask.percentiles are {percentiles}, network {path} learnt with {others} and would see other "
                "grey values; set them to these"
            )
        learnt = note.get("pixel_size")
        if learnt and wanted and not math.isclose(wanted, learnt[1], rel_tol=SAME):
            yield (
                f"config: ingest.resample is {wanted} µm, network {path} was trained on {learnt[1]:.4g} µm; set it to "
                "that"
            )


def _check_sides(config: dict, strides: list[int]) -> Iterator[str]:
    chunk, shard, block = config["ingest"]["chunk"], config["ingest"]["shard"], config["predict"]["block"]
    if shard % chunk:
        right = -(-shard // chunk) * chunk
        yield f"config: ingest.shard {shard} is not a multiple of ingest.chunk {chunk}; set it to {right}"
    planes = config["predict"]["planes"]
    for stride in strides[-3:-2]:
        if planes % stride:
            yield (
                f"config: predict.planes {planes} is not a multiple of the network's stride {stride} (2^depth), so "
                f"blocks would pool on other phases than the whole image; set it to {-(-planes // stride) * stride}"
            )
    step = math.lcm(chunk, strides[-1])
    if block != "auto" and block % step:
        yield (
            f"config: predict.block {block} is not a multiple of {step}, which the network's stride {strides[-1]} "
            f"(2^depth) and ingest.chunk {chunk} divide: blocks would pool on other phases than the whole image, or "
            f"write one chunk with others; set it to {-(-block // step) * step}, or to auto"
        )
