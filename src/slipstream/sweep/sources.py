"""Where the members of a sweep come from: the list of a grid, or a study that is asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, Protocol

from slipstream.sweep.jobs import Job, ended
from slipstream.training.member import DIVERGED, FAILED, PRUNED, Member

if TYPE_CHECKING:
    from slipstream.sweep.claims import Claims
    from slipstream.sweep.study import Study, Trial

PRUNED_BY = "the pruner: others were better by then"


class Source(Protocol):
    """Gives the members to train, and learns how they end."""

    def waiting(self) -> list[Job]:
        """Members that this worker could train now, in the order in which they should be."""

    def claim(self, jobs: Sequence[Job]) -> list[Job]:
        """Those of the jobs that are now this worker's to train."""

    def verdict(self, job: Job, member: Member) -> tuple[str, str] | None:
        """After an epoch: status and reason for a member that shall not go on."""

    def ended(self, job: Job, status: str, value: float | None) -> None:
        """A member has come to its end."""

    def give_back(self) -> None:
        """Let other workers have what this one has claimed and not ended."""

    def elsewhere(self) -> int:
        """How many members other workers have that had not ended when they were last looked at."""


class Grid:
    """A list of members that is worked off in its order."""

    def __init__(self, jobs: Sequence[Job], directory: Path, claims: Claims) -> None:
        self.directory, self.claims = directory, claims
        self._left = {job.number: job for job in jobs if not ended(directory / str(job.number))}
        self._mine: set[int] = set()
        self._others: set[int] = set()

    def waiting(self) -> list[Job]:
        """What nobody has claimed, as far as is known; when that is nothing, others are looked at again."""
        taken = self._mine | self._others
        return [job for number, job in self._left.items() if number not in taken]

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

    def verdict(self, job: Job, member: Member) -> tuple[str, str] | None:
        """Nobody is pruned: all combinations were asked for."""
        return None

    def ended(self, job: Job, status: str, value: float | None) -> None:
        """Nothing is learnt from it."""
        self._forget(job.number)

    def give_back(self) -> None:
        """Release the claims."""
        self.claims.release(sorted(self._mine))
        self._mine.clear()

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


class Searched:
    """A study that is asked for trials, each of which has one member or several.

    job: makes the member of (trial number, which of its members, values). members: of a trial.
    at_once: trials that are out at a time.
    """

    def __init__(
        self,
        study: Study,
        job: Callable[[int, int, Any], Job],
        members: int,
        at_once: int,
        directory: Path,
        claims: Claims,
    ) -> None:
        self.study, self.job, self.members, self.at_once = study, job, members, at_once
        self.directory, self.claims = directory, claims
        self._open: dict[int, dict[int, Job]] = {}  # trial -> its members that have not ended
        self._placed: set[int] = set()
        self._values: dict[int, dict[int, float | None]] = {}
        self._curves: dict[int, dict[int, list[float | None]]] = {}
        self._reported: dict[int, int] = {}
        self._pruned: set[int] = set()
        self._others: set[int] = set()
        for trial in study.waiting():
            self._take_over(trial)

    def waiting(self) -> list[Job]:
        """Asks for as many trials as may be out."""
        while len(self._open) < self.at_once:
            trials = self.study.ask(self.at_once - len(self._open))
            if not trials:
                break
            for trial in trials:
                self._take_over(trial)
        jobs = [job for members in self._open.values() for job in members.values()]
        return [job for job in jobs if job.number not in self._placed]

    def _take_over(self, trial: Trial) -> None:
        """Make a trial ours with all of its members, unless another worker has it."""
        jobs = [self.job(trial.number, i, trial.values) for i in range(self.members)]
        numbers = [job.number for job in jobs]
        got = self.claims.take(numbers, len(numbers))
        if len(got) < len(numbers):
            self.claims.release(got)
            self._others.add(trial.number)
            return
        self._open[trial.number] = {job.number: job for job in jobs}
        self._values[trial.number], self._curves[trial.number] = {}, {}
        for job in jobs:
            end = ended(self.directory / str(job.number))
            if end is not None:  # its worker died before it could tell
                self.ended(job, end.status, end.value)

    def claim(self, jobs: Sequence[Job]) -> list[Job]:
        """They were claimed when they were asked for."""
        self._placed |= {job.number for job in jobs}
        return list(jobs)

    def verdict(self, job: Job, member: Member) -> tuple[str, str] | None:
        """Reports the mean of a trial's members, of every epoch that all have reached."""
        if job.trial in self._pruned:
            return PRUNED, PRUNED_BY
        curve = member.history.raw
        curves = self._curves[job.trial]
        curves[job.number] = [float(value) for value in curve]
        if len(curves) == self.members:
            reached = min(map(len, curves.values()))
            for epoch in range(self._reported.get(job.trial, 0) + 1, reached + 1):
                values = [curve[epoch - 1] for curve in curves.values()]
                self._reported[job.trial] = epoch
                if self.study.report(job.trial, epoch, fmean(values)):
                    self._pruned.add(job.trial)
                    return PRUNED, PRUNED_BY
        return None

    def ended(self, job: Job, status: str, value: float | None) -> None:
        """When the last member of a trial has ended, the study is told the mean."""
        values = self._values[job.trial]
        values[job.number] = None if status in (DIVERGED, FAILED) else value
        self._open[job.trial].pop(job.number, None)
        self._placed.discard(job.number)
        if status == PRUNED:
            self._pruned.add(job.trial)
        if self._open[job.trial]:
            return
        known = [found for found in values.values() if found is not None]
        whole = len(known) == len(values)
        verdict = PRUNED if job.trial in self._pruned else status if whole else DIVERGED
        self.study.tell(job.trial, fmean(known) if whole else None, verdict)
        del self._open[job.trial], self._values[job.trial], self._curves[job.trial]

    def give_back(self) -> None:
        """Release the claims; the trials stay in the study as begun."""
        self.claims.release([number for members in self._open.values() for number in members])

    def elsewhere(self) -> int:
        """Takes over the trials of workers that died."""
        begun = {trial.number: trial for trial in self.study.waiting()}
        for number in self._others - set(begun):
            self._others.discard(number)
        for number in list(self._others):
            self._others.discard(number)
            self._take_over(begun[number])
        for number in begun.keys() - self._open.keys() - self._others:
            self._take_over(begun[number])
        return len(self._others)
