"""New examples in memory with their targets, encoded for networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from slipstream.core.errors import ConfigError, DataError, did_you_mean
from slipstream.core.types import DataLike, Plain, Target
from slipstream.core.wording import counted
from slipstream.data.dataset import RawData
from slipstream.data.dataset_rows import examples_of, is_dataset, one_split, with_class_names
from slipstream.data.identity import Known, missing_words, name_of, names_of
from slipstream.data.in_memory import as_array
from slipstream.data.messages import naming, phrase
from slipstream.data.tabular.any_column import values_of
from slipstream.data.tabular.columns import as_numbers, as_text, is_missing
from slipstream.data.tabular.frames import TABLE, columns_in, from_any, is_table
from slipstream.data.tabular.values import Text, Values
from slipstream.data.targets import make_target
from slipstream.inference.new_data import NewData
from slipstream.runs.prediction import Model


def given_data(
    models: Sequence[Model],
    settings: Mapping[str, Plain],
    data: DataLike,
    target: DataLike = None,
    by: str | None = None,
) -> NewData:
    """Return examples in memory, encoded for networks, with targets, weights and groups.

    settings: the data settings of the first network's run. data: as in `Model.predict`. target: the values
    of all examples; None uses the columns of the table that are the run's targets. by: a column of
    the table whose values are groups. Raises ConfigError or DataError for data that do not fit the run.
    """
    meant, form = models[0].target, models[0].preprocessing.spec.kind
    table = _table_of(data)
    if target is None:
        _require_rows(table, form, meant)
        columns = _own_columns(table, meant, settings)
    else:
        columns = _given_columns(target, meant, settings)
    count = len(columns[0])
    gone = np.any([is_missing(values) for values in columns], axis=0)
    if gone.any():
        row = int(np.argmax(gone)) + 1
        raise DataError(
            f"the target is missing in {int(gone.sum())} of {counted(count, 'row')} (row {row}), expected a "
            "value in each; remove these rows"
        )
    with naming("the targets"):
        indexed = _class_numbers(columns, meant)
        y = indexed if indexed is not None else _targets(columns, meant)
    examples = examples_of(data, form)
    inputs = tuple(model.inputs(examples) for model in models)
    if len(inputs[0]) != count:
        found = f"{counted(len(inputs[0]), 'example')} and {counted(count, 'target')}"
        raise DataError(f"found {found}, expected one target for each example")
    raw = RawData(None, (), y, meant, _weights(table, settings), kind=form or None)
    return NewData(inputs, raw, None if by is None else _groups(table, by, settings))


def _table_of(data: DataLike) -> DataLike | None:
    """Return data as a table, or None if they are not tabular."""
    if is_dataset(data):
        split = one_split(data).with_format(None)
        pictures = [n for n, feature in split.features.items() if type(feature).__name__ == "Image"]
        return with_class_names(split.remove_columns(pictures))
    return data if is_table(data) else None


def _require_rows(table: DataLike | None, form: str, meant: Target) -> None:
    """Raise DataError if targets cannot be columns of the data."""
    names = phrase(meant.names)
    if form == "sequence":
        raise DataError(f"target: pass {names} of each sequence as a list, in the order of the sequences")
    if table is None:
        raise DataError(f"target: the data are not a table with a column {names}; pass the values as target")


def _own_columns(table: DataLike, meant: Target, settings: Mapping[str, Plain]) -> list[Values]:
    """Return the target columns of a table."""
    words = dict.fromkeys(meant.names, meant.task in ("binary", "multiclass"))
    found = from_any(table, words, missing_words(settings.get("missing", ())))
    absent = [name for name in meant.names if name not in found]
    if absent:
        there = [str(name) for name in columns_in(table)]
        raise DataError(
            f"{TABLE} lacks the target {phrase(absent)}, {did_you_mean(absent[0], there)}; or pass the "
            "values of all rows as target"
        )
    return [found[name] for name in meant.names]


def _given_columns(target: DataLike, meant: Target, settings: Mapping[str, Plain]) -> list[Values]:
    """Return targets that are passed separately, one column for each target of the run."""
    words, missing = meant.task in ("binary", "multiclass"), missing_words(settings.get("missing", ()))
    if isinstance(target, str):
        raise DataError(
            f"target: found the name {target!r}, expected values; without target, the run's own targets, "
            f"{phrase(meant.names)}, are read from the table"
        )
    if is_table(target):
        columns = list(columns_in(target).values())
    else:
        values = target if hasattr(target, "name") else as_array("targets", target)
        columns = list(values.T) if getattr(values, "ndim", 1) == 2 else [values]
    if len(columns) != len(meant.names):
        raise DataError(
            f"target: found {counted(len(columns), 'column')}, expected {len(meant.names)}: "
            f"{phrase(meant.names)}"
        )
    named = zip(meant.names, columns, strict=True)
    return [values_of(name, column, missing, words)[0] for name, column in named]


def _class_numbers(columns: Sequence[Values], meant: Target) -> np.ndarray | None:
    """Return class numbers from 0 of a run whose classes have names; None for anything else."""
    if meant.task not in ("binary", "multiclass") or meant.label_kind != "text":
        return None
    (column,) = columns
    if isinstance(column, Text) and column.kind == "text":
        return None
    numbers = as_numbers(meant.names[0], column)
    named = Known(meant.classes).find(as_text(column))
    if min(named) >= 0:
        return None
    inside = (numbers % 1 == 0) & (numbers >= 0) & (numbers < len(meant.classes))
    if not inside.all():
        row = int(np.argmin(inside))
        raise DataError(
            f"row {row + 1}: found class {numbers[row]:g}, expected a name, or 0 to "
            f"{len(meant.classes) - 1} for {phrase(meant.classes)}"
        )
    return numbers.astype(np.int64)


def _targets(columns: Sequence[Values], meant: Target) -> np.ndarray:
    classes = meant.classes if meant.task in ("binary", "multiclass") else None
    return make_target(meant.names, columns, meant.task, classes)[0]


def _weights(table: DataLike | None, settings: Mapping[str, Plain]) -> np.ndarray | None:
    """Return the weights of the rows, if the run has a column of them."""
    name = settings.get("weight_column")
    if name is None or table is None:
        return None
    found = from_any(table, {name_of(name): False})
    if not found:
        raise DataError(f"{TABLE} lacks the column of weights, {name!r}, which training had")
    weights = as_numbers(name_of(name), found[name_of(name)])
    if np.isnan(weights).any() or (weights < 0).any() or not weights.any():
        raise DataError(f"column {name!r} of weights: expected numbers >= 0 in all rows, not all 0")
    return weights


def _groups(table: DataLike | None, by: str, settings: Mapping[str, Plain]) -> Text:
    """Return the groups of the rows."""
    if table is None:
        raise ConfigError([f"by={by!r}: the data are not a table; groups are a column of a table"])
    for role in ("target", "weight_column"):
        if by in names_of(settings.get(role)):
            raise ConfigError([f"by={by!r}: is the column of data.{role}; choose another column"])
    found = from_any(table, {by: True})
    if not found:
        there = [str(name) for name in columns_in(table)]
        raise DataError(f"by={by!r}: {TABLE} has no such column, {did_you_mean(by, there)}")
    return as_text(found[by])
