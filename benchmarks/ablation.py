"""What border term, elastic deformation, class balance and optimiser are worth: an example, run again without each.

Every variant is a run of its own below `runs/ablation`; started again, finished ones cost nothing.
"""

import argparse
import copy
import subprocess
import sys
from pathlib import Path

import pandas as pd
import yaml

from unetpipe.totals import wide

ROOT = Path(__file__).parents[1]
VARIANTS = {
    "as it is": {},
    "without border term": {"weights": {"border": 0.0}},
    "without elastic deformation": {"train": {"augment": {"elastic": 0.0}}},
    "classes not balanced": {"train": {"balance": 0.0}},
    "SGD, rate 0.001": {"train": {"optimiser": "sgd", "learning_rate": 1e-3}},
    "SGD, rate 0.01": {"train": {"optimiser": "sgd", "learning_rate": 1e-2}},
}
COLUMNS = ["sample", "f1", "ap", "mean_iou", "pixel_error", "rand", "information"]


def main():
    """Run what has not run yet and print a table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("example", help="a folder of config/, e.g. dsb2018; make demo has drawn the demo's images")
    parser.add_argument("--steps", type=int, help="instead of the example's")
    parser.add_argument("--variants", type=int, nargs="+", default=range(len(VARIANTS)), help="by number, from 0")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    print("| variant |", " | ".join(COLUMNS), "|\n|---|---|" + "--:|" * (len(COLUMNS) - 1))
    for number in options.variants:
        name, changes = list(VARIANTS.items())[number]
        for row in run(options, number, changes).itertuples():
            print(f"| {name} | {row.sample} |", " | ".join(f"{value:.3f}" for value in row[2:]), "|", flush=True)


def run(options, number, changes):
    """Scores of one variant, a row a sample."""
    source = ROOT / "config" / options.example
    config = merged(yaml.safe_load((source / "config.yaml").read_text()), changes)
    config["data"] = str((source / config["data"]).resolve())
    config["samples"] = str(source / config["samples"])
    if options.steps:
        config["train"]["steps"] = options.steps
    folder = ROOT / "runs" / "ablation" / f"{options.example}-{config['train']['steps']}-{number}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    snakemake = Path(sys.executable).with_name("snakemake")
    call = [snakemake, "--configfile", folder / "config.yaml", "--directory", folder, "--cores", options.threads]
    with open(folder / "snakemake.log", "w") as log:
        subprocess.run(list(map(str, call)), cwd=ROOT, check=True, stdout=log, stderr=subprocess.STDOUT)
    scores = pd.read_csv(folder / "results" / "scores.tsv", sep="\t")
    return wide(scores)[COLUMNS]


def merged(config, changes):
    """A config with some values replaced, section by section."""
    result = copy.deepcopy(config)
    for key, value in changes.items():
        result[key] = merged(result.get(key, {}), value) if isinstance(value, dict) else value
    return result


if __name__ == "__main__":
    main()
