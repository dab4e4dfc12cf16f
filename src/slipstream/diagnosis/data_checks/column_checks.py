"""Checks of each column by itself: outliers, constants and identifiers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.stats import poisson

from slipstream.core.wording import counted, spell
from slipstream.diagnosis.data_checks.checked_data import CheckedData, RawColumn
from slipstream.diagnosis.data_checks.finding import Finding, columns, ignoring, percent
from slipstream.diagnosis.data_checks.smoothers import nearest_of

FEWEST = 20  # smallest number of rows for which values are judged
FAR = 5.0  # smallest distance of an outlier from the median, in multiples of the farthest of the other rows
RARE = 0.05  # largest share of rows that are outliers rather than a second group
VARIED = 8  # smallest number of distinct values of the other rows
UNLIKELY = 1e-5  # probability of so few repeats, below which numbers were assigned in sequence
ORDERED = 0.4  # smallest skill with which an identifier predicts the target and is harmful


def outliers(checked: CheckedData) -> Iterator[Finding]:
    """Find columns and targets in which a few values are so far away that they determine the scale."""
    train = checked.parts[0]
    found = {c.name: far for c in checked.columns if c.numeric if (far := far_values(c.values[train]))}
    if found and checked.setting("scaling") != "robust":
        worst = max(found, key=lambda name: found[name][1])
        rows, ratio, code = found[worst]
        codes = list(dict.fromkeys(as_typed(one[2]) for one in found.values() if one[2] is not None))
        what = f", all equal to {codes[0]}," if code is not None else ""
        evidence = (
            f"outliers: {counted(rows, 'training value')} of {columns([worst])}{what} "
            f"{'lies' if rows == 1 else 'lie'} {ratio:.3g} times as far from the median as any other, "
            f"so scaling squeezes the others together"
        )
        if len(found) > 1:
            evidence += f"; {len(found)} of {counted(len(checked.columns), 'column')} have such values"
        yield Finding("outliers", evidence, _certainty(rows, ratio), *_repair(checked, codes))
    if checked.task == "regression":
        yield from _far_targets(checked)


def _repair(checked: CheckedData, codes: list[str]) -> tuple[tuple[str, ...], str]:
    """Return the override and the advice for outliers. codes: values that all outliers of a column have."""
    missing = checked.setting("missing")
    if codes and missing is not None:
        words = list(dict.fromkeys([*map(str, missing), *codes]))
        return (
            f"data.missing={spell(words)}",
        ), f"if {codes[0]} means a missing value, add it to data.missing"
    if checked.setting("scaling") in ("standard", "minmax") and checked.data.form.kind == "vector":
        return ("data.scaling=robust",), "correct the values, or scale by quantiles: data.scaling=robust"
    return (), "correct these values or remove their rows"


def _far_targets(checked: CheckedData) -> Iterator[Finding]:
    targets = checked.targets.reshape(len(checked.targets), -1)[checked.parts[0]]
    for name, values in zip(checked.data.target.names, targets.T, strict=True):
        if far := far_values(values):
            rows, ratio, _ = far
            yield Finding(
                "outliers",
                f"outliers: {counted(rows, 'training value')} of the target {name!r} "
                f"{'lies' if rows == 1 else 'lie'} {ratio:.3g} times as far from the median as any "
                "other, so their errors outweigh the rest",
                _certainty(rows, ratio),
                ("loss=mae",),
                "correct these targets or, if they are right, use a robust loss: loss=mae",
            )


def _certainty(rows: int, ratio: float) -> float:
    """Return the strength. A single value that is not very far is no proof: some tails are long."""
    sure = ratio > 10 or (ratio > 7 and rows > 1)
    return min(0.95, 0.8 + ratio / 1000) if sure else 0.45


def far_values(values: np.ndarray) -> tuple[int, float, float | None] | None:
    """Return the number of outliers, the distance of the farthest, and the value that all share, or None.

    Outliers lie at least FAR times as far from the median as any other value. The distance from the median
    is in multiples of that of the farthest other value. values: [N], NaN for missing.

    >>> far_values(np.array([*range(50), 999, 999.0]))
    (2, 38.2, 999.0)
    """
    present = values[~np.isnan(values)]
    if len(present) < FEWEST:
        return None
    middle = np.median(present)
    away = np.sort(np.abs(present - middle))
    first = len(away) - max(1, int(RARE * len(away)))
    inner = away[first - 1 : -1]
    steps = away[first:] / np.where(inner > 0, inner, np.inf)
    if steps.max() < FAR:
        return None
    cut = first + int(np.argmax(steps >= FAR))
    far = present[np.abs(present - middle) >= away[cut]]
    near = present[np.abs(present - middle) < away[cut]]
    if len(np.unique(near)) < VARIED:
        return None
    code = float(far[0]) if len(far) > 1 and (far == far[0]).all() else None
    return len(far), round(float(away[-1] / away[cut - 1]), 1), code


def as_typed(number: float) -> str:
    """Return a number as it is written in a file.

    >>> as_typed(999999.0), as_typed(-1.5)
    ('999999', '-1.5')
    """
    return str(int(number)) if float(number).is_integer() else repr(number)


def constants(checked: CheckedData) -> Iterator[Finding]:
    """Find columns with a single value in all training rows, which harm if they are a large share."""
    train = checked.parts[0]
    names = [c.name for c in checked.columns if len(np.unique(c.values[train])) == 1]
    share = len(names) / max(len(checked.columns), 1)
    if not names or len(checked.columns) < 3:
        return
    known = max(checked.score(checked.samples[0].y, one) for one in checked.predictions)
    harmful = share >= 0.4 and known < 0.8
    yield Finding(
        "constant features",
        f"constant features: {len(names)} of {counted(len(checked.columns), 'column')} have the same value "
        f"in all training rows ({columns(names)}); a quick model of the others explains "
        f"{percent(max(known, 0))} of the target",
        min(0.95, 0.5 + share / 2) if harmful else 0.3,
        (),
        "read these columns again from their source, or remove them; check that the right ones were exported",
    )


def identifiers(checked: CheckedData) -> Iterator[Finding]:
    """Find columns of integers that were assigned in sequence."""
    rows, y = checked.samples[0].rows, checked.samples[0].y
    for column in checked.columns:
        if column.kind == "number" and is_serial(column.values):
            explained = checked.score(y, nearest_of(column.values[rows]).predict(y))
            yield _identifier(column, explained)


def _identifier(column: RawColumn, explained: float) -> Finding:
    """Return the finding. explained: the skill with which the order of the numbers predicts the target."""
    values, span = column.values, int(np.ptp(column.values)) + 1
    evidence = (
        f"identifier column: {columns([column.name])} has {len(np.unique(values)):,} distinct integers "
        f"in {counted(len(values), 'row')}, from a range of only {span:,}, as serial numbers have"
    )
    if explained > ORDERED:
        evidence += f"; their order alone explains {percent(explained)} of the target, but not for new rows"
    remedy = ignoring([column.name])
    advice = "leave the column out: it numbers the rows, and new rows have other numbers"
    return Finding("identifier column", evidence, 0.92 if explained > ORDERED else 0.4, remedy, advice)


def is_serial(values: np.ndarray) -> bool:
    """Return True for integers that hardly ever repeat although their range is small: serial numbers.

    n numbers drawn uniformly from a range of R would give n^2 / 2R equal pairs; other draws give more.

    >>> is_serial(np.arange(100, 300.0)), is_serial(np.arange(0, 2e6, 1e4))
    (True, False)
    """
    if len(values) < FEWEST or np.isnan(values).any() or (values % 1 != 0).any():
        return False
    distinct = len(np.unique(values))
    pairs = len(values) ** 2 / 2 / (np.ptp(values) + 1)
    return bool(distinct > 0.98 * len(values) and poisson.cdf(len(values) - distinct, pairs) < UNLIKELY)
