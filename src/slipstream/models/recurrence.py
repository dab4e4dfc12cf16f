"""Time loops of recurrent cells: all members at once, with the backward pass written out.

As a graph of single operations a sequence of 50 steps has a thousand nodes, each batched separately under
vmap. Here a step is one batched product and a few elementwise operations on plain tensors, and one buffer
holds what the backward pass needs. The buffer matters most: allocating memory costs more than the
arithmetic, and a step's block of it stays in the cache.

Every gate is linear in [h_(t-1), x_t, 1], so a step needs one product forward, one for the gradient of
the state and one for that of the weight. For an LSTM on a CPU torch's kernel (oneDNN) is faster still, in
packs too, where it is called for the members in turn.

The loops compute in the dtype of the weight, regardless of autocast, because a state is a sum over many
steps. They can be differentiated once, also under torch.vmap and torch.func.grad.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from torch.nn.functional import pad

from slipstream.core.types import AutogradContext, Tree
from slipstream.models.cells import CELLS, Cell

Folded = tuple[tuple[Tensor, ...], tuple[int, ...]]  # outputs, and the axis of the pack in each


def recur(
    cell: str, x: Tensor, weight: Tensor, bias: Tensor, recurrent: Tensor, inner: Tensor | None = None
) -> Tensor:
    """Return the hidden states [T, N, H] of a cell that starts at zero, as in torch.nn.

    cell: tanh | relu | lstm | gru. x [T, N, C]. weight [G, C], recurrent [G, H]: the gates stacked by rows,
    for the input and the state; G is H, H, 4 H (input, forget, candidate, output) and 3 H (reset, update,
    candidate). bias [G]. inner [H]: gru's second bias, which the reset gate multiplies.
    """
    if inner is not None:  # gru: the candidate's two parts are separate
        width = recurrent.shape[1]
        apart = torch.cat([recurrent[:-width], torch.zeros_like(recurrent[:width]), recurrent[-width:]])
        both = torch.cat([apart, pad(weight, (0, 0, 0, width)), torch.cat([bias, inner])[:, None]], 1)
    else:
        both = torch.cat([recurrent, weight, bias[:, None]], 1)
    return _loop(cell, x, both, None)


def recur_over(cell: str, z: Tensor, recurrent: Tensor, inner: Tensor | None = None) -> Tensor:
    """Return the same for z [T, N, G], the inputs' part of the gates, including biases."""
    both = pad(recurrent, (0, 1))
    if inner is not None:
        width = recurrent.shape[1]
        own = torch.cat([recurrent[-width:], inner[:, None]], 1)
        both = torch.cat([both[:-width], torch.zeros_like(own), own])
    return _loop(cell, z[..., :0], both, z)


def _loop(cell: str, x: Tensor, weight: Tensor, z: Tensor | None) -> Tensor:
    members = (x.unsqueeze(0), weight.unsqueeze(0), None if z is None else z.unsqueeze(0))
    states: Tensor = _Loop.apply(cell, *members)[0]  # type: ignore[no-untyped-call]  # torch has no annotation
    return states.squeeze(0)


