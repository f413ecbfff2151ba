"""Commands that look at what a run made."""

import json
import os
import webbrowser
from contextlib import suppress
from pathlib import Path
from threading import Event

import pandas as pd
from pyarrow.parquet import read_metadata

from unetpipe.cli.results import results_of
from unetpipe.totals import read_scores


def add(commands) -> None:
    """Add them to the command line."""
    _add_summary(commands)
    _add_report(commands)
    _add_view(commands)
    _add_picture(commands)
    _add_verify(commands)


def _add_summary(commands) -> None:
    shown = commands.add_parser(
        "summary",
        help="print what a run made, its scores and where to look",
        epilog="example: unetpipe summary my/results --intervals",
    )
    shown.add_argument("results", type=Path, help="of a run, or the folder of its config")
    shown.add_argument("--otsu", type=Path, metavar="DATA", help="score a global threshold on this demo data beside it")
    shown.add_argument(
        "--intervals", action="store_true", help="95 %% intervals, of 10,000 bootstrap samples of the images"
    )
    shown.set_defaults(run=_summary)


def _add_report(commands) -> None:
    report = commands.add_parser(
        "report",
        help="write a report of what a run has made so far",
        description="Writes report-so-far.html into the results: what failed and why, which samples are unlike the "
        "others, pictures, scores. A run that ends writes the same as report.html.",
        epilog="example: unetpipe report my/results",
    )
    report.add_argument("results", type=Path, help="of a run, or the folder of its config")
    report.set_defaults(run=_report)


def _add_view(commands) -> None:
    view = commands.add_parser(
        "view",
        help="look at images, probabilities, objects and truth in a browser",
        description="Serves the stores of a run to Neuroglancer in a browser on this machine until it is interrupted. "
        "Where the browser is elsewhere: ssh -L 8080:127.0.0.1:8080 MACHINE, and there unetpipe view with --port 8080.",
        epilog="examples:\n"
        "  unetpipe view my/results\n"
        "  unetpipe view my/results slide7 slide9\n"
        "  unetpipe view my/results slide7 --napari",
    )
    view.add_argument("results", type=Path, help="of a run, or the folder of its config")
    view.add_argument("samples", nargs="*", help="all if not given")
    view.add_argument("--port", type=int, default=0, help="to serve on (any that is free)")
    view.add_argument("--no-browser", action="store_true", help="print the address, and open nothing")
    view.add_argument("--napari", action="store_true", help="open one sample in napari instead, where it is installed")
    view.set_defaults(run=_view)


def _add_picture(commands) -> None:
    picture = commands.add_parser(
        "picture",
        help="draw a window of an image beside its objects",
        description="Objects are left out where there are none, as in images that the network learns from. Of a volume "
        "or a time series one plane is drawn: the one with most objects, or else the middle one.",
        epilog="example: unetpipe picture my/results/images/slide.ome.zarr window.png --at 1500 1700",
    )
    picture.add_argument("store", type=Path, help="results/images/SAMPLE.ome.zarr")
    picture.add_argument("output", type=Path, help="a PNG")
    picture.add_argument("--series", default="0", help="number of the image in the store")
    picture.add_argument(
        "--at", type=int, nargs=2, default=(0, 0), metavar=("Y", "X"), help="upper left corner, pixels"
    )
    picture.add_argument("--plane", type=int, nargs=2, metavar=("T", "Z"), help="another plane, from 0")
    picture.add_argument("--side", type=int, default=512, help="pixels")
    picture.set_defaults(run=_picture)


def _add_verify(commands) -> None:
    verified = commands.add_parser(
        "verify",
        help="find what is damaged among the results of a run",
        description="Compares every file of every store with its checksum, tables with the counts of objects, and "
        "computes some blocks again. Says what to delete, so that the next run makes that alone again; exit code 1.",
        epilog="example: unetpipe verify my/results",
    )
    verified.add_argument("results", type=Path, help="of a run, or the folder of its config")
    verified.add_argument("--blocks", type=int, default=3, help="of each sample, to be computed again (%(default)s)")
    verified.add_argument(
        "--network", type=Path, action="append", default=[], help="network.json that neither the run nor its config has"
    )
    verified.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    verified.add_argument("--threads", type=int, default=os.cpu_count(), help="(%(default)s)")
    verified.set_defaults(run=_verify)


