"""A network that sees volumes against one that sees planes, on bodies that touch in an FIB-SEM volume.

Trained on planes 0 to 39, tested on 48 to 79 (Takemura et al. 2015, `fib-medulla`); how objects are made of
probabilities is chosen on 40 to 47 by `unetpipe tune`, after the Rand score. Both run through the workflow, at the same
time, each on half of the threads, below `runs/volume`; the planes' objects are made in the volume too.
"""

import argparse
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import tifffile
import yaml

from unetpipe.totals import wide
from unetpipe.tuning import tune

ROOT = Path(__file__).parents[1]
PARTS = {"train": slice(0, 40), "val": slice(40, 48), "test": slice(48, 80)}
SIZE = 0.01  # µm
COMMON = {
    "samples": "../samples.tsv",
    "ingest": {"chunk": 64, "shard": 128},
    "mask": {"contrast": 0},
    "weights": {"sigma": 3.0},  # neurites measure 10 to 20 pixels
    "predict": {"block": 128, "planes": 16},
    "label": {"min_size": 200, "holes": 500},
}
LEARN = {"normalise": True, "dropout": 0.1, "learning_rate": 1e-3, "batch": 1, "validations": 0}
NETWORKS = {
    "planes": {"dimensions": 2, "train": {**LEARN, "depth": 4, "features": 16, "tile": 228}},
    "volume": {"dimensions": 3, "train": {**LEARN, "depth": 2, "features": 8, "tile": 76, "planes": 24}},
}


def main():
    """Print one line for each score."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "fib-medulla")
    parser.add_argument("--steps", type=int, nargs=2, default=(600, 600), help="of planes and of the volume")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    folder = ROOT / "runs" / "volume"
    cut(options.data, folder)
    tasks = zip(NETWORKS, options.steps, strict=True)
    with ThreadPoolExecutor() as pool:
        runs = {name: pool.submit(run, folder / name, name, steps, options.threads // 2) for name, steps in tasks}
    scores = {name: one.result() for name, one in runs.items()}
    for name, better in {"ap": 1, "rand": 1, "information": 1, "pixel_error": -1}.items():
        planes, volume = scores["planes"][name], scores["volume"][name]
        says = "ok" if better * (volume - planes) > 0 else "short"
        seconds = f"{scores['volume']['seconds']:.0f} and {scores['planes']['seconds']:.0f} s of training"
        print(f'claim="{name} of a volume" value={volume:.3f} mark={planes:.3f} {says} peer="planes" ({seconds})')


def cut(data, folder):
    """Write both parts as OME-TIFF, and the sheet."""
    rows = ["sample\tpath\tlabels\tsplit"]
    for part, planes in PARTS.items():
        for kind, source in {"image": "raw.tif", "labels": "labels.tif"}.items():
            path = folder / "data" / f"{part}-{kind}.ome.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                sizes = {f"PhysicalSize{axis}": SIZE for axis in "ZYX"}
                tifffile.imwrite(path, tifffile.imread(data / source)[planes], metadata={"axes": "ZYX", **sizes})
        rows.append(f"{part}\tdata/{part}-image.ome.tif\tdata/{part}-labels.ome.tif\t{part}")
    (folder / "samples.tsv").write_text("\n".join(rows) + "\n")


def run(folder, name, steps, threads):
    """Scores of the test planes, and the seconds that training took."""
    folder.mkdir(exist_ok=True)
    config = {**COMMON, **NETWORKS[name], "train": {**NETWORKS[name]["train"], "steps": steps}}
    start(folder, config, threads)
    choice = tune(folder / "results", ["val"], metric="rand", workers=threads).iloc[0]
    chosen = {key: choice[key].item() for key in ("threshold", "core", "split", "min_size")}
    print(f"{name}: {chosen}", flush=True)
    start(folder, {**config, "label": {**config["label"], **chosen}}, threads)
    times = pd.read_csv(folder / "results" / "benchmarks" / "train" / "all.tsv", sep="\t")
    table = wide(pd.read_csv(folder / "results" / "scores.tsv", sep="\t"))
    scores = table[table["sample"] == "test"].iloc[0]
    return {**scores, "seconds": times["s"].iloc[0]}


def start(folder, config, threads):
    """The workflow, in a process of its own with so many threads."""
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    snakemake = Path(sys.executable).with_name("snakemake")
    call = [snakemake, "--configfile", folder / "config.yaml", "--directory", folder, "--cores", threads]
    with open(folder / "snakemake.log", "w") as log:
        subprocess.run(list(map(str, call)), cwd=ROOT, check=True, stdout=log, stderr=subprocess.STDOUT)


if __name__ == "__main__":
    main()
