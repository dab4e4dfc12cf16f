"""Training in phases (`mask`: what is 0 in it stays 0 in the weights; asked at the end of an epoch)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from slipstream.core.lazy import torch
from slipstream.core.registry import register
from slipstream.core.types import Fraction, Layout, Positive
from slipstream.schedulers import Clock, Factors

if TYPE_CHECKING:
    from torch import Tensor


LONGEST = 100_000  # epochs up to which it is looked for enough of them


def whole(fraction: Any, epochs: int, epoch: Tensor) -> Tensor:
    """fraction of the epochs, rounded down to whole ones, as a number like `epoch`.

    A thousandth is added: 0.7 of 10 is a little less than 7 in single precision.
    """
    return torch.floor(torch.zeros_like(epoch) + fraction * epochs + 1e-3)


def _everything(params: Tensor) -> Tensor:
    return torch.ones_like(params)


def _three_phases(epochs: int, *, sparse_from: float, dense_from: float, **_: Any) -> list[str]:
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


def _last_rate(clock: Clock, *, dense_from: float, lr_factor: float, **_: Any) -> Factors:
    epochs = clock.total_steps // clock.steps_per_epoch
    return np.where(clock.epoch >= int(dense_from * epochs + 1e-3), lr_factor, 1.0)


def _last_factor(*, lr_factor: Positive) -> None:
    """What multiplies the rate in the last phase."""


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
    epoch: Any,
    epochs: int,
    layout: Layout,
    *,
    sparsity: Fraction,
    sparse_from: Fraction,
    dense_from: Fraction,
) -> Tensor:
    """Dense-sparse-dense training: train, prune and train what is left, give all back and train on.

    Dense until sparse_from; then the share `sparsity` of every layer's weights, the smallest, is zero
    and stays it; from dense_from on all weights train again, the pruned ones from zero, at lr_factor lr.

    sparsity: of each weight matrix or kernel by itself, the output's too; in [0, 1), 0.25 to 0.5 in the
    paper. Biases and norm scales are never pruned. sparse_from, dense_from: fractions of
    trainer.max_epochs, rounded down to whole epochs; each phase needs one or more. lr_factor: multiplies
    the schedule in the last phase, above 0. epoch: how many are finished. mask, params [P].
    Pruning acts with the first update of the sparse phase: the dense phase is evaluated dense. The optimizer
    keeps its state over all phases. The share of zeros is logged by layer as `zeros/...`. Early stopping
    counts through the phases, and the best epoch may be a sparse one: early_stopping=none and
    restore_best=false go through all three.
    Source: Han et al., "DSD: dense-sparse-dense training for deep neural networks", arXiv 1607.04381.
    """
    begins = epoch == whole(sparse_from, epochs, epoch)
    dense = (epoch < whole(sparse_from, epochs, epoch)) | (epoch >= whole(dense_from, epochs, epoch))
    kept = torch.where(begins, largest(params, layout, sparsity), mask)
    return torch.where(dense, torch.ones_like(mask), kept)


def largest(params: Tensor, layout: Layout, sparsity: Any) -> Tensor:
    """[P]: 0 for the round(sparsity n) smallest of each weight tensor's n values, else 1; of equal ones
    those that stand first are pruned."""
    parts = []
    for part, weights in zip(params.split(layout.sizes), layout.penalized, strict=True):
        kept = torch.ones_like(part)
        if weights:
            rank = part.abs().argsort(stable=True).argsort()
            kept = (rank >= torch.round(kept * sparsity * len(part))).to(part.dtype)
        parts.append(kept)
    return torch.cat(parts)
