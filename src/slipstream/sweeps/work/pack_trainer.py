"""A pack whose slots are refilled when they become free, and which shrinks when no jobs are left.

A pack trainer has one engine and the members in its slots. Members start, stop and are replaced at the ends
of epochs, and none of that affects what a member computes (docs/design.md, "The promise about bits"). It
trains until no job of its kind is left.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch

from slipstream.core.errors import UserError
from slipstream.core.storage import side_by_side
from slipstream.runs import resuming, run_folder, setup
from slipstream.runs.pack_session import SMALLEST, PackSession, Slot, prepared, with_idle
from slipstream.runs.tracking import Tracking
from slipstream.sweeps.plan.job import Job
from slipstream.training.loop import Watcher
from slipstream.training.member import FAILED, Member

if TYPE_CHECKING:
    from slipstream.data import Data
    from slipstream.training.interrupts import Interrupts

REFILL = 16  # a pack takes new members when 1/16 of its slots is free, because it pauses each time


class Listener(Protocol):
    """The requests and reports of a pack trainer to its worker."""

    def more(self) -> bool:
        """Return True if there may be more jobs of the pack's kind."""

    def take(self, count: int) -> list[Job]:
        """Claim up to `count` more jobs of the pack's kind for this pack trainer."""

    def busy(self, jobs: Sequence[Job]) -> None:
        """Return jobs whose folders another process still uses, so that they are tried later."""

    def verdicts(self, trained: Sequence[tuple[Job, Member]]) -> Mapping[int, tuple[str, str]]:
        """Return, after an epoch, status and reason of the members, by number, that must stop."""

    def ended(self, ends: Sequence[tuple[Job, str, float | None]]) -> None:
        """Handle the ends of members, with status and best value. Their files are on disk."""

    def warn(self, text: str) -> None:
        """Show a warning."""


@dataclass(frozen=True)
class Setting:
    """The settings that all members of a pack share.

    folds: the data by `setup.data_key`. size: maximum slots. packed: True if members are vectorized, even a
    last one alone. compile, threads: as in the trainer's settings. tracking: of the process.
    """

    directory: Path
    folds: Mapping[str, Data]
    device: torch.device
    size: int
    packed: bool
    compile: bool
    threads: int
    tracking: Tracking = field(default_factory=Tracking)


@dataclass
class JobSlot(Slot):
    """A slot with a job. A slot without a job is vacant, so another job may take it."""

    job: Job | None = None


