"""Your own sequences: a long table with a row for each step, and columns for its sequence and time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge

from slipstream.core.errors import DataError
from slipstream.core.registry import register
from slipstream.core.types import Count, Plain, Word
from slipstream.data.dataset import RawData
from slipstream.data.identity import name_of, names_of, numbered, words_of
from slipstream.data.messages import brief, naming
from slipstream.data.sequence.long_table import (
    Order,
    Sequences,
    StepColumns,
    kind_of_times,
    refuse_missing,
    times_of,
)
from slipstream.data.sources.table import (
    ENDINGS,
    PATHS,
    Kind,
    frame_of,
    header_problems,
    input_kinds,
    path_problems,
    split_problems,
    use_problems,
)
from slipstream.data.tabular.columns import as_text, is_missing, join, pick
from slipstream.data.tabular.spelling import DayFirst, described
from slipstream.data.tabular.table_file import File, ReadingRules, labels_among, where_in
from slipstream.data.tabular.values import Values
from slipstream.data.targets import make_target

ROLES = ("id", "time", "group_column", "split_column")


def sequences_problems(settings: Mapping[str, Plain]) -> list[str]:
    """Check the settings of sequences as far as possible without reading them."""
    found = []
    if settings["path"] is None:
        found.append(f"data.path: is not set, expected a file ({', '.join(ENDINGS)})")
    for key, what in (
        ("target", "to predict"),
        ("id", "that identifies each row's sequence"),
        ("time", "of times"),
    ):
        if not names_of(settings[key]):
            found.append(f"data.{key}: is not set, expected the name of the column {what}")
    found += path_problems(settings, PATHS)
    found += split_problems(settings, {"group_column": "group"}, "sequence")
    return found + header_problems(settings, PATHS) + use_problems(settings, ROLES)


@register("data", problems=sequences_problems, splits=("group", "time"), form="sequence")
def sequences(
    *,
    path: str | None,
    id: Word | None,
    time: Word | None,
    target: Word | list[Word] | None,
    task: Literal["auto", "binary", "multiclass", "multilabel", "regression"],
    classes: list[Word] | None,
    inputs: list[Word] | None,
    kinds: dict[Word, Kind],
    max_length: Count | None,
    keep: Literal["first", "last"],
    missing: list[Word],
    impute: Literal["forward", "median", "mean", "most_frequent", "error"],
    max_categories: Annotated[int, Ge(2)],
    separator: str | None,
    header: bool,
    decimal: Literal[".", ","],
    day_first: DayFirst,
    group_column: Word | None,
    split_column: Word | None,
    validation_path: str | None,
    test_path: str | None,
) -> RawData:
    """Your own sequences: a long table (CSV, TSV, gzip, Parquet) with a row for each step.

    Inputs [N, T, C], sorted by time; T is the longest sequence's length, at most max_length. If lengths
    differ, the last channel is 1 in every step and 0 in the padding, which is at the end and all 0. Scaling,
    categories and fill values are fitted only on the steps of training sequences.
    path: the file. id: the column that identifies a step's sequence. time: the column of times, numbers or
        dates, distinct within a sequence. target: the column to predict, or a list; one value per sequence.
        task, classes, inputs, kinds,
    missing, max_categories, separator, header, decimal, day_first: as in data=table.
    max_length: the maximum number of steps, null for no limit. keep: whether longer sequences keep the first
        or the last steps; the summary counts truncated sequences.
    impute: the value for a missing number; an additional channel is 1 where it was missing. `forward` is the
        value of the previous step, also for categories; if there is none, it is the median.
    group_column: for split=group. split_column: holds train, validation or test. One value per sequence.
        split=time trains on the sequences that end first and tests on those that end last.
    validation_path, test_path: files with the same columns for these splits, with other sequences. Raises
        DataError with file, row (counted from 1 below the header) and column, or with the sequence.
    """
    labels = words_of(classes)
    assert path is not None
    assert id is not None
    assert time is not None
    assert target is not None
    owner, when = name_of(id), name_of(time)
    targets = names_of(target)
    named = (("group_column", group_column), ("split_column", split_column))
    roles = {key: name_of(name) for key, name in named if name is not None}
    taken = {owner, when, *targets, *roles.values()}
    asked = {name_of(name): kind for name, kind in kinds.items()}
    chosen = None if inputs is None else names_of(inputs)

    def wanted(name: str) -> bool:
        return name in taken or ((chosen is None or name in chosen) and asked.get(name) != "ignore")

    as_words = frozenset(name for name, kind in asked.items() if kind == "category")
    as_words |= {owner, *roles.values()}
    words = labels_among(targets, task)
    reading = ReadingRules(frozenset(missing), separator, decimal, wanted, as_words, words, header, day_first)
    paths = enumerate((path, validation_path, test_path))
    files = [File.read(file, part, reading) for part, file in paths if file is not None]
    first = files[0]
    first.check_names({"id": [owner], "time": [when], "target": targets, "inputs": chosen or []})
    first.check_names({key: [name] for key, name in roles.items()} | {"kinds": list(asked)})
    for file in files:
        _check_given(file, targets, owner)
        file.read_targets(targets, task, labels, drop=None)
    warnings = [warning for file in files for warning in file.warnings]
    longest = sum(file.rows for file in files) if max_length is None else max_length
    kind = kind_of_times(first.columns[when])
    format = first.format_of(kind, when, first.columns[when])
    steps = StepColumns(owner, when, longest, keep, impute == "forward", format)
    heads = [_head(file, steps, roles) for file in files]
    _check_apart(files, heads, owner)
    ids = join([head["id"] for head in heads])
    times = np.concatenate([head["time"] for head in heads])
    order = Order.of(ids, times, steps)
    role = {key: pick(join([head[key] for head in heads]), order.first) for key in roles}
    given = np.repeat([file.part for file in files], [file.rows for file in files])[order.first]
    groups = numbered(as_text(role["group_column"])) if group_column is not None else None
    with naming(path):
        joined = [pick(join([file.targets[name] for file in files]), order.first) for name in targets]
        y, meaning = make_target(targets, joined, task, labels)
    found = input_kinds(first, taken, asked, chosen is not None, warnings)
    frame = frame_of(files, found, "median" if steps.forward else impute, max_categories)
    for name, column in frame.columns.items():
        if impute == "error":
            with naming(path):
                refuse_missing(name, column)
        frame.columns[name] = pick(column, order.rows)
    used = {*found, *taken}
    return RawData(
        Sequences(frame, order.lengths, steps),
        tuple(found),
        y,
        meaning,
        parts=np.asarray(role.get("split_column", given)).astype(np.int8),
        groups=groups,
        order=times[order.rows][np.cumsum(order.lengths) - 1],
        sources=tuple(file.path for file in files),
        left_out=tuple(name for name in first.names if name not in used),
        warnings=[
            *warnings,
            *described(note for file in files for note in file.notes),
            *order.warnings(steps),
        ],
        notes=[_described(order.lengths)],
        where=lambda i: where_in(files)(int(order.first[i])),
        kind="sequence",
    )


def _head(file: File, steps: StepColumns, roles: Mapping[str, str]) -> dict[str, Plain]:
    """Read each row's sequence, time and roles. Raises DataError if they do not form sequences."""
    found: dict[str, Plain] = {"id": file.take(steps.id, "category")}
    with naming(file.path):
        refuse_missing(steps.id, found["id"])
        found["time"] = times_of(steps.time, file.columns.pop(steps.time), steps.format)
        Order.of(found["id"], found["time"], steps)
    found |= {key: file.role(key, name) for key, name in roles.items()}
    same = file.targets | {name: found[key] for key, name in roles.items()}
    with naming(file.path):
        for name, values in same.items():
            _check_constant(name, values, found["id"], steps.id)
    return found


