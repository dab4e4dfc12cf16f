"""Paired tests of trained networks on the same examples: McNemar's test and the paired bootstrap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from slipstream.inference.ensemble import Ensemble
from slipstream.inference.evaluation import (
    FEW,
    LEAST_RESAMPLES,
    NO_INTERVAL,
    Interval,
    interval_of,
    metric_value,
    metric_values,
    resamples,
    scored,
)
from slipstream.inference.new_data import NewData

RESAMPLES_EACH = 60  # at least, per compared run; with fewer, Holm's correction could never reject


@dataclass(frozen=True)
class McNemar:
    """McNemar's exact test of two classifiers on the same rows (1947).

    first_only, other_only: the number of rows that only one classifier predicts correctly. p: two-sided,
    from the binomial distribution.
    """

    first_only: int
    other_only: int
    p: float


@dataclass(frozen=True)
class MetricDifference:
    """A run's metric minus the first run's. p: two-sided, from the bootstrap. None means undefined."""

    difference: float | None
    interval: Interval | None
    p: float | None


def mcnemar(first: np.ndarray, other: np.ndarray) -> McNemar:
    """Test whether two classifiers are equally accurate. first, other: bool [N], True for a correct row.

    >>> mcnemar(np.array([True] * 6 + [False]), np.array([False] * 6 + [True]))
    McNemar(first_only=6, other_only=1, p=0.125)
    """
    from scipy.special import bdtr

    a, b = int((first & ~other).sum()), int((other & ~first).sum())
    return McNemar(a, b, min(1.0, 2 * float(bdtr(min(a, b), a + b, 0.5))) if a + b else 1.0)


@dataclass(frozen=True)
class PairedScores:
    """Scores and losses of all runs on the same examples, with the first run's targets and weights."""

    scores: tuple[Tensor, ...]
    losses: tuple[Tensor, ...]
    y: Tensor
    w: Tensor
    classes: bool

    @classmethod
    def of(cls, ensembles: Sequence[Ensemble], datas: Sequence[NewData]) -> PairedScores:
        """Predict the same examples with every run. datas: the examples as encoded for each run."""
        targets = np.asarray(datas[0].raw.targets)
        both = [scored(one, data.inputs, targets) for one, data in zip(ensembles, datas, strict=True)]
        scores, losses = zip(*both, strict=True)
        classes = ensembles[0].target.task in ("binary", "multiclass")
        return cls(scores, losses, torch.from_numpy(targets), datas[0].weights, classes)

    @property
    def unweighted(self) -> bool:
        """True if all examples have the same weight."""
        return bool((self.w == self.w[0]).all())

    def values(self, name: str) -> list[float]:
        """Return the value of a metric for each run."""
        return [
            metric_value(name, scores, self.y, losses, self.w)
            for scores, losses in zip(self.scores, self.losses, strict=True)
        ]

    def mcnemar(self, number: int) -> McNemar | None:
        """Test a run's accuracy against the first run's; None if the task has no classes."""
        if not self.classes:
            return None
        first, other = (
            (self.scores[i].argmax(1) == self.y).numpy() & (self.w > 0).numpy() for i in (0, number)
        )
        return mcnemar(first, other)

    def differences(self, names: Sequence[str]) -> list[dict[str, MetricDifference]]:
        """Return each run's difference from the first for every metric, on the same resampled rows."""
        others = len(self.scores) - 1
        drawn: dict[str, list[list[np.ndarray]]] = {name: [[] for _ in range(others)] for name in names}
        if len(self.y) >= FEW:
            for weights in resamples(self.w, least=max(LEAST_RESAMPLES, RESAMPLES_EACH * others)):
                for name in (name for name in names if name not in NO_INTERVAL):
                    first, *rest = (
                        metric_values(name, scores, self.y, losses, weights)
                        for scores, losses in zip(self.scores, self.losses, strict=True)
                    )
                    for many, each in zip(drawn[name], rest, strict=True):
                        many.append(each - first)
        found: list[dict[str, MetricDifference]] = [{} for _ in range(others)]
        for name in names:
            first_value, *values = self.values(name)
            for of, value, many in zip(found, values, drawn[name], strict=True):
                of[name] = _difference(value - first_value, many)
        return found


def _difference(value: float, resampled: Sequence[np.ndarray]) -> MetricDifference:
    """Return a difference with its percentile interval and the matching two-sided p-value."""
    if not np.isfinite(value) or not resampled:
        return MetricDifference(known(value), None, None)
    drawn = np.concatenate(resampled)
    interval, finite = interval_of(drawn), drawn[np.isfinite(drawn)]
    if interval is None:
        return MetricDifference(value, None, None)
    least = min((finite <= 0).sum(), (finite >= 0).sum())
    return MetricDifference(value, interval, min(1.0, 2 * float(least + 1) / (len(finite) + 1)))


def known(value: float) -> float | None:
    """Return a value, or None if it is undefined."""
    return value if np.isfinite(value) else None
