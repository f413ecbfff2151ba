"""Small projects that tests run as a user does, with Snakemake."""

import re
import subprocess
import sys
from pathlib import Path

import tifffile
import yaml
from scenes import discs, write_pairs

ROOT = Path(__file__).parents[1]
CONFIG = {
    "samples": "samples.tsv",
    "ingest": {"chunk": 64, "shard": 128},
    "mask": {"contrast": 0},
    "train": {"depth": 2, "features": 4, "normalise": True, "tile": 60, "steps": 60, "learning_rate": 0.01},
    "predict": {"block": 256, "parts": 2},
    "label": {"min_size": 20},
}
ROWS = [
    "sample\tpath\tlabels\tsplit",
    "train\ttrain/images/*.tif\ttrain/labels/*.tif\ttrain",
    "test\ttest/images/*.tif\ttest/labels/*.tif\ttest",
    "slide\tslide.tif\t\tpredict",
]


class Project:
    """A folder with data, config and sheet."""

    def __init__(self, folder, config=CONFIG, rows=ROWS):
        self.folder = folder
        self.config, self.rows = yaml.safe_load(yaml.safe_dump(config)), list(rows)

    def run(self, *arguments):
        """Start Snakemake; returns its exit code, and what it printed."""
        (self.folder / "config.yaml").write_text(yaml.safe_dump(self.config))
        (self.folder / "samples.tsv").write_text("\n".join(self.rows) + "\n")
        command = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--directory", self.folder]
        command += ["--configfile", self.folder / "config.yaml", "--cores", "2", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    def planned(self):
        """Jobs that a dry run lists, with their numbers."""
        code, said = self.run("--dry-run")
        assert code == 0, said
        table = re.search(r"\njob +count\n[- ]+\n(.*?)\n\n", said, flags=re.DOTALL)
        jobs = dict(line.split() for line in table[1].splitlines()) if table else {}
        return {name: int(count) for name, count in jobs.items() if name not in ("all", "total")}

    def digests(self):
        """Content of all that was published, but for what holds a clock."""
        files = [path for path in (self.folder / "results").rglob("*") if path.is_file()]
        keep = [p for p in files if not {"benchmarks", ".ledger"} & set(p.parts) and p.suffix not in (".html", ".pt")]
        return {path.relative_to(self.folder): path.read_bytes() for path in keep}


def draw_data(folder):
    """Images to learn from and to be scored on, and a slide; returns the project."""
    write_pairs(folder / "train", [(96, 110)] * 3, seed=1)
    write_pairs(folder / "test", [(96, 110), (130, 70)], seed=9)
    slide, _ = discs((1100, 1000), seed=5, count=200)  # above the size below which Snakemake compares content
    tifffile.imwrite(folder / "slide.tif", slide)
    return Project(folder)
