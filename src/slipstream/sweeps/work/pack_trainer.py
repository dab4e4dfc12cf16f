"""A pack whose slots are refilled as they become free, and which shrinks when no jobs are left.

A pack trainer has one engine and the members in its slots. Members begin, stop and are replaced at the ends
of epochs; what a member computes depends on none of that (docs/design.md, "The promise about bits"). It
trains until no job of its kind is left.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch

from slipstream.core.errors import UserError
from slipstream.core.storage import side_by_side
from slipstream.runs import resuming, run_folder, setup, summary
from slipstream.runs.recorder import Recorder, graph_of
from slipstream.sweeps.plan.job import Job
from slipstream.training.engine import Engine
from slipstream.training.loop import Progress, train_pack
from slipstream.training.member import FAILED, IDLE, Member
from slipstream.training.snapshot import Taken, enter

if TYPE_CHECKING:
    from slipstream.data import Data
    from slipstream.loggers.tensorboard import TensorBoard
    from slipstream.training.interrupts import Interrupts

SMALLEST = 2  # slots of a pack: a member alone is rounded differently
REFILL = 16  # a pack takes new members when a 16th of its slots is free: each time it pauses


class Listener(Protocol):
    """The requests and reports of a pack trainer to its worker."""

    def more(self) -> bool:
        """Return True if there may be more jobs of the pack's kind."""

    def take(self, count: int) -> list[Job]:
        """Claim up to `count` more jobs of the pack's kind for this pack trainer."""

    def busy(self, jobs: Sequence[Job]) -> None:
        """Put back jobs whose folders another process still uses, to be tried later."""

    def verdicts(self, trained: Sequence[tuple[Job, Member]]) -> Mapping[int, tuple[str, str]]:
        """Return, after an epoch, status and reason of the members, by number, that must stop."""

    def epoch(self, pack: PackTrainer) -> None:
        """Handle an epoch that all running members have finished."""

    def ended(self, ends: Sequence[tuple[Job, str, float | None]]) -> None:
        """Handle the ends of members, with status and best value; their files are on disk."""

    def warn(self, text: str) -> None:
        """Show a warning."""


@dataclass(frozen=True)
class Setting:
    """The settings that all members of a pack share.

    folds: the data by `setup.data_key`. size: maximum slots. packed: True if members are vectorized, even a
    last one alone. compile, threads: as in the trainer's settings.
    """

    directory: Path
    folds: Mapping[str, Data]
    device: torch.device
    size: int
    packed: bool
    compile: bool
    threads: int


@dataclass
class Slot:
    """A slot of a pack: its job, with the lock on its folder; empty if job is None."""

    job: Job | None
    member: Member
    fold: int
    saved: Taken | None = None
    resume: bool = False
    lock: ExitStack = field(default_factory=ExitStack)

    @property
    def vacant(self) -> bool:
        """Return True if another job may take it."""
        return self.job is None


