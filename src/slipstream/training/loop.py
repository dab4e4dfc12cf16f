"""The training loop of one pack, from the first epoch or from a checkpoint to the end."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from slipstream.training.engine import Engine
from slipstream.training.interrupts import Interrupts
from slipstream.training.member import DIVERGED, INTERRUPTED, Member, as_values
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
    metrics = members[0].config.trainer.metrics
    steps = engine.batching.steps
    began, earlier = time.monotonic(), members[0].seconds
    while any(member.running for member in members):
        plan = engine.plan(progress.epoch)
        rates = [member.rates(progress.epoch, steps) for member in members]
        lrs, counts = engine.rates(rates), engine.counts(progress.epoch * steps, steps)

        state = before = progress.state
        for i in range(len(progress.seen), steps):
            before = state
            state, seen = engine.step(state, plan.batches[i], lrs[i], counts[i])
            progress.seen.append(seen)
            if interrupts.received is not None:
                break
        progress.state = state

        for member in members:
            member.seconds = earlier + time.monotonic() - began
        if len(progress.seen) < steps:
            _interrupt(members, interrupts)
            watcher.interrupted(progress)
            return
        finished = _finish_epoch(engine, members, progress, before, plan, rates, metrics)
        watcher.epoch(progress, finished)
        if interrupts.received is not None and any(member.running for member in members):
            _interrupt(members, interrupts)
            watcher.interrupted(progress)
            return


def _finish_epoch(
    engine: Engine,
    members: Sequence[Member],
    progress: Progress,
    before: State,
    plan: Plan,
    rates: Sequence[Any],
    metrics: Sequence[str],
) -> list[int]:
    """Measure, let every member decide, keep the best weights. The epoch's only wait for the device."""
    pack, state = engine.pack, progress.state
    params, buffers = engine.evaluated(state)
    outputs, norms, alive = zip(*progress.seen, strict=True)
    names = [f"train/{name}" for name in ("loss", *metrics)] + ["train/gradient_norm", "train/update_norm"]
    parts = [
        engine.measure_epoch(plan, outputs, metrics),
        torch.stack(norms, dim=-1).double().mean(dim=-1, keepdim=True),
        torch.linalg.vector_norm(state.params - before.params, dim=-1, keepdim=True).double(),
    ]
    if len(engine.examples["val"].inputs):
        parts.append(engine.measure("val", engine.predict(params, buffers, "val"), metrics))
        names += [f"val/{name}" for name in ("loss", *metrics)]
    made = torch.stack(alive, dim=-1).double().sum(dim=-1, keepdim=True)
    rows = pack.rows(torch.cat([*parts, made], dim=-1))

    progress.epoch += 1
    finished, improved = [], []
    for k, (member, row) in enumerate(zip(members, rows, strict=True)):
        was_running = member.running
        better = False
        if was_running and row[-1] < len(outputs):
            _diverge(engine, member, k, progress, plan, int(row[-1]))
        elif was_running:
            values = {"lr": float(rates[k][-1])} | as_values(names, row[:-1])
            step = progress.epoch * engine.batching.steps
            better = member.finish_epoch({"epoch": progress.epoch, "step": step} | values)
        improved.append(better)
        if was_running and not member.running:
            finished.append(k)
    if any(improved):
        progress.best = pack.where(improved, (params, buffers), progress.best)
    progress.seen = []
    stopped = [not member.running for member in members]
    if any(stopped):
        still = torch.tensor([not stop for stop in stopped], device=state.alive.device)
        progress.state = state._replace(alive=state.alive & (still[0] if pack.alone else still))
    return finished


def _diverge(engine: Engine, member: Member, k: int, progress: Progress, plan: Plan, made: int) -> None:
    """Say at which update the member stopped and what was not finite there."""
    what = engine.culprit(progress.state, k, plan.batches[made])
    step = (progress.epoch - 1) * engine.batching.steps + made + 1
    member.status = DIVERGED
    member.reason = f"{what} at step {step} (epoch {progress.epoch}); the update was not made"


def _interrupt(members: Sequence[Member], interrupts: Interrupts) -> None:
    for member in members:
        if member.running:
            member.status, member.reason = INTERRUPTED, f"signal {interrupts.received}"
