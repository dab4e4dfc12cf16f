"""Training in phases (`mask`: weights with mask 0 stay 0; updated at the end of an epoch)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from slipstream.core.lazy import torch
from slipstream.core.registry import register
from slipstream.core.types import Fraction, Layout, Positive, Scalar
from slipstream.schedulers import Clock, Factors

if TYPE_CHECKING:
    from torch import Tensor


LONGEST = 100_000  # most epochs that a message suggests


def whole(fraction: Scalar, epochs: int, epoch: Tensor) -> Tensor:
    """Return the fraction of the epochs, rounded down to whole epochs, as a tensor like `epoch`.

    A thousandth is added because 0.7 of 10 is slightly less than 7 in single precision.
    """
    return torch.floor(torch.zeros_like(epoch) + fraction * epochs + 1e-3)


def _everything(params: Tensor) -> Tensor:
    return torch.ones_like(params)


def _three_phases(epochs: int, *, sparse_from: float, dense_from: float, **_: object) -> list[str]:
    def fits(epochs: int) -> bool:
        first, second = (int(fraction * epochs + 1e-3) for fraction in (sparse_from, dense_from))
        return 1 <= first < second < epochs

    if fits(epochs):
        return []
    name = "regularizer.dense_sparse_dense"
    if sparse_from >= dense_from:
        return [f"{name}: sparse_from {sparse_from} is not below dense_from {dense_from}"]
    if sparse_from == 0:
        return [f"{name}.sparse_from: found 0, expected more: training begins dense"]
    least = next((n for n in range(epochs + 1, LONGEST) if fits(n)), LONGEST)
    phases = f"sparse_from {sparse_from} and dense_from {dense_from}"
    return [
        f"{name}: of the three phases by {phases} each needs an epoch, and trainer.max_epochs is {epochs}; "
        f"set it to {least:,}"
    ]


def _last_rate(clock: Clock, *, dense_from: float, lr_factor: float, **_: object) -> Factors:
    epochs = clock.total_steps // clock.steps_per_epoch
    return np.where(clock.epoch >= int(dense_from * epochs + 1e-3), lr_factor, 1.0)


def _last_factor(*, lr_factor: Positive) -> None:
    """lr_factor: the factor on the learning rate in the last phase."""


@register(
    "regularizer",
    place="mask",
    start=_everything,
    rate=_last_rate,
    fits_epochs=_three_phases,
    options=_last_factor,
)
def dense_sparse_dense(
    mask: Tensor,
    params: Tensor,
    epoch: Tensor,
    epochs: int,
    layout: Layout,
    *,
    sparsity: Fraction,
    sparse_from: Fraction,
    dense_from: Fraction,
) -> Tensor:
    """Dense-sparse-dense training: train, prune and train the rest, then train all weights again.

    Dense until sparse_from; then the smallest weights of every layer, the fraction `sparsity`, are set to
    zero and stay zero; from dense_from all weights train again, the pruned ones from zero, at lr_factor lr.

    sparsity: per weight matrix or kernel, including the output layer's; in [0, 1), 0.25 to 0.5 in the
    paper. Biases and norm scales are never pruned. sparse_from, dense_from: fractions of
    trainer.max_epochs, rounded down to whole epochs; each phase needs at least one. lr_factor: multiplies
    the schedule in the last phase, above 0. epoch: the number of finished ones. mask, params [P].
    Pruning takes effect with the first update of the sparse phase, so the dense phase is evaluated dense.
    The optimizer keeps its state across phases. The share of zeros is logged per layer as `zeros/...`.
    Early stopping spans the phases, and the best epoch may be a sparse one; early_stopping=none with
    restore_best=false completes all three.
    Source: Han et al., "DSD: dense-sparse-dense training for deep neural networks", arXiv 1607.04381.
    """
    begins = epoch == whole(sparse_from, epochs, epoch)
    dense = (epoch < whole(sparse_from, epochs, epoch)) | (epoch >= whole(dense_from, epochs, epoch))
    kept = torch.where(begins, largest(params, layout, sparsity), mask)
    return torch.where(dense, torch.ones_like(mask), kept)


def largest(params: Tensor, layout: Layout, sparsity: Scalar) -> Tensor:
    """Return a mask [P]: 0 for the round(sparsity n) smallest of each weight tensor's n values, else 1.

    Among equal values the first are pruned."""
    parts = []
    for part, weights in zip(params.split(layout.sizes), layout.penalized, strict=True):
        kept = torch.ones_like(part)
        if weights:
            rank = part.abs().argsort(stable=True).argsort()
            kept = (rank >= torch.round(kept * sparsity * len(part))).to(part.dtype)
        parts.append(kept)
    return torch.cat(parts)
