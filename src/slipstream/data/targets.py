"""Conversion of raw target columns to class indices or numbers, and class weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from slipstream.core.errors import ConfigError, DataError, did_you_mean
from slipstream.core.types import Plain, Target
from slipstream.core.wording import typed
from slipstream.data.dataset import RawData
from slipstream.data.identity import PADDED, WHOLE, Known, kind_of_labels, value_of, word_of
from slipstream.data.messages import brief, phrase
from slipstream.data.tabular.columns import as_booleans, as_numbers, as_text, to_boolean, to_number
from slipstream.data.tabular.spelling import CLOCK, NUMBER, is_date
from slipstream.data.tabular.type_inference import SOME
from slipstream.data.tabular.values import Text, Values

MOST_CLASSES = 20  # distinct whole numbers that still count as classes
ROWS_A_CLASS = 5  # minimum number of rows for each of them


def make_target(
    names: Sequence[str],
    columns: Sequence[Values],
    task: str = "auto",
    classes: Sequence[str] | None = None,
    labels: bool = False,
) -> tuple[np.ndarray, Target]:
    """Return target values for RawData, and their description.

    task: `auto` infers it. classes: the labels in the order of their indices; null sorts them (numbers by
    value), and the last is the positive class of a binary task. labels: treat whole numbers as labels,
    however many are distinct. Values must not be missing. Raises DataError for a single class, a label that
    is not in `classes`, or text in regression.
    """
    asked, task = task, infer_task(names, columns, labels) if task == "auto" else task
    if task in ("binary", "multiclass"):
        if len(columns) > 1:
            many = f"data.task={task} has one target, found {len(columns)}: {phrase(names)}"
            raise ConfigError([f"{many}; set data.target to one of them"])
        text = as_text(columns[0])
        indices, found = encode_labels(names[0], text, classes)
        if task == "binary" and len(found) != 2:
            raise DataError(
                f"target {names[0]!r} has {len(found)} classes ({phrase(found)}), but data.task=binary has "
                "2: set data.task=multiclass"
            )
        if asked == "auto" and len(found) == 2:
            task = "binary"
        return indices, Target(
            task, tuple(names), found, label_kind=kind_of_labels(replace(text, values=list(found)))
        )
    if classes is not None:
        raise ConfigError([f"data.classes: the task is {task}, which has no classes; remove data.classes"])
    if task == "multilabel":
        flags = [as_booleans(name, column) for name, column in zip(names, columns, strict=True)]
        return np.stack(flags, axis=1).astype(np.int64), Target(task, tuple(names), tuple(names))
    numbers = [as_numbers(name, column) for name, column in zip(names, columns, strict=True)]
    return np.stack(numbers, axis=1), Target("regression", tuple(names))


def infer_task(names: Sequence[str], columns: Sequence[Values], labels: bool) -> str:
    """Infer binary, multiclass, multilabel or regression from the target columns' values."""
    if len(columns) == 1:
        column = columns[0]
        if isinstance(column, Text) and column.values:
            if all(map(is_date, column.values)):
                raise DataError(f"target {names[0]!r} is a date; expected classes or a number")
            if not _spells_numbers(column):
                return "multiclass"
        return "multiclass" if labels or few_whole_numbers(column) else "regression"
    if all(_two_valued(column) for column in columns):
        return "multilabel"
    words = [n for n, c in zip(names, columns, strict=True) if isinstance(c, Text) and not _spells_numbers(c)]
    if words:
        raise DataError(
            f"several targets must be either all yes/no (multilabel) or all numbers (regression), but "
            f"{words[0]!r} contains text: choose one target"
        )
    return "regression"


def _spells_numbers(text: Text) -> bool:
    return all(to_number(word) is not None for word in text.values)


def may_be_labels(values: Values, format: str) -> bool:
    """Return True for a column of numbers that may be labels and is spelled the same as text.

    These are whole numbers, other numbers in normal spelling, or a few times of day.
    """
    if isinstance(values, np.ndarray):
        return True
    if format == CLOCK:
        return len(values.values) <= MOST_CLASSES and len(values) >= ROWS_A_CLASS * len(values.values)
    return all((NUMBER if format == "" else WHOLE).fullmatch(word) for word in values.values)


def few_whole_numbers(column: Values) -> bool:
    """Return True if numbers are probably labels.

    Such numbers are whole, have at most 20 distinct values with at least five rows each, or have a leading
    zero like codes.
    """
    if isinstance(column, Text):
        if any(PADDED.fullmatch(word) for word in column.values):
            return True
        distinct = np.array([to_number(word) for word in column.values])
    else:
        distinct = np.unique(column)
    most = MOST_CLASSES if len(distinct) > 2 else 2
    enough = len(distinct) <= 2 or len(column) >= ROWS_A_CLASS * len(distinct)
    return bool((distinct % 1 == 0).all() and len(distinct) <= most and enough)


