"""One step of each recurrent cell, forward and backward, on plain tensors of all members.

`step` and `back` work in place on buffers of the time loop, which saves allocations:

gate [K, N, G]     the part linear in [h_(t-1), x_t, 1], activated by `step`; kept for `back` if `keeps_gates`
half [G]           the factors of `halved`: a sigmoid is (1 + tanh(x / 2)) / 2, since torch's own rounds
                   the tail of a tensor differently, so a member's bytes would depend on its position
before, h          the state [K, N, H] before and after the step
c_before, c        the cell's state, if `keeps_cells`
d_gate, dh         gradients of the linear part, which `back` writes, and of h, which it reads
carry              a gradient [K, N, H] that a step passes to the previous one, initially zero
room [2, K, N, H]  scratch space
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


def _tanh(gate: Tensor, half: Tensor, before: Tensor, h: Tensor) -> None:
    """h_t = tanh(gate)."""
    torch.tanh(gate, out=h)


def _tanh_back(
    d_gate: Tensor, dh: Tensor, carry: Tensor, room: Tensor, gate: Tensor, before: Tensor, h: Tensor
) -> None:
    torch.mul(dh, h, out=d_gate).mul_(h)
    torch.sub(dh, d_gate, out=d_gate)


def _relu(gate: Tensor, half: Tensor, before: Tensor, h: Tensor) -> None:
    """h_t = max(0, gate)."""
    torch.clamp(gate, min=0, out=h)


def _relu_back(
    d_gate: Tensor, dh: Tensor, carry: Tensor, room: Tensor, gate: Tensor, before: Tensor, h: Tensor
) -> None:
    torch.mul(dh, h > 0, out=d_gate)


def _lstm(gate: Tensor, half: Tensor, before: Tensor, h: Tensor, c_before: Tensor, c: Tensor) -> None:
    """i, f, o = sigmoid, g = tanh;  c_t = f c_(t-1) + i g;  h_t = o tanh(c_t)."""
    i, f, g, o = gate.tanh_().mul_(half).add_(1 - half).chunk(4, -1)
    torch.mul(i, g, out=c).addcmul_(f, c_before)
    torch.tanh(c, out=h).mul_(o)


def _lstm_back(
    d_gate: Tensor,
    dh: Tensor,
    dc: Tensor,
    room: Tensor,
    gate: Tensor,
    before: Tensor,
    h: Tensor,
    c_before: Tensor,
    c: Tensor,
) -> None:
    """Compute the LSTM's gradients. dc: on entry that of c_t from step t+1, on return that of c_(t-1)."""
    i, f, g, o = gate.chunk(4, -1)
    # The derivative of a sigmoid s is s (1 - s), of a tanh g 1 - g g.
    torch.addcmul(gate, gate, gate, value=-1, out=d_gate)
    di, df, dg, do = d_gate.chunk(4, -1)
    bent, product = room
    torch.tanh(c, out=bent)
    do.mul_(bent).mul_(dh)
    torch.mul(dh, o, out=product)
    dc.add_(product).sub_(product.mul_(bent).mul_(bent))
    di.mul_(g).mul_(dc)
    df.mul_(c_before).mul_(dc)
    torch.mul(i, dc, out=dg)
    dg.sub_(torch.mul(dg, g, out=product).mul_(g))
    dc.mul_(f)


def _gru(gate: Tensor, half: Tensor, before: Tensor, h: Tensor) -> None:
    """r, u = sigmoid;  n = tanh(n_x + r n_h);  h_t = n + u (h_(t-1) - n). gate: r, u, n_x, n_h."""
    two = gate.shape[-1] // 2
    r, u = gate[..., :two].tanh_().mul_(0.5).add_(0.5).chunk(2, -1)
    n, inner = gate[..., two:].chunk(2, -1)
    n.addcmul_(r, inner).tanh_()
    torch.sub(before, n, out=h)
    torch.addcmul(n, u, h, out=h)


def _gru_back(
    d_gate: Tensor, dh: Tensor, carry: Tensor, room: Tensor, gate: Tensor, before: Tensor, h: Tensor
) -> None:
    """Compute the GRU's gradients. carry: the direct part of h_t's gradient; on return that of h_(t-1)."""
    r, u, n, inner = gate.chunk(4, -1)
    dr, du, dn, d_inner = d_gate.chunk(4, -1)
    whole, product = room
    torch.add(dh, carry, out=whole)
    torch.mul(whole, u, out=carry)
    torch.sub(whole, carry, out=dn)
    dn.sub_(torch.mul(dn, n, out=product).mul_(n))
    torch.sub(before, n, out=du).mul_(carry)
    du.sub_(torch.mul(du, u, out=product))
    torch.mul(dn, r, out=d_inner)
    torch.mul(d_inner, inner, out=dr)
    dr.sub_(torch.mul(dr, r, out=product))


class Cell(NamedTuple):
    """A cell: the factor of each gate before its tanh, what it keeps, and its forward and backward step."""

    halved: tuple[float, ...]
    keeps_gates: bool
    keeps_cells: bool
    step: Callable[..., None]
    back: Callable[..., None]


CELLS = {
    "tanh": Cell((1,), False, False, _tanh, _tanh_back),
    "relu": Cell((1,), False, False, _relu, _relu_back),
    "lstm": Cell((0.5, 0.5, 1, 0.5), True, True, _lstm, _lstm_back),
    "gru": Cell((0.5, 0.5, 1, 1), True, False, _gru, _gru_back),
}
