"""The training loop of one pack, from the first epoch or from a checkpoint to the end."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from slipstream.training.divergence import examine, finite
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
    """An epoch as far as it was trained here: its plan, the rate and number of every update, the
    state `base` before the first of `steps`."""

    plan: Plan
    arguments: Sequence[tuple[Any, Any]]
    base: State
    steps: range


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
    steps = engine.batching.steps
    began, earlier = time.monotonic(), members[0].seconds
    while any(member.running for member in members):
        plan = engine.plan(progress.epoch)
        rates = [member.rates(progress.epoch, steps) for member in members]
        counts = engine.counts(progress.epoch * steps, steps)
        arguments = list(zip(engine.rates(rates), counts, strict=True))

        base, first = progress.state, len(progress.seen)
        state = before = base
        for i in range(first, steps):
            before = state
            state, seen = engine.step(state, plan.batches[i], *arguments[i])
            progress.seen.append(seen)
            if interrupts.received is not None:
                break

        for member in members:
            member.seconds = earlier + time.monotonic() - began
        here = Epoch(plan, arguments, base, range(first, len(progress.seen)))
        if len(progress.seen) == steps:
            update = torch.linalg.vector_norm(state.params - before.params, dim=-1, keepdim=True)
            finished = _finish_epoch(engine, members, progress, here, state, update, rates)
            watcher.epoch(progress, finished)
        else:
            sound = engine.pack.rows(finite(engine, state, progress.seen))
            _settle(engine, members, progress, here, state, [not row[0] for row in sound])
        if interrupts.received is not None and any(member.running for member in members):
            _interrupt(members, interrupts)
            watcher.interrupted(progress)
            return


def _finish_epoch(
    engine: Engine,
    members: Sequence[Member],
    progress: Progress,
    here: Epoch,
    state: State,
    update: Tensor,
    rates: Sequence[Any],
) -> list[int]:
    """Measure, let every member decide, keep the best weights. The epoch's only wait for the device.

    Returns the members that ended with this epoch.
    """
    metrics = members[0].config.trainer.metrics
    outputs, norms, _ = zip(*progress.seen, strict=True)
    evaluated = engine.evaluated(state)
    names = [f"train/{name}" for name in ("loss", *metrics)] + ["train/gradient_norm", "train/update_norm"]
    parts = [
        engine.measure_epoch(here.plan, outputs, metrics),
        torch.stack(norms, dim=-1).double().mean(dim=-1, keepdim=True),
        update.double(),
    ]
    if len(engine.examples["val"].inputs):
        parts.append(engine.measure("val", engine.predict(evaluated, "val"), metrics))
        names += [f"val/{name}" for name in ("loss", *metrics)]
    sound = finite(engine, state, progress.seen)
    rows = engine.pack.rows(torch.cat([*parts, sound], dim=-1))

    running = [k for k, member in enumerate(members) if member.running]
    _settle(engine, members, progress, here, state, [not row[-1] for row in rows])
    progress.epoch, progress.seen = progress.epoch + 1, []
    improved = [False] * len(members)
    for k in running:
        if members[k].running:
            values = {"optimizer.lr": float(rates[k][-1])} | as_values(names, rows[k][:-1])
            step = progress.epoch * engine.batching.steps
            improved[k] = members[k].finish_epoch({"epoch": progress.epoch, "step": step} | values)
    if any(improved):
        progress.best = engine.pack.where(improved, evaluated, progress.best)
    return [k for k in running if not members[k].running]


def _settle(
    engine: Engine,
    members: Sequence[Member],
    progress: Progress,
    here: Epoch,
    state: State,
    suspicious: Sequence[bool],
) -> None:
    """Take over the new state of the members that run. Others keep theirs, what broke goes back."""
    running = [member.running for member in members]
    suspects = [k for k, bad in enumerate(suspicious) if bad and running[k]]
    if not all(running):
        state = engine.pack.where(running, state, here.base)
    if suspects:
        state = examine(engine, members, suspects, here.base, state, here.plan, here.steps, here.arguments)
    progress.state = state


def _interrupt(members: Sequence[Member], interrupts: Interrupts) -> None:
    for member in members:
        if member.running:
            member.status, member.reason = INTERRUPTED, f"signal {interrupts.received}"
