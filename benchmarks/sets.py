"""Large sets: what Snakemake takes to plan thousands of slides, and each rule for one of thousands of small images."""

import argparse
import base64
import csv
import os
import platform
import re
import resource
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import tifffile
import torch

from unetpipe.network import UNet
from unetpipe.saved import save_network

ROOT = Path(__file__).parents[1]
SIDE = 256  # pixels of a small image
JOBS = ("ingest", "mask", "predict_part", "predict", "label", "measure")  # of each slide
OUTPUTS = ("images", "tissue", "probabilities", "objects")  # folders of results that hold a file for each slide


def main() -> None:
    """Measure both, and print a line for each figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slides", type=int, default=5000)
    parser.add_argument("--images", type=int, default=2000, help="of one sample; 0: leave them out")
    options = parser.parse_args()
    print(f"snakemake {version('snakemake')}, zarr {version('zarr')}, {os.cpu_count()} cores, {platform.machine()}")
    with tempfile.TemporaryDirectory() as folder:
        plan(Path(folder) / "slides", options.slides)
        if options.images:
            process(Path(folder) / "images", options.images)


def plan(folder: Path, count: int) -> None:
    """A sheet of small images in the place of slides, before any job, after all, and with one more."""
    begin(folder)
    names = [f"s{number:05}" for number in range(count)]
    for name in [*names, "another"]:
        tifffile.imwrite(folder / f"{name}.tif", np.eye(32, dtype=np.uint8))
    write_sheet(folder, names)
    ours, peer = run(folder, "--dry-run"), run(folder, "--dry-run", snakefile=write_plain(folder, count))
    print(f"{count} slides, dry run: {said(*ours)}", flush=True)
    print(
        f"  as many plain shell jobs: {said(*peer)}; ours take {ours[2] / peer[2]:.2f} of their processor time",
        flush=True,
    )
    finish(folder, names)
    print(f"{count} slides, nothing to do: {said(*run(folder, '--dry-run'))}", flush=True)
    write_sheet(folder, [*names, "another"])
    print(f"one slide more, dry run: {said(*run(folder, '--dry-run'))}", flush=True)


def write_plain(folder: Path, count: int) -> Path:
    """The peer: as many chains of as many jobs, of rules that have an input, an output and a shell command alone."""
    rules = [f'rule all:\n    input: expand("{len(JOBS)}/{{k}}", k=range({count}))\n']
    for number, name in enumerate(JOBS):
        before = f'    input: "{number}/{{k}}"\n' if number else ""
        rules.append(f'rule {name}:\n{before}    output: "{number + 1}/{{k}}"\n    shell: "touch {{output}}"\n')
    (folder / "plain.smk").write_text("\n".join(rules))
    return folder / "plain.smk"


def begin(folder: Path) -> None:
    """A project of a network that finds nothing, so that no object is work."""
    folder.mkdir()
    network = UNet(depth=2, features=4, dropout=0.0)
    with torch.no_grad():
        network.head.bias[1] = -1e6
    save_network(
        network, folder / "network.json", {"precision": "float32", "percentiles": [1, 99], "curve": [[1, 0.5, 0.1]]}
    )
    (folder / "config.yaml").write_text("samples: samples.tsv\nnetwork: network.json\nmask: {contrast: 0}\n")


def write_sheet(folder: Path, names: list[str]) -> None:
    """A row for each."""
    rows = [f"{name}\t{name}.tif\tpredict\n" for name in names]
    (folder / "samples.tsv").write_text("sample\tpath\tsplit\n" + "".join(rows))


def finish(folder: Path, names: list[str]) -> None:
    """The first slide truly, the others as its copies, with Snakemake's records of them all."""
    first = names[0]
    write_sheet(folder, [first])
    run(folder)
    records = [path for path in (folder / ".snakemake" / "metadata").rglob("*") if path.is_file()]
    made = {base64.b64decode(path.name).decode(): path for path in records}
    results = [output for output in made if Path(output).parts[1] in OUTPUTS]
    for output in sorted(results, key=lambda output: (folder / output).stat().st_mtime):
        content, record = (folder / output).read_bytes(), made[output].read_text()
        for name in names[1:]:
            other = folder / output.replace(first, name)
            other.parent.mkdir(parents=True, exist_ok=True)
            other.write_bytes(content)
            key = base64.b64encode(str(other.relative_to(folder)).encode()).decode()
            made[output].with_name(key).write_text(record.replace(first, name))
    write_sheet(folder, names)
    run(folder, "--touch", "--allowed-rules", "report", "--forcerun", "report", "--", "results/report.html")


def run(folder: Path, *options: str, snakefile: Path = ROOT / "Snakefile") -> tuple[str, float, float]:
    """What Snakemake prints, and its seconds: by the clock and of processors."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", snakefile, "--directory", folder]
    command += ["--configfile", folder / "config.yaml", "--cores", "2", *options]
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done.stdout + done.stderr, time.monotonic() - begun, after.ru_utime - before.ru_utime


def said(text: str, seconds: float, processor: float) -> str:
    """Seconds, memory and jobs of a run."""
    table = re.search(r"\njob +count\n[- ]+\n(.*?)\n\n", text, flags=re.DOTALL)
    jobs = ", ".join(" ".join(line.split()[::-1]) for line in table[1].splitlines()) if table else "no jobs"
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
    return f"{seconds:.0f} s ({processor:.0f} s of a processor), at most {peak:.2f} GB so far; {jobs}"


def process(folder: Path, count: int) -> None:
    """All images of a folder as one sample, each rule beside what it takes for one image."""
    begin(folder)
    random = np.random.default_rng(1)
    (folder / "images").mkdir()
    for number in range(count):
        tifffile.imwrite(folder / "images" / f"{number:05}.tif", random.integers(0, 255, (SIDE, SIDE), np.uint8))
    (folder / "samples.tsv").write_text("sample\tpath\tsplit\nplate\timages/*.tif\tpredict\n")
    begun = time.monotonic()
    print(f"{count} images of {SIDE} x {SIDE} pixels as one sample: {said(*run(folder))}")
    print(f"  {1000 * (time.monotonic() - begun) / count:.1f} ms an image in all")
    log = (folder / "logs" / "predict" / "plate-0.log").read_text()
    print(f"  {1000 * float(re.findall(r'network ([0-9.]+) s', log)[-1]) / count:.1f} ms of them in the network")
    for path in sorted((folder / "results" / "benchmarks").rglob("*.tsv")):
        with open(path) as file:
            (row,) = csv.DictReader(file, delimiter="\t")
        rule = path.relative_to(folder / "results" / "benchmarks").with_suffix("")
        clock, processor = (1000 * float(row[name]) / count for name in ("s", "cpu_time"))
        print(f"  {rule}: {clock:.1f} ms, {processor:.1f} of a processor")


if __name__ == "__main__":
    main()
