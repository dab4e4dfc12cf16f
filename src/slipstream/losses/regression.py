"""Regression losses, one value per example: the mean over the D target columns."""

from __future__ import annotations

from math import log, pi
from typing import TYPE_CHECKING, Annotated

from annotated_types import Gt, Lt, MinLen

from slipstream.core.errors import ConfigError
from slipstream.core.lazy import torch
from slipstream.core.registry import register
from slipstream.core.types import Positive, Target
from slipstream.losses.target_forms import ALL, REGRESSION, as_numbers, one_if_binary, one_per_column, values

if TYPE_CHECKING:
    from torch import Tensor


@register("loss", tasks=ALL, outputs=one_if_binary, predict=values, soft=True)
def mse(outputs: Tensor, targets: Tensor, *, half: bool) -> Tensor:
    """(output - target)^2, or half of it, averaged over the outputs.

    half: false gives the mean squared error of the metric `mse` (on scaled targets), true the textbook
    0.5 (y - t)^2, whose gradient is y - t.
    For classes the targets are 0 and 1 (binary: one output; multiclass: one-hot, one output per
    class), and the scores are 1 - y and y, or the outputs: not probabilities.
    """
    squares = (outputs - as_numbers(outputs, targets)).square().mean(-1)
    return 0.5 * squares if half else squares


@register("loss", tasks=REGRESSION, outputs=one_per_column, predict=values)
def mae(outputs: Tensor, targets: Tensor) -> Tensor:
    """|output - target|, averaged over the columns: fits the median. The gradient at 0 is 0."""
    return (outputs - targets).abs().mean(-1)


@register("loss", tasks=REGRESSION, outputs=one_per_column, predict=values)
def huber(outputs: Tensor, targets: Tensor, *, delta: Positive) -> Tensor:
    """e^2 / 2 if |e| < delta, else delta (|e| - delta / 2); averaged over the columns (Huber 1964).

    delta: above 0, in units of the (scaled) target.
    """
    error = (outputs - targets).abs()
    return torch.where(error < delta, 0.5 * error.square(), delta * (error - 0.5 * delta)).mean(-1)


@register("loss", tasks=REGRESSION, outputs=one_per_column, predict=values)
def smooth_l1(outputs: Tensor, targets: Tensor, *, beta: Positive) -> Tensor:
    """e^2 / (2 beta) if |e| < beta, else |e| - beta / 2; averaged over the columns (Girshick 2015).

    beta: above 0, in units of the (scaled) target. Equals huber(delta=beta) / beta.
    """
    error = (outputs - targets).abs()
    return torch.where(error < beta, 0.5 * error.square() / beta, error - 0.5 * beta).mean(-1)


@register("loss", tasks=REGRESSION, outputs=one_per_column, predict=values)
def log_cosh(outputs: Tensor, targets: Tensor) -> Tensor:
    """log(cosh(output - target)), averaged over the columns: e^2 / 2 near 0, |e| - log 2 far from it.

    Computed as |e| + log(1 + exp(-2 |e|)) - log 2, which does not overflow.
    """
    error = (outputs - targets).abs()
    return (error + torch.log1p(torch.exp(-2 * error)) - log(2)).mean(-1)


@register(
    "loss", tasks=REGRESSION, outputs=one_per_column, predict=lambda o, target, **_: o.exp(), unscaled=True
)
def poisson_nll(outputs: Tensor, targets: Tensor) -> Tensor:
    """exp(o) - t o, averaged over the columns: counts t with rate exp(o), without the constant log t!.

    targets: counts, at least 0 and unscaled. The prediction is the rate exp(o).
    """
    return (outputs.exp() - targets * outputs).mean(-1)


def _means(outputs: Tensor, target: Target, **settings: object) -> Tensor:
    return outputs.chunk(2, -1)[0]


@register("loss", tasks=REGRESSION, outputs=lambda target, **_: 2 * len(target.names), predict=_means)
def gaussian_nll(outputs: Tensor, targets: Tensor, *, eps: Positive) -> Tensor:
    """(log v + (t - m)^2 / v + log 2 pi) / 2: a mean m and a variance v for every example.

    outputs [N, 2 D]: first the means, then the log variances l, v = exp(l) + eps; averaged over the
    columns (Nix and Weigend 1994). eps: above 0, the minimum variance, so that a perfectly fitted
    example does not drive the loss to minus infinity. The prediction is m.
    """
    mean, log_variance = outputs.chunk(2, -1)
    variance = log_variance.exp() + eps
    return 0.5 * (variance.log() + (targets - mean).square() / variance + log(2 * pi)).mean(-1)


Level = Annotated[float, Gt(0), Lt(1)]


def _median(outputs: Tensor, target: Target, *, quantiles: list[float]) -> Tensor:
    """Return the quantile nearest to the median, [N, D]."""
    nearest = min(range(len(quantiles)), key=lambda i: abs(quantiles[i] - 0.5))
    result: Tensor = outputs.unflatten(-1, (-1, len(quantiles)))[..., nearest]
    return result


@register(
    "loss",
    tasks=REGRESSION,
    outputs=lambda target, *, quantiles: len(target.names) * len(quantiles),
    predict=_median,
)
def quantile(outputs: Tensor, targets: Tensor, *, quantiles: Annotated[list[Level], MinLen(1)]) -> Tensor:
    """max(q e, (q - 1) e) with e = target - output: each output fits a quantile (Koenker and Bassett 1978).

    outputs [N, D Q]: the Q quantiles of the first column, then those of the next; averaged over all.
    quantiles: each in (0, 1). The prediction, which metrics use, is the quantile nearest to the
    median. Quantiles may cross.
    """
    level = torch.tensor(quantiles, device=outputs.device, dtype=outputs.dtype)
    error = targets.unsqueeze(-1) - outputs.unflatten(-1, (-1, len(quantiles)))
    return torch.maximum(level * error, (level - 1) * error).flatten(-2).mean(-1)


def _directions(target: Target, **settings: object) -> int:
    if len(target.names) < 2:
        problem = f"compares directions and needs at least two target columns, found {len(target.names)}"
        raise ConfigError([f"loss=cosine_similarity: {problem}; use loss=mse for a single one"])
    return len(target.names)


@register("loss", tasks=REGRESSION, outputs=_directions, predict=values)
def cosine_similarity(outputs: Tensor, targets: Tensor) -> Tensor:
    """1 - cos(output, target): 0 for the same direction, 2 for the opposite, regardless of lengths.

    Needs at least two target columns; raises ConfigError otherwise. Lengths below 1e-8 count as 1e-8. The
    length is not learned, so metrics such as rmse are hardly meaningful.
    """
    return 1 - torch.nn.functional.cosine_similarity(outputs, targets, dim=-1)
