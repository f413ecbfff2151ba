"""Commands for a project as a whole: its beginning, and its run."""

import argparse
import os
import shlex
import sys
from pathlib import Path

SNAKEFILE = Path(__file__).parents[2] / "Snakefile"


def add(commands) -> None:
    """Add them to the command line."""
    _add_run(commands)


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
    run.add_argument("project", type=Path, metavar="PROJECT", help="the folder of config.yaml; results go there")
    run.add_argument("options", nargs=argparse.REMAINDER, metavar="SNAKEMAKE_OPTION", help="see snakemake --help")
    run.set_defaults(run=_run)


def _run(options) -> None:
    if not SNAKEFILE.exists():
        raise FileNotFoundError(
            f"{SNAKEFILE} does not exist: unetpipe is installed without its workflow; run `make setup` in a clone of "
            "its repository and take .venv/bin/unetpipe from there"
        )
    config = options.project / "config.yaml"
    if not config.exists():
        raise FileNotFoundError(f"{config} does not exist; write it with unetpipe init {options.project} --images …")
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(SNAKEFILE), "--configfile", str(config)]
    command += ["--directory", str(options.project), *options.options]
    print(shlex.join(command), flush=True)
    os.execv(command[0], command)  # noqa: S606 - no shell is meant
