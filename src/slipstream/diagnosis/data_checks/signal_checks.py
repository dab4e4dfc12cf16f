"""Checks of the signal in columns: one that reveals the target, and many that are uninformative."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from slipstream.core.wording import counted, spell
from slipstream.diagnosis.data_checks.checked_data import CheckedData, RawColumn, Sample, skill
from slipstream.diagnosis.data_checks.column_checks import is_serial
from slipstream.diagnosis.data_checks.finding import Finding, columns, ignoring, percent
from slipstream.diagnosis.data_checks.smoothers import nearest_of, smoothers_of

FEWEST = 50  # smallest number of training rows
EMPTY = 2.0  # smallest gap between two classes in a leaking column, in their standard deviations
ALONE = 0.985  # skill of a single column that is always suspicious
MOSTLY = 0.85  # skill of a single column that is suspicious if all others together have much less
BEHIND = 0.25  # smallest difference in skill that is much less
MOST_COLUMNS = 200  # largest number of columns of which each is tried alone
FOLDS = 5
CLEAR = 3.3  # smallest correlation times sqrt(rows) of a column with signal
IDLE = 15  # smallest number of columns without signal
ROWS_EACH = 0.1  # smallest number of columns without signal per training row
GAIN = 0.06  # smallest gain in skill without these columns


def leaks(checked: CheckedData) -> Iterator[Finding]:
    """Find a column that predicts the target far better than all others together."""
    sample = checked.samples[0]
    several = 3 < len(checked.columns) <= MOST_COLUMNS
    if not several or len(sample) < FEWEST or checked.task == "multilabel":
        return
    usable = [c for c in checked.columns if not (c.kind == "number" and is_serial(c.values))]
    alone = {column.name: skill_of(checked, column, sample) for column in usable}
    if len(alone) < 2:
        return
    *_, second, first = sorted(alone, key=alone.__getitem__)
    if alone[first] < MOSTLY or alone[second] > 1 - 4 * (1 - alone[first]) - 0.03:
        return
    column = next(c for c in usable if c.name == first)
    others = [c.features(sample.rows) for c in usable if c.name != first]
    rest = max(checked.score(sample.y, one.predict(sample.y)) for one in smoothers_of(np.hstack(others)))
    strength = _suspicion(checked, column, alone[first], rest)
    if strength is None:
        return
    yield Finding(
        "leaking feature",
        f"leaking feature: {columns([first])} alone explains {percent(alone[first])} of the target, the next "
        f"best column {percent(max(alone[second], 0))} and all others together {percent(max(rest, 0))}, as "
        "for a column derived from the target",
        strength,
        ignoring([first]),
        f"leave {first!r} out unless its value is known before the target is",
    )


def skill_of(checked: CheckedData, column: RawColumn, sample: Sample) -> float:
    """Return the skill of a single column, each row predicted from the others."""
    values = column.values[sample.rows]
    if column.kind == "category" or len(np.unique(values)) < 10:
        return checked.score(sample.y, _same_value(values, sample.y))
    return checked.score(sample.y, nearest_of(values).predict(sample.y))


def _same_value(values: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the mean target [N, K] of the other rows with the same value; of all rows if there are none."""
    _, codes, counts = np.unique(values, return_inverse=True, return_counts=True)
    sums = np.zeros((len(counts), y.shape[1]))
    np.add.at(sums, codes, y)
    left = counts[codes] - 1
    means = (sums[codes] - y) / np.maximum(left, 1)[:, None]
    return np.asarray(np.where(left[:, None] > 0, means, y.mean(axis=0)))


def _suspicion(checked: CheckedData, column: RawColumn, alone: float, rest: float) -> float | None:
    """Return the strength of the suspicion that a column leaks the target, None if there is none.

    alone: the skill of the column. rest: that of all others; near 0, the column may be the only signal.
    """
    if rest < (0.25 if checked.labelled else 0.1):
        return None
    apart = not checked.labelled or column.kind == "category" or separated(column, checked)
    if alone >= ALONE and apart and (1 - rest) > 3 * (1 - alone) + 0.01:
        return 0.93
    if alone - rest > BEHIND:
        return 0.75 if apart else 0.45
    return 0.45 if alone >= ALONE and apart else None


def separated(column: RawColumn, checked: CheckedData) -> bool:
    """Return True if a gap separates the classes in a column."""
    rows = checked.parts[0]
    values, labels = column.values[rows], checked.targets[rows]
    groups = [values[(labels == k) & ~np.isnan(values)] for k in np.unique(labels)]
    groups = sorted((g for g in groups if len(g) > 1), key=lambda g: float(np.median(g)))
    for low, high in pairwise(groups):
        within = max((low.std() + high.std()) / 2, 1e-12)
        if (np.quantile(high, 0.02) - np.quantile(low, 0.98)) / within < EMPTY:
            return False
    return len(groups) > 1


