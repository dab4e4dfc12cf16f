"""Rows passed from Python: data frames of any library, mappings of columns, and arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge

from slipstream.core.errors import ConfigError, DataError
from slipstream.core.registry import register
from slipstream.core.types import Plain, Word
from slipstream.data.dataset import RawData
from slipstream.data.identity import name_of, names_of, words_of
from slipstream.data.in_memory import InMemory, given_again, names_in, raw_columns
from slipstream.data.sources.arrays import raw_of_arrays
from slipstream.data.sources.table import ROLES, ColumnUses, Kind, raw_of, split_problems, use_problems
from slipstream.data.tabular.frames import TABLE
from slipstream.data.tabular.table_file import File, labels_among

OF_TABLES = ("inputs", "kinds", *ROLES)  # settings that do not apply to arrays


def memory_problems(settings: Mapping[str, Plain]) -> list[str]:
    """Check the settings that name columns."""
    found = []
    if not names_of(settings["target"]):
        found.append(
            "data.target: is not set; data=memory works only in Python: slipstream.fit(frame, 'column')"
        )
    found += split_problems(settings, {"group_column": "group", "time_column": "time"})
    return found + use_problems(settings, ROLES)


@register("data", problems=memory_problems, splits=("group", "time"), form=None, in_memory=True)
def memory(
    given: InMemory | None,
    *,
    target: Word | list[Word] | None,
    task: Literal["auto", "binary", "multiclass", "multilabel", "regression"],
    classes: list[Word] | None,
    inputs: list[Word] | None,
    kinds: dict[Word, Kind],
    missing: list[Word],
    missing_target: Literal["error", "drop"],
    impute: Literal["median", "mean", "most_frequent", "error"],
    max_categories: Annotated[int, Ge(2)],
    group_column: Word | None,
    time_column: Word | None,
    split_column: Word | None,
    weight_column: Word | None,
) -> RawData:
    """Rows passed to slipstream.fit in Python: a data frame, a mapping of columns, or arrays.

    target: the column to predict, or a list of columns. task, classes, inputs, missing, missing_target,
        impute, max_categories, group_column, time_column, split_column, weight_column: as in data=table.
    kinds: column -> number, boolean, date, category or ignore. By default, a column's type decides:
        categorical columns are categories even if they hold numbers, and so are strings that spell numbers.
    Raises DataError with row (counted from 1) and column.
    """
    assert target is not None
    if given is None:
        raise DataError(given_again("data=memory: the rows"))
    if given.table is None:
        used = {"inputs": inputs, "kinds": kinds, "group_column": group_column, "time_column": time_column}
        used |= {"split_column": split_column, "weight_column": weight_column}
        if named := [name for name, value in used.items() if value]:
            advice = "the rows are an array without column names; pass a data frame"
            raise ConfigError([f"data.{name}: {advice}" for name in named])
        assert given.inputs is not None
        assert given.targets is not None
        whole = {"inputs": given.inputs, "targets": given.targets}
        whole |= {} if given.weights is None else {"weights": given.weights}
        names = {"inputs": "inputs", "targets": name_of(names_of(target)[0]), "weights": "weights"}
        parts = np.zeros(len(given.inputs), np.int8)
        return raw_of_arrays("the arrays", names, whole, parts, task, words_of(classes))
    uses = ColumnUses.of(
        *(target, task, classes, inputs, kinds, missing_target, impute, max_categories),
        (group_column, time_column, split_column, weight_column),
    )
    names_there = [name_of(name) for name in names_in(given.table)]
    wanted = [name for name in names_there if uses.wanted(name)]
    words = uses.as_words | labels_among(uses.targets, task)
    columns, told = raw_columns(given.table, frozenset(words_of(missing) or ()), wanted, words)
    rows = len(next(iter(columns.values())))
    told = {name: kind for name, kind in told.items() if name not in uses.targets}
    file = File(TABLE, 0, names_there, columns, told, None, [], np.ones(rows, bool), {})
    return replace(raw_of([file], uses), sources=())
