"""Regression metrics, averaged over the target columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slipstream.core.lazy import torch
from slipstream.core.registry import register
from slipstream.metrics.sums import REGRESSION, counted, mean, weights_below

if TYPE_CHECKING:
    from torch import Tensor


@register("metric", tasks=REGRESSION, mode="min")
def mse(scores: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Mean squared error, in squared units of the target, averaged over the columns."""
    return mean((scores - targets).square(), weights).mean()


@register("metric", tasks=REGRESSION, mode="min")
def rmse(scores: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Root mean squared error, in units of the target; the roots are averaged over the columns."""
    return mean((scores - targets).square(), weights).sqrt().mean()


@register("metric", tasks=REGRESSION, mode="min")
def mae(scores: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Mean absolute error, in units of the target, averaged over the columns."""
    return mean((scores - targets).abs(), weights).mean()


@register("metric", tasks=REGRESSION, mode="max")
def r2(scores: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """1 - squared error / squared deviation from the targets' mean, averaged over the columns.

    1 is perfect, 0 no better than the mean; there is no lower bound. NaN if a target column is constant,
    as with a single example.
    """
    targets, scores = counted(targets.double(), weights), counted(scores.double(), weights)
    # Relative to one of the targets, so that equal targets have a deviation of exactly 0.
    origin = targets.index_select(0, weights.argmax(0, keepdim=True))
    centre = origin + mean(targets - origin, weights)
    deviation = mean((targets - centre).square(), weights)
    error = mean((targets - scores).square(), weights)
    return torch.where(deviation > 0, 1 - error / deviation, torch.nan).mean()


@register("metric", tasks=REGRESSION, mode="min")
def mape(scores: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Mean absolute error relative to the target, |t - y| / |t|, as a fraction (1 is 100 percent).

    Averaged over the columns. NaN if a target is 0.
    """
    relative = torch.where(targets == 0, torch.nan, (scores - targets).abs() / targets.abs())
    return mean(relative, weights).mean()


@register("metric", tasks=REGRESSION, mode="min")
def median_absolute_error(scores: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """The median of |t - y|, in units of the target, averaged over the columns.

    With weights, half of the total weight lies below it; between two errors, it is their midpoint.
    """
    errors, order = counted((scores - targets).abs().double(), weights).mT.sort(-1)
    running = weights.double().expand(errors.shape).gather(-1, order).cumsum(-1)
    half = running[:, -1:] / 2
    lower = (running < half).sum(-1, keepdim=True)
    upper = (running <= half).sum(-1, keepdim=True).clamp(max=errors.shape[-1] - 1)
    middle = 0.5 * (errors.gather(-1, lower) + errors.gather(-1, upper))
    return torch.where(half > 0, middle, torch.nan).mean()


@register("metric", tasks=REGRESSION, mode="max")
def spearman(scores: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Spearman's rank correlation, -1 to 1: Pearson's correlation of ranks; ties share their mean rank.

    Averaged over the columns. A weight of k counts as k equal examples. NaN if the predictions or the
    targets are constant.
    """
    w = weights.double().expand(scores.shape[-1], -1)
    total = w.sum(-1, keepdim=True)

    def centred_ranks(values: Tensor) -> Tensor:
        ordered, order = counted(values, weights).mT.contiguous().sort(-1)
        ((smaller, not_larger),) = weights_below(ordered, w.gather(-1, order))
        return torch.zeros_like(smaller).scatter(-1, order, 0.5 * (smaller + not_larger - total))

    a, b = centred_ranks(scores), centred_ranks(targets)
    return ((w * a * b).sum(-1) / ((w * a * a).sum(-1) * (w * b * b).sum(-1)).sqrt()).mean()
