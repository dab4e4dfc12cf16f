"""A training step of one member, as a function without hidden state.

    step(state, data, batch, lr, t, numbers) -> (state, seen)

A pack is `torch.vmap` of the same function (pack.py). Regularizers are called at their places: on the
targets, the loss, the gradient, the update, the new weights, the average.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from slipstream.core import random
from slipstream.core.types import Function, Numbers, Scalar, Tree, UpdateContext
from slipstream.training.model_spec import ModelSpec, State, at_update

PIECE = 4096  # numbers that inductor sums up in a register


class Examples(NamedTuple):
    """A split on the device: inputs [N, ...], targets [N, ...]."""

    inputs: Tensor
    targets: Tensor


class Part(NamedTuple):
    """A split on the device, with everything that metrics need.

    inputs, targets: as in Examples. metric_targets [N, ...]: the targets for metrics; for regression, float64
    in original units. weights [N]: of the examples in updates. counts [N]: their weights in metrics.
    """

    inputs: Tensor
    targets: Tensor
    metric_targets: Tensor
    weights: Tensor
    counts: Tensor

    @property
    def examples(self) -> Examples:
        """The inputs and targets, which a step needs."""
        return Examples(self.inputs, self.targets)

    def each(self, function: Callable[[Tensor], Tensor]) -> Part:
        """Apply a function to every tensor, only once if fields share one."""
        made = {id(tensor): function(tensor) for tensor in self}
        return Part(*(made[id(tensor)] for tensor in self))


class Batch(NamedTuple):
    """The examples of an update, and their weights.

    indices, weights: A micro-batches of [B] whose gradients are added; the weights sum to 1 overall.
    """

    indices: tuple[Tensor, ...]
    weights: tuple[Tensor, ...]


class StepOutput(NamedTuple):
    """The output of a step, evaluated at the end of the epoch.

    outputs: [A * B, C], or [A * B, E, C] of an ensemble; if examples are mixed, their targets follow the
    outputs (`ModelSpec.concat_targets`). gradient_norm: the two-norm of the original gradient. objective:
    the loss with its penalties. The latter two are scalars and show whether everything was finite: nothing
    is checked within an epoch (divergence.py).
    """

    outputs: Tensor
    gradient_norm: Tensor
    objective: Tensor


def rows_of(examples: Tensor, indices: Tensor) -> Tensor:
    """Select examples [B, ...] from [N, ...].

    This uses an embedding, because under vmap `index_select` with different indices per member becomes an
    elementwise gather, which took two fifths of a small network's step.
    """
    flat = examples.view(len(examples), -1)
    return torch.embedding(flat, indices).view(-1, *examples.shape[1:])


def two_norm(vector: Tensor) -> Tensor:
    """Return the two-norm of [P], for compiled code.

    It sums in pieces, because inductor keeps the running total of a longer sum in memory, which took a
    quarter of Adam's update.
    """
    pieces = len(vector) // PIECE
    if not pieces:
        norm: Tensor = torch.linalg.vector_norm(vector)
        return norm
    whole, rest = vector.split([pieces * PIECE, len(vector) - pieces * PIECE])
    norm = (whole.view(pieces, PIECE).square().sum(-1).sum() + rest.square().sum()).sqrt()
    return norm


Step = Callable[..., tuple[State, StepOutput]]
Gradient = Callable[..., tuple[Tensor, Tensor, Tree]]


def make_step(
    program: ModelSpec,
    mask: Tensor,
    gradient_of: Gradient,
    lr_factors: Tensor | None = None,
    norm_of: Callable[[Tensor], Tensor] = torch.linalg.vector_norm,
) -> Step:
    """Build the step of a model specification. `gradient_of(f, params, ...)` returns (df/dparams, f, aux).

    mask [P]: 1 for weights. lr_factors [P]: factors on the updates, or None. norm_of: the two-norm.
    """

    def objective(
        params: Tensor,
        buffers: dict[str, Tensor],
        x: Tensor,
        y: Tensor,
        weights: Tensor,
        numbers: Numbers,
        key: random.Key | None,
    ) -> tuple[Tensor, tuple[Tensor, dict[str, Tensor]]]:
        outputs, buffers = program.forward(program.views(params), buffers, x, key)
        value = program.losses(outputs, y, numbers) @ weights
        for choice in program.hooks["penalty"]:
            value = value + choice.function(params * mask, **numbers[choice.name]) / program.accumulate
        for name in program.activities:
            value = value + buffers[name] / program.accumulate
        return value, (outputs, buffers)

    def gradient(
        state: State, data: Examples, batch: Batch, t: Scalar, numbers: Numbers
    ) -> tuple[Tensor, Tensor, dict[str, Tensor], Tensor]:
        buffers, parts = state.buffers, []
        for part, (indices, weights) in enumerate(zip(batch.indices, batch.weights, strict=True)):
            x, y = rows_of(data.inputs, indices), rows_of(data.targets, indices)
            if program.augmentations:
                key = random.fold(at_update(numbers["keys"]["batch"], t), part << 12)
                x, y = program.augment(x, y, key, numbers)
            mixed = y
            for choice in program.hooks["targets"]:
                y = choice.function(y, len(program.target.classes), **numbers[choice.name])
            key_of_call = program.call_key(numbers, t, part)
            g, value, (outputs, buffers) = gradient_of(
                objective, state.params, buffers, x, y, weights, numbers, key_of_call
            )
            if program.mixes:
                outputs = program.concat_targets(outputs, mixed)
            parts.append((g, value, outputs))
        if len(parts) == 1:
            return g, value, buffers, outputs
        gradients, values, batches = zip(*parts, strict=True)
        return torch.stack(gradients).sum(0), torch.stack(values).sum(), buffers, torch.cat(batches)

    def step(
        state: State, data: Examples, batch: Batch, lr: Scalar, t: Scalar, numbers: Numbers
    ) -> tuple[State, StepOutput]:
        g, value, buffers, outputs = gradient(state, data, batch, t, numbers)
        norm = norm_of(g)
        for choice in program.hooks["gradient"]:
            keyed = (at_update(numbers["keys"][choice.name], t), t) if choice.part.traits.keyed else ()
            g = choice.function(g, *keyed, **numbers[choice.name])

        at = UpdateContext(t, state.params, program.layout)
        delta, rule = program.optimizer.function(g, state.opt_state, at, lr=lr, **numbers["optimizer"])
        for choice in program.hooks["decay"]:
            delta = delta + choice.function(state.params * mask, lr, **numbers[choice.name])
        params = state.params + (delta if lr_factors is None else delta * lr_factors)
        for choice in program.hooks["proximal"]:
            params = choice.function(params, mask, lr, **numbers[choice.name])
        for choice in program.hooks["constraint"]:
            params = choice.function(params, program.layout, **numbers[choice.name])

        kept = dict(state.regularizer_state)
        for choice in program.hooks["follow"]:
            params, kept[choice.name] = choice.function(params, kept[choice.name], t, **numbers[choice.name])
        for choice in program.hooks["mask"]:
            params = params * kept[choice.name]
        for choice in program.hooks["average"]:
            both = program.with_statistics(params, buffers)
            kept[choice.name] = choice.function(kept[choice.name], both, t, **numbers[choice.name])
        return State(params, buffers, rule, kept), StepOutput(outputs, norm, value)

    return step


def gradient_alone(f: Function, params: Tensor, *arguments: Tree) -> tuple[Tensor, Tensor, Tree]:
    """Return gradient, value and auxiliary results of f for one member, with plain autograd.

    In eager mode this saves 50 to 100 us per step over `torch.func.grad`.
    """
    leaf = params.detach().requires_grad_()
    value, aux = f(leaf, *arguments)
    (gradient,) = torch.autograd.grad(value, leaf)
    outputs, buffers = aux
    return gradient, value.detach(), (outputs.detach(), {name: b.detach() for name, b in buffers.items()})


def gradient_functional(f: Function, params: Tensor, *arguments: Tree) -> tuple[Tensor, Tensor, Tree]:
    """Return the same as `gradient_alone` with `torch.func`, for packs and compilation."""
    gradient, (value, aux) = torch.func.grad_and_value(f, has_aux=True)(params, *arguments)
    return gradient, value, aux