def _two_valued(column: Values) -> bool:
    if isinstance(column, Text):
        return all(to_boolean(word) is not None for word in column.values)
    return bool(((column == 0) | (column == 1)).all())


def encode_labels(name: str, text: Text, classes: Sequence[str] | None) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return class indices int64 [N] and the labels in index order."""
    present = [word for word, count in zip(text.values, text.counts(), strict=True) if count]
    found = tuple(word_of(label) for label in classes or in_order(present))
    check_labels(name, text, found)
    return np.array([*Known(found).find(text), -1], np.int64)[text.codes], found


def require_variety(raw: RawData) -> None:
    """Raise DataError for a target that cannot be learned: a constant or an identifier."""
    target, count = raw.target, len(raw)
    wrong = "there is nothing to learn; is it the right column?"
    if target.task == "regression":
        for name, column in zip(target.names, raw.targets.T, strict=True):
            if (column == column[0]).all():
                raise DataError(f"target {name!r} is {column[0]:g} in {_all_rows(count)}: {wrong}")
    elif target.task != "multilabel":
        present, (name, *_) = np.unique(raw.targets), target.names or ("",)
        if len(present) < 2:
            label = phrase([target.classes[i] for i in present])
            raise DataError(f"target {name!r} has only one class, {label!r} in {_all_rows(count)}: {wrong}")
        if count >= SOME and len(present) > 0.9 * count:
            raise DataError(
                f"target {name!r} looks like an identifier: {len(present)} classes in {count} rows, too few "
                "rows of each to learn from; is it the right column?"
            )


def _all_rows(count: int) -> str:
    return "the only row" if count == 1 else f"all {count:,} rows"


def check_labels(name: str, text: Text, classes: Sequence[str]) -> None:
    """Raise DataError with the row of a label that is not in `classes`."""
    known = [word_of(label) for label in classes]
    unknown = np.array([place < 0 for place in Known(known).find(text)] + [False])[text.codes]
    if unknown.any():
        row = int(np.argmax(unknown))
        label = text.values[text.codes[row]]
        raise DataError(
            f"target {name!r}, row {row + 1}: label {brief(label)} is not in data.classes "
            f"({phrase(classes)}), "
            f"{did_you_mean(label, known)}; correct the label or add it to data.classes"
        )


def in_order(labels: Sequence[str]) -> list[str]:
    """Sort labels: numbers by value, no before yes, words alphabetically."""
    for reader in (value_of, to_boolean):
        values: list[Plain] = [reader(label) for label in labels]
        if None not in values:
            return [label for _, label in sorted(zip(values, labels, strict=True))]
    return sorted(labels)


def class_weights(raw: RawData, rows: np.ndarray, setting: Plain) -> np.ndarray:
    """Return the class weight of each training row, which multiplies the row's own weight, float64 [rows].

    `balanced` is W / (classes present * W of the class), where W is the sum of the rows' own weights, 1 each
    by default (as in scikit-learn's `compute_class_weight` with `sample_weight`). Every class gets the same
    total weight, and the overall total stays the same. A class whose rows all have weight 0 stays at 0.
    """
    if setting == "none":
        return np.ones(len(rows))
    target = raw.target
    if target.task not in ("binary", "multiclass"):
        raise ConfigError([f"data.class_weights: {target.task} has no classes; set data.class_weights=none"])
    labels = raw.targets[rows]
    if setting == "balanced":
        own = np.ones(len(rows)) if raw.weights is None else np.asarray(raw.weights[rows], np.float64)
        sums = np.bincount(labels, own, minlength=len(target.classes))
        here = np.where(sums > 0, sums, 1.0)
        return np.asarray((own.sum() / (np.count_nonzero(sums) * here))[labels])
    known, given = Known(target.classes), {}
    for label, weight in setting.items():
        place = known.place(word_of(label), "number")
        if place < 0:
            said = did_you_mean(word_of(label), target.classes)
            raise ConfigError([f"data.class_weights.{word_of(label)}: no such class, {said}"])
        if place in given:
            raise ConfigError([f"data.class_weights: lists the class {target.classes[place]!r} twice"])
        given[place] = float(weight)
    absent = [label for i, label in enumerate(target.classes) if i not in given]
    if absent:
        every = {label: given.get(i, 1.0) for i, label in enumerate(target.classes)}
        hint = f"; write {typed('data.class_weights', every)}" if len(every) <= MOST_CLASSES else ""
        raise ConfigError(
            [f"data.class_weights: expected every class or none, missing {phrase(absent)}{hint}"]
        )
    result: np.ndarray = np.array([given[i] for i in range(len(target.classes))])[labels]
    return result
