"""Comparison of a sweep's trials with its best one. Pure functions of plain values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from slipstream.sweeps.report.aggregates import ROUNDING, SOUND, Group, pair_of, ranks

LEVEL = 0.05  # a difference less likely than this by chance counts as real
DOUBT = 0.1  # a difference less likely than this by chance is not a tie, even without a correction
LEAST_FOR_NOISE = 3  # with two differences, a single number measures the noise
LEAST_PAIRS = 5  # with fewer, not even a win in every pair is below DOUBT on ranks: 2/2^n


@dataclass(frozen=True)
class Comparison:
    """A trial against the best one, over pairs of members with the same seed and fold.

    difference: mean over the pairs, above 0 if the best one is better, in the metric's own units. p: the
    probability of such a difference by chance alone, on the metric's own scale; p_ranks: on ranks, None over
    folds; p_holm: of both, corrected for two tests and for all compared trials. None means too few pairs, or
    folds, for a p. folds: the number of folds in the pairs, 0 if they differ in seeds alone.
    """

    verdict: Literal["worse", "tie", "too few to tell"]
    difference: float | None
    p: float | None
    p_ranks: float | None
    p_holm: float | None
    pairs: int
    test: str
    folds: int = 0

    @property
    def independent(self) -> int:
        """Return the number of independent differences: the seeds of one fold count once."""
        return self.folds or self.pairs


def compare(best: Group, others: Sequence[Group], minimize: bool) -> list[Comparison]:
    """Decide which trials are worse than the best one, tie with it, or have too little data.

    On the metric's own scale, the test over seeds is the paired t-test. Folds share their training rows, so
    their differences are less independent than they look. The test over folds is therefore the corrected
    resampled t-test, whose variance is (1/F + 1/(F - 1)) s^2 for F folds, with F - 1 degrees of freedom
    (Nadeau and Bengio, "Inference for the generalization error", 2003). Seeds of a fold share its rows, so s
    is the deviation of the folds' means over seeds; otherwise ten seeds of three folds would count as thirty
    folds. On ranks, which a single diverged seed cannot distort, the test over seeds is Wilcoxon's exact
    signed-rank test. Both are two-sided. A trial is worse if either test shows it at 5 %, after Bonferroni's
    correction for two tests and Holm's over the trials (1979). It is a tie if neither does at 10 % without
    any correction, given at least five pairs or folds.
    """
    measured = [_measure(best, other, minimize) for other in others]
    corrected = holm([entry.p_holm for entry in measured])
    return [_judged(replace(entry, p_holm=p)) for entry, p in zip(measured, corrected, strict=True)]


def _judged(found: Comparison) -> Comparison:
    if found.p_holm is not None and found.p_holm < LEVEL:
        return replace(found, verdict="worse")
    told = [p for p in (found.p, found.p_ranks) if p is not None]
    ties = found.independent >= LEAST_PAIRS and told and ((found.difference or 0) <= 0 or min(told) >= DOUBT)
    return replace(found, verdict="tie") if ties else found


def _measure(best: Group, other: Group, minimize: bool) -> Comparison:
    """Test one pair of trials; p_holm is not yet corrected for other trials."""
    ours, theirs = _by_pair(best), _by_pair(other)
    pairs = sorted(ours.keys() & theirs.keys(), key=repr)
    folds, n = len({fold for _, fold in pairs}), len(pairs)
    over_folds = folds > 1
    a, b = np.array([ours[pair] for pair in pairs]), np.array([theirs[pair] for pair in pairs])
    apart = b - a if minimize else a - b
    difference = float(apart.mean()) if n else None
    if over_folds:
        apart = _by_fold(apart, [fold for _, fold in pairs])
    p = _t_test(apart, max(np.abs(a).max(), np.abs(b).max()), folds) if n > 1 else None
    p_ranks = signed_rank_test(apart) if n > 1 and not over_folds else None
    # Tests that could show something, and point in the right direction.
    able = [] if p is None or len(apart) < LEAST_FOR_NOISE else [p if apart.mean() > 0 else 1.0]
    if p_ranks is not None and 2 * 0.5**n < LEVEL:
        able.append(p_ranks if _leans_up(apart) else 1.0)
    both = min(1.0, len(able) * min(able)) if able else None
    test = "corrected t-test over folds" if over_folds else "paired t-test and signed ranks over seeds"
    return Comparison("too few to tell", difference, p, p_ranks, both, n, test, folds if over_folds else 0)


def _by_fold(apart: np.ndarray, folds: Sequence[object]) -> np.ndarray:
    """Return the mean of the differences of each fold."""
    of = np.array([*map(repr, folds)])
    return np.array([apart[of == fold].mean() for fold in np.unique(of)])


def _by_pair(group: Group) -> dict[tuple[int, object], float]:
    found = [m for m in group.members if m.status in SOUND and m.value is not None]
    return {pair_of(member): float(member.value or 0.0) for member in found}


def _t_test(apart: np.ndarray, scale: float, folds: int) -> float | None:
    """Return the two-sided p of a mean of differences; None if the differences are all equal.

    scale: of the values; noise below their rounding cannot be measured.
    """
    from scipy.special import stdtr

    n, mean, spread = len(apart), float(apart.mean()), float(apart.std(ddof=1))
    if spread <= ROUNDING * scale:
        return 1.0 if abs(mean) <= ROUNDING * scale else None
    error = spread * math.sqrt(1 / n + (1 / (folds - 1) if folds > 1 else 0))
    return float(2 * stdtr(n - 1, -abs(mean) / error))


def signed_rank_test(apart: np.ndarray) -> float:
    """Return the two-sided p of Wilcoxon's test (1945), exact over all signs, without differences of 0.

    >>> signed_rank_test(np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]))
    0.03125
    """
    kept = apart[apart != 0]
    doubled = _doubled_ranks(kept)
    ways = np.zeros(int(doubled.sum()) + 1)  # number of sign patterns with each sum of positive ranks
    ways[0] = 1.0
    for rank in doubled:
        ways *= 0.5
        ways[rank:] += ways[:-rank].copy()
    found = int(doubled[kept > 0].sum())
    return float(min(1.0, 2 * min(ways[: found + 1].sum(), ways[found:].sum())))


def _doubled_ranks(kept: np.ndarray) -> np.ndarray:
    """Return twice the ranks from 1, which are integers even if equal sizes share a rank."""
    result: np.ndarray = np.rint(2 * (ranks(np.abs(kept)) + 1)).astype(int)
    return result


def _leans_up(apart: np.ndarray) -> bool:
    kept = apart[apart != 0]
    doubled = _doubled_ranks(kept)
    return bool(2 * doubled[kept > 0].sum() > doubled.sum())


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """Apply Holm's correction: the smallest of m p values times m, the next times m - 1, never decreasing.

    >>> holm([0.01, None, 0.04, 0.03])
    [0.03, None, 0.06, 0.06]
    """
    known = sorted((p, at) for at, p in enumerate(ps) if p is not None)
    made: list[float | None] = [None] * len(ps)
    least = 0.0
    for place, (p, at) in enumerate(known):
        least = max(least, min(1.0, (len(known) - place) * p))
        made[at] = least
    return made
