"""The `unetpipe` command."""

import argparse
import json
import os
from pathlib import Path

import pandas as pd

from unetpipe import __version__


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line and run one command."""
    parser = argparse.ArgumentParser(prog="unetpipe", description=__doc__)
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    demo = commands.add_parser("demo-data", help="draw the demo's images from a seed")
    demo.add_argument("folder", type=Path)
    demo.add_argument("--seed", type=int, default=1)
    demo.set_defaults(run=_demo_data)

    shown = commands.add_parser("summary", help="print what a run made, its scores and where to look")
    shown.add_argument("results", type=Path)
    shown.add_argument("--otsu", type=Path, metavar="DATA", help="score a global threshold on this demo data beside it")
    shown.add_argument(
        "--intervals", action="store_true", help="95 %% intervals, of 10,000 bootstrap samples of the images"
    )
    shown.set_defaults(run=_summary)

    picture = commands.add_parser("picture", help="draw a window of an image beside its objects")
    picture.add_argument("store", type=Path, help="results/images/SAMPLE.ome.zarr")
    picture.add_argument("output", type=Path, help="a PNG")
    picture.add_argument("--series", default="0", help="number of the image in the store")
    picture.add_argument(
        "--at", type=int, nargs=2, default=(0, 0), metavar=("Y", "X"), help="upper left corner, pixels"
    )
    picture.add_argument("--side", type=int, default=512, help="pixels")
    picture.set_defaults(run=_picture)

    _add_inspect(commands)
    _add_predict(commands)
    _add_plan(commands)
    _add_doctor(commands)
    _add_tune(commands)
    _add_verify(commands)
    exported = commands.add_parser("export", help="write a trained network as ONNX or as bioimage.io package")
    exported.add_argument("network", type=Path, help="results/network/all/network.json")
    exported.add_argument("output", type=Path, help="FILE.onnx, or FILE.zip: a package for Fiji, QuPath and ilastik")
    exported.add_argument("--name", default="unetpipe U-Net", help="of the package's model (%(default)s)")
    exported.add_argument(
        "--licence", default="CC-BY-4.0", help="of the package's weights, an SPDX identifier (%(default)s)"
    )
    exported.set_defaults(run=_export)

    figures = commands.add_parser(
        "figures",
        help="draw the weights and the deformation of an image, as figures 3 and 2 of the paper",
        description="Writes weights.png and deformation.png, of cells like the demo's or of a file. "
        "Arrows show where the image moves at the points of the coarse grid; the drawn grid ends where the image ends: "
        "beyond, it is mirrored.",
        epilog="example: unetpipe figures figures --image cells.tif --labels cells-ids.tif",
    )
    figures.add_argument("folder", type=Path, metavar="OUTPUT_FOLDER")
    figures.add_argument("--image", type=Path, metavar="FILE", help="its first plane, of large ones the middle")
    figures.add_argument("--labels", type=Path, metavar="FILE", help="instance ids of the same shape, 0 is background")
    figures.set_defaults(run=_figures)

    options = parser.parse_args(arguments)
    try:
        options.run(options)
    except (OSError, ValueError, RuntimeError) as error:
        raise SystemExit(f"unetpipe: {error}") from error


def _add_inspect(commands) -> None:
    inspected = commands.add_parser(
        "inspect",
        help="what image files hold, and whether they will be read",
        description="Opens every file, reads a few pixels of each series and prints a line for it; exit code 1 if any "
        "would be refused. Folders are searched. file.h5:/array names an array inside.",
        epilog="example: unetpipe inspect slides/ truth/*.tif volumes/a.h5:/raw",
    )
    inspected.add_argument("paths", nargs="+", metavar="PATH")
    inspected.add_argument("--json", action="store_true", help="for programs")
    inspected.set_defaults(run=_inspect)


def _add_predict(commands) -> None:
    predicted = commands.add_parser(
        "predict",
        help="predict one image file",
        description="Writes the image's store, its tissue and its probabilities (p x 255), as the workflow does.",
        epilog="example: unetpipe predict results/network/all/network.json slide.svs out",
    )
    predicted.add_argument("network", type=Path, nargs="+", help="network.json; of several the mean is taken")
    predicted.add_argument("image", help="any format that the workflow reads; file.h5:/array names an array inside")
    predicted.add_argument("output", type=Path, metavar="OUTPUT_FOLDER", help="the same one goes on where it stopped")
    predicted.add_argument("--views", type=int, default=1, choices=(1, 8), help="8: mean of rotations and mirrorings")
    predicted.add_argument(
        "--contrast", type=float, default=0.15, help="below it is empty glass; 0: nothing is empty (%(default)s)"
    )
    predicted.add_argument("--block", type=_side, default="auto", help="pixels, a multiple of 256 (%(default)s)")
    predicted.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    predicted.add_argument("--threads", type=int, default=os.cpu_count(), help="(%(default)s)")
    predicted.set_defaults(run=_predict)


def _side(text: str) -> int | str:
    return text if text == "auto" else int(text)


def _add_plan(commands) -> None:
    planned = commands.add_parser(
        "plan",
        help="what a run will take: blocks, memory, disk, time",
        description="Opens every file of the sheet, times each stage on this machine, and prints a line for each rule "
        "of each sample. Memory is that of a job on the CPU; disk is before compression; time is that of one job after "
        "the other, all blocks holding tissue.",
        epilog="example: unetpipe plan my/config.yaml",
    )
    planned.add_argument("config", type=Path)
    planned.add_argument("--data", type=Path, help="instead of the config's key data")
    planned.add_argument("--threads", type=int, default=os.cpu_count(), help="of a job (%(default)s)")
    planned.set_defaults(run=_plan)


def _add_doctor(commands) -> None:
    doctor = commands.add_parser(
        "doctor",
        help="whether machine, project and cluster are ready",
        description="Prints a line for each thing that a run relies on: ✓ good, ✗ bad with what to do, – neither. With "
        "a config it opens every file of the sheet; with a profile for Slurm it asks whether a job of each rule would "
        "be accepted, and runs a short one in each partition. Exit code 1 if anything is bad.",
        epilog="example: unetpipe doctor my/config.yaml --profile profiles/slurm",
    )
    doctor.add_argument("config", type=Path, nargs="?")
    doctor.add_argument("--profile", type=Path, help="a folder, as for snakemake")
    doctor.add_argument("--directory", type=Path, help="where the run will be; the config's folder if not given")
    doctor.add_argument("--data", type=Path, help="instead of the config's key data")
    doctor.set_defaults(run=_doctor)


def _add_tune(commands) -> None:
    tuned = commands.add_parser(
        "tune",
        help="which threshold, splitting and smallest size suit the images of split val best",
        description="Labels and scores the predicted images of split val with other settings of the section label; "
        "prints the best, that of the run among them, and what to set.",
        epilog="example: unetpipe tune my/results --metric f1",
    )
    tuned.add_argument("results", type=Path)
    tuned.add_argument("samples", nargs="*", help="all of split val if not given")
    tuned.add_argument(
        "--metric",
        default="ap",
        choices=("f1", "ap", "mean_iou", "rand", "information", "pixel_error"),
        help="(%(default)s)",
    )
    tuned.add_argument("--threads", type=int, default=os.cpu_count(), help="(%(default)s)")
    tuned.set_defaults(run=_tune)


def _add_verify(commands) -> None:
    verified = commands.add_parser(
        "verify",
        help="find what is damaged among the results of a run",
        description="Compares every file of every store with its checksum, tables with the counts of objects, and "
        "computes some blocks again. Says what to delete, so that the next run makes that alone again; exit code 1.",
        epilog="example: unetpipe verify results",
    )
    verified.add_argument("results", type=Path)
    verified.add_argument("--blocks", type=int, default=3, help="of each sample, to be computed again (%(default)s)")
    verified.add_argument("--network", type=Path, action="append", default=[], help="network.json from elsewhere")
    verified.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    verified.set_defaults(run=_verify)


def _verify(options) -> None:
    from unetpipe.verification import verify

    if not (options.results / "images").is_dir():
        raise SystemExit(f"{options.results} is not the results folder of a run; try {options.results / 'results'}")
    wanted = {"blocks": options.blocks, "networks": options.network, "device": options.device}
    problems = 0
    for problem in verify(options.results, **wanted):
        print(problem, flush=True)
        problems += 1
    print(f"{problems} problems" if problems else "everything is as it was written")
    raise SystemExit(min(problems, 1))


def _demo_data(options) -> None:
    from unetpipe.demo import write_demo

    write_demo(options.folder, seed=options.seed)
    print(f"demo data in {options.folder}")


def _summary(options) -> None:
    if not options.results.is_dir() or not (options.results / "images").exists():
        raise SystemExit(f"{options.results} is not the results folder of a run; try {options.results / 'results'}")
    tables = sorted((options.results / "objects").glob("*.parquet"))
    print("\nobjects")
    for path in tables:
        print(f"  {path.name.removesuffix('.parquet'):12} {len(pd.read_parquet(path)):7}   {path}")
    for path in sorted((options.results / "network").glob("*/network.json")):
        _say_kept(path)
    scores = options.results / "scores.tsv"
    if scores.exists():
        print("\nscores (objects at IoU 0.5)")
        print(_score_table(pd.read_csv(scores, sep="\t"), intervals=options.intervals))
    if options.otsu:
        print("\nfor comparison: F1 of a global Otsu threshold with connected components")
        for sample, f1 in _otsu(options.otsu).items():
            print(f"  {sample:12} {f1:.3f}")
    print(f"\nlook at {options.results / 'report.html'}; the stores in {options.results / 'images'} open in any viewer")


def _say_kept(path: Path) -> None:
    """At which threshold a network was best while it learnt."""
    note = json.loads(path.read_text())
    if kept := note.get("kept"):
        best = f"{note['settings']['metric']} {kept['value']:.3f} on images held out"
        print(f"network {path.parent.name}: {best}, at threshold {kept['threshold']}; see label.threshold")


def _score_table(scores: pd.DataFrame, *, intervals: bool) -> str:
    from unetpipe.totals import wide

    figures = ["f1", "ap", "mean_iou", "pixel_error", "rand", "information"]
    table = wide(scores)
    for name in figures if intervals else []:
        parts = zip(table[name], table[f"{name}_low"], table[f"{name}_high"], strict=True)
        table[name] = [f"{value:.3f} ({low:.3f}-{high:.3f})" for value, low, high in parts]
    return table[["sample", "images", "truths", "objects", *figures]].to_string(index=False, float_format="%.3f")


def _inspect(options) -> None:
    from unetpipe.inspection import find_files, inspect, table

    rows = []
    for given in options.paths:
        outside, _, inside = given.partition(":/")
        rows += [row for path in find_files([Path(outside)]) for row in inspect(path, inside)]
    print(json.dumps(rows, indent=1, ensure_ascii=False) if options.json else table(rows) or "no image files there")
    if not rows or any(row["problem"] for row in rows):
        raise SystemExit(1)


def _predict(options) -> None:
    from unetpipe.trained import predict_file

    options.output.mkdir(parents=True, exist_ok=True)
    wanted = {name: getattr(options, name) for name in ("contrast", "block", "views", "device", "threads")}
    image, _, inside = options.image.partition(":/")
    print(predict_file(options.network, image, options.output, inside=inside, **wanted))


def _doctor(options) -> None:
    from itertools import chain

    from unetpipe.doctor import examine_cluster, examine_machine, examine_project

    directory = options.directory or (options.config.parent if options.config else Path())
    examined = [examine_machine()]
    if options.config:
        examined.append(examine_project(_read_config(options), options.config.parent, directory / "results"))
    if options.profile:
        examined.append(examine_cluster(options.profile, options.config, directory))
    bad = 0
    for finding in chain(*examined):
        print(finding, flush=True)
        bad += finding.mark == "✗"
    raise SystemExit(min(bad, 1))


def _read_config(options) -> dict:
    """The config, with the folder of data that the command line names."""
    from unetpipe.config import read_config

    config = read_config(options.config)
    return {**config, "data": str(options.data.resolve())} if options.data else config


def _plan(options) -> None:
    from unetpipe.config import load_project
    from unetpipe.plan import Plan, calibrate, make_network, measure_size, table

    config = _read_config(options)
    samples, problems = load_project(config, options.config.parent)
    if problems:
        raise SystemExit(f"mend first:\n{problems}")
    scale = {name: config["ingest"][name] for name in ("pixel_size", "resample")}
    sizes = {sample.name: measure_size(sample, **scale) for sample in samples}
    network = make_network(config, options.config.parent, sizes)
    plan = Plan(config, samples, sizes, network)
    print(table(plan.lines(calibrate(plan.config, network, plan.tiles(), options.threads))))


def _tune(options) -> None:
    from unetpipe.tuning import choose_samples, tune

    samples = choose_samples(options.results, options.samples)
    table = tune(options.results, samples, metric=options.metric, workers=options.threads)
    shown = table[(table.index < 8) | table.now]
    figures = ["f1", "ap", "mean_iou", "pixel_error", "rand", "information"]
    print(f"{', '.join(samples)}: {int(table.images[0])} images, the best by {options.metric} first; * as in this run")
    columns = ["threshold", "split", "min_size", "holes", "expand", *figures]
    lines = shown[columns].assign(now=["*" if now else "" for now in shown.now]).rename(columns={"now": ""})
    print(lines.to_string(index=False, float_format="%.3f"))
    best = table.iloc[0]
    print(f"\nlabel:\n  threshold: {best.threshold}\n  split: {best.split}\n  min_size: {best.min_size}")


def _picture(options) -> None:
    import numpy as np
    from PIL import Image

    from unetpipe.report.pictures import coloured, grey
    from unetpipe.store import label_path, open_array

    y, x = options.at
    window = (slice(y, y + options.side), slice(x, x + options.side))
    image = open_array(options.store / options.series / "0")[(0, slice(None), 0, *window)]
    objects = open_array(label_path(options.store, options.series, "objects") / "0")[(0, 0, *window)]
    if 0 in objects.shape:
        raise ValueError(f"--at {y} {x} lies outside the image")
    plain = grey(image, *(np.percentile(image, percent, axis=(1, 2)).tolist() for percent in (0.5, 99.5)))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate([plain, coloured(plain, objects)], axis=1)).save(options.output, optimize=True)
    print(options.output)


def _export(options) -> None:
    try:
        from unetpipe.export import export_onnx, export_package
    except ImportError as error:
        raise SystemExit(f"{error}; install what exporting needs: pip install 'unetpipe[export]'") from error

    if options.output.suffix == ".onnx":
        export_onnx(options.network, options.output)
    elif options.output.suffix == ".zip":
        export_package(options.network, options.output, name=options.name, licence=options.licence)
    else:
        raise SystemExit(f"{options.output} ends neither in .onnx nor in .zip; name the kind of file that way")
    print(options.output)


def _figures(options) -> None:
    from unetpipe.figures import write_figures

    print(*write_figures(options.folder, image=options.image, labels=options.labels), sep="\n")


def _otsu(folder: Path) -> dict[str, float]:
    """F1 at IoU 0.5, pooled over the images of each annotated sample of the demo."""
    from tifffile import imread

    from unetpipe.demo import otsu_objects
    from unetpipe.metrics import Overlaps, Pairs, detection, matches

    pairs = {"test": [(p, folder / "test/labels" / p.name) for p in sorted((folder / "test/images").iterdir())]}
    pairs["slide"] = [(folder / "slide/slide.tif", folder / "slide/labels.tif")]
    scores = {}
    for sample, files in pairs.items():
        pairs_of = [Pairs.of(imread(truth), otsu_objects(imread(image))) for image, truth in files]
        tables = [Overlaps.of(pairs) for pairs in pairs_of]
        matched = sum(len(matches(table, 0.5)) for table in tables)
        counts = [sum(len(part) for part in parts) for parts in zip(*((t.truth, t.found) for t in tables), strict=True)]
        scores[sample] = detection(matched, *counts)["f1"]
    return scores
