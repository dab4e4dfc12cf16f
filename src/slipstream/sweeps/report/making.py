"""The report of a sweep: leaderboard.csv and report.json."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from slipstream.core.storage import replace
from slipstream.core.types import Plain
from slipstream.core.wording import spell
from slipstream.sweeps.plan.job import Outcome
from slipstream.sweeps.report import aggregates
from slipstream.sweeps.report.aggregates import Group, Importance, pair_of
from slipstream.sweeps.report.comparisons import Comparison, compare

if TYPE_CHECKING:
    from slipstream.sweeps.plan.space import Axis

ENDED = (*aggregates.SOUND, *aggregates.BROKEN, "pruned")
LEADERBOARD, REPORT = "leaderboard.csv", "report.json"


@dataclass(frozen=True)
class Report:
    """The results of a sweep.

    keys: the swept keys in order. groups: the trials, the best first. comparisons: of each with the first
    one; None for itself and for incomplete trials. silence: the reason if there is no importance.
    test: of the best trial when all members have ended, `test/name` -> mean, deviation and n; those of other
    trials are only in their members' summaries.
    """

    directory: Path
    metric: str
    minimize: bool
    keys: tuple[str, ...]
    outcomes: tuple[Outcome, ...]
    groups: tuple[Group, ...]
    comparisons: tuple[Comparison | None, ...]
    importance: tuple[Importance, ...]
    silence: str
    advice: tuple[str, ...]
    test: Mapping[str, tuple[float, float | None, int]]

    @property
    def best(self) -> Group | None:
        """Return the first trial if it succeeded."""
        return self.groups[0] if self.groups and self.groups[0].whole else None

    @property
    def failures(self) -> list[Outcome]:
        """Return the members that could not be trained."""
        return [outcome for outcome in self.outcomes if outcome.status == "failed"]


def make(
    directory: Path, found: Sequence[Outcome], axes: Sequence[Axis], metric: str, minimize: bool
) -> Report:
    """Create the report of a sweep's outcomes without writing anything."""
    ranked = aggregates.groups(found, minimize)
    best = ranked[0] if ranked and ranked[0].whole else None
    others = [other for other in ranked if best and other.whole and other is not best]
    verdicts = dict(zip(map(id, others), compare(best, others, minimize) if best else (), strict=True))
    compared = [verdicts.get(id(group)) for group in ranked]
    ties = [g for g, verdict in zip(ranked, compared, strict=True) if verdict and verdict.verdict == "tie"]
    importance, silence = aggregates.importance(ranked, minimize)
    swept = [axis.key for axis in axes]
    keys = dict.fromkeys([*swept, *(key for outcome in found for key in outcome.values)])
    return Report(
        directory=directory,
        metric=metric,
        minimize=minimize,
        keys=tuple(keys),
        outcomes=tuple(found),
        groups=tuple(ranked),
        comparisons=tuple(compared),
        importance=tuple(importance),
        silence=silence,
        advice=(*aggregates.edges(axes, ranked, ties), *_longer(best), *_optimism(found)),
        test=_test(best) if best and all(outcome.status in ENDED for outcome in found) else {},
    )


def _test(best: Group) -> dict[str, tuple[float, float | None, int]]:
    """Return mean, deviation (with n - 1) and n of each test metric over a trial's successful members."""
    members = list({pair_of(m): m for m in best.members if m.status in aggregates.SOUND}.values())
    made = {}
    for name in dict.fromkeys(name for member in members for name in member.test):
        known = [value for member in members if (value := member.test.get(name)) is not None]
        if known:
            made[name] = fmean(known), aggregates.deviation(known), len(known)
    return made


def _longer(best: Group | None) -> Iterator[str]:
    """Yield a note if all members of the best trial were still improving in their last epoch."""
    members = best.members if best and "trainer.max_epochs" not in best.values else ()
    if members and all(m.status == "finished" and m.best_epoch == m.epochs > 1 for m in members):
        yield (
            "the best trial's best epoch is its last one, so more epochs may help: "
            f"trainer.max_epochs={2 * members[0].epochs}"
        )


def _optimism(found: Sequence[Outcome]) -> Iterator[str]:
    """Yield a note about folds whose rows select the epoch that they evaluate."""
    sound = [outcome for outcome in found if outcome.status in aggregates.SOUND]
    chosen = any(outcome.epochs > 1 for outcome in sound)
    if chosen and all(outcome.fold is not None and not outcome.test for outcome in sound):
        yield (
            "the values are optimistic, because the same rows select each fold's best epoch and evaluate "
            "it; data.test=0.2 holds out independent rows"
        )


def write(
    directory: Path, found: Sequence[Outcome], axes: Sequence[Axis], metric: str, minimize: bool
) -> Report:
    """Write leaderboard.csv and report.json into a sweep's folder. Raises UserError on failure."""
    report = make(directory, found, axes, metric, minimize)
    replace(directory / LEADERBOARD, leaderboard(report))
    replace(directory / REPORT, json.dumps(_plain(report), indent=1, allow_nan=False) + "\n")
    return report


def leaderboard(report: Report) -> str:
    """Return a line per member, the best trial's first, without test scores, which must not select anything.

    An empty cell means that the key does not apply or that there is no value.
    """
    swept = [key for key in report.keys if key not in aggregates.REPEATS]
    metrics = dict.fromkeys(name for outcome in report.outcomes for name in outcome.best)
    written = io.StringIO()
    table = csv.writer(written, lineterminator="\n")
    who, how = ("rank", "number", "trial"), ("seed", "fold", "status", "value")
    end = ("best_epoch", "epochs", "seconds", "folder", "reason")
    table.writerow((*who, *swept, *how, *metrics, *end))
    for rank, group in enumerate(report.groups, start=1):
        for m in group.members:
            values = [spell(m.values[key]) if key in m.values else "" for key in swept]
            ended = (m.best_epoch, m.epochs, m.seconds, m.directory and m.directory.name, m.reason)
            best = [m.best.get(name) for name in metrics]
            table.writerow(
                (rank, m.number, m.trial, *values, m.seed, m.fold, m.status, m.value, *best, *ended)
            )
    return written.getvalue()


def _plain(report: Report) -> dict[str, Plain]:
    """Return the content of report.json."""
    return {
        "metric": report.metric,
        "direction": "min" if report.minimize else "max",
        "statuses": dict(Counter(outcome.status for outcome in report.outcomes)),
        "trials": [
            {
                "rank": rank,
                "trial": group.trial,
                "values": dict(group.values),
                "mean": group.mean,
                "std": group.std,
                "n": group.n,
                "members": [member.number for member in group.members],
                "remark": group.remark,
                "against_the_best": None if compared is None else asdict(compared),
            }
            for rank, (group, compared) in enumerate(
                zip(report.groups, report.comparisons, strict=True), start=1
            )
        ],
        "importance": [asdict(entry) for entry in report.importance],
        "no_importance_because": report.silence,
        "advice": list(report.advice),
        "test_of_the_best": {
            name: {"mean": mean, "std": std, "n": n} for name, (mean, std, n) in report.test.items()
        },
        "failures": [
            {"number": outcome.number, "values": dict(outcome.values), "reason": outcome.reason}
            for outcome in report.failures
        ],
    }
