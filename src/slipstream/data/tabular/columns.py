"""Parse the values of a raw column as numbers, booleans, dates or words."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Collection
from dataclasses import replace

import numpy as np

from slipstream.core.errors import DataError
from slipstream.core.wording import counted, typed
from slipstream.data.identity import merged, spell
from slipstream.data.messages import brief, cures, has_missing, phrase, row_number
from slipstream.data.tabular.spelling import (
    CLOCK,
    NUMBER,
    ORDERS,
    days_of,
    number_of,
    number_reader,
    order_setting,
)
from slipstream.data.tabular.values import Text, Values

Reader = Callable[[str], float | None]
EXACT = 2**53  # whole numbers up to here are exact as floats
LIMIT = float(np.finfo(np.float32).max)
BOOLEANS = dict.fromkeys(("false", "no", "n", "f", "0"), 0.0) | dict.fromkeys(
    ("true", "yes", "y", "t", "1"), 1.0
)


def to_number(word: str) -> float | None:
    """Parse a number in normal spelling, or return None. Stricter than `float`, which accepts 1_000."""
    return float(word) if NUMBER.fullmatch(word) else None


def to_boolean(word: str) -> float | None:
    """Return 0 or 1 for true, false, yes, no, their first letters, 1 and 0; None for anything else."""
    return BOOLEANS.get(word.lower())


def as_numbers(name: str, values: Values, format: str = "") -> np.ndarray:
    """Parse numbers as float64 [N], NaN for missing. Raises DataError for text, or numbers beyond float32.

    format: the spelling of numbers (see `spelling`).
    """
    if isinstance(values, np.ndarray):
        numbers = values
    else:
        expected = f"a number in {format[1:]}" if format[1:] else "a number"
        expected = "a time of day like 14:30" if format == CLOCK else expected
        numbers = _read(name, values, number_reader(format), expected, format[:1] or ".")
    check_finite(f"column {name!r}", numbers, missing=True)
    return numbers


def as_booleans(name: str, values: Values) -> np.ndarray:
    """Parse booleans as 0 or 1, float64 [N], NaN for missing. Raises DataError for anything else."""
    if isinstance(values, Text):
        return _read(name, values, to_boolean, "true or false")
    other = ~(np.isnan(values) | (values == 0) | (values == 1))
    if other.any():
        row = int(np.argmax(other))
        raise DataError(f"column {name!r}, row {row + 1}: found {values[row]:g}, expected 0 or 1")
    return values


def as_dates(name: str, values: Values, format: str = "") -> np.ndarray:
    """Parse dates as days since 1970, float64 [N], NaN for missing. Raises DataError for anything else.

    format: the first of day (d) and month (m) in ambiguous dates.
    """
    if isinstance(values, Text):
        example = {"d": "31/01/2026", "m": "01/31/2026"}.get(format, "2026-01-31T12:00:00")
        expected = f"a date like 2026-01-31 or {example}"
        return _read(name, values, lambda word: days_of(word, format), expected, format)
    return values


def read_as(kind: str, name: str, values: Values, format: str = "") -> np.ndarray:
    """Parse values as the numbers of their kind, float64 [N], NaN for missing. Raises DataError."""
    if kind == "boolean":
        return as_booleans(name, values)
    return {"number": as_numbers, "date": as_dates}[kind](name, values, format)


def as_text(values: Values) -> Text:
    """Return values as text. Numbers are spelled as briefly as possible (3, not 3.0)."""
    if isinstance(values, Text):
        return values
    missing = np.isnan(values)
    distinct, codes = np.unique(np.where(missing, 0.0, values), return_inverse=True)
    return Text(np.where(missing, -1, codes).astype(np.int32), [spell(v) for v in distinct], "number")


def _read(name: str, text: Text, reader: Reader, expected: str, format: str = "") -> np.ndarray:
    """Parse each distinct word once with `reader`.

    format: the decimal mark of numbers, or the first of day and month in dates.
    """
    counts = text.counts()
    found = [reader(word) for word in text.values]
    wrong = [i for i, value in enumerate(found) if value is None and counts[i]]
    if wrong:
        rows = np.isin(text.codes, wrong)
        row = int(np.argmax(rows))
        word = text.values[text.codes[row]]
        words = phrase([brief(text.values[i]) for i in wrong], 4)
        verb = "is" if rows.sum() == 1 else "are"
        wrongs = [text.values[i] for i in wrong]
        cure = cures(name, rows.sum() > 1, bool((text.codes[~rows] < 0).all()), wrongs)
        hint = _order_hint(wrongs, format) if format in ORDERS else _decimal_hint(wrongs, format)
        raise DataError(
            f"column {name!r}, row {row_number(row)}: found {brief(word)}, expected {expected}{hint}; "
            f"{rows.sum():,} of {counted((text.codes >= 0).sum(), 'value')} {verb} not ({words}). {cure}"
        )
    table = np.array([np.nan if value is None else value for value in found] + [np.nan], np.float64)
    return np.asarray(table[text.codes])


def _decimal_hint(words: list[str], decimal: str) -> str:
    """Suggest the other decimal mark if it explains all words that are not numbers."""
    other = {".": ",", ",": "."}.get(decimal)
    if other is None or any(other not in word or number_of(word, other) is None for word in words):
        return ""
    return (
        f" (a decimal comma? set {typed('data.decimal', ',')})" if other == "," else " (remove data.decimal?)"
    )


def _order_hint(words: list[str], first: str) -> str:
    """Suggest the other order of day and month if it explains all words that are not dates."""
    other = "d" if first == "m" else "m"
    if any(days_of(word, other) is None for word in words):
        return ""
    return f" (the {ORDERS[other]} first? set {order_setting(other)})"


def check_finite(what: str, values: np.ndarray, missing: bool = False) -> None:
    """Raise DataError, with the row, for a value that float32 cannot hold, including NaN unless `missing`."""
    if values.dtype.kind != "f":
        return
    for start in range(0, len(values), 65536):
        block = values[start : start + 65536]
        # In a narrower type the limit itself would be infinite.
        wrong = ~(np.abs(block) <= LIMIT) if block.dtype.itemsize > 4 else ~np.isfinite(block)
        if missing:
            wrong &= ~np.isnan(block)
        if wrong.any():
            index = np.unravel_index(int(np.argmax(wrong)), block.shape)
            row = start + int(index[0])
            rest = "".join(f", {int(i)}" for i in index[1:])
            place = f"{what}, row {row_number(row)}" if missing else f"{what}[{row}{rest}]"
            raise DataError(
                f"{place}: found {block[index]:g}, expected a finite number within ±3.4e38 (float32): "
                + (
                    "correct it, or add it to data.missing"
                    if missing and has_missing()
                    else "correct it or remove the row"
                )
            )


def blank(numbers: np.ndarray, missing: Collection[str], reader: Reader = to_number) -> np.ndarray:
    """Replace numbers [N] that mean a missing value by NaN, in place."""
    found = [number for number in map(reader, missing) if number is not None]
    if found:
        numbers[np.isin(numbers, found)] = np.nan
    return numbers


def is_missing(values: Values) -> np.ndarray:
    """Return a mask of missing values, bool [N]."""
    return values.codes < 0 if isinstance(values, Text) else np.isnan(values)


def pick(values: Values, rows: np.ndarray) -> Values:
    """Select rows of a column."""
    return replace(values, codes=values.codes[rows]) if isinstance(values, Text) else values[rows]


def join(parts: list[Values]) -> Values:
    """Concatenate a column's values from several files. If any file has text, all values become text."""
    if all(isinstance(part, np.ndarray) for part in parts):
        return parts[0] if len(parts) == 1 else np.concatenate(parts)  # type: ignore[arg-type]  # arrays, as checked above
    return merged([as_text(part) for part in parts])


def own_memory(count: int) -> np.ndarray:
    """Return an empty float64 array whose memory returns to the system as soon as it is freed.

    malloc keeps freed memory, so a table would occupy memory twice while its columns are encoded.
    """
    size = 8 * count
    return np.empty(count) if size < 1 << 17 else np.frombuffer(mmap.mmap(-1, size), np.float64)