def _summary(options) -> None:
    results = results_of(options.results)
    tables = sorted((results / "objects").glob("[!.]*.parquet"))
    print("\nobjects")
    for path in tables:
        print(f"  {path.name.removesuffix('.parquet'):12} {read_metadata(path).num_rows:7}   {path}")
    for path in sorted((results / "network").glob("*/network.json")):
        _say_kept(path)
    if (results / "scores.tsv").exists():
        scores = read_scores(results / "scores.tsv")
        print(f"\nscores (objects at IoU {scores.threshold[scores.metric == 'f1'].iloc[0]})")
        print(_score_table(scores, intervals=options.intervals))
    if options.otsu:
        print("\nfor comparison: F1 of a global Otsu threshold with connected components")
        for sample, f1 in _otsu(options.otsu).items():
            print(f"  {sample:12} {f1:.3f}")
    print(f"\nlook at {results / 'report.html'}; the stores in {results / 'images'} open in any viewer")


def _report(options) -> None:
    from unetpipe.report import SO_FAR, write_report

    results = results_of(options.results)
    write_report(results / SO_FAR, results=results)
    print(results / SO_FAR)


def _view(options) -> None:
    from unetpipe.view import serving, show_in_napari

    results = results_of(options.results)
    if options.napari:
        if len(options.samples) != 1:
            raise ValueError("--napari opens one sample; name it")
        show_in_napari(results, options.samples[0])
        return

    with serving(results, options.samples, port=options.port) as address, suppress(KeyboardInterrupt):
        print(f"{address}   until Ctrl-C", flush=True)
        if not options.no_browser:
            webbrowser.open(address)
        Event().wait()


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
        table[name] = [_with_interval(*part) for part in parts]
    return table[["sample", "images", "truths", "objects", *figures]].to_string(index=False, float_format="%.3f")


def _with_interval(value: float, low: float, high: float) -> str:
    """A figure with its interval, which a sample of one image does not have."""
    return f"{value:.3f}" if pd.isna(low) else f"{value:.3f} ({low:.3f}-{high:.3f})"


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


def _picture(options) -> None:
    import numpy as np
    from PIL import Image

    from unetpipe.report.pictures import coloured, grey
    from unetpipe.report.planes import plane_name
    from unetpipe.store import label_path, open_array

    entry = _series(options.store, options.series)
    (y, x), plane = options.at, _plane(options, entry)
    window = (slice(y, y + options.side), slice(x, x + options.side))
    t, z = plane
    image = open_array(options.store / options.series / "0")[(t, slice(None), z, *window)]
    if 0 in image.shape:
        raise ValueError(f"--at {y} {x} lies outside the image")
    plain = grey(image, *(np.percentile(image, percent, axis=(1, 2)).tolist() for percent in (0.5, 99.5)))
    drawn, objects = [plain], label_path(options.store, options.series, "objects")
    if (objects / "zarr.json").exists():
        drawn.append(coloured(plain, open_array(objects / "0")[(t, z, *window)]))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(drawn, axis=1)).save(options.output, optimize=True)
    print(f"{options.output}{plane_name(entry, plane)}")


def _series(store: Path, number: str) -> dict:
    """What a store says of one of its images."""
    from unetpipe.store import read_attributes

    if not (store / "zarr.json").exists():
        raise FileNotFoundError(f"{store} is no image store; name results/images/SAMPLE.ome.zarr of a run")
    entries = {entry["path"]: entry for entry in read_attributes(store / "zarr.json")["series"]}
    if number not in entries:
        raise ValueError(f"--series {number}: {store} has images 0 to {len(entries) - 1}")
    return entries[number]


def _plane(options, entry: dict) -> tuple[int, int]:
    """The one that is asked for, or the one with most objects."""
    from unetpipe.report.planes import fullest_plane

    if options.plane is None:
        results, sample = options.store.resolve().parents[1], options.store.name.removesuffix(".ome.zarr")
        table = results / "objects" / f"{sample}.parquet"
        return fullest_plane(table if table.exists() else None, entry)
    times, _, planes, *_ = entry["shape"]
    t, z = options.plane
    if not (0 <= t < times and 0 <= z < planes):
        raise ValueError(f"--plane {t} {z}: the image has times 0 to {times - 1} and planes 0 to {planes - 1}")
    return t, z


def _verify(options) -> None:
    from unetpipe.verification import verify

    wanted = {name: getattr(options, name) for name in ("blocks", "device")}
    wanted |= {"networks": options.network, "workers": options.threads}
    problems = 0
    for problem in verify(results_of(options.results), **wanted):
        print(problem, flush=True)
        problems += 1
    print(f"{problems} problems" if problems else "everything is as it was written")
    raise SystemExit(min(problems, 1))
