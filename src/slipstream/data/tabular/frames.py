"""Raw columns from tables in memory: DataFrames, and mappings of lists and arrays."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import date, time
from numbers import Number

import numpy as np

from slipstream.core.errors import DataError
from slipstream.core.lazy import torch
from slipstream.core.types import DataLike, Plain
from slipstream.data.identity import missing_words, name_of
from slipstream.data.messages import brief, naming, phrase
from slipstream.data.tabular.any_column import tensor_values, values_of
from slipstream.data.tabular.values import Values

OF_FRAMES = ("iter_columns", "iterrows", "itercolumns")  # methods of polars, pandas and pyarrow tables
TABLE = "the table"  # its name in messages


def from_any(
    data: DataLike, names: Mapping[str, bool], missing: Collection[str] = frozenset()
) -> dict[str, Values]:
    """Return the named columns of a table (see `is_table`) as raw columns.

    names: True for a column whose values are text, such as categories, so that 9007199254740993 differs from
    9007199254740992. Other columns of the table and names without a column are ignored.
    """
    wanted, found = {name_of(name): name for name in names}, dict[str, DataLike]()
    for spelled, column in columns_in(data).items():
        name = name_of(str(spelled))
        if name in wanted and wanted[name] in found:
            raise DataError(f"{TABLE} has two columns {name!r} in different spellings; remove one")
        if name in wanted:
            found[wanted[name]] = column
    made = in_rows({name: found[name] for name in names if name in found})
    with naming(TABLE):
        return {name: values_of(name, column, missing, names[name])[0] for name, column in made.items()}


def columns_in(table: DataLike) -> Mapping[DataLike, DataLike]:
    """Return a table's columns by name. Raises DataError for duplicate or multi-level names."""
    if not isinstance(table, Mapping):
        import narwhals.stable.v2 as nw

        _require_names(table)
        try:
            frame = nw.from_native(table, eager_only=True)
        except nw.exceptions.DuplicateError as error:
            raise DataError(
                f"{TABLE} has two columns with the same name: {' '.join(str(error).split())}; "
                f"give every column a "
                "unique name"
            ) from error
        return {series.name: series.to_native() for series in frame.iter_columns()}
    for name in table:
        if not isinstance(name, str | Number):
            raise DataError(f"{TABLE}: found {brief(name)} as the name of a column, expected a string")
    return table


def _require_names(table: DataLike) -> None:
    """Raise DataError for a pandas frame whose columns have no names, or multi-level names."""
    for name in table.columns if hasattr(table, "itertuples") else ():
        if isinstance(name, tuple):
            raise DataError(
                f"{TABLE}: the column names have several levels, such as {name}; join them: "
                "frame.columns = ['_'.join(map(str, name)) for name in frame.columns]"
            )
        if name != name or not isinstance(name, str | Number | date):  # NaN means no name
            raise DataError(
                f"{TABLE}: a column has no name (found {name!r}); give every column a unique name"
            )


def columns_of(data: DataLike, names: Mapping[str, bool], settings: Mapping[str, Plain]) -> dict[str, Values]:
    """Return all named columns of a table (see `from_any`). Raises DataError if one is missing.

    settings: `missing`, the words that mean a missing value.
    """
    columns = from_any(data, names, missing_words(settings.get("missing", ())))
    absent = [name for name in names if name not in columns]
    if absent:
        raise DataError(f"the table lacks columns of the training data: {phrase(absent)}")
    lengths = {len(values) for values in columns.values()}
    if len(lengths) > 1:
        raise DataError(f"found columns of different lengths: {phrase(sorted(lengths))}")
    return columns


def array_of(data: DataLike) -> np.ndarray:
    """Return new examples that are not a table as an array of numbers. Raises DataError."""
    if isinstance(data, torch.Tensor):
        data = tensor_values("inputs", data)
    if not isinstance(data, np.ndarray | list):
        raise DataError(
            f"found {type(data).__module__}.{type(data).__name__}, expected an array, a data frame from "
            "polars, pandas or pyarrow, or a mapping of column names to values"
        )
    try:
        array = np.asarray(data)
    except ValueError as error:
        raise DataError("found lists of different lengths, expected the same length in all rows") from error
    if array.dtype.kind not in "fiub":
        raise DataError(f"found an array of {array.dtype}, expected numbers; pass text in a mapping")
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
            f"column {single[0]!r} is a single value but column {other!r} is a list; give every column a "
            "value (for one row), or every column a list"
        )
    return {name: [value.item() if hasattr(value, "item") else value] for name, value in columns.items()}


def is_single(value: DataLike) -> bool:
    """Return True for a scalar, and False for a collection of values."""
    return (
        value is None
        or isinstance(value, str | bytes | Number | date | time)
        or getattr(value, "ndim", None) == 0
    )
