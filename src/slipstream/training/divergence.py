"""Divergence: find the update that made a member diverge, after the epoch in which it happened.

Within an epoch nothing is checked, masked or waited for; non-finite values stay within their member. A step
is a pure function and the epoch's initial state is still available, so the epoch is replayed with a check of
every step. The member ends with the state before the update at which it diverged, with the same bytes as if
every step had been checked.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from slipstream.core.types import Scalar
from slipstream.training.engine import Engine
from slipstream.training.epoch_plan import EpochPlan
from slipstream.training.evaluate import is_sound
from slipstream.training.member import DIVERGED, Member
from slipstream.training.model_spec import State
from slipstream.training.step import Batch, StepOutput


def sound_members(engine: Engine, state: State, seen: Sequence[StepOutput]) -> list[bool]:
    """Return True for each member that is finite after the given steps. Waits for the device."""
    norms = torch.stack([step.gradient_norm for step in seen], dim=-1)
    objectives = torch.stack([step.objective for step in seen], dim=-1)
    lifted = engine.pack.vmap(is_sound, 0, 0, 0, 0)
    return engine.pack.rows(lifted(norms, objectives, state.params, engine.evaluated(state)[0]))


def replay_epoch(
    engine: Engine,
    members: Sequence[Member],
    suspects: Sequence[int],
    base: State,
    state: State,
    plan: EpochPlan,
    steps: range,
    arguments: Sequence[tuple[Scalar, Scalar]],
) -> State:
    """Return `state` with every diverged suspect rolled back to before the update at which it diverged.

    base: the state before the first of `steps`. arguments: rate and number of each update of the epoch.
    Diverged members are marked with the step and the tensor.
    """
    pack, left, now = engine.pack, list(suspects), base
    for i in steps:
        after, seen = engine.step(now, plan.batches[i], *arguments[i])
        sound = torch.isfinite(seen.gradient_norm + seen.objective)
        for params in _weights(engine, after):
            sound = sound & torch.isfinite(params).all(-1)
        verdicts = pack.rows(sound)
        broken = [k for k in left if not verdicts[k]]
        for k in broken:
            what = first_nonfinite(engine, pack.member(now, k), plan.batches[i], k, arguments[i][1])
            number, epoch = members[k].epoch * engine.batching.steps + i + 1, members[k].epoch + 1
            members[k].status = DIVERGED
            members[k].reason = f"{what} at step {number} (epoch {epoch}); the update was not made"
        left = [k for k in left if k not in broken]
        if broken:
            state = pack.where([k in broken for k in range(pack.size)], now, state)
        if not left:
            break
        now = after
    return state


def _weights(engine: Engine, state: State) -> list[Tensor]:
    """Return the trained parameters and, if different, those to evaluate with."""
    evaluated = engine.evaluated(state)[0]
    return [state.params] if evaluated is state.params else [state.params, evaluated]


def first_nonfinite(engine: Engine, state: State, batch: Batch, k: int, t: Scalar) -> str:
    """Describe the first non-finite value in an update: the loss, or a named tensor's gradient.

    state: of member k. batch: of all members. t: the number of the update.
    """
    program = engine.program
    data, (whole,) = engine.source.take([batch])
    batch = engine.pack.member(whole, k)
    views = [view.detach().requires_grad_() for view in program.views(state.params)]
    numbers = program.numbers(engine.configs[k])
    indices, weights = torch.cat(batch.indices), torch.cat(batch.weights)
    key = program.call_key(engine.numbers, t, 0)
    outputs, _ = program.forward(views, state.buffers, data.inputs[indices], key)
    loss = program.losses(outputs, data.targets[indices], numbers) @ weights
    if not torch.isfinite(loss):
        return f"the loss was {loss.item()}"
    gradients = torch.autograd.grad(loss, views)
    for name, gradient in zip(program.layout.names, gradients, strict=True):
        if not torch.isfinite(gradient).all():
            return f"the gradient of {name} was not finite"
    if not torch.isfinite(torch.linalg.vector_norm(torch.cat([g.flatten() for g in gradients]))):
        return "the gradient's norm overflowed"
    return "the weights would have overflowed"
