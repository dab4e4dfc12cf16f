"""Effects of changes: the branches of each change against the unchanged branches of the same seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from slipstream.diagnosis.branches import NOTHING, Branch, Change, with_change
from slipstream.sweeps.report.comparisons import DOUBT, LEAST_PAIRS, LEVEL, holm

Verdict = Literal["better", "worse", "tie", "inconclusive"]
CONFIDENCE = 0.95
ROUNDING = 1e-9  # of the mean: differences that vary less are equal, up to their last digits


@dataclass(frozen=True)
class Effect:
    """The effect of a change on a metric, paired by seed.

    Attributes:
        change: the change.
        metric: `split/name`, at the best epoch.
        values: the metric of each seed's branch with the change, None for a branch that diverged.
        control: the same without the change.
        difference: the mean of values minus control; None if a branch diverged.
        interval: the 95 % interval of the difference, from Student's t over the pairs; None for one pair.
        p: the two-sided p-value of the paired t-test, or of the sign test if a branch diverged, after Holm's
            correction over all changes. None if it cannot be computed.
        better: the number of pairs in which the change is better.
        verdict: better, worse, tie or inconclusive.
    """

    change: Change
    metric: str
    values: tuple[float | None, ...]
    control: tuple[float | None, ...]
    difference: float | None
    interval: tuple[float, float] | None
    p: float | None
    better: int
    verdict: Verdict = "inconclusive"


def effects(found: Sequence[Branch], metric: str, *, minimize: bool) -> list[Effect]:
    """Return the effect of every change. The branches must include those of `NOTHING`, the control.

    metric: `split/name`. minimize: True if smaller is better.
    """
    control = with_change(NOTHING, found)
    changes = dict.fromkeys(branch.change for branch in found if branch.change != NOTHING)
    measured = [
        _measured(change, with_change(change, found), control, metric, minimize) for change in changes
    ]
    corrected = holm([effect.p for effect in measured])
    return [
        _judged(effect, p, minimize, uncorrected=effect.p)
        for effect, p in zip(measured, corrected, strict=True)
    ]


def _measured(
    change: Change, branches: Sequence[Branch], control: Sequence[Branch], metric: str, minimize: bool
) -> Effect:
    """Return the effect of a change, before Holm's correction and without a verdict."""
    values, usual = [value_of(b, metric) for b in branches], [value_of(b, metric) for b in control]
    worst = math.inf if minimize else -math.inf
    a = np.array([worst if v is None else v for v in usual])
    b = np.array([worst if v is None else v for v in values])
    gain = np.where(a == b, 0.0, a - b if minimize else b - a)
    better = int((gain > 0).sum())
    if not np.isfinite(gain).all():
        return Effect(change, metric, tuple(values), tuple(usual), None, None, _sign_test(gain), better)
    difference, interval, p = student(b - a)
    return Effect(change, metric, tuple(values), tuple(usual), difference, interval, p, better)


def value_of(branch: Branch, metric: str) -> float | None:
    """Return the metric at the branch's best epoch, None if it diverged or the metric is undefined."""
    return None if branch.result.status == "diverged" else branch.result.best.get(metric)


def student(difference: np.ndarray) -> tuple[float, tuple[float, float] | None, float | None]:
    """Return mean, 95 % interval and two-sided p of paired differences [N] by Student's t.

    The interval is None for one pair; p also if all differences are the same and not 0.
    """
    from scipy.special import stdtr, stdtrit

    n, mean = len(difference), float(difference.mean())
    if n < 2:
        return mean, None, None
    error = float(difference.std(ddof=1)) / math.sqrt(n)
    half = float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * error
    if error <= ROUNDING * abs(mean):
        return mean, (mean, mean), 1.0 if mean == 0 else None
    return mean, (mean - half, mean + half), float(2 * stdtr(n - 1, -abs(mean) / error))


def _sign_test(gain: np.ndarray) -> float | None:
    """Return the two-sided p of the sign test over the pairs that differ, None if there are none.

    >>> _sign_test(np.array([1.0, 2.0, np.inf, 1.0, 3.0, np.inf]))
    0.03125
    """
    from scipy.special import bdtr

    better, worse = int((gain > 0).sum()), int((gain < 0).sum())
    n = better + worse
    return min(1.0, 2 * float(bdtr(min(better, worse), n, 0.5))) if n else None


def _judged(effect: Effect, p: float | None, minimize: bool, *, uncorrected: float | None) -> Effect:
    """Return an effect with its corrected p and its verdict; a tie is judged by the uncorrected p."""
    n = len(effect.values)
    improves = effect.better > n / 2
    if effect.difference is not None:
        improves = effect.difference < 0 if minimize else effect.difference > 0
    equal = effect.difference == 0 and uncorrected == 1.0
    if p is not None and p < LEVEL:
        verdict: Verdict = "better" if improves else "worse"
    elif n >= LEAST_PAIRS and (equal or ((uncorrected or 0) >= DOUBT and effect.difference is not None)):
        verdict = "tie"
    else:
        verdict = "inconclusive"
    return replace(effect, p=p, verdict=verdict)
