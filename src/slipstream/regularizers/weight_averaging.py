"""Weights to evaluate and keep instead of the trained ones: `average`, `follow`, `epoch`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import numpy as np
from annotated_types import Gt, Le

from slipstream.core.lazy import torch
from slipstream.core.registry import register
from slipstream.core.types import Count, Fraction, Layout, Scalar
from slipstream.core.wording import counted
from slipstream.optimizers.base import minimum
from slipstream.regularizers.phases import whole
from slipstream.schedulers import Clock, Factors, falling_cosine

if TYPE_CHECKING:
    from torch import Tensor


Share = Annotated[float, Gt(0), Le(1)]


@register("regularizer", place="average")
def ema(average: Tensor, params: Tensor, t: Scalar, *, decay: Fraction, warmup: bool) -> Tensor:
    """Exponential moving average of the parameters, evaluated and kept in their place.

    average <- d average + (1 - d) w;  d = decay, or with warmup min(decay, (1 + t) / (10 + t))

    decay: fraction; the average spans about 1 / (1 - decay) updates. warmup: a shorter memory at first.
    t: number of the update, from 1. average, params [P]. Running statistics of batch normalization are
    averaged too.
    Edge: the average starts at the initial parameters; without warmup their weight is decay^t.
    Source: Polyak and Juditsky 1992; the warm-up is TensorFlow's.
    """
    if warmup:
        return average + (params - average) * (1 - minimum(decay, (1 + t) / (10 + t)))
    return average + (params - average) * (1 - decay)


@register("regularizer", place="follow")
def lookahead(
    params: Tensor, slow: Tensor, t: Scalar, *, steps: Count, alpha: Share
) -> tuple[Tensor, Tensor]:
    """Lookahead: slow weights follow the optimizer's every few updates, and reset it to them.

    every `steps` updates: slow <- slow + alpha (w - slow), w <- slow; the slow weights are evaluated and kept

    steps: updates in between, at least 1; 5 in the paper. alpha: in (0, 1]; 0.5 in the paper, 1 leaves the
    optimizer unchanged. t: the number of the update, from 1. params, slow [P]. Returns both. The
    optimizer keeps its momentum across resets.
    Edge: with fewer than `steps` updates before an evaluation the slow weights are the initial ones.
    Source: Zhang et al., "Lookahead optimizer: k steps forward, 1 step back", NeurIPS 2019.
    """
    due = torch.as_tensor(t % steps == 0, device=params.device)
    slow = torch.where(due, slow + (params - slow) * alpha, slow)
    return torch.where(due, slow, params), slow


@register("regularizer", place="epoch")
def swa(
    average: Tensor, params: Tensor, epoch: Tensor, epochs: int, layout: Layout, *, start: Fraction
) -> Tensor:
    """Stochastic weight averaging: the mean of the weights at the ends of the last epochs.

    after epoch e: average <- average + (w - average) / (e - s) if e > s = start trainer.max_epochs, else w

    start: fraction of trainer.max_epochs, s rounded down to whole epochs. epoch: the number of finished
    ones. average, params [P]. Running statistics of batch normalization are averaged too. Epochs up to s
    are evaluated without averaging. Choose a schedule that does not decay to zero, so that the weights
    keep moving. If training stops before epoch s, nothing is averaged.
    Source: Izmailov et al., "Averaging weights leads to wider optima and better generalization", UAI 2018,
    which makes one more pass over the training data for batch normalization's statistics.
    """
    count = (epoch - whole(start, epochs, epoch)).clamp(min=1.0)
    return average.lerp(params, 1 / count)


def _first_snapshots(params: Tensor, *, cycles: int) -> Tensor:
    return params.repeat(cycles)


def _cycle_ends(cycles: int, epochs: int) -> list[int]:
    """Return the last epochs of the cycles, whose lengths are as equal as possible."""
    return [epochs * (i + 1) // cycles for i in range(cycles)]


def _cosine_cycles(clock: Clock, *, cycles: int) -> Factors:
    """Return half a cosine from 1 to 0 in each cycle."""
    ends = np.array(_cycle_ends(cycles, clock.total_steps // clock.steps_per_epoch)) * clock.steps_per_epoch
    place = np.minimum(np.searchsorted(ends, clock.step, side="right"), cycles - 1)
    begins = np.concatenate([[0], ends])
    share = (clock.step - begins[place]) / (ends[place] - begins[place])
    return falling_cosine(np.minimum(share, 1.0), 0.0)


def _enough_epochs(epochs: int, *, cycles: int) -> list[str]:
    if cycles <= epochs:
        return []
    found = f"regularizer.snapshot_ensemble.cycles: {cycles} cycles do not fit in {counted(epochs, 'epoch')}"
    return [f"{found}; raise trainer.max_epochs or lower cycles"]


@register(
    "regularizer", place="epoch", start=_first_snapshots, rate=_cosine_cycles, fits_epochs=_enough_epochs
)
def snapshot_ensemble(
    snapshots: Tensor, params: Tensor, epoch: Tensor, epochs: int, layout: Layout, *, cycles: Count
) -> Tensor:
    """Snapshot ensemble: one run yields several networks, whose predictions are averaged.

    The rate decays along half a cosine and restarts, `cycles` times; the weights at the end of each
    cycle are a member. Scores (probabilities) are the mean of the members' scores.

    cycles: also the number of members, at most trainer.max_epochs. epoch: the number of finished ones.
    params [P], snapshots [cycles P]: unfinished cycles hold the current weights, so an evaluation during
    training is that of the members so far, with the current network in place of all future ones. The
    cosine multiplies the schedule's factors: leave scheduler=constant. Each member has its own running
    statistics. Evaluation takes `cycles` times as long. The loss is the mean of the members' losses, but
    metrics are the ensemble's: choose the best epoch by trainer.monitor=val/log_loss or val/accuracy.
    The loss rises at the start of each cycle, so early stopping needs a patience above one.
    Source: Huang et al., "Snapshot ensembles: train 1, get M for free", ICLR 2017.
    """
    ends = torch.tensor(_cycle_ends(cycles, epochs), device=params.device)
    rows = snapshots.view(cycles, -1)
    return torch.where((epoch <= ends)[:, None], params[None], rows).flatten()
