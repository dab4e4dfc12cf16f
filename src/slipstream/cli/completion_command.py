"""`slipstream completion SHELL`: the script for tab completion of slipstream's commands and settings."""

from __future__ import annotations

from collections.abc import Sequence

from slipstream.cli.commands import CommandParser

WHAT = """Print the script for tab completion of commands, options, run folders and settings.

For `python train.py` instead of slipstream: eval "$(python train.py -sc install=bash)"."""
EXAMPLES = (
    'eval "$(slipstream completion bash)"    # add this line to ~/.bashrc',
    'eval "$(slipstream completion zsh)"     # for ~/.zshrc, after compinit',
    "slipstream completion fish | source     # for ~/.config/fish/config.fish",
)
SHELLS = ("bash", "zsh", "fish")


def parser() -> CommandParser:
    """Return the command's parser."""
    made = CommandParser("completion", WHAT, EXAMPLES)
    made.add_argument("shell", metavar="SHELL", choices=SHELLS, help="bash, zsh or fish")
    return made


def run(arguments: Sequence[str]) -> int:
    """Print the script; return the exit code."""
    given = parser().parse_args(list(arguments))
    from argcomplete.shell_integration import shellcode

    print(shellcode(["slipstream"], shell=given.shell))
    return 0
