"""Rules that treat a layer's weights as a whole or as a matrix."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from slipstream.core.lazy import torch
from slipstream.core.registry import register
from slipstream.core.types import Count, Fraction, NonNegative, Positive, UpdateContext
from slipstream.optimizers.adaptive import adam_step, moments
from slipstream.optimizers.base import State, Update, concatenate, minimum, to_power

if TYPE_CHECKING:
    from torch import Tensor

    from slipstream.core.types import Layout

# Jordan's coefficients: the quintic with the largest slope at zero that still maps (0, 1] close to 1.
QUINTIC = (3.4445, -4.7750, 2.0315)


@register("optimizer", init=("m", "v"))
def lamb(
    gradient: Tensor,
    state: State,
    at: UpdateContext,
    *,
    lr: Positive,
    beta1: Fraction,
    beta2: Fraction,
    eps: Positive,
    weight_decay: NonNegative,
) -> Update:
    """LAMB: Adam whose step in every layer is proportional to the norm of its weights.

    r = m_hat / (sqrt(v_hat) + eps) + weight_decay w;  w <- w - lr (||w|| / ||r||) r, tensor by tensor

    lr: learning rate, above 0; the length of a step relative to a layer's norm. beta1, beta2, eps: as
    `adam`. weight_decay: of weights, not of biases.
    Edge: the ratio is 1 if ||w|| or ||r|| is zero. Biases and the scales and shifts of
    normalization take Adam's step without ratio or decay, as in the authors' code.
    Source: You et al., "Large batch optimization for deep learning", ICLR 2020, algorithm 2.
    """
    m, v = moments(gradient, state, beta1, beta2)
    steps = adam_step(m, v, at.t, -1.0, beta1, beta2, eps).split(at.layout.sizes)
    deltas = []
    for step, w, penalized in zip(steps, at.params.split(at.layout.sizes), at.layout.penalized, strict=True):
        if penalized:
            step = step + w * weight_decay
            length, wanted = step.norm(), w.norm()
            step = step * torch.where(length * wanted > 0, wanted / length, 1.0)
        deltas.append(step)
    return concatenate(deltas, gradient) * -lr, {"m": m, "v": v}


def as_matrices(flat: Tensor, layout: Layout) -> list[Tensor]:
    """Return the tensors of the flat vector: weights as [out, rest], all others as [n]."""
    parts = zip(flat.split(layout.sizes), layout.shapes, strict=True)
    return [part.view(shape[0], -1) if len(shape) > 1 else part for part, shape in parts]


def _adafactor_state(params: Tensor, layout: Layout, **settings: object) -> State:
    parts = as_matrices(params, layout)
    rows = sum(len(part) for part in parts)
    columns = sum(part.shape[1] for part in parts if part.dim() == 2)
    return {"rows": params.new_zeros(rows), "columns": params.new_zeros(columns)}


@register("optimizer", init=_adafactor_state)
def adafactor(
    gradient: Tensor,
    state: State,
    at: UpdateContext,
    *,
    lr: Positive,
    decay_power: Positive,
    clip: Positive,
    eps: Positive,
    min_scale: Positive,
) -> Update:
    """Adafactor: Adam's divisor from row and column means, with a state of O(rows + columns).

    beta = 1 - t^-decay_power;  R <- beta R + (1 - beta) rowmean(g^2);  C likewise by column;
    u = g / sqrt(R C / mean(R));  a = min(lr, 1 / sqrt(t)) max(min_scale, rms(w));
    w <- w - a u / max(1, rms(u) / clip), tensor by tensor

    Kernels [out, in, h, w] are treated as matrices [out, in h w]; vectors keep a full divisor.
    lr: the largest step relative to the rms of the weights. decay_power: above 0. clip: the bound of
    the update's rms. eps: the smallest root of a divisor. min_scale: the lower bound of rms(w).
    Source: Shazeer and Stern, "Adafactor: adaptive learning rates with sublinear memory cost",
    ICML 2018, with the lr of torch.optim.Adafactor.
    """
    weight = to_power(at.t, -decay_power)
    size = minimum(lr, to_power(at.t, -0.5))
    row_sizes = [shape[0] for shape in at.layout.shapes]
    column_sizes = [prod(shape[1:]) for shape in at.layout.shapes if len(shape) > 1]
    columns = iter(state["columns"].split(column_sizes))
    deltas, new_rows, new_columns = [], [], []
    parts = zip(as_matrices(gradient, at.layout), at.params.split(at.layout.sizes), strict=True)
    for (g, w), row in zip(parts, state["rows"].split(row_sizes), strict=True):
        square = g * g
        if g.dim() == 2:
            row = row.lerp(square.mean(1), weight)
            column = next(columns).lerp(square.mean(0), weight)
            new_columns.append(column)
            divisor = row[:, None] * column / row.mean().clamp(min=eps)
        else:
            row = divisor = row.lerp(square, weight)
        new_rows.append(row)
        update = g * divisor.clamp(min=eps * eps).rsqrt()
        step = size * _rms(w).clamp(min=min_scale) / (_rms(update) / clip).clamp(min=1.0)
        deltas.append(update * -step)
    new_state = {"rows": concatenate(new_rows, gradient), "columns": concatenate(new_columns, gradient)}
    return concatenate(deltas, gradient), new_state


def _rms(x: Tensor) -> Tensor:
    return (x * x).mean().sqrt()


def orthogonalized(matrix: Tensor, steps: int) -> Tensor:
    """Move the singular values of a matrix [R, C] close to 1 (0.7 to 1.2), keeping its singular vectors.

    X <- a X + (b A + c A A) X with A = X X^T, `steps` times, from X = matrix / ||matrix||.
    """
    a, b, c = QUINTIC
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = x * a + (gram * b + gram @ gram * c) @ x
    result: Tensor = x.T if matrix.shape[0] > matrix.shape[1] else x
    return result


def _is_matrix(layout: Layout) -> list[bool]:
    """Return True for each tensor that Muon treats as a matrix: weights with at least two axes."""
    pairs = zip(layout.shapes, layout.penalized, strict=True)
    return [penalized and len(shape) > 1 for shape, penalized in pairs]


def _other_sizes(layout: Layout) -> list[int]:
    return [n for n, matrix in zip(layout.sizes, _is_matrix(layout), strict=True) if not matrix]


def _muon_state(params: Tensor, layout: Layout, **settings: object) -> State:
    return {"m": torch.zeros_like(params), "v": params.new_zeros(sum(_other_sizes(layout)))}


@register("optimizer", init=_muon_state)
def muon(
    gradient: Tensor,
    state: State,
    at: UpdateContext,
    *,
    lr: Positive,
    momentum: Fraction,
    weight_decay: NonNegative,
    steps: Count,
    beta1: Fraction,
    beta2: Fraction,
    eps: Positive,
) -> Update:
    """Muon: orthogonalized momentum for weight matrices, Adam for everything else.

    b <- momentum b + (1 - momentum) g;  u = (1 - momentum) g + momentum b;
    O = U V^T of u = U S V^T, by `steps` Newton-Schulz iterations;
    w <- w - lr (0.2 sqrt(max(rows, columns)) O + weight_decay w)

    The factor gives O the root mean square of Adam's steps, so that one lr serves both.
    Kernels [out, in, h, w] are treated as matrices [out, in h w]. Contrary to Jordan's advice, the first
    and last layers are orthogonalized too: here they are dense layers, not embeddings.
    lr: learning rate, above 0; Adam's. momentum: fraction. weight_decay: of the matrices. steps:
    iterations; 5 in the paper. beta1, beta2, eps: Adam's, for biases and normalization.
    Source: Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024; the factor
    from Liu et al., "Muon is scalable for LLM training", 2025.
    """
    layout, sizes = at.layout, at.layout.sizes
    squares = iter(state["v"].split(_other_sizes(layout)))
    deltas, new_m, new_v = [], [], []
    parts = zip(gradient.split(sizes), state["m"].split(sizes), at.params.split(sizes), strict=True)
    for (g, m, w), shape, matrix in zip(parts, layout.shapes, _is_matrix(layout), strict=True):
        if matrix:
            m = m.lerp(g, 1 - momentum)
            step = orthogonalized(g.lerp(m, momentum).view(shape[0], -1), steps)
            scale = 0.2 * max(step.shape) ** 0.5
            deltas.append((step.flatten() * scale + w * weight_decay) * -lr)
        else:
            m, v = moments(g, {"m": m, "v": next(squares)}, beta1, beta2)
            deltas.append(adam_step(m, v, at.t, lr, beta1, beta2, eps))
            new_v.append(v)
        new_m.append(m)
    return concatenate(deltas, gradient), {
        "m": concatenate(new_m, gradient),
        "v": concatenate(new_v, gradient),
    }
