"""Where the members of a sweep come from: the list of a grid, or a study that is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Protocol

from slipstream.core.errors import ConfigError
from slipstream.core.types import Plain
from slipstream.sweeps.plan.job import Job, ended
from slipstream.training.member import DIVERGED, FAILED, PRUNED, Member

if TYPE_CHECKING:
    from slipstream.sweeps.search.study import Study, Trial
    from slipstream.sweeps.work.leases import Leases

REASON = "others were better by then"
Verdict = tuple[str, str]  # status and reason
End = tuple[Job, str, float | None]  # with status and best value


class JobSource(Protocol):
    """Gives the members to train, and learns how they end."""

    def waiting(self) -> list[Job]:
        """Members that this worker could train now, in the order in which they should be."""

    def unfinished(self) -> list[Job]:
        """Members that have not ended, as far as is known, whoever trains them."""

    def claim(self, jobs: Sequence[Job]) -> list[Job]:
        """Those of the jobs that are now this worker's to train."""

    def verdicts(self, trained: Sequence[tuple[Job, Member]]) -> Mapping[int, Verdict]:
        """After an epoch: of these members, by number, status and reason of those that shall not go on."""

    def ended(self, ends: Sequence[End]) -> None:
        """Members have come to their ends."""

    def give_back(self) -> None:
        """Let other workers have what this one has claimed and not ended."""

    @property
    def lost(self) -> bool:
        """Whether others have taken over what this worker had."""

    def leave(self, jobs: Sequence[Job]) -> None:
        """Jobs that were claimed and are in use all the same."""

    def elsewhere(self) -> int:
        """How many members other workers have that had not ended when they were last looked at."""


class GridSource:
    """A list of members that is worked off in its order."""

    def __init__(self, jobs: Sequence[Job], directory: Path, claims: Leases) -> None:
        self.directory, self.claims = directory, claims
        self._left = {job.number: job for job in jobs if not ended(directory / str(job.number))}
        self._mine: set[int] = set()
        self._others: set[int] = set()

    def waiting(self) -> list[Job]:
        """What nobody has claimed, as far as is known; when that is nothing, others are looked at again."""
        taken = self._mine | self._others
        return [job for number, job in self._left.items() if number not in taken]

    def unfinished(self) -> list[Job]:
        """What is left of the list."""
        return list(self._left.values())

    def claim(self, jobs: Sequence[Job]) -> list[Job]:
        """Claims a folder each."""
        numbers = [job.number for job in jobs]
        got = set(self.claims.take(numbers, len(numbers)))
        self._mine |= got
        self._others |= set(numbers) - got
        # Another worker may have finished it between our look at its folder and its release.
        over = {n for n in got if ended(self.directory / str(n))}
        for number in over:
            self._forget(number)
        return [job for job in jobs if job.number in got - over]

    def verdicts(self, trained: Sequence[tuple[Job, Member]]) -> Mapping[int, Verdict]:
        """Nobody is pruned: all combinations were asked for."""
        return {}

    def ended(self, ends: Sequence[End]) -> None:
        """Nothing is learnt from it."""
        for job, _, _ in ends:
            self._forget(job.number)

    def give_back(self) -> None:
        """Release the claims."""
        self.claims.release(sorted(self._mine))
        self._mine.clear()

    @property
    def lost(self) -> bool:
        """Whether others have taken over what this worker had."""
        return self.claims.lost

    def leave(self, jobs: Sequence[Job]) -> None:
        """They count as another worker's, until they are looked at again."""
        numbers = {job.number for job in jobs}
        self.claims.release(sorted(numbers))
        self._mine -= numbers
        self._others |= numbers

    def elsewhere(self) -> int:
        """Looks at the folders of other workers' members: those of dead workers wait again."""
        for number in [n for n in self._others if ended(self.directory / str(n))]:
            self._forget(number)
        got = self.claims.take(sorted(self._others), len(self._others))
        self._others -= set(got)
        self.claims.release(got)
        return len(self._others)

    def _forget(self, number: int) -> None:
        self._left.pop(number, None)
        self._mine.discard(number)
        self._others.discard(number)


@dataclass
class Out:
    """A trial that this worker has: its members that have not ended, what the others came to, the curves."""

    open: dict[int, Job]
    values: dict[int, float | None] = field(default_factory=dict)
    curves: dict[int, Sequence[float]] = field(default_factory=dict)
    reported: int = 0
    pruned: bool = False


