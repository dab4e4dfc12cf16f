"""The commands other than training: `slipstream COMMAND ...`. Each is a module with `parser` and `run`."""

from __future__ import annotations

import importlib
import warnings
from argparse import ArgumentParser, ArgumentTypeError, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from slipstream.core.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

# The module of each command, imported only when the command is used.
COMMANDS = {
    "ablate": "slipstream.cli.ablate_command",
    "compare": "slipstream.cli.compare_command",
    "completion": "slipstream.cli.completion_command",
    "evaluate": "slipstream.cli.evaluate_command",
    "export": "slipstream.cli.export_command",
    "find-lr": "slipstream.cli.find_lr_command",
    "fork": "slipstream.cli.fork_command",
    "importance": "slipstream.cli.importance_command",
    "predict": "slipstream.cli.predict_command",
    "report": "slipstream.cli.report_command",
    "serve": "slipstream.cli.serve_command",
    "verify": "slipstream.cli.verify_command",
    "why": "slipstream.cli.why_command",
}


class CommandParser(ArgumentParser):
    """An argument parser that reports errors as slipstream's other messages."""

    def __init__(self, command: str, what: str, examples: Sequence[str]) -> None:
        listed = "\n".join(f"  {line}" for line in examples)
        super().__init__(
            f"slipstream {command}",
            description=what,
            epilog=f"examples:\n{listed}",
            formatter_class=RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def add_count(self, flag: str, usual: int | None, what: str) -> None:
        """Add an option whose value is a positive integer."""
        self.add_argument(flag, metavar="N", type=_count, default=usual, help=what)

    def add_output(self, what: str) -> None:
        """Add the option for the folder to write to."""
        self.add_argument("-o", "--output", metavar="DIR", help=what)

    def add_json(self, what: str) -> None:
        """Add the option that prints the result as JSON."""
        self.add_argument("--json", action="store_true", help=f"print {what} as JSON")

    def add_run(self) -> None:
        """Add the argument RUN and the data settings to change."""
        self.add_argument("run", metavar="RUN", help="folder of a run or a sweep")
        what = "data settings to change"
        self.add_argument("overrides", metavar="data.KEY=VALUE", nargs="*", help=what)

    def given(self, arguments: Sequence[str], missing: str = "names no run") -> Namespace:
        """Parse options and positional arguments in any order. missing: the message if there are none."""
        if not arguments:
            self.error(missing)
        return self.parse_intermixed_args(list(arguments))

    def error(self, message: str) -> NoReturn:
        """Raise UserError with a pointer to --help."""
        raise UserError(f"{self.prog}: {message}; see {self.prog} --help")


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"found {text!r}, expected a whole number >= 1")
    return int(text)


@contextmanager
def warnings_shown(screen: Console) -> Iterator[None]:
    """Collect the warnings of a block and show each of them once when it ends."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for text in dict.fromkeys(str(warning.message) for warning in caught):
        screen.print(f"warning: {text}", soft_wrap=True)


def keep(screen: Console, output: str | None, write: Callable[[Path], list[Path]], what: str) -> None:
    """Write the results into the folder given by -o and list the files; without -o, explain the option."""
    if output is None:
        screen.print(f"add -o DIR to save {what}")
    else:
        screen.print(f"written: {', '.join(map(str, write(Path(output))))}", soft_wrap=True)


def parser(command: str) -> CommandParser:
    """Return the parser of a command."""
    made: CommandParser = importlib.import_module(COMMANDS[command]).parser()
    return made


def run(arguments: Sequence[str]) -> int:
    """Run the command named by the first argument and return its exit code."""
    code: int = importlib.import_module(COMMANDS[arguments[0]]).run(arguments[1:])
    return code
