"""Recurrent layers. They pass on a `Run`: the steps of all examples, and the length of each.

Padding is at the end, so a forward layer never reaches it before an example's last step, and no step needs
a mask. A backward layer takes each example's own steps in reverse order, with padding still at the end.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from slipstream.activations import sigmoid
from slipstream.core import random
from slipstream.core.registry import component
from slipstream.models.layer_factory import LayerFactory
from slipstream.models.layers import linear as dense
from slipstream.models.recurrence import recur, recur_over

Bend = Callable[[Tensor], Tensor]
GATES = {"simple": 1, "lstm": 4, "gru": 3}
# The time loop of `recurrence` for a cell with this activation; other cells run as single operations.
LOOPS = {
    ("simple", "tanh"): "tanh",
    ("simple", "relu"): "relu",
    ("lstm", "tanh"): "lstm",
    ("gru", "tanh"): "gru",
}


class Run(NamedTuple):
    """A batch of sequences: steps [T, N, C]; lengths [N], at least 1, or None if all have T steps."""

    steps: Tensor
    lengths: Tensor | None

    def reversed(self) -> Tensor:
        """Return the steps [T, N, C] of every example in reverse order."""
        if self.lengths is None:
            return self.steps.flip(0)
        t = torch.arange(len(self.steps), device=self.steps.device)[:, None]
        return self.at(torch.where(t < self.lengths, self.lengths - 1 - t, t))

    def at(self, places: Tensor) -> Tensor:
        """Return [..., N, C]: the steps at every example's `places` [..., N].

        As an embedding, because a gather with different places per member is slow under vmap.
        """
        steps, (_, examples, _) = self.steps, self.steps.shape
        return torch.embedding(
            steps.flatten(0, 1), places * examples + torch.arange(examples, device=steps.device)
        )

    def present(self) -> Tensor:
        """Return a mask that is True at steps, not padding: bool [T, N, 1]."""
        assert self.lengths is not None
        return (torch.arange(len(self.steps), device=self.lengths.device)[:, None] < self.lengths)[..., None]


class RunSteps(nn.Module):
    """Sequences [N, T, C] as a run; the mask channel becomes lengths."""

    def __init__(self, parts: LayerFactory) -> None:
        super().__init__()
        self.masked = parts.form.masked
        self.features = parts.form.shape[1] - self.masked
        self.noises = nn.Sequential(*parts.noises("inputs").values())

    def forward(self, x: Tensor) -> Run:
        if not self.masked:
            return Run(self.noises(x).transpose(0, 1), None)
        lengths = x[..., -1].sum(1).long().clamp(min=1)
        return Run(self.noises(x[..., :-1]).transpose(0, 1), lengths)


class RunEmbedding(nn.Module):
    """Tokens [N, T] as a run of learned vectors, one per id, initially N(0, 1). Id 0 is padding."""

    def __init__(self, parts: LayerFactory, features: int) -> None:
        super().__init__()
        self.features = features
        self.table = nn.Parameter(random.normal(parts.key(), (parts.form.vocabulary, features)))
        self.table.own_start = True  # type: ignore[attr-defined]  # our mark on a parameter
        self.noises = nn.Sequential(*parts.noises("inputs").values())

    def forward(self, x: Tensor) -> Run:
        lengths = (x != 0).sum(1).clamp(min=1)
        return Run(self.noises(torch.embedding(self.table, x.long())).transpose(0, 1), lengths)


class Matrix(nn.Module):
    """The recurrent weights as a layer that returns them, so that weight regularizers can wrap it.

    first: the initial values of each gate's matrix: orthogonal | identity | configured.
    """

    def __init__(self, parts: LayerFactory, width: int, blocks: int, first: str) -> None:
        super().__init__()
        if first == "identity":
            value = torch.eye(width).repeat(blocks, 1)
        elif first == "orthogonal":
            make = component("initializer", "orthogonal")
            value = torch.cat([make(parts.key(), (width, width), 1.0) for _ in range(blocks)])
        else:
            value = torch.zeros(blocks * width, width)
        self.weight = nn.Parameter(value)
        marks = {"recurrent": True, "own_start": first != "configured", "blocks": blocks}
        for name, mark in marks.items():
            setattr(self.weight, name, mark)

    def forward(self, x: Tensor) -> Tensor:
        return self.weight


class Direction(nn.Module):
    """A cell that runs over the steps from first to last: [T, N, features] -> [T, N, width].

    A single LSTM on a CPU uses torch's kernel, up to three times as fast as our loop.
    """

    def __init__(
        self, parts: LayerFactory, cell: str, features: int, width: int, *, first: str, forget_bias: float
    ) -> None:
        super().__init__()
        self.cell, self.features, self.width, self.alone = cell, features, width, parts.alone
        self.activation = parts.activation()
        self.joins = parts.width_factor > 1
        blocks = GATES[cell] - 1 + parts.width_factor
        biased = not parts.has_batch_norm("before")
        made = dense(features, blocks * width, bias=biased)
        made.weight.blocks = blocks  # type: ignore[attr-defined]  # our mark on a parameter
        self.linear = parts.weighted(made)
        self.norms = nn.Sequential(*parts.norms("before", blocks * width).values())
        self.recurrent = parts.weighted(Matrix(parts, width, blocks, first))
        if cell == "lstm":
            self.forget_bias: Tensor
            shift = torch.zeros(blocks * width)
            shift[width : 2 * width] = forget_bias
            self.register_buffer("forget_bias", shift)
        if cell == "gru":
            self.inner = nn.Parameter(torch.zeros(parts.width_factor * width))
        self.loop = LOOPS.get((cell, self.activation.name))
        self.plain = isinstance(self.linear, nn.Linear) and biased and not self.norms

    def forward(self, steps: Tensor) -> Tensor:
        recurrent, inner = self.recurrent(steps), self.inner if self.cell == "gru" else None
        # lsuv looks at what comes out of `linear`, which therefore must be called then.
        if self.loop and self.plain and not self.linear._forward_hooks:
            weight, bias = self.linear.weight, self.linear.bias
            assert isinstance(weight, Tensor)
            assert isinstance(bias, Tensor)
            if self.takes_kernel(steps):
                zero = steps.new_zeros(1, steps.shape[1], self.width)
                given = (weight, recurrent, bias, self.forget_bias)
                return torch.lstm(steps, (zero, zero), given, True, 1, 0.0, True, False, False)[0]
            bias = bias + self.forget_bias if self.cell == "lstm" else bias
            return recur(self.loop, steps, weight, bias, recurrent, inner)
        z = self.gates(steps)
        if self.loop:
            return recur_over(self.loop, z, recurrent, inner)
        return _unrolled(self.cell, z, recurrent, inner, self.activation, self.outer)

    def takes_kernel(self, steps: Tensor) -> bool:
        """Return True if torch's LSTM computes these steps."""
        kernel = self.loop == "lstm" and self.plain and self.alone
        return kernel and _is_for_kernel(steps, self.linear.weight)  # type: ignore[arg-type]  # nn.Module types weight as Tensor or Module

    def gates(self, steps: Tensor) -> Tensor:
        """Return the inputs' part of the gates, with biases: [T, N, C] -> [T, N, G]."""
        z: Tensor = self.norms(self.linear(steps.flatten(0, 1))).unflatten(0, steps.shape[:2])
        return z + self.forget_bias if self.cell == "lstm" else z

    @property
    def outer(self) -> Bend:
        """The function of an lstm's cell: tanh if the activation joins features."""
        return torch.tanh if self.joins else self.activation


