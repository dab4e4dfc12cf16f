"""Columns that harm by their values alone: outliers, constants and identifiers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.stats import poisson

from slipstream.core.wording import counted, spell
from slipstream.diagnosis.data_checks.checked_data import CheckedData, RawColumn
from slipstream.diagnosis.data_checks.finding import Finding, columns, ignoring, percent
from slipstream.diagnosis.data_checks.smoothers import nearest_of

FEWEST = 20  # rows of a column for its values to be judged
FAR = 5.0  # distance from the median, in multiples of the farthest of the other rows
RARE = 0.05  # the largest share of rows that are outliers and not a second group
VARIED = 8  # distinct values of the other rows
UNLIKELY = 1e-5  # the probability of so few equal numbers, unless they were given out one by one
ORDERED = 0.4  # what an identifier tells of the target: skill, from 0 to 1


def outliers(checked: CheckedData) -> Iterator[Finding]:
    """Find columns and targets in which a few values lie so far away that they decide the scale."""
    train = checked.parts[0]
    found = {c.name: far for c in checked.columns if c.numeric if (far := isolated(c.values[train]))}
    if found and checked.setting("scaling") != "robust":
        worst = max(found, key=lambda name: found[name][1])
        rows, ratio, code = found[worst]
        codes = list(dict.fromkeys(spelled(one[2]) for one in found.values() if one[2] is not None))
        what = f", all equal to {codes[0]}" if code is not None else ""
        evidence = (
            f"outliers: {counted(rows, 'training row')} of {columns([worst])}{what} "
            f"{'lies' if rows == 1 else 'lie'} {ratio:.3g} times as far from the median as all others, "
            f"so that scaling squeezes the others together"
        )
        if len(found) > 1:
            evidence += f"; {len(found)} of {counted(len(checked.columns), 'column')} have such values"
        yield Finding("outliers", evidence, _certainty(rows, ratio), *_repair(checked, codes))
    if checked.task == "regression":
        yield from _far_targets(checked)


def _repair(checked: CheckedData, codes: list[str]) -> tuple[tuple[str, ...], str]:
    """Return the override and the advice for outliers; codes: values that appear several times."""
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
        if far := isolated(values):
            rows, ratio, _ = far
            yield Finding(
                "outliers",
                f"outliers: {counted(rows, 'training row')} of the target {name!r} "
                f"{'lies' if rows == 1 else 'lie'} {ratio:.3g} times as far from the median as all "
                "others, and their errors outweigh the rest",
                _certainty(rows, ratio),
                ("loss=mae",),
                "correct these targets or, if they are right, use a loss that outliers hardly move: loss=mae",
            )


def _certainty(rows: int, ratio: float) -> float:
    """Return the strength. One row that is a little far is no proof: some distributions have long tails."""
    sure = ratio > 10 or (ratio > 7 and rows > 1)
    return min(0.95, 0.8 + ratio / 1000) if sure else 0.45


def isolated(values: np.ndarray) -> tuple[int, float, float | None] | None:
    """Return how many values are outliers, how far the farthest lies, and their value if they all have one.

    They lie FAR times as far from the median as all others. The distance is in multiples of the farthest
    of the others.

    >>> isolated(np.array([*range(50), 999, 999.0]))
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


def spelled(number: float) -> str:
    """Return a number as it stands in a file.

    >>> spelled(999999.0), spelled(-1.5)
    ('999999', '-1.5')
    """
    return str(int(number)) if float(number).is_integer() else repr(number)


def constants(checked: CheckedData) -> Iterator[Finding]:
    """Find out whether a large share of the columns has one value in all training rows."""
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
        f"in all training rows ({columns(names)}); the others tell {percent(max(known, 0))} of the target",
        min(0.95, 0.5 + share / 2) if harmful else 0.3,
        (),
        "read these columns again from their source, or remove them; check that the right ones were exported",
    )


def identifiers(checked: CheckedData) -> Iterator[Finding]:
    """Find columns of whole numbers that were given out one by one."""
    rows, y = checked.samples[0].rows, checked.samples[0].y
    for column in checked.columns:
        if column.kind == "number" and given_out(column.values):
            told = checked.score(y, nearest_of(column.values[rows]).predict(y))
            yield _identifier(column, told)


def _identifier(column: RawColumn, told: float) -> Finding:
    values, span = column.values, int(np.ptp(column.values)) + 1
    evidence = (
        f"identifier column: {columns([column.name])} has {len(np.unique(values)):,} different whole numbers "
        f"in {counted(len(values), 'row')}, drawn from only {span:,}, as numbers given out one by one have"
    )
    if told > ORDERED:
        evidence += f"; its order alone tells {percent(told)} of the target, which new rows will not repeat"
    remedy = ignoring([column.name])
    advice = "leave the column out: it numbers the rows and will be different for new ones"
    return Finding("identifier column", evidence, 0.92 if told > ORDERED else 0.4, remedy, advice)


def given_out(values: np.ndarray) -> bool:
    """Return True for whole numbers of which nearly none repeats although there are few to choose from.

    Numbers drawn at random from R would give n^2 / 2R equal pairs; unevenly drawn ones give more.

    >>> given_out(np.arange(100, 300.0)), given_out(np.arange(0, 2e6, 1e4))
    (True, False)
    """
    if len(values) < FEWEST or np.isnan(values).any() or (values % 1 != 0).any():
        return False
    distinct = len(np.unique(values))
    pairs = len(values) ** 2 / 2 / (np.ptp(values) + 1)
    return bool(distinct > 0.98 * len(values) and poisson.cdf(len(values) - distinct, pairs) < UNLIKELY)
