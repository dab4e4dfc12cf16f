"""Parquet files and polars columns, one column at a time."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from slipstream.data.base import Text, Values, naming
from slipstream.data.columns import own_memory
from slipstream.errors import DataError


def read_parquet(
    path: str, missing: frozenset[str], wanted: Callable[[str], bool]
) -> tuple[list[str], dict[str, Values], dict[str, str]]:
    """All names, the wanted columns by name, and the kinds that their types tell. Raises DataError."""
    import polars as pl

    try:
        with _silent():
            schema = pl.read_parquet_schema(path)
        names = {unicodedata.normalize("NFC", name): name for name in schema}
        columns, kinds = {}, {}
        for name, spelled in names.items():
            if wanted(name):
                with _silent():
                    series = pl.read_parquet(path, columns=[spelled])[spelled]
                with naming(path):
                    columns[name], kind = from_series(series, missing)
                if kind:
                    kinds[name] = kind
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise DataError(f"{path}: is no complete Parquet file: {str(error).splitlines()[0]}") from error
    if not columns or len(next(iter(columns.values()))) == 0:
        raise DataError(f"{path}: no rows; expected at least 3")
    return list(names), columns, kinds


@contextmanager
def _silent() -> Iterator[None]:
    """Without the backtraces that polars' threads print where a broken file makes them panic: the panic
    itself arrives as an exception."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def from_series(series: Any, missing: frozenset[str] = frozenset()) -> tuple[Values, str | None]:
    """A polars column as raw values, and the kind that its type tells (boolean, date) or None."""
    import polars as pl

    kind = series.dtype
    if kind == pl.Boolean or kind.is_numeric() or kind == pl.Null:
        return _floats(series), "boolean" if kind == pl.Boolean else None
    if kind in (pl.Date, pl.Datetime):
        micros = series.cast(pl.Datetime("us")) if kind == pl.Date else series
        return _floats(micros.dt.timestamp("us").cast(pl.Float64) / 86400e6), "date"
    if kind in (pl.String, pl.Categorical, pl.Enum):
        words = series.cast(pl.String).str.strip_chars()
        distinct = words.unique(maintain_order=True).drop_nulls()
        kept = [word for word in distinct if word not in missing]
        place = {word: i for i, word in enumerate(kept)}
        codes = words.replace_strict(
            distinct, [place.get(word, -1) for word in distinct], default=-1, return_dtype=pl.Int32
        )
        return Text(np.asarray(codes.to_numpy(), np.int32), kept), None
    raise DataError(
        f"column {series.name!r} holds {kind}, expected numbers, booleans, dates or words: "
        f"leave it out with data.kinds.{series.name}=ignore"
    )


def _floats(series: Any) -> np.ndarray:
    """float64 [N], NaN where null; a copy, since polars keeps the memory that it frees."""
    import polars as pl

    numbers = own_memory(len(series))
    numbers[:] = series.cast(pl.Float64).fill_null(float("nan")).to_numpy()
    return numbers
