"""Data in memory: tables of any library and arrays, as raw columns with the kinds that their types tell."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from slipstream.core.errors import DataError
from slipstream.core.lazy import torch
from slipstream.core.types import DataLike
from slipstream.core.wording import counted
from slipstream.data.identity import name_of
from slipstream.data.messages import brief, naming
from slipstream.data.tabular.frames import from_sequence, is_table
from slipstream.data.tabular.parquet import from_series
from slipstream.data.tabular.type_inference import kind_of_words, looks_like_identifier
from slipstream.data.tabular.values import Text, Values

NESTED = (list, tuple, set, dict, np.ndarray)
TABLE = "the table"  # its name in messages


@dataclass(frozen=True)
class InMemory:
    """Rows that a caller gives: a table whose columns have names, or arrays of inputs and targets.

    table: a data frame or a mapping of names to columns; None for arrays. inputs: [N, ...]. targets: [N] or
    [N, D]. weights: [N], of the rows of arrays.
    """

    table: DataLike = None
    inputs: np.ndarray | None = None
    targets: np.ndarray | None = None
    weights: np.ndarray | None = None

    @classmethod
    def of(cls, data: DataLike, target: DataLike, called: str | None = None) -> tuple[InMemory, list[str]]:
        """Return the data with the names of its target columns.

        target: the name of a column, a list of names, or the values: [N] or [N, D]. called: the name of
        values beside a table; None for their own name, or `target`. Raises DataError.
        """
        if hasattr(data, "collect"):
            raise DataError("inputs: found a lazy frame, expected its rows; its collect() reads them")
        if not is_table(data):
            if isinstance(target, str):
                raise DataError(
                    f"target: found {target!r}, but the inputs are an array, which has no names; give the "
                    "targets as a second array, or the inputs as a data frame"
                )
            return cls(inputs=as_array("inputs", data), targets=as_array("targets", target)), ["target"]
        names = names_in(data)
        if isinstance(target, str | int):
            return cls(table=data), [str(target)]
        if isinstance(target, list | tuple) and target and all(isinstance(name, str) for name in target):
            known = {name_of(name) for name in names}
            if len(target) != len(columns_in(data)[names[0]]) or known >= set(map(name_of, target)):
                return cls(table=data), list(target)
        joined, added = with_targets(data, names, target, called)
        return cls(table=joined), added


def names_in(table: DataLike) -> list[str]:
    """Return the names of a table's columns as they are written there."""
    return [str(name) for name in columns_in(table)]


def columns_in(table: DataLike) -> Mapping[DataLike, DataLike]:
    """Return a table's columns by name. Raises DataError for two of one name."""
    if isinstance(table, Mapping):
        return table
    import narwhals.stable.v2 as nw

    try:
        frame = nw.from_native(table, eager_only=True)
    except nw.exceptions.DuplicateError as error:
        raise DataError(f"{TABLE} has two columns of one name: {' '.join(str(error).split())}") from error
    return {series.name: series.to_native() for series in frame.iter_columns()}


def with_targets(
    table: DataLike, names: list[str], target: DataLike, called: str | None
) -> tuple[dict[str, DataLike], list[str]]:
    """Return a table's columns with targets that were given beside it, and the targets' names."""
    columns = {str(name): column for name, column in columns_in(table).items()}
    if is_table(target):
        added = {str(name): column for name, column in columns_in(target).items()}
    else:
        values = target if hasattr(target, "name") else as_array("targets", target)
        name = called or str(getattr(target, "name", None) or "target")
        if getattr(values, "ndim", 1) == 2:
            added = {f"{name}_{i}": column for i, column in enumerate(values.T)}
        else:
            added = {name: values}
    for name in added:
        if name_of(name) in set(map(name_of, names)):
            raise DataError(
                f"target: {name!r} is a column of the table already; leave it out of the inputs, or give its "
                "name alone"
            )
    return columns | added, list(added)


def as_array(what: str, values: DataLike) -> np.ndarray:
    """Return numbers, words or booleans [N, ...] as an array. Raises DataError for ragged lists."""
    if isinstance(values, torch.Tensor):
        return np.asarray(values.detach().cpu().numpy())
    if hasattr(values, "toarray"):
        raise DataError(f"{what}: found a sparse matrix, expected a dense array; its toarray() makes one")
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise DataError(f"{what}: lists of different lengths; expected one length in all rows") from error
    if array.ndim == 0:
        raise DataError(
            f"{what}: found {type(values).__name__}, expected an array, a data frame, or a mapping of names "
            "to columns"
        )
    return array


