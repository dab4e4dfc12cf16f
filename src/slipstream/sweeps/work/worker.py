"""A worker: a process that takes a sweep's members by kind, trains them in packs and reports how they end.

Leases record which worker has a member, and the members' summaries record which have ended. A dead worker
leaves nothing else behind.
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
from slipstream.data.in_memory import InMemory
from slipstream.runs import resuming, setup, summary
from slipstream.runs.tracking import Tracking
from slipstream.sweeps.plan.job import Job
from slipstream.sweeps.work.calibration import APART
from slipstream.sweeps.work.job_sources import End, JobSource
from slipstream.sweeps.work.pack_trainer import PackTrainer, Setting
from slipstream.training.interrupts import Interrupts
from slipstream.training.loop import Watcher
from slipstream.training.member import FAILED, Member
from slipstream.training.pack import signature

if TYPE_CHECKING:
    from slipstream.data import Data
    from slipstream.sweeps.work.calibration import PackChoice

POLL_SECONDS = 1.0  # between two checks of the other workers
ERROR = "error.txt"


class SameMistake(Exception):
    """The first and the last member of the first pack have the same error, as would all others."""

    def __init__(self, error: Exception, count: int) -> None:
        self.error, self.count = error, count
        super().__init__(str(error))


class Lost(StorageError):
    """Other workers consider this worker dead and have taken over its members."""


class Broken(Exception):
    """An error has ended a pack. `left` are its unfinished members."""

    def __init__(self, error: Exception, left: Sequence[Job]) -> None:
        self.error, self.left = error, left
        super().__init__(str(error))


class Observer(Watcher, Protocol):
    """An observer of a worker's progress. It changes nothing."""

    def begins(self, pack: PackTrainer) -> None:
        """Handle the start of a pack. The following epochs belong to it."""

    def ended(self, job: Job, status: str, value: float | None) -> None:
        """Handle the end of a member."""

    def failed(self, job: Job, reason: str) -> None:
        """Handle a member that could not be trained."""

    def say(self, text: str) -> None:
        """Show a line of information."""

    def warn(self, text: str) -> None:
        """Show a warning."""


class PackChooser(Protocol):
    """A function that decides how to train the members of a kind."""

    def __call__(self, jobs: Sequence[Job], folds: Mapping[str, Data], device: torch.device) -> PackChoice:
        """Return the choice for a kind. jobs: its waiting jobs. folds: their data, all of one form."""


