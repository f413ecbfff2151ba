"""How far each stage of a run came, and what its log says where it did not end."""

import re
from collections.abc import Iterator
from glob import escape
from pathlib import Path
from typing import NamedTuple

from unetpipe.totals import read_scores

DONE, FAILED, UNFINISHED, WAITING = "done", "failed", "unfinished", "waiting"
PLACES = {  # rule → what it writes below the results, its logs
    "ingest": ("images/{}.ome.zarr/zarr.json", "ingest/{}.log"),
    "truth": ("truth/{}.json", "truth/{}.log"),
    "mask": ("tissue/{}.json", "mask/{}.log"),
    "weights": ("weights/{}.zarr/zarr.json", "weights/{}.log"),
    "train": ("network/{}/network.json", "train/{}.log"),
    "predict": ("probabilities/{}.zarr/zarr.json", "predict/{}.log predict/{}/*.log"),
    "label": ("objects/{}.json", "label/{}.log"),
    "measure": ("objects/{}.parquet", "measure/{}.log"),
    "score": ("scores.tsv", "score.log"),
}
PREDICTED = ("predict", "label", "measure")
ERROR = re.compile(r"^\S+ ERROR [\w.]+: (.*?)(?=^Traceback|^\S+ [A-Z]+ [\w.]+: |\Z)", re.DOTALL | re.MULTILINE)
TAIL, LONGEST = 2**16, 600  # bytes of a log that are looked at, letters of a message


class Stage(NamedTuple):
    """One rule and what it was to do."""

    rule: str
    name: str  # sample or fold; empty where there is one job for all
    state: str  # done; failed: its log holds an error; unfinished: it does not; waiting: there is no log
    message: str


def expected_rules(split: str, *, trains: bool) -> list[str]:
    """The rules that a sample of a split goes through."""
    annotated = ["truth"] if split != "predict" else []
    follows = PREDICTED if split != "train" else ["weights"] if trains else []
    return ["ingest", *annotated, "mask", *follows]


def stage(results: Path, logs: Path, rule: str, name: str = "") -> Stage:
    """How far one rule came."""
    output, patterns = PLACES[rule]
    if (results / output.format(name)).exists():
        return Stage(rule, name, DONE, "")
    found = [path for pattern in patterns.split() for path in sorted(logs.glob(pattern.format(escape(name))))]
    texts = [_tail(path) for path in found]
    errors = [error for text in texts if (error := last_error(text))]
    if errors:
        return Stage(rule, name, FAILED, errors[-1])
    if not found:
        return Stage(rule, name, WAITING, "")
    last = next((line for text in reversed(texts) for line in reversed(text.splitlines()) if line.strip()), "")
    return Stage(rule, name, UNFINISHED, f"it runs or was killed; the last line of its log: {last or 'none'}")


def _tail(path: Path) -> str:
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL))
        return file.read().decode(errors="replace")


def last_error(text: str) -> str:
    """The last error that a log names, without its traceback; empty where there is none."""
    found = ERROR.findall(text)
    return found[-1].strip()[:LONGEST] if found else ""


def find_samples(results: Path, logs: Path) -> list[list[str]]:
    """Names and splits of the samples that a run has begun, as far as what it left tells them."""
    stores = {path.name.removesuffix(".ome.zarr") for path in results.glob("images/*.ome.zarr")}
    begun = {path.stem for path in logs.glob("ingest/*.log")}
    scores = results / "scores.tsv"
    known = dict(_splits(scores)) if scores.exists() else {}
    return [[name, known.get(name) or _split(results, logs, name)] for name in sorted(stores | begun)]


def _splits(scores: Path) -> Iterator[tuple[str, str]]:
    yield from read_scores(scores)[["sample", "split"]].drop_duplicates().itertuples(index=False)


def _split(results: Path, logs: Path, name: str) -> str:
    output, log = PLACES["weights"]
    if (results / output.format(name)).exists() or (logs / log.format(name)).exists():
        return "train"
    return "test" if (results / PLACES["truth"][0].format(name)).exists() else "predict"
