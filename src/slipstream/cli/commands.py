"""The commands besides training: `slipstream COMMAND RUN ...`. Each is a module with `parser` and `run`."""

from __future__ import annotations

import importlib
from argparse import ArgumentParser, ArgumentTypeError, RawDescriptionHelpFormatter
from collections.abc import Sequence
from typing import NoReturn

from slipstream.core.errors import UserError

# Their modules, imported when they are typed.
COMMANDS = {
    "compare": "slipstream.cli.compare_command",
    "evaluate": "slipstream.cli.evaluate_command",
    "export": "slipstream.cli.export_command",
    "importance": "slipstream.cli.importance_command",
    "predict": "slipstream.cli.predict_command",
    "report": "slipstream.cli.report_command",
}


class CommandParser(ArgumentParser):
    """A parser whose errors are messages of slipstream."""

    def __init__(self, command: str, what: str, examples: Sequence[str]) -> None:
        told = "\n".join(f"  {line}" for line in examples)
        super().__init__(
            f"slipstream {command}",
            description=what,
            epilog=f"examples:\n{told}",
            formatter_class=RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def add_count(self, flag: str, usual: int, what: str) -> None:
        """Add an option whose value is a whole number from 1."""
        self.add_argument(flag, metavar="N", type=_count, default=usual, help=what)

    def error(self, message: str) -> NoReturn:
        """Raise UserError, with where to read more."""
        raise UserError(f"{self.prog}: {message}; see {self.prog} --help")


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"found {text!r}, expected a whole number from 1")
    return int(text)


def run(arguments: Sequence[str]) -> int:
    """Run the command that the first argument names; return its exit code."""
    code: int = importlib.import_module(COMMANDS[arguments[0]]).run(arguments[1:])
    return code