def _is_for_kernel(steps: Tensor, weight: Tensor) -> bool:
    same = steps.dtype == weight.dtype == torch.float32
    return same and steps.is_cpu and not torch.is_autocast_enabled("cpu")


def _unrolled(
    cell: str, z: Tensor, recurrent: Tensor, inner: Tensor | None, bend: Bend, bend_cell: Bend
) -> Tensor:
    """Return hidden states [T, N, H] for any activation. z [T, N, G]: the inputs' part of the gates."""
    h = c = z.new_zeros(z.shape[1], recurrent.shape[1])
    made = []
    for step in z.unbind(0):
        h, c = advance(cell, step, h, c, recurrent, inner, bend, bend_cell)
        made.append(h)
    return torch.stack(made)


def advance(
    cell: str,
    step: Tensor,
    h: Tensor,
    c: Tensor,
    recurrent: Tensor,
    inner: Tensor | None,
    bend: Bend,
    bend_cell: Bend,
) -> tuple[Tensor, Tensor]:
    """Return a cell's state h and c [N, H] after a step. step [N, G]: the input's part of the gates."""
    width = recurrent.shape[1]
    if cell == "gru":
        assert inner is not None
        reset, update = sigmoid(step[:, : 2 * width] + h @ recurrent[: 2 * width].t()).chunk(2, -1)
        new = bend(step[:, 2 * width :] + _reset(reset, h @ recurrent[2 * width :].t() + inner))
        return new + update * (h - new), c
    if cell == "lstm":
        gates = step + h @ recurrent.t()
        i, f = sigmoid(gates[:, : 2 * width]).chunk(2, -1)
        c = f * c + i * bend(gates[:, 2 * width : -width])
        return sigmoid(gates[:, -width:]) * bend_cell(c), c
    return bend(step + h @ recurrent.t()), c


