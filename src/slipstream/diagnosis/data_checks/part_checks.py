"""Checks of splits: differences between train, validation and test in targets and inputs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.stats import chi2_contingency, ks_2samp, rankdata

from slipstream.data.dataset import PARTS
from slipstream.data.messages import phrase
from slipstream.diagnosis.data_checks.checked_data import CheckedData
from slipstream.diagnosis.data_checks.finding import Finding, columns, percent
from slipstream.diagnosis.data_checks.smoothers import smoothers_of

FEWEST = 12  # smallest number of rows of a split
APART = 0.3  # smallest total variation distance between the classes of two splits
FAR_APART = 0.6  # smallest Kolmogorov-Smirnov distance between the targets of two splits
UNLIKELY = 1e-6  # largest p of such a difference
SEEN = 0.72  # smallest area under the ROC curve of a model that distinguishes two splits
CLEAR = 4.5  # the same, in standard errors above 0.5


def wrong_order(checked: CheckedData) -> Iterator[Finding]:
    """Find splits whose targets come from different ends of the data."""
    train = checked.targets[checked.parts[0]]
    for name, rows in zip(PARTS[1:], checked.parts[1:], strict=True):
        if len(rows) < FEWEST or checked.task == "multilabel":
            continue
        other = checked.targets[rows]
        said = (
            _classes_apart(checked, train, other, name)
            if checked.labelled
            else _values_apart(train, other, name)
        )
        if said is None:
            continue
        positional = checked.split_method == "time" and (checked.raw is None or checked.raw.order is None)
        method = f"data.split={checked.split_method}" if checked.split_method else "the given split"
        remedy = "data.split=stratified" if checked.labelled else "data.split=random"
        free = checked.split_method == "time" and checked.setting("time_column") is None
        yield Finding(
            "split in wrong order" if checked.split_method == "time" else "distribution shift",
            ("split in wrong order: " if checked.split_method == "time" else "distribution shift: ")
            + f"{said}, because {method} takes them from different ends of the data",
            0.95 if positional else 0.7,
            (remedy,) if free else (),
            f"use {remedy} if the rows are independent of each other; they are sorted",
        )
        return


def _classes_apart(checked: CheckedData, train: np.ndarray, other: np.ndarray, name: str) -> str | None:
    """Return words about the class whose share differs most between two splits, None without a difference."""
    count = len(checked.classes)
    table = np.stack([np.bincount(one, minlength=count) for one in (train, other)])
    shares = table / table.sum(axis=1, keepdims=True)
    present = table.sum(axis=0) > 0
    if np.abs(shares[0] - shares[1]).sum() / 2 < APART:
        return None
    if chi2_contingency(table[:, present]).pvalue > UNLIKELY:
        return None
    lacking = [c for c, a, b in zip(checked.classes, *table, strict=True) if b and not a]
    worst = int(np.argmax(np.abs(shares[0] - shares[1])))
    said = (
        f"class {checked.classes[worst]} has {percent(shares[0, worst])} of the training rows and "
        f"{percent(shares[1, worst])} of the {name} rows"
    )
    return f"{said}, and train has no row of class {phrase(lacking)}" if lacking else said


def _values_apart(train: np.ndarray, other: np.ndarray, name: str) -> str | None:
    """Return words about a target [N, K] whose distribution differs between two splits, None if none does."""
    for a, b in zip(train.T, other.T, strict=True):
        found = ks_2samp(a, b)
        if found.statistic > FAR_APART and found.pvalue < UNLIKELY:
            return (
                f"the median target is {np.median(a):.3g} in train and {np.median(b):.3g} in {name} "
                f"(Kolmogorov-Smirnov distance {found.statistic:.2f})"
            )
    return None


def shift(checked: CheckedData) -> Iterator[Finding]:
    """Check whether a quick model distinguishes the inputs of validation or test from those of train."""
    train = checked.samples[0]
    worst: Finding | None = None
    for name, part in zip(PARTS[1:], checked.samples[1:], strict=True):
        if len(part) < FEWEST or len(train) < FEWEST:
            continue
        half = slice(None, None, max(1, round(len(train) / 250)))
        x = np.concatenate([train.x[half], part.x])
        x = x[:, _without_order(checked, np.concatenate([train.rows, part.rows]))]
        if not x.shape[1]:
            continue
        is_other = np.repeat([0.0, 1.0], [len(x) - len(part), len(part)])
        area = max(_area(is_other, one.predict(is_other[:, None])[:, 0]) for one in smoothers_of(x))
        error = np.sqrt((len(x) + 1) / (12 * (len(x) - len(part)) * len(part)))
        if area < SEEN or area - 0.5 < CLEAR * error:
            continue
        loss, clear = _extra_loss(checked, name)
        found = _shift(checked, name, area, loss, harmful=clear > 2 and loss > 0.05)
        if worst is None or found.strength > worst.strength:
            worst = found
    if worst is not None:
        yield worst


def _shift(checked: CheckedData, name: str, area: float, loss: float, *, harmful: bool) -> Finding:
    """Return the finding. area: under the ROC curve. loss: the extra error on the split."""
    names = _shifted_columns(checked, name)
    evidence = (
        f"distribution shift: a quick model distinguishes {name} rows from training rows with an area under "
        f"the ROC curve of {area:.2f} (0.5 if they were alike)"
    )
    if names:
        evidence += f", above all by {columns(names)}"
    if harmful:
        evidence += (
            f"; a quick model of train is {percent(loss)} worse on {name} than on held-out training rows"
        )
    return Finding(
        "distribution shift",
        evidence,
        0.92 if harmful else 0.75 if area > 0.9 and not checked.split_method else 0.45,
        (),
        f"train on rows like those of {name}, convert the units of the columns, or split at random",
    )


def _without_order(checked: CheckedData, rows: np.ndarray) -> np.ndarray:
    """Return a mask of features without those of columns that only rise or fall with the row, as dates do."""
    keep = []
    for column in checked.columns:
        width = column.features(rows).shape[1]
        steps = np.diff(column.values[np.sort(rows)])
        rising = len(steps) > 0 and not np.isnan(steps).any() and ((steps >= 0).all() or (steps <= 0).all())
        keep += [not (rising and column.numeric)] * width
    width = checked.samples[0].x.shape[1]
    return np.array(keep, bool) if len(keep) == width else np.ones(width, bool)


def _area(labels: np.ndarray, scores: np.ndarray) -> float:
    """Return the area under the ROC curve of scores [N] for labels [N] of 0 and 1."""
    found = rankdata(scores)
    ones = labels == 1
    count = ones.sum()
    return float((found[ones].sum() - count * (count + 1) / 2) / (count * (~ones).sum()))


def _extra_loss(checked: CheckedData, name: str) -> tuple[float, float]:
    """Return the extra error of a model of train on a split over held-out rows, and in standard errors."""
    train, part = checked.samples[0], checked.samples[PARTS.index(name)]
    new = checked.predicted_new(part)
    best = int(np.argmin([float(((train.y - one) ** 2).sum()) for one in checked.predictions]))
    if checked.labelled:
        here, there = (
            (p.argmax(axis=1) != y.argmax(axis=1)).astype(float)
            for p, y in ((checked.predictions[best], train.y), (new[best], part.y))
        )
    else:
        here, there = (
            ((p - y) ** 2).mean(axis=1)
            for p, y in ((checked.predictions[best], train.y), (new[best], part.y))
        )
    error = np.sqrt((here.var() + 0.01) / len(here) + (there.var() + 0.01) / len(there))
    apart = float(there.mean() - here.mean())
    return apart, apart / float(error)


def _shifted_columns(checked: CheckedData, name: str) -> list[str]:
    """Return at most four columns that differ most between train and a split, the most different first."""
    train, other = checked.parts[0], checked.parts[PARTS.index(name)]
    found = {}
    for column in checked.columns:
        a, b = (column.values[rows][~np.isnan(column.values[rows])] for rows in (train, other))
        if len(a) and len(b):
            tested = ks_2samp(a, b)
            if tested.pvalue < 1e-3 / len(checked.columns):
                found[column.name] = float(tested.statistic)
    return sorted(found, key=found.__getitem__, reverse=True)[:4]
