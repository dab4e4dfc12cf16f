"""Raw columns from tables in memory: DataFrames, and mappings of lists and arrays."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import date, time
from decimal import Decimal
from numbers import Number

import numpy as np

from slipstream.core.errors import DataError
from slipstream.core.lazy import torch
from slipstream.core.types import DataLike, Plain
from slipstream.data.identity import BOOLEANS as BOOLEAN
from slipstream.data.identity import encode_words, exact, missing_words, name_of
from slipstream.data.messages import phrase
from slipstream.data.tabular.columns import EXACT, blank
from slipstream.data.tabular.values import Text, Values

OF_FRAMES = ("iter_columns", "iterrows", "itercolumns")  # methods of polars', pandas' and pyarrow's tables
NUMBERS = (int, float, np.number, np.bool_, Decimal)


def from_any(
    data: DataLike, names: Mapping[str, bool], missing: Collection[str] = frozenset()
) -> dict[str, Values]:
    """Return the named columns of a table (see `is_table`) as raw columns.

    names: True for a column whose values are words, such as categories, for which 9007199254740993 is not
    9007199254740992. Other columns are ignored; a named one that does not exist is left out.
    """
    wanted = {name_of(name) for name in names}
    spelled: dict[str, Plain] = {}
    for found in names_of_columns(data):
        name = name_of(str(found))
        if name in wanted and name in spelled:
            raise DataError(f"the table has two columns {name!r}, in two ways to write it; leave one out")
        spelled[name] = found
    chosen = {name: data[spelled[name_of(name)]] for name in names if name_of(name) in spelled}
    return {name: from_sequence(values, missing, names[name]) for name, values in in_rows(chosen).items()}


def names_of_columns(data: DataLike) -> Sequence[DataLike]:
    """Return the names of a table's columns, as they are written there."""
    if isinstance(data, Mapping):
        return list(data)
    return list(data.column_names if hasattr(data, "itercolumns") else data.columns)


def columns_of(data: DataLike, names: Mapping[str, bool], settings: Mapping[str, Plain]) -> dict[str, Values]:
    """Return all named columns of a table (see `from_any`), of one length. Raises DataError.

    settings: `missing`, the words that mean a missing value.
    """
    columns = from_any(data, names, missing_words(settings.get("missing", ())))
    absent = [name for name in names if name not in columns]
    if absent:
        raise DataError(f"the table lacks columns that training had: {phrase(absent)}")
    lengths = {len(values) for values in columns.values()}
    if len(lengths) > 1:
        raise DataError(f"columns of different lengths: {phrase(sorted(lengths))}")
    return columns


def array_of(data: DataLike) -> np.ndarray:
    """Return new examples that are no table as an array of numbers. Raises DataError."""
    if not isinstance(data, np.ndarray | list | torch.Tensor):
        raise DataError(
            f"found {type(data).__module__}.{type(data).__name__}, expected an array, a polars or pandas "
            "DataFrame or a mapping of column names to values"
        )
    array = np.asarray(data)
    if array.dtype.kind not in "fiub":
        raise DataError(f"found an array of {array.dtype}, expected numbers; give words as a mapping")
    return array


def is_table(data: DataLike) -> bool:
    """Return True for a table of polars, pandas or pyarrow, or a mapping of names to lists or arrays."""
    return isinstance(data, Mapping) or any(hasattr(data, name) for name in OF_FRAMES)


def in_rows(columns: Mapping[str, Plain]) -> Mapping[str, Plain]:
    """Return a table's columns; scalars (3, "Ulm", None) make one row. Raises DataError for a mixture."""
    single = [name for name, value in columns.items() if is_single(value)]
    if not single:
        return columns
    if len(single) < len(columns):
        other = next(name for name in columns if name not in single)
        raise DataError(
            f"column {single[0]!r} is a single value and column {other!r} is a list; give every column a "
            "value, for one row, or every column a list"
        )
    return {name: [value.item() if hasattr(value, "item") else value] for name, value in columns.items()}


def is_single(value: DataLike) -> bool:
    """Return True for a scalar, and False for a collection of values."""
    return (
        value is None
        or isinstance(value, str | bytes | Number | date | time)
        or getattr(value, "ndim", None) == 0
    )


def from_sequence(values: DataLike, missing: Collection[str] = frozenset(), words: bool = False) -> Values:
    """Return a list, array, polars or pandas column as a raw column; words: see `from_any`.

    Its values are numbers, booleans, dates or words, None for missing.
    """
    if isinstance(values, Text):
        return values
    if hasattr(values, "to_physical"):
        from slipstream.data.tabular.parquet import from_series

        return from_series(values, missing, words)[0]
    if hasattr(values, "isna") and not isinstance(values.dtype, np.dtype):
        values = values.tolist()  # an array would turn whole numbers with a missing one into floats
    if not isinstance(values, np.ndarray) and hasattr(values, "__array__"):
        values = np.asarray(values)
    if isinstance(values, np.ndarray) and values.dtype == "M8[ns]":
        values = values.astype("M8[us]")  # numpy would list nanoseconds as integers
    if isinstance(values, np.ndarray) and values.dtype.kind in ("fiu" if words else "fiub"):
        numbers = values.astype(np.float64)
        if not words or values.dtype.kind == "f" or np.abs(numbers).max(initial=0) <= EXACT:
            return blank(numbers, missing)
    return _from_list(list(values.tolist() if isinstance(values, np.ndarray) else values), missing, words)


def _from_list(values: Sequence[DataLike], missing: Collection[str], words: bool) -> Values:
    """Return a list of numbers, booleans, dates or words as a raw column."""
    values = [None if _is_absent(value) else value for value in values]
    there = [value for value in values if value is not None]
    if words and there and all(isinstance(value, bool | np.bool_) for value in there):
        return encode_words([None if v is None else BOOLEAN[bool(v)] for v in values], "boolean", missing)
    if all(isinstance(value, NUMBERS) for value in there):
        if words and any(not isinstance(v, float) and abs(v) > EXACT for v in there):
            spelled = [None if v is None else exact(v) for v in values]
            return encode_words(spelled, "number", missing)
        return blank(np.array([np.nan if v is None else v for v in values], np.float64), missing)
    texts = [v.isoformat() if isinstance(v, date | time) else v for v in values]
    return encode_words(texts, "text", missing)


def _is_absent(value: DataLike) -> bool:
    try:
        return value is None or bool(value != value)
    except TypeError:  # pandas' NA has no truth value
        return True
