"""Conversion of a column of any library to raw values, with the kind of its type."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import date, time
from decimal import Decimal

import numpy as np

from slipstream.core.errors import DataError
from slipstream.core.lazy import torch
from slipstream.core.types import DataLike
from slipstream.data.identity import BOOLEANS, encode_words, exact, name_of
from slipstream.data.messages import brief, kind_setting
from slipstream.data.tabular.columns import EXACT, blank
from slipstream.data.tabular.parquet import from_series
from slipstream.data.tabular.type_inference import kind_of_words, looks_like_identifier
from slipstream.data.tabular.values import Text, Values

BOOLEAN, NUMBER = (bool, np.bool_), (int, float, np.number, np.bool_, Decimal)
SINGLE = (*NUMBER, str, date, time, np.datetime64)
PLAIN = "biufOUMT"  # dtype.kind of numbers, booleans, dates and strings in numpy


def column_of(
    name: str, column: DataLike, missing: Collection[str] = frozenset(), words: bool = False
) -> tuple[Values, str | None]:
    """Return a column's values and the kind of its type, or None if the values decide.

    words: True if its values are text, such as labels, so that 9007199254740993 differs from
    9007199254740992. Raises DataError for a column of anything but numbers, booleans, dates or strings.
    """
    values, kind = values_of(name, column, missing, words)
    if kind is None and isinstance(values, Text) and values.kind == "text":
        spelled = kind_of_words(values) == "number"  # text by its type: codes such as 01
        kind = "category" if spelled and not looks_like_identifier(name, values, "category") else None
    return values, kind


def values_of(
    name: str, column: DataLike, missing: Collection[str] = frozenset(), words: bool = False
) -> tuple[Values, str | None]:
    """Return a column's values and the kind of its type, if any. The arguments are those of `column_of`."""
    import narwhals.stable.v2 as nw

    if isinstance(column, Text):
        return column, None
    column = _series_of(column)
    series = nw.from_native(column, series_only=True, pass_through=True)
    if not isinstance(series, nw.Series):
        told, plain = None, _plain(name, column)
    elif series.implementation.is_polars():
        told = _told(series.dtype)
        values, kind = from_series(column.alias(name), missing, words or told == "category")
        return values, told or kind
    else:
        told, plain = _told(series.dtype), _listed(name, series)
    return from_plain(name, plain, missing, words or told == "category"), told or _kind_of(plain)


def from_plain(
    name: str, values: DataLike, missing: Collection[str] = frozenset(), words: bool = False
) -> Values:
    """Return the values of an array [N] or a list. words: as in `column_of`. Raises DataError."""
    if isinstance(values, np.ndarray) and values.ndim != 1:
        raise DataError(f"column {name!r} has shape {values.shape}, expected one value per row")
    if isinstance(values, np.ndarray) and values.dtype.kind not in PLAIN:
        raise _refused(name, _UNUSABLE.get(values.dtype.kind, str(values.dtype)))
    if isinstance(values, np.ndarray) and values.dtype == "M8[ns]":
        values = values.astype("M8[us]")  # numpy would list nanoseconds as integers
    if isinstance(values, np.ndarray) and values.dtype.kind in ("fiu" if words else "fiub"):
        numbers = values.astype(np.float64)
        if not words or values.dtype.kind == "f" or np.abs(numbers).max(initial=0) <= EXACT:
            return blank(numbers, missing)
    return _from_list(name, values.tolist() if isinstance(values, np.ndarray) else values, missing, words)


_UNUSABLE = {"c": "complex numbers", "S": "bytes", "m": "durations", "V": "records"}


def _series_of(column: DataLike) -> DataLike:
    """Convert a pandas or pyarrow column that is not a series, such as an index, to a series."""
    library = type(column).__module__.partition(".")[0]
    if library == "pandas" and type(column).__name__ != "Series":
        import pandas as pd

        return pd.Series(column)
    if library == "pyarrow" and not hasattr(column, "chunks"):
        import pyarrow as pa

        return pa.chunked_array([column])
    return column