def _reset(reset: Tensor, product: Tensor) -> Tensor:
    """Multiply the hidden part of every linear piece of the candidate by the reset gate."""
    result: Tensor = (product.unflatten(-1, (-1, reset.shape[-1])) * reset[:, None]).flatten(-2)
    return result


class Recurrent(nn.Module):
    """One recurrent layer, in one or both directions, with everything that follows it: run -> run.

    last: the layer before the pooling. There the backward direction keeps its own order, in which the last
    step is the example's first, and noise acts only on the pooled states.
    """

    def __init__(self, parts: LayerFactory, directions: list[Direction], *, last: bool) -> None:
        super().__init__()
        self.directions = nn.ModuleList(directions)
        self.last, self.features = last, sum(direction.width for direction in directions)
        self.norms = nn.Sequential(*parts.norms("after", self.features).values())
        self.activities = nn.Sequential(*parts.activities().values())
        self.noises = nn.Sequential(*({} if last else parts.noises("hidden")).values())

    def forward(self, run: Run) -> Run:
        made, lengths = [self.directions[0](run.steps)], run.lengths
        if len(self.directions) > 1:
            back = self.directions[1](run.reversed())
            made.append(back if self.last else Run(back, lengths).reversed())
        h = made[0] if len(made) == 1 else torch.cat(made, -1)
        if self.norms:
            h = self.norms(h.flatten(0, 1)).unflatten(0, h.shape[:2])
        if self.activities:
            seen = h if lengths is None else h * Run(h, lengths).present()
            self.activities(seen.transpose(0, 1))
        if self.noises:  # [N, H, T]: noise that drops channels drops them at every step
            h = self.noises(h.permute(1, 2, 0)).permute(2, 0, 1)
        return Run(h, lengths)


class Pool(nn.Module):
    """Pooling of every example's steps to one vector: the last, their mean or their maximum."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def forward(self, run: Run) -> Tensor:
        steps, lengths = run
        if self.how == "last":
            return steps[-1] if lengths is None else run.at(lengths - 1)
        if self.how == "mean":
            # A product, because torch's sum over a first axis rounds a tensor's last columns differently.
            return torch.bmm(self._shares(run), steps.transpose(0, 1)).squeeze(1)
        return (steps if lengths is None else torch.where(run.present(), steps, -torch.inf)).amax(0)

    def _shares(self, run: Run) -> Tensor:
        """Return the weight of every step in its example's mean, [N, 1, T]."""
        steps, lengths = run
        if lengths is None:
            return steps.new_ones(steps.shape[1], 1, len(steps)) / len(steps)
        return (run.present() / lengths[:, None]).to(steps.dtype).permute(1, 2, 0)


def network(reader: nn.Module, hidden: list[nn.Module], output: nn.Module) -> nn.Sequential:
    """Assemble a network: the reader of examples, hidden layers including the pooling, the output."""
    return nn.Sequential(OrderedDict(inputs=reader, hidden=nn.Sequential(*hidden), output=output))