class _Loop(torch.autograd.Function):
    """The time loop as an autograd function: x [K, T, N, C], weight [K, G, H + C + 1], z -> h [K, T, N, H].

    z: None, or [K, T, N, G] or the first of its gates. Also returns what the backward pass needs.
    """

    @staticmethod
    def forward(cell: str, x: Tensor, weight: Tensor, z: Tensor | None) -> tuple[Tensor, ...]:
        with _without_autocast(x):
            x = x.to(weight.dtype).transpose(0, 1)
            z = None if z is None else z.to(weight.dtype).transpose(0, 1)
            made = _forward(CELLS[cell], weight, x, z)
        return tuple(part.transpose(0, 1) for part in made)

    @staticmethod
    def setup_context(ctx: AutogradContext, inputs: tuple[Tree, ...], output: tuple[Tensor, ...]) -> None:
        ctx.cell, x, weight, z = inputs
        ctx.kinds = x.dtype, None if z is None else z.dtype
        ctx.given = 0 if z is None else z.shape[-1]
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(weight, *output[1:])

    @staticmethod
    def backward(ctx: AutogradContext, grad: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        if grad is None:
            return None, None, None, None
        wanted = ctx.needs_input_grad[1], ctx.given if ctx.needs_input_grad[3] else 0
        weight, *rest = _LoopBackward.apply((ctx.cell, *wanted), grad, *ctx.saved_tensors)  # type: ignore[no-untyped-call]  # torch has no annotation
        x, z = (rest.pop(0).to(kind) if want else None for want, kind in zip(wanted, ctx.kinds, strict=True))
        return None, x, weight, z

    @staticmethod
    def vmap(
        info: AutogradContext, in_dims: tuple[int | None, ...], cell: str, *tensors: Tensor | None
    ) -> Folded:
        return _folded(_Loop, info.batch_size, cell, tensors, in_dims[1:])


class _LoopBackward(torch.autograd.Function):
    """The gradients of weight and, if requested, of x and of the given part of z."""

    @staticmethod
    def forward(
        wanted: tuple[str, bool, int], grad: Tensor, weight: Tensor, *saved: Tensor
    ) -> tuple[Tensor, ...]:
        with _without_autocast(grad):
            steps = (part.transpose(0, 1) for part in (grad.to(weight.dtype), *saved))
            made, *rest = _backward(CELLS[wanted[0]], weight, wanted[1], wanted[2], *steps)
        return made, *(part.transpose(0, 1) for part in rest)

    @staticmethod
    def setup_context(ctx: AutogradContext, inputs: tuple[Tree, ...], output: tuple[Tensor, ...]) -> None:
        ctx.mark_non_differentiable(*output)

    @staticmethod
    def vmap(
        info: AutogradContext,
        in_dims: tuple[int | None, ...],
        wanted: tuple[str, bool, int],
        *tensors: Tensor,
    ) -> Folded:
        return _folded(_LoopBackward, info.batch_size, wanted, tensors, in_dims[1:])


def _without_autocast(like: Tensor) -> AbstractContextManager[object]:
    """Disable autocast, which meta tensors (used to count memory) do not support."""
    return nullcontext() if like.is_meta else torch.autocast(like.device.type, enabled=False)


def _folded(
    function: type[torch.autograd.Function],
    size: int,
    what: object,
    tensors: Sequence[Tensor | None],
    dims: Sequence[int | None],
) -> Folded:
    """Call a function of members [K, ...] with `size` packs as one pack."""
    made = function.apply(what, *(_fold(t, d, size) for t, d in zip(tensors, dims, strict=True)))
    return tuple(part.unflatten(0, (size, -1)) for part in made), (0,) * len(made)


def _fold(tensor: Tensor | None, dim: int | None, size: int) -> Tensor | None:
    """Reshape [size, K, ...], whose first axis is at `dim` (None: missing), to [size * K, ...]."""
    if tensor is None:
        return None
    moved = tensor.expand(size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)
    return moved.flatten(0, 1)


def _forward(cell: Cell, weight: Tensor, x: Tensor, z: Tensor | None) -> tuple[Tensor, ...]:
    """Return h [T, K, N, H], inputs [T + 1, K, N, H + C + 1], and the gates and cells that `cell` keeps.

    A step's block is contiguous, as batched products require.
    """
    steps, members, examples, channels = x.shape
    wide, width = weight.shape[1], weight.shape[2] - channels - 1
    inputs = weight.new_empty(steps + 1, members, examples, width + channels + 1)
    inputs[0, ..., :width] = 0
    inputs[:-1, ..., width:-1] = x
    inputs[..., -1] = 1
    h = inputs[..., :width]
    half = weight.new_tensor(cell.halved).repeat_interleave(width)
    back = (weight * half[:, None]).mT.contiguous()
    gates = weight.new_empty(steps if cell.keeps_gates else 1, members, examples, wide)
    cells = weight.new_empty(steps + 1 if cell.keeps_cells else 1, members, examples, width)
    cells[0] = 0
    for t in range(steps):
        gate = gates[t] if cell.keeps_gates else gates[0]
        if z is None:
            torch.bmm(inputs[t], back, out=gate)
        else:
            given = z.shape[-1]
            torch.mul(z[t], half[:given], out=gate[..., :given])
            gate[..., given:] = 0
            gate.baddbmm_(inputs[t], back)
        cell.step(gate, half, h[t], h[t + 1], *(cells[t : t + 2] if cell.keeps_cells else ()))
    return h[1:], inputs, gates, cells


def _backward(
    cell: Cell,
    weight: Tensor,
    of_x: bool,
    of_z: int,
    grad: Tensor,
    inputs: Tensor,
    gates: Tensor,
    c: Tensor,
) -> tuple[Tensor, ...]:
    """Return gradients of weight [K, G, H + C + 1], of x [T, K, N, C] if `of_x`, of the first `of_z` of z."""
    steps, _, _, width = grad.shape
    h = inputs[..., :width]
    to_h, to_x = weight[..., :width].contiguous(), weight[..., width:-1].contiguous()
    d_weight = torch.zeros_like(weight.mT.contiguous())
    d_x = h.new_empty(*grad.shape[:-1], to_x.shape[-1]) if of_x else None
    d_gates = weight.new_empty(steps if of_z else 1, *h.shape[1:-1], weight.shape[1])
    carry, room = torch.zeros_like(grad[0]), weight.new_empty(2, *h.shape[1:])
    dh = grad[-1]
    for t in reversed(range(steps)):
        gate, d_gate = (gates[t] if cell.keeps_gates else gates[0]), (d_gates[t] if of_z else d_gates[0])
        states = (h[t], h[t + 1], *(c[t : t + 2] if cell.keeps_cells else ()))
        cell.back(d_gate, dh, carry, room, gate, *states)
        d_weight.baddbmm_(inputs[t].mT, d_gate)
        if d_x is not None:
            torch.bmm(d_gate, to_x, out=d_x[t])
        if t:
            dh = torch.baddbmm(grad[t - 1], d_gate, to_h)
    return d_weight.mT, *([] if d_x is None else [d_x]), *([d_gates[..., :of_z]] if of_z else [])
