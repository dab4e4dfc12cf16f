"""The best trials of a sweep, trained again with fresh seeds: is the best one good, or was it lucky?"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from slipstream.core.types import Plain
from slipstream.core.wording import counted, spell
from slipstream.diagnosis.branches import NOTHING, Origin, branches
from slipstream.diagnosis.paired_effects import student, value_of
from slipstream.diagnosis.verdicts import Diagnosis, Verdict
from slipstream.inference.ensemble import reported_trials
from slipstream.runs.prediction import saved_config
from slipstream.sweeps.report.comparisons import LEVEL, holm

AGAIN = 3  # trials that are trained again, the best first
SEEDS = 9  # fresh seeds of each


@dataclass(frozen=True)
class FreshTrial:
    """A trial of a sweep that was trained again.

    number: of the trial. values: the settings of the sweep. folder: of its first member. reported: its mean
    in the sweep. fresh: the metric with each fresh seed, [seeds], NaN for one that diverged.
    """

    number: int
    values: Mapping[str, Plain]
    folder: Path
    reported: float
    fresh: np.ndarray

    @property
    def ended(self) -> np.ndarray:
        """The metric of the fresh seeds that did not diverge."""
        known: np.ndarray = self.fresh[np.isfinite(self.fresh)]
        return known

    @property
    def mean(self) -> float:
        """The mean over the fresh seeds that did not diverge; NaN if all did."""
        return float(self.ended.mean()) if len(self.ended) else float("nan")

    @property
    def summary(self) -> str:
        """The fresh seeds in words: "0.9 ± 0.02 with 5 fresh seeds"."""
        lost, seeds = len(self.fresh) - len(self.ended), counted(len(self.fresh), "fresh seed")
        if not len(self.ended):
            return f"diverges with {seeds}"
        spread = f" ± {self.ended.std(ddof=1):.2g}" if len(self.ended) > 1 else ""
        return f"{self.mean:.4g}{spread} with {seeds}" + (f", of which {lost} diverged" if lost else "")

    def __str__(self) -> str:
        """Return "trial 3 (optimizer.lr=0.1)"."""
        said = ", ".join(f"{key}={spell(value)}" for key, value in self.values.items())
        return f"trial {self.number}" + (f" ({said})" if said else "")


def best_trials(sweep: str | Path) -> Diagnosis:
    """Train the best trials of a sweep again with fresh seeds and splits, and check the best one.

    The best of many trials was also lucky: its value in the sweep is better than the values that it reaches
    again. It is called lucky if it lies outside the one-sided 95 % prediction interval of the fresh seeds.
    Other trials are compared with the best one in pairs of seeds, by Student's t with Holm's correction.

    Args:
        sweep: the folder of a sweep that has ended.

    Returns:
        A verdict "lucky trial", with the overrides of a better trial if there is one; no verdict if the best
        trial holds.

    Raises:
        UserError: the sweep has no report or no trial that succeeded, or a member's folder holds no run, or a
            run that was trained on rows in memory.
    """
    began = time.monotonic()
    report, known = reported_trials(Path(sweep))
    metric, minimize = str(report["metric"]), report["direction"] == "min"
    again = [_again(Path(sweep), trial, metric) for trial in known[:AGAIN]]
    best, others = again[0], again[1:]
    verdict = _verdict(best, _better(best, others, minimize), metric, len(known), minimize)
    said = [f"{one}: {one.reported:.4g} in the sweep, {one.summary}" for one in others]
    return Diagnosis(
        Path(sweep),
        (),
        () if verdict is None else (verdict,),
        (),
        (),
        (*said, f"to diagnose the best trial itself: slipstream why {best.folder}"),
        trained=sum(len(one.fresh) for one in again),
        seconds=time.monotonic() - began,
        nothing=f"the best trial holds: {_compared(best, metric, len(known))}, and {best.summary}",
    )


def _again(sweep: Path, trial: Mapping[str, Plain], metric: str) -> FreshTrial:
    """Train a trial again with seeds that none of its members used."""
    folders = [sweep / str(number) for number in trial["members"]]
    origin = Origin(folders[0])
    unused = max(int(saved_config(folder)["seed"]) for folder in folders) + 1 - int(origin.raw["seed"])
    found = branches(origin, [NOTHING], seeds=SEEDS, first=unused, split_again=True)
    fresh = np.array([value_of(branch, metric) for branch in found], float)  # None becomes NaN
    return FreshTrial(trial["trial"], trial["values"], folders[0], trial["mean"], fresh)


def _better(
    best: FreshTrial, others: Sequence[FreshTrial], minimize: bool
) -> Iterator[tuple[FreshTrial, float]]:
    """Yield the trials that are better with fresh seeds than the sweep's best one, each with its p."""
    sign = -1 if minimize else 1
    differences = [(other, sign * (other.fresh - best.fresh)) for other in others]
    known = [(other, gains[np.isfinite(gains)]) for other, gains in differences]
    paired = [(other, gains) for other, gains in known if len(gains) > 1]
    corrected = holm([student(gains)[2] for _, gains in paired])
    for (other, gains), p in zip(paired, corrected, strict=True):
        if p is not None and p < LEVEL and gains.mean() > 0:
            yield other, p


def _verdict(
    best: FreshTrial, better: Iterator[tuple[FreshTrial, float]], metric: str, trials: int, minimize: bool
) -> Verdict | None:
    """Return the verdict that the best trial was lucky, or None."""
    first = max(better, key=lambda pair: -pair[0].mean if minimize else pair[0].mean, default=None)
    if first is None and not lucky(best.reported, best.fresh, minimize):
        return None
    proof = "report the mean of several seeds of each trial: sweep.repeats=5"
    remedy: tuple[str, ...] = ()
    if first is not None:
        other, p = first
        proof = f"{other} is better: {other.summary}, the same seeds (p = {p:.2g})"
        remedy = tuple(f"{key}={spell(value)}" for key, value in other.values.items())
    evidence = f"{_compared(best, metric, trials)}, but {best.summary}"
    return Verdict("lucky trial", evidence, proof, remedy, True)


def _compared(best: FreshTrial, metric: str, trials: int) -> str:
    many = counted(trials, "trial")
    return f"{metric} of {best} is {best.reported:.4g}, the best of {many}"


def lucky(reported: float, fresh: np.ndarray, minimize: bool) -> bool:
    """Return True if a value lies outside the one-sided 95 % prediction interval of fresh values [seeds].

    The interval ends at mean + t s sqrt(1 + 1/n), or at mean - ... to minimize, with the 95 % quantile t of
    Student's distribution with n - 1 degrees of freedom and the standard deviation s. If a fresh seed
    diverged, the value was lucky, too.

    >>> lucky(0.95, np.array([0.90, 0.91, 0.89, 0.90, 0.90]), minimize=False)
    True
    """
    from scipy.special import stdtrit

    fresh, asked = fresh[np.isfinite(fresh)], len(fresh)
    if len(fresh) < max(asked, 2):
        return True
    n, sign = len(fresh), -1 if minimize else 1
    reach = float(stdtrit(n - 1, 1 - LEVEL)) * float(fresh.std(ddof=1)) * (1 + 1 / n) ** 0.5
    return bool(sign * (reported - float(fresh.mean())) > reach)
