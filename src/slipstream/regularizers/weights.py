"""Weights changed beside the gradient's update: `decay`, `constraint`; `weight` in the forward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from slipstream.core.lazy import torch
from slipstream.core.registry import register
from slipstream.core.types import Count, Layout, NonNegative, Positive

if TYPE_CHECKING:
    from torch import Tensor


TINY = 1e-12  # a length that nothing is divided by less than, as in torch.nn.functional.normalize


@register("regularizer", place="decay")
def weight_decay(weights: Tensor, lr: Any, *, strength: NonNegative) -> Tensor:
    """Decoupled weight decay: weights shrink beside the optimizer's update, not through it.

    w <- w - lr strength w

    strength: share of each weight taken away per lr and update, at least 0; scaled by the schedule
    as lr is. Biases and norm scales are left alone. It adds to the weight_decay that adamw, lamb,
    lion, muon and schedule_free have of their own.
    Source: Loshchilov and Hutter, "Decoupled weight decay regularization", ICLR 2019.
    """
    return weights * (-lr * strength)


def _each_row(params: Tensor, layout: Layout, change: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """The parameters [P] with change(rows [out, in], their lengths [out, 1]) in place of every weight."""
    parts = []
    flat = params.split(layout.sizes)
    for part, shape, penalized in zip(flat, layout.shapes, layout.penalized, strict=True):
        if penalized and len(shape) > 1:
            rows = part.view(shape[0], -1)
            part = change(rows, rows.norm(dim=1, keepdim=True)).flatten()
        parts.append(part)
    return torch.cat(parts)


@register("regularizer", place="constraint")
def max_norm(params: Tensor, layout: Layout, *, limit: Positive) -> Tensor:
    """Max-norm constraint: no unit's incoming weights are longer than a limit.

    w <- w min(1, limit / ||w||) for every row w of every weight matrix, after each update

    limit: above 0. params [P]. Kernels [out, in, h, w] are treated as rows [out, in h w]. Biases and
    norm scales are left alone.
    Source: Srebro and Shraibman 2005; with dropout Srivastava et al., JMLR 2014, who use 3 to 4.
    """
    # A row of zeros divides to infinity, which the clamp makes 1.
    return _each_row(params, layout, lambda rows, length: rows * (limit / length).clamp(max=1.0))


@register("regularizer", place="constraint")
def unit_norm(params: Tensor, layout: Layout) -> Tensor:
    """Unit-norm constraint: every unit's incoming weights have length 1.

    w <- w / ||w|| for every row w of every weight matrix, the output's too, after each update

    params [P]. Kernels [out, in, h, w] are treated as rows [out, in h w]. Biases and norm scales are left
    alone; a row of zeros stays. The outputs' size is bounded by that of what enters the last layer.
    Source: Salimans and Kingma, "Weight normalization", 2016, with the lengths fixed; Keras' UnitNorm.
    """
    return _each_row(params, layout, lambda rows, length: rows / length.clamp(min=TINY))


def _unit(vector: Tensor) -> Tensor:
    return vector / vector.norm().clamp(min=TINY)


@register("regularizer", place="weight")
def spectral_norm(weight: Tensor, u: Tensor, training: bool, *, iterations: Count) -> tuple[Tensor, Tensor]:
    """Spectral normalization: no hidden layer stretches any direction of its inputs by more than 1.

    W / sigma,  sigma = u^T W v, its largest singular value by power iteration:
    u <- W v / ||W v||, v = W^T u / ||W^T u||

    iterations: of the power method before each use in training; one follows weights that change slowly.
    weight [out, in, ...], treated as [out, in ...]; u [out] is kept between calls. Returns weight and u.
    The gradient passes through sigma, but not through u and v. In evaluation u stays. The weights that are
    stored and penalized are those before the division. Edge: zeros stay zeros.
    Source: Miyato et al., "Spectral normalization for generative adversarial networks", ICLR 2018.
    """
    matrix = weight.flatten(1)
    fixed, u = matrix.detach(), _unit(u)  # an average of several u is shorter than 1
    v = _unit(fixed.t() @ u)
    for _ in range(iterations if training else 0):
        u = _unit(fixed @ v)
        v = _unit(fixed.t() @ u)
    sigma = (u * (matrix @ v)).sum()
    return weight / sigma.clamp(min=TINY), u
