"""What a sweep came to, as leaderboard.csv and report.json."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipstream.files import replace
from slipstream.sweep import statistics
from slipstream.sweep.jobs import Outcome
from slipstream.sweep.statistics import Comparison, Group, Importance
from slipstream.wording import spell

if TYPE_CHECKING:
    from slipstream.sweep.space import Axis

LEADERBOARD, REPORT = "leaderboard.csv", "report.json"


@dataclass(frozen=True)
class Report:
    """What a sweep came to.

    keys: what was swept, in its order. groups: the trials, the best first. comparisons: of each with
    the first one; None for itself and for those that are not whole. silence: why there is no importance.
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

    @property
    def best(self) -> Group | None:
        """The first trial, where it has come to a sound end."""
        return self.groups[0] if self.groups and self.groups[0].whole else None

    @property
    def failures(self) -> list[Outcome]:
        """The members that could not be trained."""
        return [outcome for outcome in self.outcomes if outcome.status == "failed"]


def make(
    directory: Path, found: Sequence[Outcome], axes: Sequence[Axis], metric: str, minimize: bool
) -> Report:
    """The report of a sweep's outcomes. Nothing is written."""
    ranked = statistics.groups(found, minimize)
    best = ranked[0] if ranked and ranked[0].whole else None
    compared = [
        statistics.compare(best, other, minimize) if best and other.whole and other is not best else None
        for other in ranked
    ]
    ties = [g for g, verdict in zip(ranked, compared, strict=True) if verdict and verdict.verdict == "tie"]
    importance, silence = statistics.importance(ranked, minimize)
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
        advice=tuple(statistics.edges(axes, ranked, ties)),
    )


def write(
    directory: Path, found: Sequence[Outcome], axes: Sequence[Axis], metric: str, minimize: bool
) -> Report:
    """Write leaderboard.csv and report.json into a sweep's folder. Raises UserError where that fails."""
    report = make(directory, found, axes, metric, minimize)
    replace(directory / LEADERBOARD, leaderboard(report))
    replace(directory / REPORT, json.dumps(_plain(report), indent=1, allow_nan=False) + "\n")
    return report


def leaderboard(report: Report) -> str:
    """A line a member, the best trial's first. Empty: the key does not apply, or there is no value."""
    swept = [key for key in report.keys if key not in statistics.REPEATS]
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


def _plain(report: Report) -> dict[str, Any]:
    """What report.json holds."""
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
        "failures": [
            {"number": outcome.number, "values": dict(outcome.values), "reason": outcome.reason}
            for outcome in report.failures
        ],
    }
