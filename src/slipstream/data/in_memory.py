"""Data in memory: tables of any library and arrays, as raw columns whose types decide their kinds."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from slipstream.core.errors import DataError
from slipstream.core.lazy import torch
from slipstream.core.types import DataLike
from slipstream.core.wording import counted, spell
from slipstream.data.dataset_rows import is_dataset, splits_of
from slipstream.data.identity import name_of
from slipstream.data.messages import brief, naming, phrase
from slipstream.data.tabular.any_column import column_of, tensor_values
from slipstream.data.tabular.frames import TABLE, columns_in, in_rows, is_table
from slipstream.data.tabular.values import Values


@dataclass(frozen=True)
class InMemory:
    """Rows from a caller: a table with named columns, arrays of inputs and targets, or a dataset.

    table: a data frame or a mapping of names to columns; None for others. inputs: [N, ...]. targets: [N] or
    [N, D]. weights: [N], of the rows of arrays. splits: of a dataset of Hugging Face's `datasets`, by name.
    """

    table: DataLike = None
    inputs: np.ndarray | None = None
    targets: np.ndarray | None = None
    weights: np.ndarray | None = None
    splits: Mapping[str, DataLike] | None = None

    @classmethod
    def of(cls, data: DataLike, target: DataLike, called: str | None = None) -> tuple[InMemory, list[str]]:
        """Return the data with the names of its target columns.

        target: the name of a column, a list of names, or the values: [N] or [N, D]. called: the name for
        target values that are not in the table; None takes their own name, or `target`. Raises DataError.
        """
        if hasattr(data, "collect"):
            raise DataError("inputs: found a lazy frame, expected a data frame; call its collect()")
        if is_dataset(data):
            return cls(splits=splits_of(data)), _names_given(target)
        if not is_table(data):
            return cls._of_arrays(data, target), ["target"]
        names = names_in(data)
        if isinstance(target, str) and "=" in target and name_of(target) not in map(name_of, names):
            raise DataError(
                f"target: found the setting {target!r}, expected the name of a column "
                f"({phrase(names)}) or the values of all rows; settings follow it"
            )
        if isinstance(target, str | int):
            _refuse_index(data, names, target)
            return cls(table=data), [str(target)]
        if isinstance(target, list | tuple) and target and all(isinstance(name, str) for name in target):
            known = {name_of(name) for name in names}
            if len(target) != len(columns_in(data)[names[0]]) or known >= set(map(name_of, target)):
                return cls(table=data), list(target)
        if target is None:
            raise DataError(
                f"target: found None, expected the name of a column ({phrase(names)}) or the "
                f"values of all rows"
            )
        joined, added = with_targets(data, names, target, called)
        return cls(table=joined), added

    @classmethod
    def _of_arrays(cls, data: DataLike, target: DataLike) -> InMemory:
        if isinstance(data, str | os.PathLike):
            file = f"data.path={spell(str(data))}"
            raise DataError(
                f"inputs: found {str(data)!r}, expected data in memory; read the file first, or train "
                f'on it with slipstream.train(slipstream.compose("data=table", "{file}", "data.target=..."))'
            )
        if isinstance(target, str):
            raise DataError(
                f"target: found {target!r}, but the inputs are an array without column names; pass the "
                "targets as a second array, or the inputs as a data frame"
            )
        if isinstance(data, torch.utils.data.Dataset):
            raise DataError(
                f"inputs: found {type(data).__name__}, a torch dataset, expected an array, a tensor, a "
                "data frame, a mapping of names to columns, or a Hugging Face Dataset"
            )
        inputs, targets = as_array("inputs", data), as_array("targets", target)
        if len(inputs) != len(targets):
            raise DataError(
                f"targets: found {counted(len(targets), 'row')}, expected {len(inputs):,} as in the inputs"
            )
        if inputs.ndim > 1 and inputs.dtype.kind in "OUS":
            try:
                inputs = inputs.astype(np.float64)
            except (TypeError, ValueError) as error:
                raise DataError(
                    f"inputs: found an array of {inputs.dtype}, expected numbers ({error}); pass words as "
                    "columns of a data frame"
                ) from error
        return cls(inputs=inputs, targets=targets)


def given_again(what: str) -> str:
    """Return the message for a run on data in memory that are not passed. what: a plural noun."""
    return (
        f"{what} of this run came from Python and are not in a file; pass them again: "
        "slipstream.fit(data, target, directory=RUN, resume=True), or slipstream.evaluate(RUN, data)"
    )


def _names_given(target: DataLike) -> list[str]:
    """Return the names of a dataset's target columns. Raises DataError for values."""
    names = [target] if isinstance(target, str) else target
    if isinstance(names, list | tuple) and names and all(isinstance(name, str) for name in names):
        return list(names)
    raise DataError(f"target: found {brief(target)}, expected the name of a column of the dataset, or a list")


