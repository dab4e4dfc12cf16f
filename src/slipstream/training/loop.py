"""The training loop of a pack, from the start or a checkpoint to the end."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from slipstream.core.errors import UserError
from slipstream.core.types import Scalar
from slipstream.training.divergence import replay_epoch, sound_members
from slipstream.training.engine import Best, Engine
from slipstream.training.epoch_plan import EpochPlan
from slipstream.training.interrupts import Abandoned, Interrupts
from slipstream.training.member import INTERRUPTED, Member, Record, as_values
from slipstream.training.model_spec import State
from slipstream.training.step import StepOutput


@dataclass
class Progress:
    """The progress of a pack: everything that a checkpoint needs besides the members' histories.

    seen: the outputs of the finished steps of the members' current epochs.
    """

    state: State
    best: Best
    seen: list[StepOutput] = field(default_factory=list)


@dataclass(frozen=True)
class Epoch:
    """The updates of an epoch made in one call.

    rates: of every member [S]. arguments: rate and number of every update. steps: the updates made;
    base, state: the state before the first and after the last. before: the parameters before the last.
    """

    plan: EpochPlan
    rates: Sequence[np.ndarray]
    arguments: Sequence[tuple[Scalar, Scalar]]
    steps: range
    base: State
    before: Tensor
    state: State


class Watcher(Protocol):
    """An observer of a pack, such as a screen, a logger or checkpoints. It does not affect training."""

    def epoch(self, progress: Progress, finished: Sequence[int]) -> None:
        """Handle the end of an epoch; `finished` are the members that stopped with it."""

    def interrupted(self, progress: Progress, broken: Sequence[int] = ()) -> None:
        """Handle an early end of the run, which can be resumed from here.

        broken: the members that diverged in the unfinished epoch.
        """


class Overseer(Protocol):
    """A controller, such as a sweep, that may stop members or pause the pack at the end of an epoch."""

    def verdicts(self, trained: Sequence[int]) -> Mapping[int, tuple[str, str]]:
        """Return status and reason for each of these members that must stop."""

    def failed(self, member: Member, error: UserError) -> None:
        """Handle an error of one member. Without an overseer, the error is raised."""

    def pauses(self) -> bool:
        """Return True to leave the loop while members are still running."""


def train_pack(
    engine: Engine,
    members: Sequence[Member],
    progress: Progress,
    watchers: Sequence[Watcher],
    interrupts: Interrupts,
    overseer: Overseer | None = None,
    limit: int | None = None,
) -> None:
    """Train until every member has stopped, a signal arrives, the overseer pauses or the limit is reached.

    Members may be at different epochs. Results are in members and progress. limit: updates, counted from
    the start of the runs, after which all are left, within an epoch too; they are still running.
    """
    try:
        _train_pack(engine, members, progress, watchers, interrupts, overseer, limit)
    except Abandoned:  # during compilation, before anything has changed
        _interrupt(members, progress, watchers, interrupts)


def _train_pack(
    engine: Engine,
    members: Sequence[Member],
    progress: Progress,
    watchers: Sequence[Watcher],
    interrupts: Interrupts,
    overseer: Overseer | None,
    limit: int | None,
) -> None:
    began = time.monotonic()
    earlier = [member.seconds for member in members]
    while any(member.running for member in members):
        made, broken = len(progress.seen), list[int]()
        stop = _last_update(engine, members, limit)
        if stop <= made:
            return
        epoch = _train_epoch(engine, members, progress, interrupts, stop)
        passed = time.monotonic() - began
        for member, before in zip(members, earlier, strict=True):
            if member.running:
                member.seconds = before + passed
        if len(progress.seen) == engine.batching.steps:
            try:
                finished = _finish_epoch(engine, members, progress, epoch, overseer)
            except Abandoned:  # the report was not compiled yet: repeat this epoch's updates
                del progress.seen[made:]
                raise
            for watcher in watchers:
                watcher.epoch(progress, finished)
        else:
            running = [k for k, member in enumerate(members) if member.running]
            _commit_state(engine, members, progress, epoch, sound_members(engine, epoch.state, progress.seen))
            broken = [k for k in running if not members[k].running]
        del epoch  # otherwise its states stay in memory during the next one
        if interrupts.received is not None and (broken or any(member.running for member in members)):
            _interrupt(members, progress, watchers, interrupts, broken)
            return
        if overseer is not None and overseer.pauses():
            return


def _last_update(engine: Engine, members: Sequence[Member], limit: int | None) -> int:
    """Return the update of the current epochs at which they are left: their end, unless the limit is near."""
    steps = engine.batching.steps
    if limit is None:
        return steps
    return min(steps, limit - steps * max(member.epoch for member in members if member.running))


def _train_epoch(
    engine: Engine, members: Sequence[Member], progress: Progress, interrupts: Interrupts, stop: int
) -> Epoch:
    """Make the remaining updates of the members' current epochs, up to `stop` or a signal."""
    steps = engine.batching.steps
    plan = engine.plan([member.epoch if member.running else None for member in members])
    rates = [member.rates(steps) for member in members]
    counts = engine.counts([member.epoch * steps for member in members], steps)
    arguments = list(zip(engine.rates(rates), counts, strict=True))

    first = len(progress.seen)
    state, before = progress.state, progress.state.params
    strides = [slice(i, min(i + engine.stride, stop)) for i in range(first, stop, engine.stride)]
    with engine.source.ahead([plan.batches[here] for here in strides]):
        for here in strides:
            state, seen, before = engine.advance(state, plan.batches[here], arguments[here])
            progress.seen += engine.keep(len(progress.seen), seen)
            if interrupts.received is not None:
                break
    if len(progress.seen) == steps:
        state = engine.close_epoch(state, [member.epoch + 1 for member in members])
    made = range(first, len(progress.seen))
    return Epoch(plan, rates, arguments, made, progress.state, before, state)


