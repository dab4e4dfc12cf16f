"""Gains of changes, paired by seed, in units of the smallest gain that matters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from slipstream.diagnosis.branches import Branch
from slipstream.diagnosis.evidence import Evidence
from slipstream.diagnosis.paired_effects import student
from slipstream.runs.summary import Result

ACCURACY, BALANCED, R2 = 0.04, 0.08, 0.06  # the smallest gains that matter
RATIO = math.log(1.6)  # of losses
LEAST_LOSS = 0.1  # gain of a log loss, in nats
RESIDUAL = math.log(3.0)  # ratio of root mean squared errors, where R2 is already near 1


@dataclass(frozen=True)
class Measure:
    """A metric that judges changes, with the gains that matter.

    name: `split/metric`. floor: the value of a constant prediction, which a branch that diverged also gets.
    """

    name: str
    floor: float

    @property
    def minimize(self) -> bool:
        """True if smaller is better."""
        return self.name.endswith("loss")

    def value(self, result: Result, *, kept: bool) -> float:
        """Return the metric of the weights that a run delivers; the floor if there is none.

        kept: True if the run delivers the weights of its best epoch, not of its last.
        """
        found = (result.best if kept else result.last).get(self.name)
        if found is None or result.status == "diverged" or not math.isfinite(found):
            return self.floor
        return found

    def bounded(self, value: float) -> float:
        """Return a value, but none worse than three times the floor, so that a hopeless run is no scale."""
        return min(value, 3 * self.floor) if self.minimize else max(value, -1.0)

    def gain(self, before: float, after: float) -> float:
        """Return the gain of a change, where 1 is the smallest that matters."""
        before, after = self.bounded(before), self.bounded(after)
        metric = self.name.partition("/")[2]
        if metric == "accuracy":
            return (after - before) / ACCURACY
        if metric == "balanced_accuracy":
            return (after - before) / BALANCED
        if metric == "r2":
            ratio = math.log(max(1 - before, 1e-12) / max(1 - after, 1e-12)) / 2
            return max((after - before) / R2, ratio / RESIDUAL)
        least = 0.05 * self.floor  # below, losses are as good as zero
        ratio = math.log(max(before, least) / max(after, least)) / RATIO
        return math.copysign(min(abs(before - after) / LEAST_LOSS, abs(ratio)), ratio)


def measures(evidence: Evidence) -> list[Measure]:
    """Return the measures that judge changes of a run, by its task."""
    split, task = evidence.split, evidence.data.target.task
    if task == "regression":
        return [Measure(f"{split}/r2", 0.0)]
    if evidence.classes:
        shares = evidence.shares[evidence.shares > 0]
        found = [Measure(f"{split}/accuracy", float(shares.max()))]
        if f"{split}/log_loss" in evidence.summary["last"]:
            found.append(Measure(f"{split}/log_loss", -float((shares * np.log(shares)).sum())))
        if shares.max() > 2 / len(shares) or shares.min() < 0.3 / len(shares):
            found.append(Measure(f"{split}/balanced_accuracy", 1 / len(shares)))
        return found
    first = evidence.curve(f"{split}/loss")
    return [Measure(f"{split}/loss", float(np.nanmax(first)) if len(first) else 1.0)]


@dataclass(frozen=True)
class Gain:
    """The gain of a change on the measure where it gains most, over pairs of seeds.

    before, after: means of the metric. mean: the mean gain, where 1 is the smallest that matters. better: the
    number of pairs in which the change is better. p: of the one-sided paired t-test over gains; None for a
    single pair. worst: the lowest mean gain over all measures but balanced accuracy.
    """

    metric: str
    before: float
    after: float
    mean: float
    better: int
    pairs: int
    p: float | None
    worst: float


def gain_of(changed: Sequence[Branch], control: Sequence[Branch], judges: Sequence[Measure]) -> Gain:
    """Return the gain of a change over the control, in pairs of seeds."""
    found = [_measured(changed, control, judge) for judge in judges]
    best = max(found, key=lambda gain: gain.mean)
    others = (gain.mean for gain in found if not gain.metric.endswith("balanced_accuracy"))
    worst = min(others, default=best.mean)
    return replace(best, worst=worst)


def gain_on(
    metric: str, changed: Sequence[Branch], control: Sequence[Branch], judges: Sequence[Measure]
) -> Gain:
    """Return the gain of a change on one measure."""
    return _measured(changed, control, next(judge for judge in judges if judge.name == metric))


def _measured(changed: Sequence[Branch], control: Sequence[Branch], judge: Measure) -> Gain:
    """Return the gain on one measure; its own mean stands for `worst`."""
    before = np.array([judge.value(branch.result, kept=branch.kept) for branch in control])
    after = np.array([judge.value(branch.result, kept=branch.kept) for branch in changed])
    gains = np.array([judge.gain(a, b) for a, b in zip(before, after, strict=True)])
    mean = float(gains.mean())
    better = int((gains > 0).sum())
    return Gain(
        judge.name, float(before.mean()), float(after.mean()), mean, better, len(gains), _p(gains), mean
    )


def _p(gains: np.ndarray) -> float | None:
    """Return the one-sided p of a paired t-test that the mean gain is above 0; None for a single pair."""
    if len(gains) < 2:
        return None
    mean, _, p = student(gains)
    if p is None or mean == 0 == np.ptp(gains):  # equal gains
        return 0.0 if mean > 0 else 1.0
    return p / 2 if mean > 0 else 1 - p / 2