def _check_given(file: File, targets: list[str], id: str) -> None:
    """Raise DataError for a partly missing target that changes within a sequence.

    Such a column is the wrong one, and filling it would not help.
    """
    for name in targets:
        values, ids = file.columns.get(name), file.columns[id]
        if values is not None and is_missing(values).any():
            with naming(file.path):
                _check_constant(name, values, ids, id)


def _check_constant(name: str, values: Values, ids: Values, id: str) -> None:
    """Raise DataError, with the sequence and both rows, if a present value changes within a sequence."""
    owners, text = as_text(ids), as_text(values)
    rows = np.flatnonzero(~(is_missing(owners) | is_missing(text)))
    _, first, codes = np.unique(owners.codes[rows], return_index=True, return_inverse=True)
    other = text.codes[rows] != text.codes[rows[first[codes]]]
    if other.any():
        place = int(np.argmax(other))
        row, before = int(rows[place]), int(rows[first[codes[place]]])
        raise DataError(
            f"{name} changes within {id}={owners.values[owners.codes[row]]}: row {before + 1} has "
            f"{brief(text.values[text.codes[before]])}, row {row + 1} has "
            f"{brief(text.values[text.codes[row]])}; "
            "expected one value per sequence"
        )


def _check_apart(files: list[File], heads: list[dict[str, Plain]], id: str) -> None:
    """Raise DataError for a sequence that is in two files."""
    seen: dict[str, str] = {}
    for file, head in zip(files, heads, strict=True):
        text = as_text(head["id"])
        for word in (text.values[code] for code in np.unique(text.codes)):
            if seen.setdefault(word, file.path) != file.path:
                raise DataError(
                    f"{id}={word} is in both {seen[word]} and {file.path}; expected it in only one of them"
                )


def _described(lengths: np.ndarray) -> str:
    padding = 1 - lengths.mean() / lengths.max()
    return (
        f"Steps of a sequence: {lengths.min()} to {lengths.max()}, mean {lengths.mean():.1f}; "
        f"{padding:.0%} of all positions are padding."
    )
