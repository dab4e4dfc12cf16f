"""Quoting data in messages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np

from slipstream.core.errors import DataError
from slipstream.core.types import DataLike, Plain
from slipstream.core.wording import counted, entry, typed

Where = Callable[[int], str]  # row number -> location
FEW_WORDS, SHORT_WORD = 4, 20  # values in a setting to type, and their characters


def brief(value: DataLike, most: int = 60) -> str:
    """Quote a value from the data for a message, on one line, shortened if it is long.

    >>> brief("a\\nb"), brief("long" * 9, most=6)
    ("'a\\\\nb'", "'longlo...'")
    """
    text = str(value)
    return repr(text if len(text) <= most else f"{text[:most]}...")


def kind_setting(name: str, kind: str) -> str:
    """Return the override that sets a column's kind, whatever characters its name has.

    >>> print(kind_setting("rooms", "category"), kind_setting("a.b (c)", "ignore"))
    data.kinds.rooms=category "data.kinds={'a.b (c)':ignore}"
    """
    return entry("data.kinds", name, kind)


_read_by: ContextVar[tuple[Mapping[str, Plain], frozenset[str]] | None] = ContextVar("read_by", default=None)


@contextmanager
def advising(settings: Mapping[str, Plain], targets: Iterable[str], roles: Iterable[str]) -> Iterator[None]:
    """Restrict the advice in messages to settings of the data source, and to kinds of input columns."""
    token = _read_by.set(({**settings, "target": frozenset(targets)}, frozenset(roles)))
    try:
        yield
    finally:
        _read_by.reset(token)


_first_row: ContextVar[int] = ContextVar("first_row", default=0)


@contextmanager
def predicting(place: str, first: int) -> Iterator[None]:
    """Locate the values of a block of new examples: by their file and the number of its first row, from 0.

    Advice about them names no settings, which a trained network no longer takes.
    """
    token = _first_row.set(first)
    try:
        with advising({}, (), ()):
            yield
    except DataError as error:
        text = str(error).removeprefix("the table: ")
        raise DataError(text if place in text else f"{place}: {text}") from error
    finally:
        _first_row.reset(token)


def row_number(row: int) -> int:
    """Return the number, from 1, of a row in its file. row: from 0, in the block that is read."""
    return _first_row.get() + row + 1


def cures(name: str, many: bool, words: bool = False, found: Sequence[str] = ()) -> str:
    """Return advice about values that do not fit their column.

    words: True if no value fits. found: the values, for the setting to type.

    >>> cures("a", many=True)
    'Correct them, add them to data.missing if they mean a missing value, or set data.kinds.a=category'
    """
    settings, roles = _read_by.get() or ({"missing": [], "kinds": {}}, frozenset())
    target = name in settings.get("target", ())
    if target and words and settings.get("task") == "regression":
        return "Remove data.task=regression: words are classes"
    them, they = ("them", "they mean") if many else ("it", "it means")
    ways = [f"Correct {them}"]
    if "missing" in settings:
        setting = typed("data.missing", [*settings["missing"], *found])
        short = all(len(word) <= SHORT_WORD and word.isprintable() for word in found)
        added = f" ({setting})" if 0 < len(found) <= FEW_WORDS and short else ""
        ways.append(f"add {them} to data.missing{added} if {they} a missing value")
    if "kinds" in settings and not target and name not in roles:
        ways.append(f"set {kind_setting(name, 'category')}")
    return ways[0] if len(ways) == 1 else f"{', '.join(ways[:-1])}, or {ways[-1]}"


def has_missing() -> bool:
    """Return True if the data source has a setting for the words that mean a missing value."""
    read_by = _read_by.get()
    return read_by is None or "missing" in read_by[0]


def phrase(words: DataLike, most: int = 8) -> str:
    """Join words with commas. After `most` of them, only state the number of further ones.

    >>> phrase(["a", "b", "c"], most=2)
    'a, b and 1 more'
    """
    words = list(words)
    more = len(words) - most
    # This leaves room for a path and its line number.
    said = (brief(w, 200)[1:-1] if len(w) > 200 or "\n" in w else w for w in map(str, words[:most]))
    return ", ".join(said) + (f" and {more} more" if more > 0 else "")


def cut_short(many: int, total: int, example: str, most: int, part: str, keep: str) -> str:
    """Return a sentence about examples that are truncated.

    >>> cut_short(1, 4, "text", 20, "word", "last")
    '1 of 4 texts (25.0%) has more than 20 words; the last 20 are kept'
    >>> cut_short(2, 4, "text", 1, "word", "first")
    '2 of 4 texts (50.0%) have more than 1 word; the first one is kept'
    """
    have = "has" if many == 1 else "have"
    said = f"{many:,} of {counted(total, example)} ({many / total:.1%}) {have} more than"
    return f"{said} {counted(most, part)}; the {keep} {'one is' if most == 1 else f'{most:,} are'} kept"


def below(sizes: Sequence[int], wheres: Sequence[Where]) -> Where:
    """Locate a row of several concatenated files by its own file's function.

    >>> below([2, 3], ["a{}".format, "b{}".format])(3)
    'b1'
    """
    starts = np.cumsum([0, *sizes])

    def where(row: int) -> str:
        place = int(np.searchsorted(starts, row, side="right")) - 1
        return wheres[place](row - int(starts[place]))

    return where


@contextmanager
def naming(place: str) -> Iterator[None]:
    """Prefix the message of a DataError with `place`, a file or a setting."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{place}: {error}") from error
