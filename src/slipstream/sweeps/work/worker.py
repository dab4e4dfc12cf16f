"""One process's work on a sweep: it takes members by kind, trains them as packs and tells how they end.

Which member belongs to whom is said by claims, what has ended by the members' own summaries; a worker
that dies leaves nothing else behind.
"""

from __future__ import annotations

import gc
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch

from slipstream.core import folders
from slipstream.core.errors import UserError
from slipstream.core.storage import StorageError, writing
from slipstream.core.storage import replace as replace_file
from slipstream.core.wording import typed
from slipstream.runs import resuming, setup, summary
from slipstream.sweeps.plan.job import Job
from slipstream.sweeps.work.job_sources import End, JobSource
from slipstream.sweeps.work.pack_trainer import PackTrainer, Setting
from slipstream.training.interrupts import Interrupts
from slipstream.training.member import FAILED, Member
from slipstream.training.pack import signature

if TYPE_CHECKING:
    from slipstream.data import Data
    from slipstream.sweeps.work.calibration import PackChoice

POLL_SECONDS = 1.0  # between two looks at what other workers do
ERROR = "error.txt"


class SameMistake(Exception):
    """The first and the last member of the first pack failed alike: so would all others."""

    def __init__(self, error: Exception, count: int) -> None:
        self.error, self.count = error, count
        super().__init__(str(error))


class Lost(StorageError):
    """Others think this worker dead, and its members are theirs."""


class Broken(Exception):
    """A crew was ended by an error; `left` are its members that had not come to their end."""

    def __init__(self, error: Exception, left: Sequence[Job]) -> None:
        self.error, self.left = error, left
        super().__init__(str(error))


class Observer(Protocol):
    """What is told of a worker's progress. It changes nothing."""

    def epoch(self, crew: PackTrainer) -> None:
        """A crew has finished an epoch."""

    def ended(self, job: Job, status: str, value: float | None) -> None:
        """A member has come to its end."""

    def failed(self, job: Job, reason: str) -> None:
        """A member could not be trained."""

    def warn(self, text: str) -> None:
        """Something that a person should read."""


class PackChooser(Protocol):
    """Decides how the members of a kind are trained."""

    def __call__(self, jobs: Sequence[Job], folds: Mapping[str, Data], device: torch.device) -> PackChoice:
        """jobs: those of the kind that wait. folds: their data, all of one form."""