class Worker:
    """A worker that trains the members of a source until none is left. It is its pack trainer's listener.

    workers: the number of processes that share the sweep, so that the first leaves some for the others.
    given: the rows of data=memory.
    """

    def __init__(
        self,
        directory: Path,
        source: JobSource,
        interrupts: Interrupts,
        observer: Observer,
        choose: PackChooser,
        workers: int = 1,
        given: InMemory | None = None,
    ) -> None:
        self.directory, self.source, self.interrupts = directory, source, interrupts
        self.observer, self.choose, self.workers = observer, choose, workers
        self.succeeded, self.tracking = 0, Tracking()
        self._given = given
        self._kind = ""
        self._folds: dict[str, Data] = {}
        self._refills = True
        self._warned: set[str] = set()
        self._shown: set[tuple[str, str]] = set()  # data sets whose card was shown
        # Needed for all waiting members whenever a slot becomes free, so cached by member.
        self._structures: dict[int, str] = {}
        self._data_keys: dict[int, str] = {}
        self._stands: dict[int, resuming.Begun] = {}
        self._chosen = self._how = resuming.How(packed=False, compile=False)

    def run(self) -> None:
        """Train until no member is left or a signal arrives.

        Raises SameMistake if the first pack shows that no member can be trained.
        """
        while self.interrupts.received is None:
            waiting = self.source.waiting()
            if waiting:
                self._train_kind(waiting)
                continue
            others = self.source.elsewhere()
            self._stands.clear()  # what waits now may have made progress
            if not self.source.waiting():
                if not others:
                    return
                self.interrupts.wait(POLL_SECONDS)
        self.source.give_back()

    # Kinds

    def _train_kind(self, waiting: Sequence[Job]) -> None:
        """Train the waiting members that have the same kind as the first one."""
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
        except Exception as error:  # no member of this kind can be trained
            self._blame_all(self.source.claim(alike), error)
            return
        if how.reason.startswith(APART):
            self.warn(how.reason)
        self._chosen = resuming.How(how.packed, how.compile)
        self._how = self._how_of(first)
        size = 1 if how.packed and not self._how.packed else how.size
        alike = [job for job in alike if self._how_of(job) == self._how]
        everyones = sum(self._structure(job) == self._kind for job in self.source.unfinished())
        jobs = self.source.claim(alike[: min(size, -(-everyones // self.workers))])
        threads = torch.get_num_threads()
        setting = Setting(self.directory, self._folds, device, size, *self._how, threads, self.tracking)
        if jobs:
            self._train(setting, jobs)
        gc.collect()  # engines have reference cycles

    def _read(self, jobs: Sequence[Job]) -> dict[str, Data]:
        """Load the folds of the jobs that have the same form as the first's."""
        keys = list(dict.fromkeys(map(self._data_key, jobs)))
        if all(key in self._folds for key in keys):
            return self._folds
        datas, _ = setup.load_all([job.config for job in jobs], self._given)
        form = setup.form(datas[0])
        found = {key: data for key, data in zip(keys, datas, strict=True) if setup.form(data) == form}
        self._show_data(jobs[0], datas[0])
        for data in found.values():
            for text in data.warnings:
                self.warn(text)
        return found

    def _show_data(self, job: Job, data: Data) -> None:
        """Show a description of the data, once for all folds and settings of a source."""
        what = (job.config.data.name, str(job.config.data.settings.get("path")))
        if what not in self._shown:
            self._shown.add(what)
            self.observer.say(data.card)

    def _structure(self, job: Job) -> str:
        if job.number not in self._structures:
            self._structures[job.number] = signature(job.config)
        return self._structures[job.number]

    def _data_key(self, job: Job) -> str:
        if job.number not in self._data_keys:
            self._data_keys[job.number] = setup.data_key(job.config)
        return self._data_keys[job.number]

    def _begun(self, job: Job) -> resuming.Begun:
        """Return a member's progress within an epoch and how it was trained; equal within a pack."""
        if job.number not in self._stands:
            self._stands[job.number] = resuming.begun(self.directory / str(job.number))
        return self._stands[job.number]

    def _how_of(self, job: Job) -> resuming.How:
        """Return how to train a member: as before, or as chosen if it has not started."""
        return self._begun(job).how or self._chosen

    def _fits(self, job: Job) -> bool:
        return (
            self._structure(job) == self._kind
            and self._data_key(job) in self._folds
            and not self._begun(job).steps
            and self._how_of(job) == self._how
        )

    # Requests and reports of the pack trainer

    def more(self) -> bool:
        """Return True if members of the pack's kind are waiting."""
        return self._refills and any(self._fits(job) for job in self.source.waiting())

    def take(self, count: int) -> list[Job]:
        """Claim members of the pack's kind."""
        if not self._refills:
            return []
        fitting = [job for job in self.source.waiting() if self._fits(job)]
        return self.source.claim(fitting[:count])

    def busy(self, jobs: Sequence[Job]) -> None:
        """Leave members that are in use to their owners for now."""
        self.source.leave(jobs)
        for job in jobs:  # they continue meanwhile
            self._stands.pop(job.number, None)
        self.interrupts.wait(POLL_SECONDS)

    def verdicts(self, trained: Sequence[tuple[Job, Member]]) -> Mapping[int, tuple[str, str]]:
        """Return the source's verdicts on the members that trained. Raises Lost."""
        if self.source.lost:
            raise Lost(
                f"{self.directory}: this process showed no sign of life for too long, so another one has "
                f"taken over its members; nothing is lost. To help again, use "
                + typed("resume", self.directory)
            )
        return self.source.verdicts(trained)

    def ended(self, ends: Sequence[End]) -> None:
        """Handle the ends of members."""
        self.succeeded += len(ends)
        self.source.ended(ends)
        for job, status, value in ends:
            self.observer.ended(job, status, value)

    def warn(self, text: str) -> None:
        """Show a warning, once."""
        if text not in self._warned:
            self._warned.add(text)
            self.observer.warn(text)

    # Training, and isolating the member that causes an error

    def _train(self, setting: Setting, jobs: Sequence[Job]) -> None:
        """Train these members, then others of their kind in their slots. An error ends only one member."""
        try:
            self._train_pack(setting, jobs)
        except Broken as broken:
            if not broken.left or self.interrupts.received is not None:
                raise broken.error from None
            if setup.out_of_memory(broken.error):
                self._halve(setting, broken)
            else:
                self._blame(setting, broken)

    def _train_pack(self, setting: Setting, jobs: Sequence[Job]) -> None:
        pack = None
        try:
            pack = PackTrainer(setting, jobs, self, self.observer, self.interrupts)
            self.observer.begins(pack)
            pack.train()
        except StorageError:
            raise
        except Exception as error:
            left = jobs if pack is None else pack.unended
            if pack is not None and setup.out_of_memory(error):
                pack.save()
            raise Broken(error, left) from error
        finally:
            if pack is not None:
                pack.close()

    def _halve(self, setting: Setting, broken: Broken) -> None:
        """Halve a pack that is too large and train each half separately, down to single members."""
        left = list(broken.left)
        broken.error.__traceback__ = None  # it holds references to the pack's memory
        gc.collect()
        if len(left) == 1:
            self._fail(left[0], MemoryError("this machine has too little memory for this member"))
            return
        middle = (len(left) + 1) // 2
        self.observer.warn(
            f"{len(left)} members together need more memory than available; training {middle} at a time"
        )
        for part in (left[:middle], left[middle:]):
            self._train(replace(setting, size=middle), part)

    def _blame(self, setting: Setting, broken: Broken) -> None:
        """Find the member that causes an error by trying the first and the last one, and then halves."""
        left = list(broken.left)
        if len(left) == 1:
            self._fail(left[0], broken.error)
            return
        self._refills, failed = False, dict[int, Exception]()
        for job in (left[0], left[-1]):
            try:
                self._train_pack(replace(setting, size=1), [job])
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
        """Record that a member cannot be trained, and continue."""
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
