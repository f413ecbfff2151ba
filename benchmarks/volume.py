"""A network that sees volumes against one that sees planes, on bodies that touch in an FIB-SEM volume.

Trained on planes 0 to 39, tested on 48 to 79 (Takemura et al. 2015, `fib-medulla`). Both run through the workflow,
below `runs/volume`; the planes' objects are the components of the volume too.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import pandas as pd
import tifffile
import yaml

from unetpipe.totals import wide

ROOT = Path(__file__).parents[1]
PARTS = {"train": slice(0, 40), "test": slice(48, 80)}
SIZE = 0.01  # µm
COMMON = {
    "samples": "../samples.tsv",
    "ingest": {"chunk": 64, "shard": 128},
    "mask": {"contrast": 0},
    "weights": {"sigma": 3.0},
    "predict": {"block": 128, "planes": 16},
    "label": {"min_size": 500, "holes": 500},
}
LEARN = {"normalise": True, "dropout": 0.1, "learning_rate": 2e-3, "batch": 1}
NETWORKS = {
    "planes": {"dimensions": 2, "train": {**LEARN, "depth": 4, "features": 16, "tile": 228}},
    "volume": {"dimensions": 3, "train": {**LEARN, "depth": 2, "features": 8, "tile": 60, "planes": 20}},
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
    scores = {
        name: run(folder / name, config, steps, options.threads)
        for (name, config), steps in zip(NETWORKS.items(), options.steps, strict=True)
    }
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


def run(folder, config, steps, threads):
    """Scores of the test planes, and the seconds that training took."""
    folder.mkdir(exist_ok=True)
    whole = {**COMMON, **config, "train": {**config["train"], "steps": steps}}
    (folder / "config.yaml").write_text(yaml.safe_dump(whole))
    snakemake = Path(sys.executable).with_name("snakemake")
    call = [snakemake, "--configfile", folder / "config.yaml", "--directory", folder, "--cores", threads]
    with open(folder / "snakemake.log", "w") as log:
        subprocess.run(list(map(str, call)), cwd=ROOT, check=True, stdout=log, stderr=subprocess.STDOUT)
    times = pd.read_csv(folder / "results" / "benchmarks" / "train" / "all.tsv", sep="\t")
    scores = wide(pd.read_csv(folder / "results" / "scores.tsv", sep="\t")).iloc[0]
    return {**scores, "seconds": times["s"].iloc[0]}


if __name__ == "__main__":
    main()
