"""Makes the page on the configuration from the files that define it; a hook of mkdocs, and a function for its test."""

import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
NAME = "configuration.md"
INTRODUCTION = """A config file needs only what differs from these defaults. A section is a rule of the workflow: what
changes in it reruns that rule and what follows. Relative paths start at the folder of the config file.
"""
LINE = re.compile(r"^(?P<indent> *)(?P<key>\w+):(?P<value>[^#]*)(?:#\s*(?P<said>.*))?$")


def on_files(files, config):
    """Add the page to those of the site."""
    from mkdocs.structure.files import File  # noqa: PLC0415 - the test of this file has no mkdocs

    files.append(File.generated(config, NAME, content=page()))
    return files


def page() -> str:
    """All keys of the config and all columns of the sheet, with defaults, limits and meanings."""
    config, columns = (_schema(name) for name in ("config", "samples"))
    parts = [
        "# Configuration\n",
        INTRODUCTION,
        *_sections((ROOT / "config" / "config.yaml").read_text(), config),
        "## The sheet\n",
        "Tab-separated; a row is a sample. Empty cells are absent.\n",
        "| column | values | meaning |\n|---|---|---|",
        *(f"| `{key}` | {_limits(one)} | {one.get('description', '')} |" for key, one in columns["properties"].items()),
    ]
    return "\n".join(parts) + "\n"


def _schema(name: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / "workflow" / "schemas" / f"{name}.schema.yaml").read_text())


def _sections(text: str, schema: dict[str, Any]) -> list[str]:
    """A table for each section, in the order of the file."""
    lines, path = ["## General\n", "| key | default | values | meaning |\n|---|---|---|---|"], []
    for line in text.splitlines():
        found = LINE.match(line)
        if not found:
            continue
        depth, value = len(found["indent"]) // 2, found["value"].strip()
        path = [*path[:depth], found["key"]]
        said = (found["said"] or "").replace("|", "\\|")
        if not value:
            lines += ["", f"## {'.'.join(path)}\n", *([f"{said}\n"] if said else [])]
            lines.append("| key | default | values | meaning |\n|---|---|---|---|")
        else:
            lines.append(f"| `{found['key']}` | `{value}` | {_limits(_find(schema, path))} | {said} |")
    return [*lines, ""]


def _find(schema: dict[str, Any], path: list[str]) -> dict[str, Any]:
    for key in path:
        schema = schema["properties"][key]
    return schema


def _limits(one: dict[str, Any]) -> str:
    """What a schema allows, in words."""
    if "anyOf" in one or "oneOf" in one:
        return ", or ".join(map(_limits, one.get("anyOf", one.get("oneOf"))))
    if "enum" in one:
        return ", ".join(f"`{_spelt(value)}`" for value in one["enum"])
    if "const" in one:
        return f"`{_spelt(one['const'])}`"
    types = one.get("type", "any")
    words = ["nothing" if kind == "null" else kind for kind in ([types] if isinstance(types, str) else types)]
    bounds = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    limits = [f"{sign} {one[key]}" for key, sign in bounds.items() if key in one]
    return " or ".join(words) + (f" {' and '.join(limits)}" if limits else "")


def _spelt(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
