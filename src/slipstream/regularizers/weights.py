"""Changes of weights outside the gradient's update: `decay`, `constraint`; `weight` in the forward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from slipstream.core.lazy import torch
from slipstream.core.registry import register
from slipstream.core.types import Count, Layout, NonNegative, Positive, Scalar

if TYPE_CHECKING:
    from torch import Tensor


TINY = 1e-12  # lower bound of a length before division, as in torch.nn.functional.normalize


@register("regularizer", place="decay")
def weight_decay(weights: Tensor, lr: Scalar, *, strength: NonNegative) -> Tensor:
    """Decoupled weight decay: shrinks the weights apart from the optimizer's update, not through it.

    w <- w - lr strength w

    strength: at least 0; the decay per update scales with the schedule as lr does. Biases and norm scales
    are exempt. It adds to the optimizer's own weight_decay in adamw, lamb, lion, muon and
    schedule_free.
    Source: Loshchilov and Hutter, "Decoupled weight decay regularization", ICLR 2019.
    """
    return weights * (-lr * strength)


def _each_row(params: Tensor, layout: Layout, change: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Replace every weight in the parameters [P] by change(rows [out, in], their lengths [out, 1])."""
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
    """Max-norm constraint: bounds the norm of every unit's incoming weights.

    w <- w min(1, limit / ||w||) for every row w of every weight matrix, after each update

    limit: above 0. params [P]. Kernels [out, in, h, w] are treated as rows [out, in h w]. Biases and
    norm scales are exempt.
    Source: Srebro and Shraibman 2005; with dropout Srivastava et al., JMLR 2014, who use 3 to 4.
    """
    # A row of zeros gives infinity, which the clamp turns into 1.
    return _each_row(params, layout, lambda rows, length: rows * (limit / length).clamp(max=1.0))


@register("regularizer", place="constraint")
def unit_norm(params: Tensor, layout: Layout) -> Tensor:
    """Unit-norm constraint: every unit's incoming weights have norm 1.

    w <- w / ||w|| for every row w of every weight matrix, including the output layer's, after each update

    params [P]. Kernels [out, in, h, w] are treated as rows [out, in h w]. Biases and norm scales are
    exempt; a row of zeros stays. The norm of the last layer's input bounds the outputs.
    Source: Salimans and Kingma, "Weight normalization", 2016, with the lengths fixed; Keras' UnitNorm.
    """
    return _each_row(params, layout, lambda rows, length: rows / length.clamp(min=TINY))


def _unit(vector: Tensor) -> Tensor:
    result: Tensor = vector / vector.norm().clamp(min=TINY)
    return result


@register("regularizer", place="weight")
def spectral_norm(weight: Tensor, u: Tensor, training: bool, *, iterations: Count) -> tuple[Tensor, Tensor]:
    """Spectral normalization: gives every hidden layer a spectral norm of 1.

    W / sigma,  sigma = u^T W v, its largest singular value by power iteration:
    u <- W v / ||W v||, v = W^T u / ||W^T u||

    iterations: of the power method before each use in training; one suffices for slowly changing weights.
    weight [out, in, ...], treated as [out, in ...]; u [out] is kept between calls. Returns weight and u.
    The gradient passes through sigma, but not through u and v. In evaluation u is fixed. The stored and
    penalized weights are those before the division. Edge: zeros stay zeros.
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