class PackTrainer:
    """A trainer of jobs of one kind until none is left. It is the overseer of its own training loop."""

    def __init__(
        self, setting: Setting, jobs: Sequence[Job], listener: Listener, interrupts: Interrupts
    ) -> None:
        self.setting, self.listener, self.interrupts = setting, listener, interrupts
        self.slots: list[Slot] = []
        self.loggers: list[TensorBoard | None] = []
        self.seconds_an_epoch, self._last = 0.0, time.monotonic()
        try:
            self.slots = self._enter(jobs)
            if self.slots:
                self._begin([*self.slots, *self._idle(self.slots)])
        except BaseException:
            self.close()
            raise

    # The slots

    def _enter(self, jobs: Sequence[Job]) -> list[Slot]:
        """Return slots for jobs, except those whose folder is in use by a worker that was considered dead."""
        found = [(job, slot) for job, slot in zip(jobs, side_by_side(self._slot, jobs), strict=True)]
        busy = [job for job, slot in found if slot is None]
        if busy:
            self.listener.busy(busy)
        return [slot for _, slot in found if slot is not None]

    def _slot(self, job: Job) -> Slot | None:
        """Lock the job's folder and find what an earlier process left; None if it is in use."""
        directory, warnings = self.setting.directory / str(job.number), list[str]()
        lock = ExitStack()
        resume = (directory / run_folder.CONFIG).exists()
        try:
            lock.enter_context(run_folder.claim(directory, resume=resume))
        except run_folder.Busy:
            return None
        saved = resuming.find(directory, warnings) if resume else None
        if saved is not None:  # a missing one needs no warning
            for text in warnings:
                self.listener.warn(text)
        key = setup.data_key(job.config)
        data, fold = self.setting.folds[key], list(self.setting.folds).index(key)
        trainer = replace(job.config.trainer, compile=self.setting.compile, threads=self.setting.threads)
        config = setup.resolve(replace(job.config, trainer=trainer), data, None)
        resuming.require_same_data(config, data, saved)
        return Slot(job, Member(config, directory), fold, saved, resume, lock=lock)

    def _idle(self, taken: Sequence[Slot]) -> list[Slot]:
        """Return empty slots, as many as a pack needs at least."""
        missing = SMALLEST - len(taken) if self.setting.packed else 0
        first = self.slots[0]
        return [
            Slot(None, Member(first.member.config, None, status=IDLE), first.fold) for _ in range(missing)
        ]

    def _begin(self, slots: list[Slot]) -> None:
        """Build the engine for these slots and begin, each member from its saved progress."""
        self.slots = slots
        self.members = [slot.member for slot in slots]
        configs = [member.config for member in self.members]
        folds = [slot.fold for slot in slots]
        self.engine = Engine(configs, list(self.setting.folds.values()), self.setting.device, folds)
        for text in setup.warnings(configs[0], self.engine):
            self.listener.warn(text)
        self.progress = resuming.begin(self.engine, self.members, [slot.saved for slot in slots])
        logger = configs[0].logger
        if logger.name == "tensorboard" and logger.settings["graph"]:
            graph_of(self.engine)  # kept for all, and must not be made in threads
        self.loggers = side_by_side(self._open, range(len(slots)))
        self.recorder = Recorder(
            self.engine, self.members, self.loggers, self.listener.warn, summary.conditions
        )

    def _open(self, k: int) -> TensorBoard | None:
        slot = self.slots[k]
        slot.saved = None  # its tensors are in the state now
        if slot.job is None:
            return None
        job, swept = slot.job, tuple(slot.job.values)
        return setup.open_member(slot.member, job.overrides, self.engine, k, resume=slot.resume, swept=swept)

    # Training

    def train(self) -> None:
        """Train until no job is left or until a signal."""
        while self.slots:
            train_pack(self.engine, self.members, self.progress, self, self.interrupts, self)
            self._conclude()
            if self.interrupts.received is not None:
                return
            self._refill()
            if not any(member.running for member in self.members):
                if all(slot.vacant for slot in self.slots):
                    return
                continue  # the new ones had already ended
            self._shrink()

    def epoch(self, progress: Progress, finished: Sequence[int]) -> None:
        """Record the epoch (as the loop's watcher)."""
        self.recorder.epoch(progress, finished)
        now = time.monotonic()
        self.seconds_an_epoch, self._last = now - self._last, now
        self.listener.epoch(self)

    def interrupted(self, progress: Progress, broken: Sequence[int] = ()) -> None:
        """Save what was running, and what diverged in the unfinished epoch (as the loop's watcher)."""
        self.recorder.interrupted(progress, broken)

    def verdicts(self, trained: Sequence[int]) -> Mapping[int, tuple[str, str]]:
        """Return the sweep's verdicts on the members that trained (as the loop's overseer)."""
        jobs = {job.number: k for k in trained if (job := self.slots[k].job) is not None}
        told = [(job, self.members[k]) for k in trained if (job := self.slots[k].job) is not None]
        return {jobs[number]: verdict for number, verdict in self.listener.verdicts(told).items()}

    def failed(self, member: Member, error: UserError) -> None:
        """End a member by its own error (as the loop's overseer)."""
        member.status, member.reason = FAILED, str(error)

    def pauses(self) -> bool:
        """Return True if there is a slot to fill, or the pack should shrink (as the loop's overseer)."""
        running = sum(member.running for member in self.members)
        free = len(self.members) - running
        enough = free >= max(len(self.members) // REFILL, 1)
        return enough and (self.listener.more() or self._smaller(running) > 0)

    def _conclude(self) -> None:
        """Write the summaries of members that have ended, and free their slots."""
        ended = [
            k
            for k, slot in enumerate(self.slots)
            if slot.job is not None and not slot.member.running and slot.member.status != "interrupted"
        ]
        results = summary.conclude(
            self.engine, self.members, ended, self.progress, self.loggers, 0, chosen=False
        )
        ends = []
        for k, result in zip(ended, results, strict=True):
            slot = self.slots[k]
            assert slot.job is not None
            ends.append((slot.job, result.status, slot.member.best_value))
            self.loggers[k] = slot.job = None
            # Nobody claims an ended member: its lock is no longer needed.
            run_folder.remove_lock(self.setting.directory / str(ends[-1][0].number))
            slot.lock.close()
        self.listener.ended(ends)

    def _refill(self) -> None:
        """Fill the free slots with waiting members, each from its beginning."""
        free = [k for k, slot in enumerate(self.slots) if slot.vacant]
        entered = self._enter(self.listener.take(len(free))) if free else []
        if not entered:
            return
        pack, filled = self.engine.pack, free[: len(entered)]
        for k, slot in zip(filled, entered, strict=True):
            self.slots[k], self.members[k] = slot, slot.member
        configs, folds = [slot.member.config for slot in entered], [slot.fold for slot in entered]
        self.engine.place(filled, configs, folds)
        trees = [enter(self.engine, self.members[k], k, self.slots[k].saved) for k in filled]
        self.progress.state = pack.put(self.progress.state, filled, [state for state, _ in trees])
        self.progress.best = pack.put(self.progress.best, filled, [best for _, best in trees])
        for k, logger in zip(filled, side_by_side(self._open, filled), strict=True):
            self.loggers[k] = logger

    # Shrinking

    def _smaller(self, running: int) -> int:
        """Return the size to shrink to, a power of two; 0 if that does not pay."""
        size = max(SMALLEST, 1 << (running - 1).bit_length())
        if not running or not self.setting.packed or size > len(self.members) // 2:
            return 0
        left = max(m.config.trainer.max_epochs - m.epoch for m in self.members if m.running)
        saved = left * self.seconds_an_epoch * (1 - size / len(self.members))
        return size if saved > self.engine.price(size) else 0

    def _shrink(self) -> None:
        """Move those that still run into a smaller engine."""
        running = [k for k, member in enumerate(self.members) if member.running]
        size = self._smaller(len(running))
        if not size:
            return
        vacant = [k for k, slot in enumerate(self.slots) if slot.vacant]
        kept = sorted([*running, *vacant[: size - len(running)]])
        pack, progress = self.engine.pack, self.progress
        self.progress = Progress(pack.select(progress.state, kept), pack.select(progress.best, kept))
        self.slots = [self.slots[k] for k in kept]
        self.members = [self.members[k] for k in kept]
        self.loggers = [self.loggers[k] for k in kept]
        configs, folds = [m.config for m in self.members], [slot.fold for slot in self.slots]
        self.engine = Engine(configs, list(self.setting.folds.values()), self.setting.device, folds)
        self.recorder.move(self.engine, self.members, self.loggers)

    # Ending

    @property
    def unended(self) -> list[Job]:
        """Return the jobs in slots that have not ended."""
        return [slot.job for slot in self.slots if slot.job is not None]

    def save(self) -> None:
        """Save the progress of all running members at the end of their last epoch."""
        self.progress.seen = []
        self.recorder.save(self.progress)

    def close(self) -> None:
        """Release files and folders, whatever happened."""
        for logger in self.loggers:
            if logger is not None:
                with suppress(OSError):
                    logger.close()
        for slot in self.slots:
            slot.lock.close()