class Worker:
    """Drains a source of members. It listens to its crew.

    workers: how many processes share the sweep, so that the first one leaves some to the others.
    """

    def __init__(
        self,
        directory: Path,
        source: JobSource,
        interrupts: Interrupts,
        observer: Observer,
        choose: PackChooser,
        workers: int = 1,
    ) -> None:
        self.directory, self.source, self.interrupts = directory, source, interrupts
        self.observer, self.choose, self.workers = observer, choose, workers
        self.succeeded = 0
        self._kind = ""
        self._folds: dict[str, Data] = {}
        self._refills = True
        self._warned: set[str] = set()
        # What is asked again of all that wait whenever a place becomes free, by member.
        self._structures: dict[int, str] = {}
        self._data_keys: dict[int, str] = {}
        self._stands: dict[int, resuming.Begun] = {}
        self._chosen = self._how = resuming.How(packed=False, compile=False)

    def drain(self) -> None:
        """Train until nothing is left to take, or a signal came.

        Raises SameMistake where the first pack shows that no member can be trained.
        """
        while self.interrupts.received is None:
            waiting = self.source.waiting()
            if waiting:
                self._train_kind(waiting)
                continue
            others = self.source.elsewhere()
            self._stands.clear()  # they may have gone on with what waits now
            if not self.source.waiting():
                if not others:
                    return
                self.interrupts.wait(POLL_SECONDS)
        self.source.give_back()

    # Kinds

    def _train_kind(self, waiting: Sequence[Job]) -> None:
        """Train the waiting members that are of the first one's kind."""
        first = waiting[0]
        self._kind = self._structure(first)
        alike = [job for job in waiting if self._structure(job) == self._kind]
        begun = self._begun(first)
        alike = [job for job in alike if self._begun(job).steps == begun.steps]
        try:
            self._folds = self._read(alike)
            alike = [job for job in alike if self._data_key(job) in self._folds]
            device = setup.set_up(first.config)
            how = self.choose(alike, self._folds, device)
        except StorageError:
            raise
        except Exception as error:  # nothing of this kind can be trained
            self._blame_all(self.source.claim(alike), error)
            return
        self._chosen = resuming.How(how.packed, how.compile)
        self._how = self._how_of(first)
        size = 1 if how.packed and not self._how.packed else how.size
        alike = [job for job in alike if self._how_of(job) == self._how]
        everyones = sum(self._structure(job) == self._kind for job in self.source.unfinished())
        jobs = self.source.claim(alike[: min(size, -(-everyones // self.workers))])
        threads = torch.get_num_threads()
        setting = Setting(self.directory, self._folds, device, size, *self._how, threads)
        if jobs:
            self._train(setting, jobs)
        gc.collect()  # engines refer to themselves

    def _read(self, jobs: Sequence[Job]) -> dict[str, Data]:
        """The folds that the jobs have, as far as they are of one form with the first's."""
        keys = list(dict.fromkeys(map(self._data_key, jobs)))
        if all(key in self._folds for key in keys):
            return self._folds
        datas, _ = setup.load_all([job.config for job in jobs])
        form = setup.form(datas[0])
        found = {key: data for key, data in zip(keys, datas, strict=True) if setup.form(data) == form}
        for data in found.values():
            for text in data.warnings:
                self.warn(text)
        return found

    def _structure(self, job: Job) -> str:
        if job.number not in self._structures:
            self._structures[job.number] = signature(job.config)
        return self._structures[job.number]

    def _data_key(self, job: Job) -> str:
        if job.number not in self._data_keys:
            self._data_keys[job.number] = setup.data_key(job.config)
        return self._data_keys[job.number]

    def _begun(self, job: Job) -> resuming.Begun:
        """How far into an epoch the member was saved, and how trained: those of a pack are alike in both."""
        if job.number not in self._stands:
            self._stands[job.number] = resuming.begun(self.directory / str(job.number))
        return self._stands[job.number]

    def _how_of(self, job: Job) -> resuming.How:
        """How the member is to be trained: as it was so far, and by the choice where it has yet to begin."""
        return self._begun(job).how or self._chosen

    def _fits(self, job: Job) -> bool:
        return (
            self._structure(job) == self._kind
            and self._data_key(job) in self._folds
            and not self._begun(job).steps
            and self._how_of(job) == self._how
        )

    # What the crew asks and tells

    def more(self) -> bool:
        """Whether members of the crew's kind wait."""
        return self._refills and any(self._fits(job) for job in self.source.waiting())

    def take(self, count: int) -> list[Job]:
        """Members of the crew's kind, claimed."""
        if not self._refills:
            return []
        fitting = [job for job in self.source.waiting() if self._fits(job)]
        return self.source.claim(fitting[:count])

    def busy(self, jobs: Sequence[Job]) -> None:
        """Leave them to whoever has them, for now."""
        self.source.leave(jobs)
        for job in jobs:  # they go on meanwhile
            self._stands.pop(job.number, None)
        self.interrupts.wait(POLL_SECONDS)

    def verdicts(self, trained: Sequence[tuple[Job, Member]]) -> Mapping[int, tuple[str, str]]:
        """What the source says about those that trained."""
        return self.source.verdicts(trained)

    def epoch(self, crew: PackTrainer) -> None:
        """All running members have finished an epoch."""
        if self.source.lost:
            raise Lost(
                f"{self.directory}: this process gave no sign of life for too long, and another one has "
                f"taken over its members; nothing is lost. To help again: " + typed("resume", self.directory)
            )
        self.observer.epoch(crew)

    def ended(self, ends: Sequence[End]) -> None:
        """Members have come to their ends."""
        self.succeeded += len(ends)
        self.source.ended(ends)
        for job, status, value in ends:
            self.observer.ended(job, status, value)

    def warn(self, text: str) -> None:
        """Something that a person should read, once."""
        if text not in self._warned:
            self._warned.add(text)
            self.observer.warn(text)

    # Training, and finding out who breaks it

    def _train(self, setting: Setting, jobs: Sequence[Job]) -> None:
        """Train these members, and others of their kind in their places. An error ends only whose it is."""
        try:
            self._crew(setting, jobs)
        except Broken as broken:
            if not broken.left or self.interrupts.received is not None:
                raise broken.error from None
            if setup.out_of_memory(broken.error):
                self._halve(setting, broken)
            else:
                self._blame(setting, broken)

    def _crew(self, setting: Setting, jobs: Sequence[Job]) -> None:
        crew = None
        try:
            crew = PackTrainer(setting, jobs, self, self.interrupts)
            crew.train()
        except StorageError:
            raise
        except Exception as error:
            left = jobs if crew is None else crew.unended
            if crew is not None and setup.out_of_memory(error):
                crew.save()
            raise Broken(error, left) from error
        finally:
            if crew is not None:
                crew.close()

    def _halve(self, setting: Setting, broken: Broken) -> None:
        """Too large together: train each half on its own, down to one member alone."""
        left = list(broken.left)
        broken.error.__traceback__ = None  # it holds on to what the crew had
        gc.collect()
        if len(left) == 1:
            self._fail(left[0], MemoryError("the memory of this machine is too small for this member alone"))
            return
        middle = (len(left) + 1) // 2
        self.observer.warn(f"{len(left)} members together need more memory than there is: {middle} at a time")
        for part in (left[:middle], left[middle:]):
            self._train(replace(setting, size=middle), part)

    def _blame(self, setting: Setting, broken: Broken) -> None:
        """Find out whose error it was: the first and the last member are tried alone, then halves."""
        left = list(broken.left)
        if len(left) == 1:
            self._fail(left[0], broken.error)
            return
        self._refills, failed = False, dict[int, Exception]()
        for job in (left[0], left[-1]):
            try:
                self._crew(replace(setting, size=1), [job])
            except Broken as alone:
                if alone.left:
                    failed[job.number] = alone.error
        self._refills = True
        if len(failed) == 2 and len({_text(error) for error in failed.values()}) == 1:
            self._blame_all(left, broken.error)
            return
        for job in (left[0], left[-1]):
            if job.number in failed:
                self._fail(job, failed[job.number])
        middle = left[1:-1]
        for part in (middle[: len(middle) // 2], middle[len(middle) // 2 :]):
            if part:
                self._train(replace(setting, size=len(part)), part)

    def _blame_all(self, jobs: Sequence[Job], error: Exception) -> None:
        if not self.succeeded:
            raise SameMistake(error, len(jobs)) from error
        for job in jobs:
            self._fail(job, error)

    def _fail(self, job: Job, error: Exception) -> None:
        """Note that a member cannot be trained, and go on."""
        directory, reason = self.directory / str(job.number), _text(error)
        with writing(directory):
            folders.mkdir(directory)
        if not isinstance(error, UserError):
            replace_file(directory / ERROR, "".join(traceback.format_exception(error)), sync=False)
            reason += f"; see {ERROR}"
        summary.write_failure(Member(job.config, directory), reason)
        self.source.ended([(job, FAILED, None)])
        self.observer.failed(job, reason)


def _text(error: Exception) -> str:
    text = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())
