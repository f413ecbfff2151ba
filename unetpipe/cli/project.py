"""Commands for a project as a whole: its beginning, and its run."""

import argparse
import math
import os
import shlex
import shutil
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path

from unetpipe.cli.results import config_of

SPLITS = ("train", "val", "test", "predict")
SNAKEFILE = Path(__file__).parents[2] / "Snakefile"


def add(commands) -> None:
    """Add them to the command line."""
    _add_init(commands)
    _add_run(commands)


def _add_init(commands) -> None:
    begun = commands.add_parser(
        "init",
        help="begin a project: write its sheet and config from images and labels",
        description="Looks at every image and its labels, then writes PROJECT/samples.tsv (images by split; those "
        "without labels are to be predicted) and PROJECT/config.yaml (what matters for these images, with reasons). "
        "Files that exist are kept; it says how they differ.",
        epilog="examples:\n"
        "  unetpipe init my --images 'data/*.tif' --labels 'truth/*.tif'\n"
        "  unetpipe init my --images data --labels 'data/*_mask.png' --pixel-size 0.25\n"
        "  unetpipe init my --images 'volumes/*.h5:/raw' --labels 'volumes/*.h5:/label'\n"
        "  unetpipe init my --images mice --labels traced --group 'mouse[0-9]+'\n"
        "  unetpipe init new --images 'slides/*.svs' --network my/results/network/all/network.json",
    )
    begun.add_argument("project", type=Path, metavar="PROJECT", help="a folder, made if it does not exist")
    begun.add_argument("--images", nargs="+", required=True, metavar="PATH", help="files, folders, patterns in quotes")
    begun.add_argument(
        "--labels", nargs="+", default=[], metavar="PATH", help="likewise; paired by name, _mask and the like ignored"
    )
    begun.add_argument(
        "--network", type=Path, metavar="FILE", help="network.json of a trained one, to predict all images with"
    )
    begun.add_argument(
        "--group",
        metavar="REGEX",
        help="what it finds in an image's path is its group, which never straddles two splits; without it images in "
        "three folders and more are grouped by folder",
    )
    begun.add_argument(
        "--pixel-size",
        type=_sizes,
        default=(),
        metavar="UM",
        help="µm, where the files do not say: along y and x, or Z,Y,X of volumes",
    )
    begun.add_argument("--seed", type=int, default=1, help="of the splits (%(default)s)")
    begun.set_defaults(run=_init)


def _add_run(commands) -> None:
    run = commands.add_parser(
        "run",
        usage="unetpipe run PROJECT [SNAKEMAKE_OPTION ...]",
        help="run a project with Snakemake",
        description="Prints the snakemake command and takes its place: options, targets and exit code are Snakemake's.",
        epilog="examples:\n"
        "  unetpipe run my                              on this machine, all of its cores\n"
        "  unetpipe run my -n                           what would be done\n"
        "  unetpipe run my --profile profiles/slurm     on a cluster\n"
        "  unetpipe run my csv                          tables as CSV as well",
    )
    run.add_argument(
        "project", type=Path, metavar="PROJECT", help="its config, or the folder of that; results go there"
    )
    run.add_argument("options", nargs=argparse.REMAINDER, metavar="SNAKEMAKE_OPTION", help="see snakemake --help")
    run.set_defaults(run=_run)


def _init(options) -> None:
    from unetpipe.config import load_project, read_config
    from unetpipe.start import begin

    wanted = {name: getattr(options, name) for name in ("network", "group", "pixel_size", "seed")}
    begun = begin(options.project, options.images, options.labels, **wanted)
    config = options.project / "config.yaml"
    settings = read_config(config)
    _say_found(begun, options.seed)
    if begun.unsized and not options.pixel_size:
        said = f"pixel size of {begun.unsized} images unknown: fill the column of the sheet, or begin with --pixel-size"
        print(f"{said}; until then, columns in µm stay empty")
    if begun.unspaced:
        said = "write z,y,x in the column pixel_size, or begin with --pixel-size Z,Y,X"
        taken = "they count as 1 µm apart, or as a pixel is long where that is unknown too"
        print(f"how far apart the planes of {begun.unspaced} volumes are is unknown: {taken}; {said}")
    _say_written(begun)
    _, problems = load_project(settings, options.project)
    if problems:
        print(f"before it runs, mend\n{problems}")
    print(f"next:\n  {_called()} doctor {config}\n  {_called()} run {options.project}")


def _sizes(text: str) -> tuple[float, ...]:
    with suppress(ValueError):
        sizes = tuple(map(float, text.split(",")))
        if len(sizes) in (1, 3) and all(0 < size < math.inf for size in sizes):
            return sizes
    raise argparse.ArgumentTypeError(f"{text!r} is neither one number above 0 nor three, Z,Y,X")


def _called() -> str:
    """How this command is called here: by its path, unless the shell finds it."""
    given, found = Path(sys.argv[0]), shutil.which("unetpipe")
    named = given.name == "unetpipe" and given.exists()
    return str(given) if named and not (found and given.samefile(found)) else "unetpipe"


def _say_found(begun, seed: int) -> None:
    """How many images are in each split and why, and what the labels are."""
    splits = Counter(image.split for image in begun.images)
    print(", ".join(f"{splits[split]} {split}" for split in SPLITS if splits[split]), "images", end="")
    drawn = begun.annotations and not begun.likeness and any(splits[split] for split in ("train", "val"))
    print(f"; splits drawn with seed {seed}" if drawn else "")
    if begun.likeness:
        near, far = begun.likeness
        print(
            f"images that follow one another look alike (correlation {near:.2f}, nine in ten others below {far:.2f}),\n"
            "as in a time-lapse or in serial sections: the last are for test; --group draws otherwise"
        )
    if begun.annotations:
        print(f"labels: {begun.annotations.kind} (guessed: {begun.annotations.reason})")


def _say_written(begun) -> None:
    for path in begun.written:
        print(f"wrote {path}")
    for path, difference in begun.kept.items():
        print(f"kept {path}, which is {'not as it would be written:' if difference else 'as it would be written'}")
        print(difference, end="\n" if difference else "")


def _run(options) -> None:
    if not SNAKEFILE.exists():
        raise FileNotFoundError(
            f"{SNAKEFILE} does not exist: unetpipe is installed without its workflow; run `make setup` in a clone of "
            "its repository and take .venv/bin/unetpipe from there"
        )
    config = config_of(options.project)
    if not config.exists():
        folder = config.parent if config.suffix in (".yaml", ".yml") else config
        raise FileNotFoundError(f"{config} does not exist; write it with unetpipe init {folder} --images …")
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(SNAKEFILE), "--configfile", str(config)]
    command += ["--directory", str(config.parent), *options.options]
    print(shlex.join(command), flush=True)
    os.execv(command[0], command)  # noqa: S606 - no shell is meant