def _finish_epoch(
    engine: Engine,
    members: Sequence[Member],
    progress: Progress,
    epoch: Epoch,
    overseer: Overseer | None,
) -> list[int]:
    """Evaluate, let every member decide, and keep the best weights. This is the only device sync per epoch.

    Returns the members that ended with this epoch.
    """
    evaluated = engine.evaluated(epoch.state)
    report = engine.report(epoch.plan, progress.seen, epoch.state, epoch.before)
    penalties = engine.penalty(epoch.state)
    rows = engine.pack.rows(report if penalties is None else torch.cat([penalties[..., None], report], -1))
    if penalties is not None:
        for member, row in zip(members, rows, strict=True):
            member.penalty = row.pop(0)

    running = [k for k, member in enumerate(members) if member.running]
    due = [k for k in running if rows[k][-1] > 0 and engine.due(members[k].epoch + 1)]
    if due:
        _observe(engine, members, due, progress.seen, epoch)
    _commit_state(engine, members, progress, epoch, [row[-1] > 0 for row in rows])
    progress.seen = []
    improved = [False] * len(members)
    for k in running:
        member = members[k]
        if member.running:
            values = {"optimizer.lr": float(epoch.rates[k][-1])} | as_values(engine.reported, rows[k][:-1])
            step = (member.epoch + 1) * engine.batching.steps
            improved[k] = _record_epoch(member, {"epoch": member.epoch + 1, "step": step} | values, overseer)
    if overseer is not None:
        for k, (status, reason) in overseer.verdicts(running).items():
            if members[k].running:
                members[k].status, members[k].reason = status, reason
    if any(improved):
        progress.best = engine.pack.where(improved, evaluated, progress.best)
    return [k for k in running if not members[k].running]


def _observe(
    engine: Engine, members: Sequence[Member], due: Sequence[int], seen: Sequence[StepOutput], epoch: Epoch
) -> None:
    """Keep what the layers of some members look like after the epoch."""
    drawn = [k for k in due if engine.draws(k, members[k].epoch + 1)]
    observed, observer = engine.observe(epoch.state, epoch.before, seen, samples=bool(drawn)), engine.observer
    rows = engine.pack.rows(observed.values)
    for k in due:
        values = as_values(observer.names, rows[k])
        values["updates/lr_factor"] = members[k].lr_factor(epoch.rates[k])
        own = engine.pack.member(observed.samples, k).cpu().numpy() if k in drawn else None
        samples = {} if own is None else dict(zip(observer.sampled, own, strict=True))
        members[k].observe(values, engine.batching.steps, samples)


def _record_epoch(member: Member, record: Record, overseer: Overseer | None) -> bool:
    """Record a member's finished epoch. Returns True if it was its best."""
    if overseer is None:
        return member.finish_epoch(record)
    try:
        return member.finish_epoch(record)
    except UserError as error:
        overseer.failed(member, error)
        return False


def _commit_state(
    engine: Engine, members: Sequence[Member], progress: Progress, epoch: Epoch, sound: Sequence[bool]
) -> None:
    """Commit the new state of running members. Others keep theirs; diverged ones are rolled back."""
    running = [member.running for member in members]
    suspects = [k for k, good in enumerate(sound) if running[k] and not good]
    state = epoch.state
    if not all(running):
        state = engine.pack.where(running, state, epoch.base)
    if suspects:
        plan, steps, arguments = epoch.plan, epoch.steps, epoch.arguments
        state = replay_epoch(engine, members, suspects, epoch.base, state, plan, steps, arguments)
    progress.state = state


def _interrupt(
    members: Sequence[Member],
    progress: Progress,
    watchers: Sequence[Watcher],
    interrupts: Interrupts,
    broken: Sequence[int] = (),
) -> None:
    """Stop all running members. broken: the members that diverged in the unfinished epoch."""
    for member in members:
        if member.running:
            member.status, member.reason = INTERRUPTED, interrupts.name
    for watcher in watchers:
        watcher.interrupted(progress, broken)