class PackTrainer(PackSession[JobSlot]):
    """A trainer of jobs of one kind until none is left. It oversees its own training loop."""

    in_sweep = True

    def __init__(
        self,
        setting: Setting,
        jobs: Sequence[Job],
        listener: Listener,
        watcher: Watcher,
        interrupts: Interrupts,
    ) -> None:
        self.setting, self.listener, self.interrupts = setting, listener, interrupts
        self.watcher = watcher
        self.seconds_an_epoch, self._last = 0.0, time.monotonic()
        self.slots, self.loggers = self._enter(jobs), []
        try:
            if self.slots:
                slots = with_idle(self.slots) if setting.packed else self.slots
                super().__init__(slots, list(setting.folds.values()), setting.device, setting.tracking)
                for text in setup.warnings(self.members[0].config, self.engine):
                    listener.warn(text)
                self.begin(listener.warn)
        except BaseException:
            self.close()
            raise

    # The slots

    def _enter(self, jobs: Sequence[Job]) -> list[JobSlot]:
        """Return slots for jobs, except jobs whose folder is used by a worker that was considered dead."""
        found = [(job, slot) for job, slot in zip(jobs, side_by_side(self._slot, jobs), strict=True)]
        busy = [job for job, slot in found if slot is None]
        if busy:
            self.listener.busy(busy)
        return [slot for _, slot in found if slot is not None]

    def _slot(self, job: Job) -> JobSlot | None:
        """Lock the job's folder and find an earlier checkpoint. Return None if the folder is in use."""
        directory, warnings = self.setting.directory / str(job.number), list[str]()
        resume = (directory / run_folder.CONFIG).exists()
        with ExitStack() as stack:
            try:
                stack.enter_context(run_folder.claim(directory, resume=resume))
            except run_folder.Busy:
                return None
            saved = resuming.find(directory, warnings) if resume else None
            if saved is not None:  # a missing checkpoint needs no warning
                for text in warnings:
                    self.listener.warn(text)
            key = setup.data_key(job.config)
            data, fold = self.setting.folds[key], list(self.setting.folds).index(key)
            asked = job.config.trainer
            trainer = replace(asked, compile=self.setting.compile, threads=self.setting.threads)
            trainer = replace(trainer, observations=asked.observations is True)
            member = prepared(replace(job.config, trainer=trainer), directory, data, saved)
            return JobSlot(
                member, fold, job.overrides, tuple(job.values), saved, resume, stack.pop_all(), job
            )

    # Training

    def train(self) -> None:
        """Train until no job is left or until a signal."""
        while self.slots:
            self.advance([self.watcher], self.interrupts, self)
            self._end()
            if self.interrupts.received is not None:
                return
            self._refill()
            if not any(member.running for member in self.members):
                if all(slot.job is None for slot in self.slots):
                    return
                continue  # the new ones had already ended
            self._shrink()

    def verdicts(self, trained: Sequence[int]) -> Mapping[int, tuple[str, str]]:
        """Return the sweep's verdicts on the members that trained (as the loop's overseer)."""
        jobs = {job.number: k for k in trained if (job := self.slots[k].job) is not None}
        told = [(job, self.members[k]) for k in trained if (job := self.slots[k].job) is not None]
        return {jobs[number]: verdict for number, verdict in self.listener.verdicts(told).items()}

    def failed(self, member: Member, error: UserError) -> None:
        """End a member because of its own error (as the loop's overseer)."""
        member.status, member.reason = FAILED, str(error)

    def pauses(self) -> bool:
        """Return True if there is a slot to fill, or the pack should shrink (as the loop's overseer)."""
        now = time.monotonic()
        self.seconds_an_epoch, self._last = now - self._last, now
        running = sum(member.running for member in self.members)
        free = len(self.members) - running
        enough = free >= max(len(self.members) // REFILL, 1)
        return enough and (self.listener.more() or self._smaller(running) > 0)

    def _end(self) -> None:
        """Write the summaries of members that have ended, and free their slots."""
        ended = [
            k
            for k, slot in enumerate(self.slots)
            if slot.job is not None and not slot.member.running and slot.member.status != "interrupted"
        ]
        ends = []
        for k, result in zip(ended, self.conclude(ended), strict=True):
            slot = self.slots[k]
            assert slot.job is not None
            ends.append((slot.job, result.status, slot.member.best_value))
            self.loggers[k] = slot.job = None
            # Nobody claims an ended member, so its lock is no longer needed.
            run_folder.remove_lock(self.setting.directory / str(ends[-1][0].number))
            slot.lock.close()
        self.listener.ended(ends)

    def _refill(self) -> None:
        """Fill the free slots with waiting members, each from its start."""
        free = [k for k, slot in enumerate(self.slots) if slot.job is None]
        entered = self._enter(self.listener.take(len(free))) if free else []
        if entered:
            self.put(free[: len(entered)], entered)

    # Shrinking

    def _smaller(self, running: int) -> int:
        """Return the size to shrink to, a power of two, or 0 if shrinking does not pay."""
        size = max(SMALLEST, 1 << (running - 1).bit_length())
        if not running or not self.setting.packed or size > len(self.members) // 2:
            return 0
        left = max(m.config.trainer.max_epochs - m.epoch for m in self.members if m.running)
        saved = left * self.seconds_an_epoch * (1 - size / len(self.members))
        return size if saved > self.engine.price(size) else 0

    def _shrink(self) -> None:
        """Move the running members into a smaller engine."""
        running = [k for k, member in enumerate(self.members) if member.running]
        size = self._smaller(len(running))
        if not size:
            return
        vacant = [k for k, slot in enumerate(self.slots) if slot.job is None]
        self.keep(sorted([*running, *vacant[: size - len(running)]]))

    @property
    def unended(self) -> list[Job]:
        """Return the jobs in slots that have not ended."""
        return [slot.job for slot in self.slots if slot.job is not None]
