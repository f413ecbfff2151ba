"""The `unetpipe` command."""

import argparse

from unetpipe import __version__
from unetpipe.cli import after, before, networks


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line and run one command."""
    parser = argparse.ArgumentParser(prog="unetpipe", description=__doc__)
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for room in (before, after, networks):
        room.add(commands)
    options = parser.parse_args(arguments)
    try:
        options.run(options)
    except (OSError, ValueError, RuntimeError) as error:
        raise SystemExit(f"unetpipe: {error}") from error
