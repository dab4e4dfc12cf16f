"""Tables in which each row is an example."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from slipstream.core.errors import DataError
from slipstream.core.types import DataLike, InputSpec
from slipstream.data.dataset import RawData, Settings
from slipstream.data.identity import lookalikes
from slipstream.data.messages import brief, phrase
from slipstream.data.preprocessing import NONE, Encoded, EncodedSplits, Preprocessing, Table
from slipstream.data.scaling import SCALINGS, Statistics
from slipstream.data.tabular.columns import as_text, read_as
from slipstream.data.tabular.encoding import Column, constant_warnings, encode, numeric_of
from slipstream.data.tabular.frames import array_of, columns_of, is_table
from slipstream.data.tabular.spelling import CLOCK
from slipstream.data.tabular.values import Frame, Text

PIECE = 2048  # rows of a table transposed at a time


@dataclass(frozen=True)
class TablePreprocessing(Preprocessing):
    """The encoding of columns of numbers, booleans, dates and categories. New data match columns by name."""

    @classmethod
    def fit(cls, raw: RawData, rows: np.ndarray, scaling: str) -> tuple[Self, list[str]]:
        """Fit every column's encoding."""
        columns, warnings = fit_frame(raw.inputs, rows, scaling)
        return cls(columns), warnings

    def encode_splits(self, raw: RawData, rows: list[np.ndarray], how: str) -> EncodedSplits:
        """Encode each split column by column as float32 [N, outputs]."""
        encoded, warnings = encode(self.columns, raw.inputs.columns)
        return [rows_of(encoded, part) for part in rows], warnings

    def transform(self, data: DataLike, settings: Settings = NONE) -> Encoded:
        """Transform a DataFrame, a mapping of names to values, or an array with the columns in their order.

        Other columns are ignored. settings: `missing`, the words for a missing value.
        """
        names = [column.name for column in self.columns]
        if not is_table(data):
            array = array_of(data)
            if array.ndim != 2 or array.shape[1] != len(names):
                expected = f"expected [N, {len(names)}]: {', '.join(names)}"
                raise DataError(f"found an array of shape {array.shape}, {expected}")
            data = dict(zip(names, array.T, strict=True))
        words = {column.name: column.kind == "category" for column in self.columns}
        encoded, warnings = encode(self.columns, columns_of(data, words, settings))
        return np.ascontiguousarray(encoded.T), warnings

    @property
    def spec(self) -> InputSpec:
        """The input spec: a vector of the outputs of all columns."""
        return InputSpec("vector", (len(self.names),), numeric=numeric_of(self.columns))

    @classmethod
    def table_of(cls, raw: RawData) -> Table:
        """Return the table itself."""
        return raw.inputs, None


def rows_of(columns: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return some rows of a column-major table [C, N] as a row-major one [rows, C].

    This works column by column on pieces that fit into the cache, three times as fast as gathering whole
    columns.
    """
    out = np.empty((len(rows), len(columns)), np.float32)
    places = np.full(columns.shape[1], -1)
    places[rows] = np.arange(len(rows))
    for start in range(0, len(places), PIECE):
        piece = places[start : start + PIECE]
        wanted = piece >= 0
        out[piece[wanted]] = columns[:, start : start + PIECE].T[wanted]
    return out


def fit_frame(frame: Frame, rows: np.ndarray, scaling: str) -> tuple[tuple[Column, ...], list[str]]:
    """Fit the encoding of a table's columns on the given rows and return it with warnings."""
    if SCALINGS[scaling].pooled:
        raise DataError(
            f"data.scaling: {scaling} is for inputs with a common unit (pixels), not for columns of a table; "
            "expected standard, minmax, robust or none"
        )
    columns, warnings = [], []
    for name, kind in frame.kinds.items():
        values = frame.columns[name]
        if kind == "category":
            text = as_text(values)
            warnings += alike(name, text)
            columns.append(fit_category(name, text, rows, frame.max_categories))
        else:
            fitted = fit_number(name, kind, read_as(kind, name, values), rows, scaling, frame.impute)
            format = frame.formats.get(name, "")
            cycles = ("24 hours",) if format == CLOCK else fitted.cycles
            columns.append(replace(fitted, format=format, cycles=cycles))
    return tuple(columns), warnings + constant_warnings(columns)


def fit_category(name: str, text: Text, rows: np.ndarray, most: int) -> Column:
    """Fit the categories of the training rows. The `most` most frequent ones each get an output."""
    codes = text.codes[rows]
    counts = Text(codes, text.values).counts()
    seen = sorted(np.flatnonzero(counts), key=lambda i: (-counts[i], text.values[i]))
    names = [text.values[i] for i in seen]
    kept, rare = (names, []) if len(names) <= most else (names[: most - 1], names[most - 1 :])
    return Column(
        name, "category", categories=tuple(sorted(kept)), rare=tuple(rare), flag=bool((codes < 0).any())
    )


def alike(name: str, text: Text) -> list[str]:
    """Warn about the categories of a column that differ from another only in case or spaces."""
    counts = text.counts()
    there = np.flatnonzero(counts)
    found = [there[i] for group in lookalikes([text.values[i] for i in there]) for i in group]
    if not found:
        return []
    said = phrase([f"{brief(text.values[i])} ({counts[i]})" for i in found], 4)
    return [
        f"column {brief(name)}: {len(found)} of {len(there)} categories differ from another one only "
        f"in case or spaces ({said}), and each is learned separately: spell them alike if they are one"
    ]


def fit_number(
    name: str, kind: str, numbers: np.ndarray, rows: np.ndarray, scaling: str, impute: str
) -> Column:
    """Fit the scale and the fill value of one numeric column on its training rows."""
    train = numbers[rows]
    present = train[~np.isnan(train)]
    if len(present) == 0:
        return Column(name, kind, 0.0, 0.0, flag=True)
    if impute == "error" and len(present) < len(train):
        row = int(rows[np.isnan(train)][0]) + 1
        raise DataError(
            f"column {name!r}, row {row}: the value is missing; fill it, or set data.impute to median, "
            "mean or most_frequent"
        )
    if impute == "most_frequent" or kind == "boolean":
        found, counts = np.unique(present, return_counts=True)
        fill = float(found[np.argmax(counts)])
    else:
        fill = float(np.mean(present) if impute == "mean" else np.median(present))
    column = Column.scaled(name, kind, "none" if kind == "boolean" else scaling, Statistics.of(present))
    cycles: tuple[str, ...] = ()
    if kind == "date":
        cycles = ("year", "week", "day") if (numbers[~np.isnan(numbers)] % 1).any() else ("year", "week")
        if (
            scaling == "none"
        ):  # days since 1970 are about 20,000, too large for a network, in an arbitrary unit
            column = replace(column, offset=fill)
    return replace(column, fill=fill, flag=len(present) < len(train), cycles=cycles)