def raw_columns(
    table: DataLike, missing: Collection[str], wanted: Collection[str] | None, as_words: Collection[str]
) -> tuple[dict[str, Values], dict[str, str]]:
    """Return a table's columns by name, and the kinds that their types tell.

    wanted: the columns to read, None for all. as_words: columns whose values are words, such as labels.
    Raises DataError for a column that holds neither numbers, booleans, dates nor words.
    """
    columns: dict[str, Values] = {}
    kinds: dict[str, str] = {}
    for spelled, column in columns_in(table).items():
        name = name_of(str(spelled))
        if name in columns:
            raise DataError(f"{TABLE} has two columns {name!r}, in two ways to write it; leave one out")
        if wanted is not None and name not in wanted:
            continue
        with naming(TABLE):
            columns[name], kind = column_of(name, column, missing, name in as_words)
        if kind is not None:
            kinds[name] = kind
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        (short, fewest), (long, most) = (f(lengths.items(), key=lambda item: item[1]) for f in (min, max))
        raise DataError(
            f"{TABLE}: column {short!r} has {counted(fewest, 'row')} and column {long!r} has {most:,}"
        )
    if not columns or next(iter(lengths.values())) == 0:
        raise DataError(f"{TABLE}: no rows; expected at least 3")
    return columns, kinds


def column_of(
    name: str, column: DataLike, missing: Collection[str], words: bool
) -> tuple[Values, str | None]:
    """Return a column's values, and its kind if its type tells it; None leaves it to the values."""
    import narwhals.stable.v2 as nw

    series = nw.from_native(column, series_only=True, pass_through=True)
    told = _told(series.dtype) if isinstance(series, nw.Series) else None
    if isinstance(series, nw.Series) and series.implementation.is_polars():
        values, kind = from_series(column, missing, words or told == "category")
        kind = told or kind
    else:
        plain = _plain(name, column, series)
        kind = told or ("boolean" if _are_booleans(plain) else None)
        values = _foreign(name, plain, missing, words or told == "category")
    if kind is None and isinstance(values, Text) and values.kind == "text":
        spelled = kind_of_words(values) == "number"  # words by their type: codes, such as 01
        if spelled and not looks_like_identifier(name, values, "category"):
            kind = "category"
    return values, kind


def _told(kind: DataLike) -> str | None:
    import narwhals.stable.v2 as nw

    if kind in (nw.Categorical, nw.Enum):
        return "category"
    if kind == nw.Boolean:
        return "boolean"
    return "date" if kind in (nw.Date, nw.Datetime) else None


def _plain(name: str, column: DataLike, series: DataLike) -> DataLike:
    """Return a column that is not of polars as an array or a list."""
    import narwhals.stable.v2 as nw

    if isinstance(column, torch.Tensor):
        return column.detach().cpu().numpy()
    if not isinstance(series, nw.Series):
        return column if isinstance(column, np.ndarray) else list(column)
    kind = series.dtype
    if kind.is_temporal() and kind not in (nw.Date, nw.Datetime, nw.Time):
        raise DataError(f"column {name!r} holds {kind}, expected numbers, booleans, dates or words")
    return series.to_numpy() if kind.is_numeric() and series.null_count() == 0 else series.to_list()


def _are_booleans(column: DataLike) -> bool:
    if isinstance(column, np.ndarray) and column.dtype != object:
        return bool(column.dtype.kind == "b")
    there = [value for value in column if value is not None]
    return bool(there) and all(isinstance(value, bool | np.bool_) for value in there)


def _foreign(name: str, column: DataLike, missing: Collection[str], words: bool) -> Values:
    """Return the values of an array or a list."""
    if np.ndim(column) != 1 and not isinstance(column, list):
        raise DataError(f"column {name!r} has shape {np.shape(column)}, expected one value in each row")
    nested = next((v for v in column if isinstance(v, NESTED)), None)
    if nested is not None:
        raise DataError(f"column {name!r} holds {brief(nested)}, expected one value in each row")
    return from_sequence(column, missing, words)
