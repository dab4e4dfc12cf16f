"""The values of a raw column, read as numbers, booleans, dates or words."""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from datetime import date
from typing import Any

import numpy as np

from slipstream.data.base import Text, Values, brief, phrase
from slipstream.data.spelling import NUMBER, days_of, number_of, number_reader
from slipstream.errors import DataError

LIMIT = float(np.finfo(np.float32).max)
BOOLEANS = dict.fromkeys(("false", "no", "n", "f", "0"), 0.0) | dict.fromkeys(
    ("true", "yes", "y", "t", "1"), 1.0
)


def to_number(word: str) -> float | None:
    """The number that a word plainly spells, or None. Stricter than `float`, which takes 1_000."""
    return float(word) if NUMBER.fullmatch(word) else None


def to_boolean(word: str) -> float | None:
    """0 or 1 for true, false, yes, no, their first letters, 1 and 0; None for anything else."""
    return BOOLEANS.get(word.lower())


def as_numbers(name: str, values: Values, format: str = "") -> np.ndarray:
    """float64 [N], NaN where missing. Raises DataError for a word, infinity or beyond float32.

    format: how words spell numbers (see `spelling`).
    """
    if isinstance(values, np.ndarray):
        numbers = values
    else:
        expected = f"a number in {format[1:]}" if format[1:] else "a number"
        numbers = _read(name, values, number_reader(format), expected, format[:1] or ".")
    check_finite(f"column {name!r}", numbers, missing=True)
    return numbers


def as_booleans(name: str, values: Values) -> np.ndarray:
    """0 or 1, float64 [N], NaN where missing. Raises DataError for anything else."""
    if isinstance(values, Text):
        return _read(name, values, to_boolean, "true or false")
    other = ~(np.isnan(values) | (values == 0) | (values == 1))
    if other.any():
        row = int(np.argmax(other))
        raise DataError(f"column {name!r}, row {row + 1}: found {values[row]:g}, expected 0 or 1")
    return values


def as_dates(name: str, values: Values, format: str = "") -> np.ndarray:
    """Days since 1970, float64 [N], NaN where missing. Raises DataError for anything else.

    format: what comes first, day (d) or month (m), where that is open.
    """
    if isinstance(values, Text):
        example = {"d": "31/01/2026", "m": "01/31/2026"}.get(format, "2026-01-31T12:00:00")
        return _read(name, values, lambda word: days_of(word, format), f"a date like 2026-01-31 or {example}")
    return values


def as_text(values: Values) -> Text:
    """Words; numbers are spelled as briefly as possible (3, not 3.0)."""
    if isinstance(values, Text):
        return values
    missing = np.isnan(values)
    distinct, codes = np.unique(np.where(missing, 0.0, values), return_inverse=True)
    return Text(np.where(missing, -1, codes).astype(np.int32), [spell(v) for v in distinct])


def spell(number: float) -> str:
    """A number as a word.

    >>> spell(3.0), spell(0.5)
    ('3', '0.5')
    """
    return str(int(number)) if float(number).is_integer() else repr(float(number))


def _read(name: str, text: Text, reader: Any, expected: str, decimal: str = "") -> np.ndarray:
    """Every word through `reader`, once for each distinct word. decimal: the decimal mark of numbers."""
    counts = text.counts()
    found = [reader(word) for word in text.values]
    wrong = [i for i, value in enumerate(found) if value is None and counts[i]]
    if wrong:
        rows = np.isin(text.codes, wrong)
        row = int(np.argmax(rows))
        word = text.values[text.codes[row]]
        words = phrase([brief(text.values[i]) for i in wrong], 4)
        hint = _decimal_hint([text.values[i] for i in wrong], decimal)
        raise DataError(
            f"column {name!r}, row {row + 1}: found {brief(word)}, expected {expected}{hint}; "
            f"{rows.sum()} of {(text.codes >= 0).sum()} values are not ({words}). Mend them, "
            f"add them to data.missing if they mean a missing value, or set data.kinds.{name}=category"
        )
    table = np.array([np.nan if value is None else value for value in found] + [np.nan], np.float64)
    return np.asarray(table[text.codes])


def _decimal_hint(words: list[str], decimal: str) -> str:
    """That the decimal mark is the other one, where all words that are no numbers say so."""
    other = {".": ",", ",": "."}.get(decimal)
    if other is None or any(other not in word or number_of(word, other) is None for word in words):
        return ""
    return " (a decimal comma? set data.decimal=',')" if other == "," else " (leave data.decimal out?)"


def check_finite(what: str, values: np.ndarray, missing: bool = False) -> None:
    """Raise DataError, with the place, for a value that float32 cannot hold; NaN is one unless `missing`."""
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
            place = f"{what}, row {row + 1}" if missing else f"{what}[{row}{rest}]"
            raise DataError(
                f"{place}: found {block[index]:g}, expected a finite number within ±3.4e38 (float32): "
                + ("mend it, or add it to data.missing" if missing else "mend it or leave the row out")
            )


def from_any(data: Any) -> dict[str, Values]:
    """A polars DataFrame, or a mapping of names to lists or arrays, as raw columns by name."""
    if isinstance(data, Mapping):
        return {str(name): from_sequence(values) for name, values in data.items()}
    from slipstream.data.parquet import from_series

    return {series.name: from_series(series)[0] for series in data.iter_columns()}


def from_sequence(values: Any) -> Values:
    """A list or array of numbers, booleans, dates or words (None where missing) as a raw column."""
    if isinstance(values, Text):
        return values
    if isinstance(values, np.ndarray) and values.dtype.kind in "fiub":
        return values.astype(np.float64)
    values = list(values)
    if all(value is None or isinstance(value, int | float) for value in values):
        return np.array([np.nan if value is None else value for value in values], np.float64)
    words = [v.isoformat() if isinstance(v, date) else v for v in values]
    return encode_words(words)


def encode_words(words: list[Any]) -> Text:
    """Words (None where missing) as codes and distinct values."""
    place: dict[str, int] = {}
    codes = [-1 if w is None else place.setdefault(str(w).strip(), len(place)) for w in words]
    return Text(np.array(codes, np.int32), list(place))


def is_missing(values: Values) -> np.ndarray:
    return values.codes < 0 if isinstance(values, Text) else np.isnan(values)


def pick(values: Values, rows: np.ndarray) -> Values:
    return Text(values.codes[rows], values.values) if isinstance(values, Text) else values[rows]


def join(parts: list[Values]) -> Values:
    """The columns of several files one after the other; words win over numbers."""
    if len(parts) == 1:
        return parts[0]
    if all(isinstance(part, np.ndarray) for part in parts):
        return np.concatenate(parts)  # type: ignore[arg-type]
    place: dict[str, int] = {}
    codes = []
    for text in map(as_text, parts):
        new = [place.setdefault(word, len(place)) for word in text.values] + [-1]
        codes.append(np.array(new, np.int32)[text.codes])
    return Text(np.concatenate(codes), list(place))


def own_memory(count: int) -> np.ndarray:
    """An empty float64 array whose memory goes back to the system as soon as it is dropped.

    malloc keeps what it frees, and a table would be in memory twice while its columns are encoded.
    """
    size = 8 * count
    return np.empty(count) if size < 1 << 17 else np.frombuffer(mmap.mmap(-1, size), np.float64)
