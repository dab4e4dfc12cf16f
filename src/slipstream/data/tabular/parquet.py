"""Parquet files and polars columns, one column at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

import numpy as np

from slipstream.core.errors import DataError
from slipstream.core.types import DataLike
from slipstream.data.identity import BOOLEANS, Words, exact, name_of
from slipstream.data.messages import kind_setting, naming
from slipstream.data.tabular.columns import EXACT, blank, own_memory
from slipstream.data.tabular.spelling import days_of
from slipstream.data.tabular.values import Text, Values


def read_parquet(
    path: str, missing: frozenset[str], wanted: Callable[[str], bool], as_words: frozenset[str]
) -> tuple[list[str], dict[str, Values], dict[str, str]]:
    """Return all names, the wanted columns by name, and the kinds of their types. Raises DataError.

    as_words: columns whose values are text, such as labels, so that integers stay exact.
    """
    import polars as pl

    try:
        with _silent():
            schema = pl.read_parquet_schema(path)
        names: dict[str, str] = {}
        for name in schema:
            if names.setdefault(name_of(name), name) != name:
                raise DataError(
                    f"{path}: two columns are named {name_of(name)!r} in different spellings: give every "
                    "column a unique name"
                )
        columns, kinds = {}, {}
        for name, spelled in names.items():
            if wanted(name):
                with _silent():
                    series = pl.read_parquet(path, columns=[spelled])[spelled]
                with naming(path):
                    columns[name], kind = from_series(series, missing, name in as_words)
                if kind:
                    kinds[name] = kind
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise DataError(f"{path}: is not a complete Parquet file: {str(error).splitlines()[0]}") from error
    if not columns or len(next(iter(columns.values()))) == 0:
        raise DataError(f"{path}: found no rows")
    return list(names), columns, kinds


@contextmanager
def _silent() -> Iterator[None]:
    """Suppress the backtraces that polars threads print when a damaged file makes them panic.

    The panic itself is raised as an exception.
    """
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def from_series(
    series: DataLike, missing: Collection[str] = frozenset(), words: bool = False
) -> tuple[Values, str | None]:
    """Return a polars column as raw values, and the kind given by its type (boolean, date) or None.

    words: True if its values are text, such as labels, so that integers stay exact.
    """
    import polars as pl

    kind = series.dtype
    if kind.is_numeric() or kind == pl.Null:
        if words and not _floats_hold(series):
            return _coded(series, missing, exact, "number"), None
        if words and kind == pl.Float32:  # the number is 0.1, not the float64 nearest to its float32
            series = series.cast(pl.String)
        return blank(_floats(series), missing), None
    if kind == pl.Boolean:
        if words:
            return _coded(series, missing, lambda value: BOOLEANS[value], "boolean"), None
        return blank(_floats(series), missing, _boolean), "boolean"
    if kind in (pl.Date, pl.Datetime):
        if words:
            return _coded(series, missing, lambda value: value.isoformat(), "text"), None
        micros = series.cast(pl.Datetime("us")) if kind == pl.Date else series
        days = _floats(micros.dt.timestamp("us").cast(pl.Float64) / 86400e6)
        return blank(days, missing, days_of), "date"
    if kind == pl.Time:
        return _coded(series, missing, lambda value: value.isoformat(), "text"), None
    if kind in (pl.String, pl.Categorical, pl.Enum):
        return _coded(series.cast(pl.String), missing, str, "text"), None
    raise DataError(
        f"column {series.name!r} holds {kind}, expected numbers, booleans, dates or strings: "
        f"ignore it with {kind_setting(name_of(series.name), 'ignore')}"
    )


def _boolean(word: str) -> float | None:
    return {"false": 0.0, "true": 1.0}.get(word.lower())


def _floats_hold(series: DataLike) -> bool:
    """Return True if every number of a column is exact as a float64."""
    import polars as pl

    kind = series.dtype
    if not (kind.is_integer() or kind.is_decimal()) or series.null_count() == len(series):
        return True
    digits = 10 ** (kind.scale or 0) if isinstance(kind, pl.Decimal) else 1
    return bool(max(-series.min(), series.max()) * digits <= EXACT)


def _coded(series: DataLike, missing: Collection[str], spelled: Callable[[DataLike], str], kind: str) -> Text:
    """Return a column as words."""
    import polars as pl

    distinct = series.unique(maintain_order=True).drop_nulls()
    words = Words(missing)
    codes = [words.code(spelled(value)) for value in distinct.to_list()]
    coded = series.replace_strict(distinct, codes, default=-1, return_dtype=pl.Int32)
    return words.text(coded.to_numpy(), kind)


def _floats(series: DataLike) -> np.ndarray:
    """Return float64 [N] with NaN for null. This is a copy, since polars keeps memory that it frees."""
    import polars as pl

    numbers = own_memory(len(series))
    numbers[:] = series.cast(pl.Float64).fill_null(float("nan")).to_numpy()
    return numbers