class SearchSource:
    """A study that is asked for trials, each of which has one member or several.

    job: makes a member of (trial, which of its members, values). members: of a trial. at_once: trials
    that are out at a time. paired: whether the pruner compares members one by one (wilcoxon).
    """

    def __init__(
        self,
        study: Study,
        job: Callable[[int, int, Mapping[str, Plain]], Job],
        members: int,
        at_once: int,
        paired: bool,
        workers: int,
        directory: Path,
        claims: Leases,
        warn: Callable[[str], None],
    ) -> None:
        self.warn = warn
        self.study, self.job, self.members = study, job, members
        self.at_once, self.paired, self.workers = at_once, paired, workers
        self.directory, self.claims = directory, claims
        self._out: dict[int, Out] = {}
        self._placed: set[int] = set()
        self._others: set[int] = set()
        for trial in study.waiting():
            self._begin(trial)

    def waiting(self) -> list[Job]:
        """Asks for as many trials as may be out."""
        while len(self._out) < self.at_once:
            trials = self.study.ask(self.at_once - len(self._out))
            if not trials:
                break
            for trial in trials:
                self._begin(trial)
        jobs = [job for out in self._out.values() for job in out.open.values()]
        return [job for job in jobs if job.number not in self._placed]

    def _begin(self, trial: Trial) -> None:
        """Make a trial ours with all of its members, unless another worker has it."""
        try:
            jobs = [self.job(trial.number, i, trial.values) for i in range(self.members)]
        except ConfigError as error:  # values that contradict each other, which one by one were sound
            self.study.tell(trial.number, None, FAILED)
            self.warn(f"trial {trial.number} cannot be: {'; '.join(error.problems)}")
            return
        numbers = [job.number for job in jobs]
        got = self.claims.take(numbers, len(numbers))
        if len(got) < len(numbers):
            self.claims.release(got)
            self._others.add(trial.number)
            return
        self._out[trial.number] = Out({job.number: job for job in jobs})
        for job in jobs:
            end = ended(self.directory / str(job.number))
            if end is not None:  # its worker died before it could tell
                self._end(job, end.status, end.value)

    def unfinished(self) -> list[Job]:
        """This worker's own; others have as many of theirs."""
        own = [job for out in self._out.values() for job in out.open.values()]
        return own * self.workers

    def claim(self, jobs: Sequence[Job]) -> list[Job]:
        """They were claimed when they were asked for."""
        self._placed |= {job.number for job in jobs}
        return list(jobs)

    def verdicts(self, trained: Sequence[tuple[Job, Member]]) -> Mapping[int, Verdict]:
        """Reports the mean of a trial's members, of every epoch that all have reached."""
        for job, member in trained:
            self._out[job.trial].curves[job.number] = member.history.raw
        if not self.paired:
            reports = [report for trial in {job.trial for job, _ in trained} for report in self._means(trial)]
            self._prune(self.study.report(reports))
        return {job.number: (PRUNED, REASON) for job, _ in trained if self._out[job.trial].pruned}

    def _means(self, trial: int) -> Iterator[tuple[int, int, float]]:
        out = self._out[trial]
        reached = min(map(len, out.curves.values())) if len(out.curves) == self.members else 0
        for epoch in range(out.reported + 1, reached + 1):
            yield trial, epoch, fmean(curve[epoch - 1] for curve in out.curves.values())
        out.reported = max(out.reported, reached)

    def _prune(self, trials: Iterable[int]) -> None:
        for trial in trials:
            self._out[trial].pruned = True

    def ended(self, ends: Sequence[End]) -> None:
        """When the last member of a trial has ended, the study is told the mean."""
        with self.study.together():
            for end in ends:
                self._end(*end)

    def _end(self, job: Job, status: str, value: float | None) -> None:
        out = self._out[job.trial]
        out.values[job.number] = None if status in (DIVERGED, FAILED) else value
        out.open.pop(job.number, None)
        out.pruned |= status == PRUNED
        self._placed.discard(job.number)
        if self.paired and status not in (DIVERGED, FAILED, PRUNED):
            self._prune(self.study.report([(job.trial, job.number % self.members, value)]))
        if out.open:
            return
        known = [found for found in out.values.values() if found is not None]
        if out.pruned:
            self.study.tell(job.trial, None, PRUNED)
        elif len(known) == len(out.values):
            self.study.tell(job.trial, fmean(known), status)
        else:
            self.study.tell(job.trial, None, status if status in (DIVERGED, FAILED) else DIVERGED)
        del self._out[job.trial]

    def give_back(self) -> None:
        """Release the claims; the trials stay in the study as begun."""
        self.claims.release([number for out in self._out.values() for number in out.open])

    @property
    def lost(self) -> bool:
        """Whether others have taken over what this worker had."""
        return self.claims.lost

    def leave(self, jobs: Sequence[Job]) -> None:
        """They wait, and are tried again when there is nothing else to do."""
        self._placed -= {job.number for job in jobs}

    def elsewhere(self) -> int:
        """Takes over the trials of workers that died."""
        begun = {trial.number: trial for trial in self.study.waiting()}
        self._others.clear()
        for number in begun.keys() - self._out.keys():
            self._begin(begun[number])
        return len(self._others)
