"""The `unetpipe` command."""

import argparse
import os
import sys

from unetpipe import __version__
from unetpipe.cli import after, before, better, completion, networks, project

EXPECTED = (OSError, ValueError, RuntimeError)  # whose sentence says what to do


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line and run one command; an error is one sentence, with `--debug` where it arose as well."""
    options = make_parser().parse_args(arguments)
    try:
        options.run(options)
        sys.stdout.flush()
    except BrokenPipeError:  # `| head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except Exception as error:
        if options.debug:
            raise
        said = f"{error}" if isinstance(error, EXPECTED) else f"{type(error).__name__}: {error}; --debug shows where"
        raise SystemExit(f"unetpipe: {said}") from error


def make_parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    parser = argparse.ArgumentParser(prog="unetpipe", description=__doc__)
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("--debug", action="store_true", help="show where an error arose")
    parser.set_defaults(parser=parser)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for room in (project, before, after, better, networks, completion):
        room.add(commands)
    for command in commands.choices.values():
        command.formatter_class = Help
        command.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    return parser


class Help(argparse.HelpFormatter):
    """Examples stay as they are written, so that they can be copied; all else is wrapped."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if text.startswith("example") else super()._fill_text(text, width, indent)
