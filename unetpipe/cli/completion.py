"""The command that lets a shell complete the others."""

from pathlib import Path

SHELLS = ("bash", "zsh", "tcsh")


def add(commands) -> None:
    """Add it to the command line."""
    completion = commands.add_parser(
        "completion",
        help="print what lets a shell complete commands, options and files",
        epilog="examples:\n"
        "  unetpipe completion bash > ~/.local/share/bash-completion/completions/unetpipe\n"
        "  unetpipe completion zsh > ~/.zfunc/_unetpipe",
    )
    completion.add_argument("shell", choices=SHELLS)
    completion.set_defaults(run=_completion, commands=commands.choices)


def _completion(options) -> None:
    import shtab

    for command in options.commands.values():
        for action in command._actions:  # noqa: SLF001 - argparse has no other list of them
            if action.type is Path:
                action.complete = shtab.FILE
    print(shtab.complete(options.parser, options.shell))