def _refuse_index(data: DataLike, names: Collection[str], target: DataLike) -> None:
    """Raise DataError for a target that is the index of a pandas frame."""
    index = getattr(data, "index", None)
    if str(target) not in names and target in list(getattr(index, "names", ())):
        raise DataError(
            f"target: {target!r} is the index of the frame, expected a column; convert it with "
            "frame.reset_index()"
        )


def names_in(table: DataLike) -> list[str]:
    """Return the names of a table's columns exactly as spelled there."""
    return [str(name) for name in columns_in(table)]


def with_targets(
    table: DataLike, names: list[str], target: DataLike, called: str | None
) -> tuple[dict[str, DataLike], list[str]]:
    """Return a table's columns together with separate targets, and the targets' names."""
    columns = {str(name): column for name, column in columns_in(table).items()}
    _require_one_order(table, target)
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
                f"target: {name!r} is already a column of the table; remove it from the inputs, "
                f"or pass only its "
                "name"
            )
    return columns | added, list(added)


def _require_one_order(table: DataLike, target: DataLike) -> None:
    """Raise DataError if the pandas indices of table and target have the same labels in another order."""
    own: DataLike = getattr(table, "index", None)
    other: DataLike = getattr(target, "index", None)
    if not hasattr(own, "equals") or not hasattr(other, "equals") or own.equals(other):
        return
    if len(own) == len(other) and own.sort_values().equals(other.sort_values()):
        raise DataError(
            "target: its index has the labels of the table in another order, but rows are matched by "
            "position; reorder it with target.loc[table.index]"
        )


def as_array(what: str, values: DataLike) -> np.ndarray:
    """Return numbers, strings or booleans [N, ...] as an array. Raises DataError for ragged lists."""
    if isinstance(values, torch.Tensor):
        return tensor_values(what, values)
    if hasattr(values, "toarray"):
        raise DataError(f"{what}: found a sparse matrix, expected a dense array; call its toarray()")
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise DataError(
            f"{what}: found lists of different lengths, expected the same length in all rows"
        ) from error
    if array.ndim == 0:
        raise DataError(
            f"{what}: found {type(values).__name__}, expected an array, a data frame, or a mapping of names "
            "to columns"
        )
    return array


def raw_columns(
    table: DataLike, missing: Collection[str], wanted: Collection[str] | None, as_words: Collection[str]
) -> tuple[dict[str, Values], dict[str, str]]:
    """Return a table's columns by name, and the kinds that follow from their types.

    wanted: the columns to read, None for all. as_words: columns whose values are words, such as labels.
    Raises DataError for a column of anything but numbers, booleans, dates or strings.
    """
    columns: dict[str, Values] = {}
    kinds: dict[str, str] = {}
    with naming(TABLE):
        there = in_rows(columns_in(table)) if isinstance(table, Mapping) else columns_in(table)
    for spelled, column in there.items():
        name = name_of(str(spelled))
        if name in columns:
            raise DataError(f"{TABLE} has two columns {name!r} in different spellings; remove one")
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
        raise DataError(f"{TABLE}: found no rows, expected at least 3")
    return columns, kinds
