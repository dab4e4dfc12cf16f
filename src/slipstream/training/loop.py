"""The training loop of one pack, from the first epoch or from a checkpoint to the end."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from slipstream.training.divergence import examine, sound_members
from slipstream.training.engine import Engine
from slipstream.training.interrupts import Interrupts
from slipstream.training.member import INTERRUPTED, Member, as_values
from slipstream.training.plan import Plan
from slipstream.training.program import State
from slipstream.training.step import Seen

Best = tuple[Tensor, dict[str, Tensor]]


@dataclass
class Progress:
    """Where a pack stands: all that a checkpoint has to hold besides the members' histories.

    epoch: how many are finished. seen: what the steps made since have left, one entry each.
    """

    state: State
    best: Best
    epoch: int = 0
    seen: list[Seen] = field(default_factory=list)


@dataclass(frozen=True)
class Epoch:
    """An epoch as far as it was trained here.

    rates: of every member [S]. arguments: rate and number of every update. steps: those made here;
    base, state: the state before the first of them and after the last. before: the parameters
    before the last.
    """

    plan: Plan
    rates: Sequence[Any]
    arguments: Sequence[tuple[Any, Any]]
    steps: range
    base: State
    before: Tensor
    state: State


class Watcher(Protocol):
    """What is told of a pack's progress: screens, loggers and checkpoints. It changes nothing."""

    def epoch(self, progress: Progress, finished: Sequence[int]) -> None:
        """An epoch is over; `finished` are the members that stopped with it."""

    def interrupted(self, progress: Progress) -> None:
        """The run ends early and can be resumed from here."""


def train_pack(
    engine: Engine, members: Sequence[Member], progress: Progress, watcher: Watcher, interrupts: Interrupts
) -> None:
    """Train until every member has stopped or a signal came. Results are in members and progress."""
    began, earlier, settled = time.monotonic(), members[0].seconds, False
    with ExitStack() as stack:
        while any(member.running for member in members):
            epoch = _train_epoch(engine, members, progress, interrupts)
            for member in members:
                member.seconds = earlier + time.monotonic() - began
            if len(progress.seen) == engine.batching.steps:
                finished = _finish_epoch(engine, members, progress, epoch)
                watcher.epoch(progress, finished)
            else:
                _settle(engine, members, progress, epoch, sound_members(engine, epoch.state, progress.seen))
            if interrupts.received is not None and any(member.running for member in members):
                _interrupt(members, interrupts)
                watcher.interrupted(progress)
                return
            if not settled:
                stack.enter_context(engine.settled())
                settled = True


def _train_epoch(
    engine: Engine, members: Sequence[Member], progress: Progress, interrupts: Interrupts
) -> Epoch:
    """Make the updates of the current epoch, or what is left of it, until its end or a signal."""
    steps = engine.batching.steps
    plan = engine.plan(progress.epoch)
    rates = [member.rates(progress.epoch, steps) for member in members]
    counts = engine.counts(progress.epoch * steps, steps)
    arguments = list(zip(engine.rates(rates), counts, strict=True))

    first = len(progress.seen)
    state, before = progress.state, progress.state.params
    for i in range(first, steps, engine.stride):
        here = slice(i, i + engine.stride)
        state, seen, before = engine.advance(state, plan.batches[here], arguments[here])
        progress.seen += seen
        if interrupts.received is not None:
            break
    made = range(first, len(progress.seen))
    return Epoch(plan, rates, arguments, made, progress.state, before, state)


def _finish_epoch(engine: Engine, members: Sequence[Member], progress: Progress, epoch: Epoch) -> list[int]:
    """Measure, let every member decide, keep the best weights. The epoch's only wait for the device.

    Returns the members that ended with this epoch.
    """
    evaluated = engine.evaluated(epoch.state)
    rows = engine.pack.rows(engine.report(epoch.plan, progress.seen, epoch.state, epoch.before))

    running = [k for k, member in enumerate(members) if member.running]
    _settle(engine, members, progress, epoch, [row[-1] > 0 for row in rows])
    progress.epoch, progress.seen = progress.epoch + 1, []
    improved = [False] * len(members)
    for k in running:
        if members[k].running:
            values = {"optimizer.lr": float(epoch.rates[k][-1])} | as_values(engine.reported, rows[k][:-1])
            step = progress.epoch * engine.batching.steps
            improved[k] = members[k].finish_epoch({"epoch": progress.epoch, "step": step} | values)
    if any(improved):
        progress.best = engine.pack.where(improved, evaluated, progress.best)
    return [k for k in running if not members[k].running]


def _settle(
    engine: Engine, members: Sequence[Member], progress: Progress, epoch: Epoch, sound: Sequence[bool]
) -> None:
    """Take over the new state of the members that run. Others keep theirs, what broke goes back."""
    running = [member.running for member in members]
    suspects = [k for k, good in enumerate(sound) if running[k] and not good]
    state = epoch.state
    if not all(running):
        state = engine.pack.where(running, state, epoch.base)
    if suspects:
        plan, steps, arguments = epoch.plan, epoch.steps, epoch.arguments
        state = examine(engine, members, suspects, epoch.base, state, plan, steps, arguments)
    progress.state = state


def _interrupt(members: Sequence[Member], interrupts: Interrupts) -> None:
    for member in members:
        if member.running:
            member.status, member.reason = INTERRUPTED, interrupts.name
