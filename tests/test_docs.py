"""The documentation names what exists: every key and column, commands that are understood, files that are there."""

import re
import shlex
import sys

import pytest
import yaml
from projects import ROOT

from unetpipe.cli import make_parser

PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md"]
COMMAND = re.compile(r"^\s*(?:\.venv/bin/)?unetpipe (.*)$")


@pytest.fixture
def page(monkeypatch):
    """The page on the configuration, by its keys and columns."""
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    sys.modules.pop("reference", None)
    import reference

    return reference.page()


def rows(page, heading):
    """Cells of the table below a heading, by the first."""
    part = page.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in part.splitlines() if line[:3] == "| `"]
    return {row[0].strip("`"): row[1:] for row in cells}


def test_every_key_stands_there_with_default_values_and_meaning(page):
    def check(heading, section):
        found = rows(page, heading)
        for key, value in section.items():
            if isinstance(value, dict):
                check(f"{heading}.{key}" if heading != "General" else key, value)
                continue
            default, values, meaning = found.pop(key)
            assert yaml.safe_load(default.strip("`")) == value, key
            assert values, key
            assert meaning, key
        assert not found

    check("General", yaml.safe_load((ROOT / "config" / "config.yaml").read_text()))


def test_every_column_stands_there(page):
    schema = yaml.safe_load((ROOT / "workflow" / "schemas" / "samples.schema.yaml").read_text())
    assert set(rows(page, "The sheet")) == set(schema["properties"])


def test_limits_are_said_in_words(page):
    assert rows(page, "mask")["contrast"][1] == "number ≥ 0 and ≤ 1"
    assert rows(page, "truth")["kind"][1] == "`instances`, `classes`"
    assert rows(page, "ingest")["pixel_size"][1] == "number or array or nothing > 0"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_commands_are_understood_and_linked_files_exist(path):
    text = path.read_text()
    for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
        for line in block.splitlines():
            if command := COMMAND.match(line.split(" #")[0]):
                make_parser().parse_args(shlex.split(command[1]))
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (path.parent / link).exists() or link == "configuration.md", link
