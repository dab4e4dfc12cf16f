"""The training loop of one pack, from the first epoch or from a checkpoint to the end."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from slipstream.training.engine import Engine
from slipstream.training.interrupts import Interrupts
from slipstream.training.member import DIVERGED, INTERRUPTED, Member, as_values
from slipstream.training.plan import Plan
from slipstream.training.program import State
from slipstream.training.step import Norms

if TYPE_CHECKING:
    from slipstream.packs import Pack

Best = tuple[Tensor, dict[str, Tensor]]


@dataclass
class Progress:
    """Where a pack stands: all that a checkpoint has to hold besides the members' histories.

    epoch: how many are finished. outputs, norms: of the steps made since, one entry each.
    """

    state: State
    best: Best
    epoch: int = 0
    outputs: list[Tensor] = field(default_factory=list)
    norms: list[Norms] = field(default_factory=list)


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
    began, before = time.monotonic(), members[0].seconds
    while any(member.running for member in members):
        plan = engine.plan(progress.epoch)
        batches, first = plan.batches(), progress.epoch * steps
        rates = [member.rates(progress.epoch, steps) for member in members]
        lrs, counts = engine.rates(rates), engine.counts(first, steps)

        state, outputs, norms = progress.state, progress.outputs, progress.norms
        for i in range(len(outputs), steps):
            state, output, norm = engine.step(state, batches[i], lrs[i], counts[i])
            outputs.append(output)
            norms.append(norm)
            if interrupts.received is not None:
                break
        progress.state = state

        for member in members:
            member.seconds = before + time.monotonic() - began
        if len(outputs) < steps or (interrupts.received is not None and _last_moment(members)):
            _interrupt(members, interrupts)
            watcher.interrupted(progress)
            return
        finished = _finish_epoch(engine, members, progress, plan, rates, metrics)
        watcher.epoch(progress, finished)
        if interrupts.received is not None and any(member.running for member in members):
            _interrupt(members, interrupts)
            watcher.interrupted(progress)
            return


def _finish_epoch(
    engine: Engine,
    members: Sequence[Member],
    progress: Progress,
    plan: Plan,
    rates: Sequence[Any],
    metrics: Sequence[str],
) -> list[int]:
    """Measure, let every member decide, keep the best weights. The epoch's only wait for the device."""
    pack, state = engine.pack, progress.state
    params, buffers = engine.evaluated(state)
    train = engine.measure_epoch(plan, progress.outputs, metrics)
    names = [f"train/{name}" for name in ("loss", *metrics)]
    parts = [train, *(_column(values, pack) for values in zip(*progress.norms, strict=True))]
    names += ["train/gradient_norm", "train/update_norm"]
    if len(engine.examples["val"].inputs):
        parts.append(engine.measure("val", engine.predict(params, buffers, "val"), metrics))
        names += [f"val/{name}" for name in ("loss", *metrics)]
    alive = torch.stack([state.alive.double(), state.updates.double()], dim=-1)
    rows = pack.rows(torch.cat([*parts, alive], dim=-1).cpu())

    progress.epoch += 1
    finished, improved = [], []
    for k, (member, row) in enumerate(zip(members, rows, strict=True)):
        was_running = member.running
        better = False
        if was_running and not row[-2]:
            _diverge(engine, member, k, progress, plan, int(row[-1]))
        elif was_running:
            values = {"lr": float(rates[k][-1])} | as_values(names, row)
            step = progress.epoch * engine.batching.steps
            better = member.finish_epoch({"epoch": progress.epoch, "step": step} | values)
        improved.append(better)
        if was_running and not member.running:
            finished.append(k)
    if any(improved):
        progress.best = pack.where(improved, (params, buffers), progress.best)
    progress.outputs, progress.norms = [], []
    stopped = [not member.running for member in members]
    if any(stopped):
        still = torch.tensor([not stop for stop in stopped], device=state.alive.device)
        progress.state = state._replace(alive=state.alive & (still[0] if pack.alone else still))
    return finished


def _column(values: Sequence[Tensor], pack: Pack) -> Tensor:
    """The mean over an epoch of one value a step, [(K,)] each -> [(K,) 1]."""
    return torch.stack(list(values)).double().mean(dim=0).unsqueeze(-1)


def _diverge(engine: Engine, member: Member, k: int, progress: Progress, plan: Plan, made: int) -> None:
    """Say at which update the member stopped and what was not finite there."""
    batch = plan.batches()[made % engine.batching.steps]
    what = engine.culprit(progress.state, k, batch, made + 1)
    member.status = DIVERGED
    member.reason = f"{what} at step {made + 1} (epoch {progress.epoch}); the update was not made"


def _interrupt(members: Sequence[Member], interrupts: Interrupts) -> None:
    for member in members:
        if member.running:
            member.status, member.reason = INTERRUPTED, f"signal {interrupts.received}"
