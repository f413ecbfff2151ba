# Validates config and sheet, lists the samples, and names what each rule asks for.

import os
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

from unetpipe.config import listed, load_project, read_changes
from unetpipe.needs import Kind, prediction_mb
from unetpipe.notes import kind_of, read_notes
from unetpipe.revisions import REVISIONS

given = workflow.overwrite_configfiles
folder = (Path(given[-1]).parent if given else Path(workflow.basedir) / "config").resolve()
try:
    for path in given:
        read_changes(Path(path))
except ValueError as error:
    raise WorkflowError(f"nothing was started; mend first:\n  {error}")
SHEET, problems = load_project(config, folder)
if problems:
    raise WorkflowError(f"nothing was started; mend first:\n{problems}")


if workflow.global_resources["_nodes"].value is not None:
    # Jobs go to other machines: the cores of this one, which profiles/default says to use, are not theirs.
    workflow.global_resources["_cores"] = sys.maxsize


def near(paths):
    """Paths below the working directory as relative ones, so that a project that is moved stays as it is."""
    here = Path.cwd()
    whole = [Path(os.path.normpath(path)) for path in paths]
    return [str(path.relative_to(here) if path.is_relative_to(here) else path) for path in whole]


SAMPLES = {sample.name: sample for sample in SHEET}
NAMED = [[name, sample.split] for name, sample in SAMPLES.items()]
TRAINING = [name for name, sample in SAMPLES.items() if sample.split == "train"]
PREDICTED = [name for name, sample in SAMPLES.items() if sample.split != "train"]
SCORED = [name for name in PREDICTED if SAMPLES[name].split in ("val", "test")]
ANNOTATED = [*TRAINING, *SCORED]
VALIDATING = [name for name in SCORED if SAMPLES[name].split == "val"]
FOLDS = [str(fold) for fold in range(config["train"]["folds"])] or ["all"]
TRAINED = expand("results/network/{fold}/network.json", fold=FOLDS)
GIVEN = near(folder / path for path in listed(config["network"]))
if set(GIVEN) & set(TRAINED):
    raise WorkflowError(
        f"config: network names {GIVEN[0]}, which this run would train; copy its folder elsewhere first"
    )
NETWORKS = GIVEN or TRAINED
KIND = kind_of(GIVEN, read_notes(GIVEN)) if GIVEN else Kind.of_config(config)

IMAGE = "results/images/{sample}.ome.zarr/zarr.json"
TRUTH = "results/truth/{sample}.json"
TISSUE = "results/tissue/{sample}.json"
WEIGHTS = "results/weights/{sample}.zarr/zarr.json"
PROBABILITIES = "results/probabilities/{sample}.zarr/zarr.json"
PART = "results/probabilities/{sample}.parts/{part}.json"
OBJECTS = "results/objects/{sample}.json"
TABLE = "results/objects/{sample}.parquet"
OUTLINES = "results/objects/{sample}.geojson.gz"
CSV = "results/objects/{sample}.csv.gz"
TIFF = "results/objects/{sample}.ome.tif"
REPORT = ["results/report.html", "results/report/samples.tsv", "results/report/samples.parquet"]


wildcard_constraints:
    sample="[A-Za-z0-9][A-Za-z0-9._-]*",
    part="[0-9]+",
    fold="all|[0-9]+",


def ordered(value):
    """The same settings in the same order: Snakemake compares them as text."""
    if isinstance(value, dict):
        return {key: ordered(value[key]) for key in sorted(value)}
    return value


def growing(megabytes):
    """Memory to ask for: half as much more on each further attempt, since the one before may have run out of it."""
    return lambda wildcards, attempt: megabytes * (attempt + 1) // 2


def settings(section, **others):
    """A section of the config as one value, which reruns a rule when anything in it changes."""
    return ordered({**config[section], **others})


def prediction():
    """What all parts of a prediction agree on."""
    return ordered({key: config["predict"][key] for key in ("block", "planes", "views")})


def pretrained_file():
    """The file of pretrained weights, where the config names one."""
    source = config["train"]["pretrained"]
    return near([folder / source]) if source not in (None, "cache") else []


def training(wildcards):
    """The section, with the path of that file as seen from the working directory, and what a fold leaves out."""
    pretrained = {"pretrained": path for path in pretrained_file()}
    groups = [SAMPLES[name].group for name in TRAINING]
    fold = {} if wildcards.fold == "all" else {"fold": int(wildcards.fold), "groups": groups}
    return settings("train", dimensions=config["dimensions"], **pretrained, **fold)


def validating(path):
    """Of the samples that a network is scored on while it learns; folds are scored on what they leave out."""
    wanted = config["train"]["validations"] and not config["train"]["folds"]
    return expand(path, sample=VALIDATING if wanted else [])


def ingest_settings(wildcards):
    """The section, with what the sample's row overrides."""
    return settings("ingest", **SAMPLES[wildcards.sample].ingestion)


def truth_settings(wildcards):
    """The section, with the array inside the sample's annotation files where the row names one."""
    inside = SAMPLES[wildcards.sample].labels_inside
    return settings("truth", **({"inside": inside} if inside else {}))


def part_settings(wildcards):
    """What one part of a prediction needs beside its inputs."""
    sample = SAMPLES[wildcards.sample]
    store = PROBABILITIES.format(sample=sample.name)
    return {
        **prediction(),
        "sample": sample.name,
        "part": int(wildcards.part),
        "parts": sample.parts,
        "store": store,
    }


def files(wildcards):
    return near(SAMPLES[wildcards.sample].files)


def annotations(wildcards):
    return near(SAMPLES[wildcards.sample].labels)


def regions(wildcards):
    return near(SAMPLES[wildcards.sample].roi)


def given_networks(wildcards):
    """Those that are known from the beginning: an image that they could not predict is refused before any GPU is asked."""
    return GIVEN if wildcards.sample in PREDICTED else []


def training_image(wildcards):
    """One that all samples have to be like, where the network is yet to be trained."""
    return [] if GIVEN else expand(IMAGE, sample=TRAINING[:1])


def parts(wildcards):
    """Manifests of all parts of a sample's prediction."""
    return expand(PART, part=range(SAMPLES[wildcards.sample].parts), allow_missing=True)


def every_stage():
    """The output of every stage of every sample: a missing one is made again, however old the report is."""
    return [
        *expand([IMAGE, TISSUE], sample=SAMPLES),
        *expand(TRUTH, sample=ANNOTATED),
        *expand(WEIGHTS, sample=TRAINING if not config["network"] else []),
        *NETWORKS,
        *expand([PROBABILITIES, OBJECTS, TABLE, OUTLINES], sample=PREDICTED),
        *(["results/scores.tsv"] if SCORED else []),
        *REPORT,
    ]
