"""What is handed out beside the code agrees with it: citation and container recipes."""

import re
import tomllib

import pytest
import yaml
from packaging.specifiers import SpecifierSet
from projects import ROOT

from unetpipe import __version__

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NEEDED = {"requirements.lock", "pyproject.toml", "Snakefile", "config", "profiles", "workflow", "unetpipe"}


def test_the_citation_is_that_of_this_version():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} < set(cited)  # required by the format, version 1.2.0
    assert (cited["version"], cited["license"]) == (__version__, PROJECT["license"])
    (paper,) = cited["references"]
    assert {"type", "title", "authors"} < set(paper)  # likewise of a reference
    assert "arXiv:1505.04597" in [identifier["value"] for identifier in paper["identifiers"]]
    assert (paper["year"], paper["start"], paper["end"]) == (2015, 234, 241)  # numbers, as the format has them


def docker():
    """Image, sources and commands of a recipe."""
    text = (ROOT / "Dockerfile").read_text()
    copied = [words for line in re.findall(r"^COPY (.*)$", text, flags=re.MULTILINE) for words in line.split()[:-1]]
    return re.search(r"^FROM (\S+)", text, flags=re.MULTILINE)[1], copied, re.findall(r"pip install (.*)", text)


def apptainer():
    text = (ROOT / "apptainer.def").read_text()
    copied = [line.split() for line in re.search(r"%files\n(.*?)\n\n", text, flags=re.DOTALL)[1].splitlines()]
    assert all(target == f"/opt/unetpipe/{source}" for source, target in copied)
    installs = [line.replace("--no-cache-dir ", "") for line in re.findall(r"pip install (.*)", text)]
    return re.search(r"^From: (\S+)", text, flags=re.MULTILINE)[1], [source for source, _ in copied], installs


@pytest.mark.parametrize("recipe", [docker, apptainer])
def test_containers_hold_the_workflow(recipe):
    image, copied, _ = recipe()
    assert all((ROOT / source).exists() for source in copied)
    assert set(copied) >= NEEDED | {PROJECT["readme"], *PROJECT["license-files"]}
    python = re.fullmatch(r"python:([0-9.]+)-slim", image)[1]
    assert python in SpecifierSet(PROJECT["requires-python"])


def test_both_containers_are_one():
    assert docker() == apptainer()
