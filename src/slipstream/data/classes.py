"""Checks of classes: missing from a split, in one split only, or similar in spelling."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from slipstream.core.errors import DataError, did_you_mean
from slipstream.core.wording import counted, typed
from slipstream.data.dataset import PARTS, RawData, Settings
from slipstream.data.identity import WHOLE, lookalikes
from slipstream.data.messages import brief, phrase

LONGEST = 1000  # maximum characters of a setting that a message prints
MACRO = "metrics by class (f1_macro, roc_auc)"


def class_warnings(raw: RawData, rows: list[np.ndarray]) -> list[str]:
    """Return warnings about classes with one row or similar names, and about splits that lack classes.

    Raises DataError if train has only one class.
    """
    if raw.target.task == "multilabel":
        return label_warnings(raw, rows)
    if raw.target.task == "regression":
        return []
    names = raw.target.classes
    totals = np.bincount(raw.targets, minlength=len(names))
    lone = [name for name, count in zip(names, totals, strict=True) if count == 1]
    one = f"1 {raw.unit}"
    found = [f"class {phrase(lone)} has {one}, so it cannot be in both train and test"] if lone else []
    found += alike(names, totals)
    for part, part_rows in zip(PARTS, rows, strict=True):
        counts = np.bincount(raw.targets[part_rows], minlength=len(names))
        absent = [name for name, count in zip(names, counts, strict=True) if count == 0]
        if part == "train" and len(names) - len(absent) < 2:
            only = names[int(np.argmax(counts))]
            raise DataError(
                f"the training split has only one class, {only!r}, and lacks {phrase(absent)}: "
                "there is nothing to learn; change data.split"
            )
        if absent and len(part_rows):
            effect = "it cannot be learned" if part == "train" else f"its {MACRO} are over the others"
            if part != "train" and len(absent) == len(names) - 1:
                effect = "its roc_auc, pr_auc and mcc are undefined"
            found.append(f"the {part} split has no row of class {phrase(absent)}: {effect}")
    return found


def amounts(raw: RawData, settings: Settings) -> list[str]:
    """Warn if more than two whole numbers, which may be counts, were inferred to be classes."""
    names = raw.target.classes
    if raw.target.task != "multiclass" or settings.get("task") != "auto" or settings.get("classes"):
        return []
    if not settings.get("target") or not all(WHOLE.fullmatch(name) for name in names):
        return []
    many = counted(len(names), "whole number")
    found = f"target {brief(raw.target.names[0])} has {many}, {names[0]} to {names[-1]}"
    return [
        f"{found}, which are treated as classes: if they are amounts (counts, stars), set "
        "data.task=regression, otherwise data.task=multiclass"
    ]


def label_warnings(raw: RawData, rows: list[np.ndarray]) -> list[str]:
    """Return warnings about splits in which a label is constant."""
    found = []
    for part, part_rows in zip(PARTS, rows, strict=True):
        share = raw.targets[part_rows].mean(axis=0) if len(part_rows) else np.full(raw.targets.shape[1], 0.5)
        for value in (0, 1):
            names = [name for name, s in zip(raw.target.classes, share, strict=True) if s == value]
            effect = "it cannot be learned" if part == "train" else f"its {MACRO} are over the others"
            if names:
                found.append(f"the {part} split has only {value} in label {phrase(names)}: {effect}")
    return found


def alike(names: Sequence[str], totals: np.ndarray) -> list[str]:
    """Warn about classes that differ only in case or in the spaces between words."""
    return [
        f"classes {phrase([f'{brief(names[i])} ({totals[i]})' for i in group])} differ only in case "
        f"or spaces, and are learned as {len(group)} classes: spell them alike if they are one"
        for group in lookalikes(names)
    ]


def require_known(raw: RawData, counted_from_0: bool) -> None:
    """Raise DataError with file and row for a class that only a validation or test file has.

    For a random split, this is only a warning.
    counted_from_0: True if data.classes names the labels 0, 1,
    ...
    """
    if raw.parts is None or raw.target.task not in ("binary", "multiclass"):
        return
    names, labels, parts = raw.target.classes, raw.targets, raw.parts
    known = [name for name, count in zip(names, _counts(labels[parts == 0], names), strict=True) if count]
    for number, part in enumerate(PARTS[1:], start=1):
        for label, count in enumerate(_counts(labels[parts == number], names)):
            if count and names[label] not in known:
                row = int(np.argmax((parts == number) & (labels == label)))
                where = raw.where or (lambda row: f"row {row + 1}")
                have = "has" if count == 1 else "have"
                raise DataError(
                    f"{where(row)}: label {brief(names[label])} of target {brief(raw.target.names[0])} is "
                    f"unknown: {counted(count, 'row')} of the {part} split {have} it and none of "
                    f"the training "
                    f"split ({did_you_mean(names[label], known)}); spell labels alike in both"
                    + _naming_all(names, counted_from_0)
                )


def _naming_all(names: Sequence[str], counted_from_0: bool) -> str:
    """Return the override that includes all labels, if it fits on a line."""
    if counted_from_0 and list(names) != [str(i) for i in range(len(names))]:
        return ""
    setting = typed("data.classes", names)
    return f", or set {setting}" if len(setting) <= LONGEST else ", or list all of them in data.classes"


def _counts(labels: np.ndarray, names: Sequence[str]) -> np.ndarray:
    return np.bincount(labels, minlength=len(names))
