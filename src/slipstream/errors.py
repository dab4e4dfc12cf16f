"""Errors that a user can mend. They are shown as one message without a traceback, exit code 2."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # but for tabs and line ends


class UserError(Exception):
    """A mistake outside slipstream: what, where, found, expected, and how to mend it.

    The text is the whole message. `exit_code` is what the command line ends with.
    """

    exit_code = 2


class ConfigError(UserError):
    """A configuration that cannot run. `problems` lists every fault found, one sentence each."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = list(problems)
        count = len(self.problems)
        head = "1 problem" if count == 1 else f"{count} problems"
        lines = "\n".join(f"  {problem}" for problem in self.problems)
        super().__init__(f"{head} in the configuration:\n{lines}")


class DataError(UserError):
    """Data that cannot be used: names the file and, where it has them, the row and the column."""


def printable(text: str) -> str:
    """The text with control characters spelled out: a name out of a file shall not steer the terminal.

    >>> printable("a\\x1b[2Jb")
    'a\\\\x1b[2Jb'
    """
    return CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def did_you_mean(name: str, options: Iterable[str]) -> str:
    """A hint for a misspelled name: the nearest option, or all of them where none is near.

    >>> did_you_mean("adm", ["adam", "sgd"])
    'did you mean adam?'
    >>> did_you_mean("xyz", ["adam", "sgd"])
    'one of: adam, sgd'
    """
    options = sorted(options)
    near = difflib.get_close_matches(name, options, n=1, cutoff=0.6)
    near = near or [option for option in options if len(name) > 2 and option.startswith(name)]
    return f"did you mean {near[0]}?" if near else f"one of: {', '.join(options)}"
