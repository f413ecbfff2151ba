"""Imports point one way, the library knows nothing of Snakemake, and `import unetpipe` is light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = [
    {"disk", "geometry"},
    {
        "revisions",
        "manifest",
        "log",
        "device",
        "ranks",
        "watch",
        "places",
        "cells",
        "needs",
        "optimiser",
        "sampling",
        "distances",
        "metrics",
        "patterns",
        "schema",
        "grey",
        "neighbours",
        "curve",
        "halving",
        "regions",
        "shapes",
        "contours",
        "nearest",
        "totals",
        "warping",
        "locks",
        "scheduling",
    },
    {"sources"},
    {
        "store",
        "network",
        "augment",
        "checkpoint",
        "readers",
        "blocks",
        "sheet",
        "notes",
        "outlines",
        "large",
        "boxes",
        "gpus",
        "overlap_tile",
        "components",
        "tables",
        "pieces",
    },
    {
        "config",
        "pyramid",
        "tiles",
        "predictor",
        "scoring",
        "inspection",
        "pretrained",
        "loss",
        "fitting",
        "flooding",
    },
    {"saved", "seams", "splitting"},
    {"ingest", "truth", "mask", "weights", "train", "predict", "label", "measure", "score", "demo", "export"}
    | {"labels_tiff"},
    {"report", "view", "start", "suggestion", "figures", "trained", "plan", "tuning", "verification"},
    {"doctor", "correction"},
    {"cli"},
]
LEVEL = {name: number for number, names in enumerate(LAYERS) for name in names}


def room(path):
    return path.relative_to(ROOT / "unetpipe").parts[0].removesuffix(".py")


def imported(path):
    """Rooms that a module imports, and all other packages."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from [f"{node.module}.{a.name}" for a in node.names] if node.module == "unetpipe" else [node.module]


MODULES = [path for path in sorted((ROOT / "unetpipe").rglob("*.py")) if path != ROOT / "unetpipe" / "__init__.py"]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path):
    own = room(path)
    for name in imported(path):
        assert not name.startswith("snakemake")
        other = name.split(".")[1] if name.startswith("unetpipe.") else own
        if other != own and other in LEVEL:
            assert LEVEL[other] < LEVEL[own], f"{own} imports {other}"


def test_every_room_has_a_layer():
    assert {room(path) for path in MODULES} == set(LEVEL)


def test_the_library_is_light():
    code = "import sys, unetpipe; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_only_jobs_with_a_network_wait_for_torch():
    scripts = {path.stem: path for path in (ROOT / "workflow" / "scripts").glob("*.py")}
    assert {"train", "predict_part"} < scripts.keys()
    rooms = {name for script in scripts.keys() - {"train", "predict_part"} for name in imported(scripts[script])}
    code = f"import sys, {', '.join(sorted(rooms))}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("path", sorted((ROOT / "workflow" / "scripts").glob("*.py")), ids=lambda path: path.name)
def test_scripts_only_connect(path):
    tree = ast.parse(path.read_text())
    assert len(path.read_text().splitlines()) <= 12
    assert not any(isinstance(node, ast.If | ast.For | ast.While | ast.FunctionDef) for node in ast.walk(tree))
