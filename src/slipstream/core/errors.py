"""Errors that a user can fix. Each is shown as one message without a traceback; the exit code is 2."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # except tabs and line breaks


MOST = 60  # the largest number of options that a message lists


class UserError(Exception):
    """An error outside slipstream: what was found, where, what was expected, and how to fix it.

    The text is the whole message. `exit_code` is the exit code of the command line.

    Example:
        >>> raise UserError("runs/7: not a run")
        Traceback (most recent call last):
        ...
        slipstream.core.errors.UserError: runs/7: not a run
    """

    exit_code = 2


class ConfigError(UserError):
    """An invalid configuration. `problems` lists every problem found, one sentence each.

    Example:
        >>> print(ConfigError(["optimizer.lr: found -1, expected number > 0"]))
        1 problem in the configuration:
          optimizer.lr: found -1, expected number > 0
    """

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = list(problems)
        count = len(self.problems)
        head = "1 problem" if count == 1 else f"{count} problems"
        lines = "\n".join(f"  {problem}" for problem in self.problems)
        super().__init__(f"{head} in the configuration:\n{lines}")


class DataError(UserError):
    """Data that cannot be used. The message names the file and, if known, the row and column.

    Example:
        >>> str(DataError("a.csv: row 3 has 2 fields, expected 4"))
        'a.csv: row 3 has 2 fields, expected 4'
    """


def printable(text: str) -> str:
    """Escape control characters, so that a name from a file cannot control the terminal.

    >>> printable("a\\x1b[2Jb")
    'a\\\\x1b[2Jb'
    """
    return CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def folded(name: str) -> str:
    """Return a name in lower case without separators: AdamW, adam_w and adam-w are equal."""
    return re.sub(r"[\W_]+", "", name).casefold()


def nearest(name: str, options: Iterable[str]) -> str | None:
    """Return the most likely intended option: equal up to case and separators, a prefix, or a close match.

    >>> nearest("AdamW", ["adam", "adamw"]), nearest("acc", ["mcc", "accuracy"]), nearest("x", ["adam"])
    ('adamw', 'accuracy', None)
    """
    word, plain = folded(name), {option: folded(option) for option in sorted(options)}
    tests: list[Callable[[str], bool]] = [lambda found: found == word]
    if len(word) > 2:
        tests.append(lambda found: found.startswith(word))
    if len(word) > 1:
        near = difflib.get_close_matches(word, plain.values(), n=1, cutoff=0.6)
        tests.append(lambda found: found in near)
    for test in tests:
        if passed := [option for option, found in plain.items() if test(found)]:
            return max(passed, key=lambda option: difflib.SequenceMatcher(None, name, option).ratio())
    return None


def did_you_mean(name: str, options: Iterable[str]) -> str:
    """Return a hint for a misspelled name: the nearest option, or all of them if none is close.

    >>> did_you_mean("adm", ["adam", "sgd"])
    'did you mean adam?'
    >>> did_you_mean("xyz", ["adam", "sgd"])
    'one of: adam, sgd'
    """
    options = sorted(options)
    near = nearest(name, options)
    if near:
        return f"did you mean {near}?"
    more = f" and {len(options) - MOST} more" if len(options) > MOST else ""
    return f"one of: {', '.join(options[:MOST])}{more}"
