"""Gathers what a run left on disk and fills the page."""

import csv
import logging
import platform
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from unetpipe.manifest import read_json, write_bytes
from unetpipe.report.pictures import curve_link, data_uri, draw_curves, grey, outlined
from unetpipe.store import label_path, open_array, read_attributes
from unetpipe.totals import wide

logger = logging.getLogger(__name__)
PACKAGES = ("unetpipe", "torch", "zarr", "zarrs", "numpy", "scipy", "scikit-image", "dask", "snakemake")
SIDE = 1024  # longest side of a picture, pixels
PICTURES = 4  # of each sample


def write_report(
    output: str, *, samples: list[list[str]], config: dict, networks: list[str], results: str, benchmarks: str
) -> None:
    """Write one self-contained HTML page about a run.

    Parameters
    ----------
    output : path
        The page.
    samples : list of [name, split]
    config : dict
        All settings, shown as they were.
    networks : list of path
        `network.json` of each.
    results, benchmarks : path
        Folders of what the rules wrote and of Snakemake's benchmark files.
    """
    root = Path(results)
    shown = [_sample(root, name, split) for name, split in samples]
    notes = {Path(path).parent.name: read_json(path) for path in networks}
    scores = _scores(root)
    environment = Environment(
        loader=PackageLoader("unetpipe.report", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    page = environment.get_template("page.html").render(
        samples=shown,
        networks=notes,
        curves=draw_curves({name: note["curve"] for name, note in notes.items()}),
        tables={name: curve_link(note["curve"]) for name, note in notes.items()},
        scores=wide(scores, whole=False).to_dict("records") if len(scores) else [],
        totals=wide(scores).to_dict("records") if len(scores) else [],
        costs=_costs(Path(benchmarks)),
        versions={name: version(name) for name in PACKAGES} | {"python": platform.python_version()},
        config=yaml.safe_dump(config, sort_keys=False, allow_unicode=True),
    )
    write_bytes(output, page.encode())
    logger.info("%s: %d samples", output, len(shown))


def _sample(root: Path, name: str, split: str) -> dict:
    store = root / "images" / f"{name}.ome.zarr"
    entries = read_attributes(store / "zarr.json")["series"]
    tissue = read_json(root / "tissue" / f"{name}.json")["series"]
    manifest = root / "objects" / f"{name}.json"
    predicted = split != "train"
    counts = [entry["objects"] for entry in read_json(manifest)["series"]] if predicted else []
    pictures = [_picture(store, *parts) for parts in zip(entries[:PICTURES], tissue, strict=False)] if predicted else []
    found = read_attributes(root / "probabilities" / f"{name}.zarr" / "zarr.json") if predicted else {}
    return {
        "name": name,
        "split": split,
        "series": len(entries),
        "megapixels": sum(int(np.prod(entry["shape"])) // entry["shape"][1] for entry in entries) / 1e6,
        "first": entries[0],
        "tissue": float(np.mean([entry["fraction"] for entry in tissue])),
        "objects": sum(counts),
        "blocks": found.get("blocks"),
        "seams": found.get("seams"),
        "pictures": pictures,
        "digests": [entry["digest"] for entry in entries],
    }


def _picture(store: Path, entry: dict, tissue: dict) -> dict:
    """The first plane of a series, at the finest level that fits the page, with outlines."""
    sides = [max(entry["shape"][-2:]) >> level for level in range(entry["levels"])]
    level = next((k for k, side in enumerate(sides) if side <= SIDE), len(sides) - 1)
    image = open_array(store / entry["path"] / str(level))[0, :, 0]
    labels: dict = {}
    for name in ("objects", "truth"):
        folder = label_path(store, entry["path"], name) / str(level)
        labels[name] = open_array(folder)[0, 0] if folder.exists() else None
    plain = grey(image, tissue["low"], tissue["high"])
    drawn = outlined(plain, labels["objects"], labels["truth"])
    return {"name": entry["name"], "plain": data_uri(plain), "outlined": data_uri(drawn), "zoom": 2**level}


def _scores(root: Path) -> pd.DataFrame:
    path = root / "scores.tsv"
    return pd.read_csv(path, sep="\t") if path.exists() else pd.DataFrame()


def _costs(folder: Path) -> list[dict]:
    """Jobs, seconds and peak memory of each rule, from Snakemake's benchmark files."""
    costs: dict[str, dict] = {}
    for path in sorted(folder.rglob("*.tsv")):
        rule = path.relative_to(folder).parts[0].removesuffix(".tsv")
        with open(path) as file:
            for row in csv.DictReader(file, delimiter="\t"):
                cost = costs.setdefault(rule, {"rule": rule, "jobs": 0, "seconds": 0.0, "memory": 0.0})
                cost["jobs"] += 1
                cost["seconds"] += float(row["s"])
                cost["memory"] = max(cost["memory"], _number(row["max_rss"]))
    return list(costs.values())


def _number(text: str) -> float:
    return float(text) if text not in ("-", "NA") else 0.0