def _told(kind: DataLike) -> str | None:
    import narwhals.stable.v2 as nw

    if kind in (nw.Categorical, nw.Enum):
        return "category"
    if kind == nw.Boolean:
        return "boolean"
    return "date" if kind in (nw.Date, nw.Datetime) else None


def _listed(name: str, series: DataLike) -> np.ndarray | list[DataLike]:
    """Return a narwhals series as an array or a list."""
    import narwhals.stable.v2 as nw

    kind = series.dtype
    if kind == nw.Binary:
        raise _refused(name, "bytes")
    if kind.is_nested() or (kind.is_temporal() and kind not in (nw.Date, nw.Datetime, nw.Time)):
        raise _refused(name, str(kind))
    if kind.is_numeric() and series.null_count() == 0:
        found: np.ndarray = series.to_numpy()
        return found
    return list(series.to_list())


def _plain(name: str, column: DataLike) -> np.ndarray | list[DataLike]:
    """Return an array, a tensor or a list as an array or a list."""
    if isinstance(column, torch.Tensor):
        return tensor_values(f"column {name!r}", column)
    if isinstance(column, np.ma.MaskedArray):
        return list(column.tolist())
    if isinstance(column, np.ndarray):
        return column
    return list(column.tolist() if hasattr(column, "tolist") else column)


def tensor_values(what: str, tensor: DataLike) -> np.ndarray:
    """Return a tensor on any device as an array. Raises DataError for a sparse tensor."""
    if tensor.layout != torch.strided:
        raise DataError(f"{what}: found a sparse tensor, expected a dense one; call its to_dense()")
    found = tensor.detach().cpu()
    if found.dtype == torch.bfloat16:  # numpy has no bfloat16
        found = found.float()
    return np.asarray(found.resolve_conj().resolve_neg().numpy())


def _kind_of(values: np.ndarray | list[DataLike]) -> str | None:
    """Return boolean or date if all values have that kind, and None otherwise."""
    if isinstance(values, np.ndarray) and values.dtype != object:
        return {"b": "boolean", "M": "date"}.get(values.dtype.kind)
    there = [value for value in values if not _is_absent(value)]
    for kind, types in (("boolean", BOOLEAN), ("date", (date, np.datetime64))):
        if there and all(isinstance(value, types) for value in there):
            return kind
    return None


def _from_list(name: str, values: Sequence[DataLike], missing: Collection[str], words: bool) -> Values:
    """Return a list of numbers, booleans, dates or strings as a raw column."""
    values = [None if _is_absent(value) else value for value in values]
    there = [value for value in values if value is not None]
    for row, value in enumerate(values, start=1):
        if value is not None and not isinstance(value, SINGLE) and not _is_pandas(value):
            raise _refused(name, f"{brief(value)} (row {row}, {_kind_name(value)})")
    if words and there and all(isinstance(value, BOOLEAN) for value in there):
        return encode_words([None if v is None else BOOLEANS[bool(v)] for v in values], "boolean", missing)
    if all(isinstance(value, NUMBER) for value in there):
        if words and any(not isinstance(v, float) and abs(v) > EXACT for v in there):
            spelled = [None if v is None else exact(v) for v in values]
            return encode_words(spelled, "number", missing)
        return blank(np.array([np.nan if v is None else v for v in values], np.float64), missing)
    texts = [v.isoformat() if isinstance(v, date | time) else v for v in values]
    return encode_words(texts, "text", missing)


def _is_pandas(value: DataLike) -> bool:
    """Return True for a pandas period or interval, which are read as text."""
    return type(value).__name__ in ("Period", "Interval") and type(value).__module__.startswith("pandas")


def _kind_name(value: DataLike) -> str:
    return {"ndarray": "an array", "bytes": "bytes"}.get(type(value).__name__, type(value).__name__)


def _is_absent(value: DataLike) -> bool:
    try:
        return value is None or bool(value != value)
    except (TypeError, ValueError):  # pandas' NA has no truth value, and an array has several
        return not hasattr(value, "__len__")


def _refused(name: str, found: str) -> DataError:
    advice = kind_setting(name_of(name), "ignore")
    return DataError(
        f"column {name!r} holds {found}, expected numbers, booleans, dates or strings: ignore it with "
        f"{advice}"
    )
