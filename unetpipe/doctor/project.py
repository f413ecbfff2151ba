"""Config, sheet, every file of the sheet, networks, and room for the results."""

import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

from unetpipe.config import listed, load_project
from unetpipe.doctor.findings import Finding, bad, good, unsure
from unetpipe.geometry import common_pixel_size
from unetpipe.inspection import inspect, stored
from unetpipe.locks import held
from unetpipe.notes import Expected, check_image, expected_by, read_notes
from unetpipe.plan import Plan, Size, make_network
from unetpipe.plan.calibration import Costs
from unetpipe.pretrained import find_weights, read_weights
from unetpipe.readers.series import Series
from unetpipe.regions import read_regions
from unetpipe.saved import load_network
from unetpipe.sheet import Sample
from unetpipe.truth import check_annotations

RULES = ("ingest", "mask", "truth", "weights", "label", "measure", "score")
NOTHING = Costs(0.0, 0.0, dict.fromkeys(RULES, 0.0), 0.0, 0.0)
ARRAYS = 8  # files of a shard: image, tissue, truth, weights, probabilities, objects, with their pyramids
OTHERS = 25  # of a series: metadata and what is smaller than a shard (20 series of isbi2012 have 614 files in all)


def examine_project(config: dict, folder: Path, results: Path) -> Iterator[Finding]:
    """What can be known of a project without running it; every file is opened and read at three places.

    Parameters
    ----------
    config : dict
        All sections, defaults included.
    folder : path
        Of the config file.
    results : path
        Where the results will lie; of a folder that is not there yet, the file system where it would be.
    """
    samples, problems = load_project(config, folder)
    yield from (bad(text) for text in problems)
    if problems:
        return
    yield good(f"config and sheet: {len(samples)} samples")
    refused = [*(finding for sample in samples for finding in _files(sample))]
    series: dict[str, list[Series]] = {}
    refused = refused or [*_unfit(config, samples, series)]
    refused = refused or [*_misfits(config, folder, samples, series), *_annotations(samples, series)]
    yield from refused
    if not refused:
        count = sum(len(sample.files) + len(sample.labels) for sample in samples)
        yield good(f"{count} files open")
    yield from (_network(folder / path) for path in listed(config["network"]))
    if config["train"]["pretrained"] and not config["network"]:
        yield _pretrained(config["train"], folder)
    existing = next(path for path in (results.absolute(), *results.absolute().parents) if path.exists())
    yield _writable(existing)
    if any((results.absolute().parent / ".snakemake" / "locks").glob("*")):
        said = f"{results.absolute().parent} is locked: a run goes on there, or was killed"
        yield unsure(said, "where none goes on: unetpipe run PROJECT --unlock")
    if not refused:
        sizes = {name: Size.of(found) for name, found in series.items()}
        yield from _room(config, folder, samples, sizes, existing)


def _files(sample: Sample) -> Iterator[Finding]:
    """Files of a sample that would be refused."""
    images = (row for path in sample.files for row in inspect(Path(path), sample.inside))
    labels = (row for path in sample.labels for row in inspect(Path(path), sample.labels_inside, palette=False))
    for row in chain(images, labels):
        if row["problem"]:
            yield bad(f'sample "{sample.name}": {row["problem"]}')


def _unfit(config: dict, samples: Sequence[Sample], series: dict[str, list[Series]]) -> Iterator[Finding]:
    """Samples that could not be stored as config and sheet say; the series of all others are added."""
    for sample in samples:
        try:
            series[sample.name] = stored(sample, config["ingest"])
        except ValueError as error:
            yield bad(f'sample "{sample.name}": {error}')


def _misfits(
    config: dict, folder: Path, samples: Sequence[Sample], series: Mapping[str, Sequence[Series]]
) -> Iterator[Finding]:
    """Images that the network, a trained one or the one that is to be trained, could not predict."""
    paths = [str(folder / path) for path in listed(config["network"])]
    if paths:
        expected = expected_by(paths[0], read_notes(paths)[0])
    else:
        training = [one for sample in samples if sample.split == "train" for one in series[sample.name]]
        size = common_pixel_size([one.pixel_size for one in training])
        first = training[0]
        expected = Expected(first.shape[1], first.channels, size, f"training image {first.name} has")
    for sample in (sample for sample in samples if sample.split != "train" or not paths):
        for one in series[sample.name]:
            try:
                check_image(one._asdict(), sample.name, expected)
            except ValueError as error:
                yield bad(str(error))


def _annotations(samples: Sequence[Sample], series: Mapping[str, Sequence[Series]]) -> Iterator[Finding]:
    """Labels that do not fit their images, and regions that cannot be read."""
    for sample in samples:
        try:
            if sample.labels:
                check_annotations(sample.labels, sample.labels_inside, series[sample.name], sample.name)
            for path in sample.roi:
                read_regions(path)
        except (ValueError, RuntimeError, OSError) as error:
            yield bad(f'sample "{sample.name}": {error}')


def _network(path: Path) -> Finding:
    try:
        load_network(path)
    except (OSError, ValueError) as error:
        return bad(str(error))
    return good(f"network {path} is whole")


def _pretrained(settings: dict, folder: Path) -> Finding:
    backbone, source = settings["backbone"], settings["pretrained"]
    try:
        path = find_weights(backbone, source if source == "cache" else str(folder / source))
        read_weights(backbone, path)
    except ImportError as error:
        return bad(f"train.backbone {backbone}: {error}", "pip install timm, or set train.backbone to null")
    except (OSError, RuntimeError, ValueError) as error:
        return bad(str(error))
    return good(f"{path} holds weights of {backbone}")


def _writable(folder: Path) -> Finding:
    """Whether files can be made there, and locked."""
    probe = folder / f".doctor-{uuid.uuid4().hex}"
    try:
        with held(probe):
            pass
        probe.unlink()
    except OSError as error:
        return bad(f"{folder}: {error.strerror}", "results have to lie where you may write")
    return good(f"{folder}: files can be written")


def _room(
    config: dict, folder: Path, samples: Sequence[Sample], sizes: dict[str, Size], results: Path
) -> Iterator[Finding]:
    try:
        network = make_network(config, folder, sizes)
    except ValueError as error:
        yield unsure(f"how much disk the results take is not known: {error}")
        return
    need = sum(line.disk for line in Plan(config, list(samples), sizes, network).lines(NOTHING))
    free = shutil.disk_usage(results).free
    said = f"disk: {need / 1e9:.1f} GB at most, before compression; {free / 1e9:.1f} GB are free"
    yield good(said) if need < free else unsure(said, "see that there is room")
    shard, there = config["ingest"]["shard"], os.statvfs(results)
    shards = sum(s[0] * s[2] * -(-s[3] // shard) * -(-s[4] // shard) for size in sizes.values() for s in size.shapes)
    files = ARRAYS * shards + OTHERS * sum(len(size.shapes) for size in sizes.values())
    if there.f_files:
        said = f"about {files} files; {there.f_favail} more are possible there"
        advice = "set ingest.shard higher, or ask for more inodes"
        yield good(said) if files < there.f_favail else bad(said, advice)