def uninformative(checked: CheckedData) -> Iterator[Finding]:
    """Check whether most columns only add noise: quick models without them predict better."""
    sample = checked.samples[0]
    count = len(checked.columns)
    if count < 10 or len(sample) < FEWEST or count > 4000:
        return
    features = [column.features(sample.rows) for column in checked.columns]
    owner = np.repeat(np.arange(count), [f.shape[1] for f in features])
    x = np.hstack(features)
    kept = _correlated(x, sample.y, owner)
    if not kept or count - len(kept) < max(count / 2, IDLE, ROWS_EACH * len(sample)):
        return
    everything, chosen = _with_and_without(x, sample.y, owner)
    scores = [skill(sample.y, one, labelled=checked.labelled) for one in (everything, chosen)]
    clear = _paired(sample.y, everything, chosen, labelled=checked.labelled)
    if scores[1] - scores[0] < GAIN or clear < 2:
        return
    names = [checked.columns[i].name for i in kept]
    yield Finding(
        "features without signal",
        f"features without signal: {count - len(names)} of {counted(count, 'column')} show no relation to "
        f"the target in {counted(len(sample), 'training row')}; a quick model of just the other {len(names)} "
        f"explains {percent(max(scores[1], 0))} of the target instead of {percent(max(scores[0], 0))}",
        min(0.9, 0.6 + scores[1] - scores[0]),
        *_without(checked, names),
    )


def _without(checked: CheckedData, names: Sequence[str]) -> tuple[tuple[str, ...], str]:
    """Return the override that keeps only the named columns, and the advice."""
    advice = f"keep only the columns with signal ({columns(names)}), or add regularizer=[l1]"
    inputs = checked.setting("inputs")
    if checked.config.data.name == "table":
        return (f"data.inputs={spell(list(names))}",), advice
    if isinstance(inputs, int):
        last = max(i for i, column in enumerate(checked.columns) if column.name in names) + 1
        return ((f"data.inputs={last}",) if last <= inputs / 2 else ()), advice
    return (), advice


def _correlated(x: np.ndarray, y: np.ndarray, owner: np.ndarray) -> list[int]:
    """Return the columns with a feature that is clearly correlated with a target.

    owner: the column of each feature, [D].
    """
    a, b = x - x.mean(axis=0), y - y.mean(axis=0)
    norms = np.linalg.norm(a, axis=0)[:, None] * np.linalg.norm(b, axis=0)
    correlation = np.abs(a.T @ b) / np.where(norms > 0, norms, np.inf)
    clear = (correlation * np.sqrt(len(x)) > CLEAR).any(axis=1)
    return sorted(set(owner[clear].tolist()))


def _with_and_without(x: np.ndarray, y: np.ndarray, owner: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return predictions of held-out folds with all columns, and with those chosen on the other folds."""
    fold = np.random.default_rng(0).permutation(len(x)) % FOLDS
    full = [np.zeros(y.shape) for _ in range(3)]
    few = [np.zeros(y.shape) for _ in range(3)]
    for number in range(FOLDS):
        out = fold == number
        kept = np.isin(owner, _correlated(x[~out], y[~out], owner))
        for into, chosen in ((full, np.ones(len(owner), bool)), (few, kept)):
            models = smoothers_of(x[~out][:, chosen]) if chosen.any() else []
            found = [model.predict_new(y[~out], x[out][:, chosen]) for model in models]
            for i, into_one in enumerate(into):
                into_one[out] = found[i] if found else y[~out].mean(axis=0)
    return _best(y, full), _best(y, few)


def _best(y: np.ndarray, predictions: list[np.ndarray]) -> np.ndarray:
    """Return the predictions with the smallest squared error."""
    return min(predictions, key=lambda one: float(((y - one) ** 2).sum()))


def _paired(y: np.ndarray, first: np.ndarray, second: np.ndarray, *, labelled: bool) -> float:
    """Return the mean improvement of the second predictions over the first, in standard errors over rows."""
    if labelled:
        wrong = [(one.argmax(axis=1) != y.argmax(axis=1)).astype(float) for one in (first, second)]
    else:
        wrong = [((y - one) ** 2).sum(axis=1) for one in (first, second)]
    apart = wrong[0] - wrong[1]
    return float(apart.mean() / max(apart.std() / np.sqrt(len(apart)), 1e-12))
