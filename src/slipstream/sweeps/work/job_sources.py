"""Sources of a sweep's members: the list of a grid, or a study that proposes them."""

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

REASON = "others were better at that point"
Verdict = tuple[str, str]  # status and reason
End = tuple[Job, str, float | None]  # a job with status and best value


class JobSource(Protocol):
    """A source of members to train, which learns how they end."""

    def waiting(self) -> list[Job]:
        """Return the members that this worker could train now, in order."""

    def unfinished(self) -> list[Job]:
        """Return the members that have not ended, as far as is known, in any worker."""

    def claim(self, jobs: Sequence[Job]) -> list[Job]:
        """Claim jobs and return those that this worker may now train."""

    def verdicts(self, trained: Sequence[tuple[Job, Member]]) -> Mapping[int, Verdict]:
        """Return status and reason, by number, of the members that must stop after an epoch."""

    def ended(self, ends: Sequence[End]) -> None:
        """Handle the ends of members."""

    def give_back(self) -> None:
        """Release members that this worker has claimed but not ended."""

    @property
    def lost(self) -> bool:
        """Return True if others have taken over this worker's members."""

    def leave(self, jobs: Sequence[Job]) -> None:
        """Return claimed jobs that are still in use elsewhere."""

    def elsewhere(self) -> int:
        """Return the number of unfinished members in other workers at the last check."""


class GridSource:
    """A list of members, trained in order."""

    def __init__(self, jobs: Sequence[Job], directory: Path, leases: Leases) -> None:
        self.directory, self.leases = directory, leases
        self._left = {job.number: job for job in jobs if not ended(directory / str(job.number))}
        self._mine: set[int] = set()
        self._others: set[int] = set()

    def waiting(self) -> list[Job]:
        """Return jobs that nobody is known to have claimed. If there are none, check other workers again."""
        taken = self._mine | self._others
        return [job for number, job in self._left.items() if number not in taken]

    def unfinished(self) -> list[Job]:
        """Return the remaining jobs of the list."""
        return list(self._left.values())

    def claim(self, jobs: Sequence[Job]) -> list[Job]:
        """Claim one folder per job."""
        numbers = [job.number for job in jobs]
        got = set(self.leases.take(numbers, len(numbers)))
        self._mine |= got
        self._others |= set(numbers) - got
        # Another worker may have finished it between the check of its folder and its release.
        over = {n for n in got if ended(self.directory / str(n))}
        for number in over:
            self._forget(number)
        return [job for job in jobs if job.number in got - over]

    def verdicts(self, trained: Sequence[tuple[Job, Member]]) -> Mapping[int, Verdict]:
        """Return nothing: a grid trains all combinations."""
        return {}

    def ended(self, ends: Sequence[End]) -> None:
        """Ignore the outcomes: a grid does not learn."""
        for job, _, _ in ends:
            self._forget(job.number)

    def give_back(self) -> None:
        """Release the claims."""
        self.leases.release(sorted(self._mine))
        self._mine.clear()

    @property
    def lost(self) -> bool:
        """Return True if others have taken over this worker's members."""
        return self.leases.lost

    def leave(self, jobs: Sequence[Job]) -> None:
        """Count the jobs as another worker's until the next check."""
        numbers = {job.number for job in jobs}
        self.leases.release(sorted(numbers))
        self._mine -= numbers
        self._others |= numbers

    def elsewhere(self) -> int:
        """Check the folders of other workers' members. Members of dead workers wait again."""
        for number in [n for n in self._others if ended(self.directory / str(n))]:
            self._forget(number)
        got = self.leases.take(sorted(self._others), len(self._others))
        self._others -= set(got)
        self.leases.release(got)
        return len(self._others)

    def _forget(self, number: int) -> None:
        self._left.pop(number, None)
        self._mine.discard(number)
        self._others.discard(number)


@dataclass
class Out:
    """A trial of this worker: its unfinished members, the results of the others, and the curves."""

    open: dict[int, Job]
    values: dict[int, float | None] = field(default_factory=dict)
    curves: dict[int, Sequence[float]] = field(default_factory=dict)
    reported: int = 0
    pruned: bool = False


class SearchSource:
    """A study that provides trials, each with one or more members.

    job: makes a member from (trial, number of the member, values). members: of a trial. at_once: trials in
    progress at a time. paired: True if the pruner compares members one by one (wilcoxon).
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
        leases: Leases,
        warn: Callable[[str], None],
    ) -> None:
        self.warn = warn
        self.study, self.job, self.members = study, job, members
        self.at_once, self.paired, self.workers = at_once, paired, workers
        self.directory, self.leases = directory, leases
        self._out: dict[int, Out] = {}
        self._placed: set[int] = set()
        self._others: set[int] = set()
        for trial in study.waiting():
            self._begin(trial)

    def waiting(self) -> list[Job]:
        """Request trials up to the number allowed at the same time."""
        while len(self._out) < self.at_once:
            trials = self.study.ask(self.at_once - len(self._out))
            if not trials:
                break
            for trial in trials:
                self._begin(trial)
        jobs = [job for out in self._out.values() for job in out.open.values()]
        return [job for job in jobs if job.number not in self._placed]

    def _begin(self, trial: Trial) -> None:
        """Claim a trial with all of its members, unless another worker has it."""
        try:
            jobs = [self.job(trial.number, i, trial.values) for i in range(self.members)]
        except ConfigError as error:  # values that are valid one by one but contradict each other
            self.study.tell(trial.number, None, FAILED)
            self.warn(f"trial {trial.number} is invalid: {'; '.join(error.problems)}")
            return
        numbers = [job.number for job in jobs]
        got = self.leases.take(numbers, len(numbers))
        if len(got) < len(numbers):
            self.leases.release(got)
            self._others.add(trial.number)
            return
        self._out[trial.number] = Out({job.number: job for job in jobs})
        for job in jobs:
            end = ended(self.directory / str(job.number))
            if end is not None:  # its worker died before it could report
                self._end(job, end.status, end.value)

    def unfinished(self) -> list[Job]:
        """Return this worker's own members. Other workers have as many of their own."""
        own = [job for out in self._out.values() for job in out.open.values()]
        return own * self.workers

    def claim(self, jobs: Sequence[Job]) -> list[Job]:
        """Return the jobs unchanged, since they were claimed when they were requested."""
        self._placed |= {job.number for job in jobs}
        return list(jobs)

    def verdicts(self, trained: Sequence[tuple[Job, Member]]) -> Mapping[int, Verdict]:
        """Report the mean of a trial's members for every epoch that all of them have reached."""
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
        """Report the mean of a trial to the study when its last member has ended."""
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
        """Release the claims. The trials stay in progress in the study."""
        self.leases.release([number for out in self._out.values() for number in out.open])

    @property
    def lost(self) -> bool:
        """Return True if others have taken over this worker's members."""
        return self.leases.lost

    def leave(self, jobs: Sequence[Job]) -> None:
        """Keep jobs waiting until there is nothing else to do."""
        self._placed -= {job.number for job in jobs}

    def elsewhere(self) -> int:
        """Take over the trials of workers that died."""
        begun = {trial.number: trial for trial in self.study.waiting()}
        self._others.clear()
        for number in begun.keys() - self._out.keys():
            self._begin(begun[number])
        return len(self._others)
