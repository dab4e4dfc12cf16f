"""Steps that the metrics share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slipstream.core.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

ONE_LABEL = ("binary", "multiclass")
CLASSIFICATION = (*ONE_LABEL, "multilabel")
REGRESSION = ("regression",)


def counted(values: Tensor, weights: Tensor) -> Tensor:
    """The values [N] or [N, C], 0 where the weight is 0.

    A padded row may hold anything, and 0 times infinity or NaN is NaN.
    """
    present = (weights > 0) if values.dim() == 1 else (weights > 0).unsqueeze(-1)
    return torch.where(present, values, 0)


def mean(values: Tensor, weights: Tensor) -> Tensor:
    """The weighted mean over N: values [N] -> without axes, [N, C] -> [C]."""
    # A sum and not a product: in a pack, a product's order of summation depends on the pack's size.
    shares = weights if values.dim() == 1 else weights.unsqueeze(-1)
    return (shares * counted(values.double(), weights)).sum(0) / weights.sum(dtype=torch.float64)


def hits(scores: Tensor, targets: Tensor) -> Tensor:
    """Whether the prediction is right: bool [N], for multilabel [N, L]."""
    if targets.dim() == 2:
        return (scores > 0.5) == (targets > 0.5)
    return scores.argmax(-1) == targets


def one_hot(scores: Tensor, targets: Tensor) -> Tensor:
    """True at each example's class, or at its labels: bool [N, C]."""
    if targets.dim() == 2:
        return targets > 0.5
    return targets.unsqueeze(-1) == torch.arange(scores.shape[-1], device=targets.device)


def weights_below(ordered: Tensor, *weights: Tensor) -> list[tuple[Tensor, Tensor]]:
    """For each of the ascending values the total weight of smaller ones, and of those not larger; [C, N].

    For every one of several weights.
    """
    # Where each run of equal values begins, and where the next one does. `searchsorted` says the same
    # in four times the time.
    pad, count = torch.nn.functional.pad, ordered.shape[-1]
    begins = pad(ordered[..., 1:] != ordered[..., :-1], (1, 0), value=True)
    ends = pad(begins[..., 1:], (0, 1), value=True)
    place = torch.arange(count, device=ordered.device)
    first = torch.where(begins, place, 0).cummax(-1).values
    after = torch.where(ends, place + 1, count).flip(-1).cummin(-1).values.flip(-1)
    sums = [pad(weight.cumsum(-1), (1, 0)) for weight in weights]
    return [(running.gather(-1, first), running.gather(-1, after)) for running in sums]
