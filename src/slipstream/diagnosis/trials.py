"""Trials of changes: branches with and without each, trained for as long as the budget allows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from slipstream.diagnosis.branches import NOTHING, Branch, Change, branches, with_change
from slipstream.diagnosis.evidence import Evidence
from slipstream.diagnosis.judging import Gain, Measure, gain_of, gain_on
from slipstream.runs.summary import Result

BUDGET = 3.0  # cost of all branches, in times the run
START = 4.0  # seconds of a run besides its training
RUNS = 10.0  # cost of all branches if they train to their end, in times the run: packs are cheaper than runs
LEAST_EPOCHS = 8  # of a branch that stops early
PACKED = 3  # branches of one structure from which a pack is faster than single runs
# Changes whose effect shows only at the end of a run.
OF_LENGTH = ("trainer.max_epochs", "trainer.mode", "trainer.monitor", "early_stopping")


@dataclass(frozen=True)
class TrainedChange:
    """The branches with a change, and the unchanged ones of the same seeds."""

    change: Change
    branches: tuple[Branch, ...]
    control: tuple[Branch, ...]

    def after(self, other: TrainedChange) -> TrainedChange:
        """Return the branches of both trials, the other's first."""
        return TrainedChange(self.change, other.branches + self.branches, other.control + self.control)

    def gain(self, judges: Sequence[Measure]) -> Gain:
        """Return the gain on the measure where it is largest."""
        return gain_of(self.branches, self.control, judges)

    def gain_on(self, metric: str, judges: Sequence[Measure]) -> Gain:
        """Return the gain on one measure."""
        return gain_on(metric, self.branches, self.control, judges)


def explored(run: Evidence, changes: Sequence[Change]) -> list[TrainedChange]:
    """Train each change that makes a valid configuration, with the run's own seed."""
    possible = [change for change in dict.fromkeys(changes) if not run.origin.refusal(change)]
    return _trained(run, possible, seeds=1, first=0)


def repeated(
    run: Evidence, changes: Sequence[Change], seeds: int, before: Sequence[TrainedChange] = ()
) -> list[TrainedChange]:
    """Train each change with fresh seeds, each with its own random split.

    before: the same changes with earlier seeds, which the result includes.
    """
    used = max((len(one.branches) for one in before), default=0)
    found = _trained(run, list(dict.fromkeys(changes)), seeds=seeds, first=1 + used)
    earlier = {one.change: one for one in before}
    return [one.after(earlier[one.change]) if before else one for one in found]


def _trained(run: Evidence, changes: Sequence[Change], *, seeds: int, first: int) -> list[TrainedChange]:
    """Train branches with each change and without, `seeds` seeds each, of which `first` are skipped.

    Branches of a short run, and those whose change shows only at the end, train to the end. So does the
    control: a branch that stops early and is still better is not merely faster.
    """
    until = horizon(run)
    long = [change for change in changes if until is None or _is_seen_late(change)]
    short = [change for change in changes if change not in long]
    control = [_itself(run)] if first == 0 else []
    found = _branches(run, [*([] if control else [NOTHING]), *long], None, seeds, first) if changes else []
    found += _branches(run, short, until, seeds, first)
    usual = tuple(control or with_change(NOTHING, found))
    return [TrainedChange(change, tuple(with_change(change, found)), usual) for change in changes]


def _branches(
    run: Evidence, changes: Sequence[Change], until: int | None, seeds: int, first: int
) -> list[Branch]:
    return branches(
        run.origin, changes, seeds=seeds, first=first, split_again=True, until=until, least=PACKED
    )


def _is_seen_late(change: Change) -> bool:
    return any(text.startswith(OF_LENGTH) for text in change.overrides)


def _itself(run: Evidence) -> Branch:
    """Return the run itself as an unchanged branch."""
    result = Result(run.status, "", 0, run.summary["best"], run.summary["last"], [], {})
    return Branch(NOTHING, int(run.raw["seed"]), result, run.keeps_best)


def horizon(run: Evidence) -> int | None:
    """Return the epoch after which branches stop; None trains them to their end."""
    planned = int(run.setting("trainer.max_epochs"))
    whole = run.seconds / max(run.epochs, 1) * planned
    share = BUDGET * (run.seconds + START) / (RUNS * max(whole, 1e-9))
    return None if share >= 1 else max(math.ceil(share * planned), min(planned, LEAST_EPOCHS))
