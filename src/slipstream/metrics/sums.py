"""Weighted sums and masks that the metrics share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slipstream.core.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

ONE_LABEL = ("binary", "multiclass")
CLASSIFICATION = (*ONE_LABEL, "multilabel")
REGRESSION = ("regression",)


def counted(values: Tensor, weights: Tensor) -> Tensor:
    """Return the values [N] or [N, C], with 0 where the weight is 0.

    A padded row may hold any value, and 0 times infinity or NaN is NaN.
    """
    present = (weights > 0) if values.dim() == 1 else (weights > 0).unsqueeze(-1)
    return torch.where(present, values, 0)


def mean(values: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted mean over N: values [N] -> scalar, [N, C] -> [C]."""
    # A sum, not a matrix product, whose order of summation depends on the pack's size.
    shares = weights if values.dim() == 1 else weights.unsqueeze(-1)
    return (shares * counted(values.double(), weights)).sum(0) / weights.sum(dtype=torch.float64)


def hits(scores: Tensor, targets: Tensor) -> Tensor:
    """Return True for each correct prediction: bool [N], for multilabel [N, L]."""
    if targets.dim() == 2:
        return (scores > 0.5) == (targets > 0.5)
    return scores.argmax(-1) == targets


def one_hot(scores: Tensor, targets: Tensor) -> Tensor:
    """Return a mask that is True at each example's class or labels: bool [N, C]."""
    if targets.dim() == 2:
        return targets > 0.5
    return targets.unsqueeze(-1) == torch.arange(scores.shape[-1], device=targets.device)


def weights_below(ordered: Tensor, *weights: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Return the total weight of smaller values, and of values not larger, for ascending values [C, N].

    One pair for each of the given weights.
    """
    # The start of each run of equal values, and of the next run. `searchsorted` takes four times as long.
    pad, count = torch.nn.functional.pad, ordered.shape[-1]
    begins = pad(ordered[..., 1:] != ordered[..., :-1], (1, 0), value=True)
    ends = pad(begins[..., 1:], (0, 1), value=True)
    place = torch.arange(count, device=ordered.device)
    first = torch.where(begins, place, 0).cummax(-1).values
    after = torch.where(ends, place + 1, count).flip(-1).cummin(-1).values.flip(-1)
    sums = [pad(weight.cumsum(-1), (1, 0)) for weight in weights]
    return [(running.gather(-1, first), running.gather(-1, after)) for running in sums]
