"""Commands that make the next run better."""

import argparse
import os
from contextlib import suppress
from functools import partial
from pathlib import Path

from unetpipe.cli.results import results_of

FEW = 3  # images, by which one setting is hardly told from another


def add(commands) -> None:
    """Add them to the command line."""
    _add_tune(commands)
    _add_suggest(commands)


def _add_tune(commands) -> None:
    tuned = commands.add_parser(
        "tune",
        help="which threshold, splitting and smallest size suit the images of split val best",
        description="Labels and scores the predicted images of split val with other settings of the section label; "
        "prints the best, that of the run among them, and what to set.",
        epilog="example: unetpipe tune my/results --metric f1",
    )
    tuned.add_argument("results", type=Path, help="of a run, or the folder of its config")
    tuned.add_argument("samples", nargs="*", help="all of split val if not given")
    tuned.add_argument(
        "--metric",
        default="ap",
        choices=("f1", "ap", "mean_iou", "rand", "information", "pixel_error"),
        help="(%(default)s)",
    )
    tuned.add_argument("--threads", type=int, default=os.cpu_count(), help="(%(default)s)")
    tuned.set_defaults(run=_tune)


def _add_suggest(commands) -> None:
    suggested = commands.add_parser(
        "suggest",
        help="which regions to annotate next",
        description="Finds squares of predicted images where the network is unsure and that look unlike what it has "
        "learnt from, and writes GeoJSON to open in QuPath: the squares, of class Region*, with the objects found in "
        "them. Correct those, export them, and name the file in the column labels of a row of split train.",
        epilog="example: unetpipe suggest my/results --count 20",
    )
    suggested.add_argument("results", type=Path, help="of a run, or the folder of its config")
    suggested.add_argument("samples", nargs="*", help="all predicted ones without truth if not given")
    suggested.add_argument("--count", type=partial(_whole, 1), default=10, help="of squares (%(default)s)")
    suggested.add_argument("--side", type=partial(_whole, 16), default=512, help="of a square, pixels (%(default)s)")
    suggested.add_argument("--to", type=Path, metavar="FOLDER", help="(suggested, beside the results)")
    suggested.add_argument("--threads", type=int, default=os.cpu_count(), help="(%(default)s)")
    suggested.set_defaults(run=_suggest)


def _whole(least: int, text: str) -> int:
    """A number of the command line."""
    with suppress(ValueError):
        if int(text) >= least:
            return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no whole number of {least} or more")


def _tune(options) -> None:
    from unetpipe.tuning import choose_samples, tune

    results = results_of(options.results)
    samples = choose_samples(results, options.samples)
    table = tune(results, samples, metric=options.metric, workers=options.threads)
    shown = table[(table.index < 8) | table.now]
    figures = ["f1", "ap", "mean_iou", "pixel_error", "rand", "information"]
    images = int(table.images[0])
    print(f"{', '.join(samples)}: {images} images, the best by {options.metric} first; * as in this run")
    columns = ["threshold", "core", "split", "min_size", "holes", "expand", *figures]
    lines = shown[columns].assign(now=["*" if now else "" for now in shown.now]).rename(columns={"now": ""})
    print(lines.to_string(index=False, float_format="%.3f"))
    if images < FEW:
        print(f"of so few images ({images}) close settings differ by chance: put more of them into split val")
    best = table.iloc[0]
    print("\nin the section label of the config:")
    print("\n".join(f"  {name}: {best[name]}" for name in ("threshold", "core", "split", "min_size")))


def _suggest(options) -> None:
    from unetpipe.correction import write_rows
    from unetpipe.suggestion import by_file, suggest, write_suggestions

    results = results_of(options.results)
    project = Path(os.path.normpath(results.absolute())).parent  # also where results is a link to another disk
    folder = options.to or project / "suggested"
    found = suggest(results, options.samples, count=options.count, side=options.side, workers=options.threads)
    files, rows = by_file(found, folder), folder / "rows.tsv"
    written = write_rows(project, {path: several[0].window.image for path, several in files.items()}, rows)
    write_suggestions(files)
    paths = {id(suggestion): path for path, several in files.items() for suggestion in several}
    print("     y      x  uncertainty  distance  image")
    for one in found:
        y, x = (part.start for part in one.window.plane)
        distance = "-" if one.distance != one.distance else f"{one.distance:.1f}"
        print(f"{y:6} {x:6} {one.uncertainty:12.4f} {distance:>9}  {one.window.image.entry['name']}: {paths[id(one)]}")
    if len(found) < options.count:
        print(
            f"no more squares of {options.side} pixels hold tissue that nobody annotated; a smaller --side gives more"
        )
    for path in written.shared:
        print(f"no row for {path}: its image shares a file with others; save it as a file, and write a row of both")
    sheet = written.sheet
    how = f"add the rows of {rows} to {sheet}" if sheet else "name it in the column labels of a row of split train"
    print(f"correct these in QuPath, export each over its file, and {how}")
