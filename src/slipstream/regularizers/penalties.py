"""Penalties on weights (`penalty`, or `proximal` after the update) and on activations (`activity`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slipstream.core.registry import register
from slipstream.core.types import NonNegative, Scalar

if TYPE_CHECKING:
    from torch import Tensor


def _proximal(*, proximal: bool) -> None:
    """Declare the option for exact zeros after the update instead of a penalty in the loss."""


def _soft(weights: Tensor, threshold: Tensor) -> Tensor:
    """Return sign(w) max(|w| - threshold, 0)."""
    return weights - weights.clamp(min=-threshold, max=threshold)


def l1_proximal(params: Tensor, mask: Tensor, lr: Scalar, *, strength: NonNegative) -> Tensor:
    """Apply the proximal step of `l1`: w <- sign(w) max(|w| - lr strength, 0).

    params [P]; mask [P]: 1 for weights, 0 for biases and norm scales.
    """
    return _soft(params, mask * (lr * strength))


@register("regularizer", place="penalty", options=_proximal, proximal=l1_proximal)
def l1(weights: Tensor, *, strength: NonNegative) -> Tensor:
    """L1 penalty: pulls every weight towards zero with the same force; many become zero.

    loss + strength sum |w|;  proximal: after each update w <- sign(w) max(|w| - lr strength, 0)

    strength: at least 0. Biases and norm scales are exempt. proximal: false adds the penalty to the loss,
    with subgradient 0 at 0, and weights oscillate around zero without reaching it; true keeps it out of
    loss and gradient and produces exact zeros, whose share is logged as `zeros/...`.
    The threshold scales with the schedule as lr does. For plain SGD both have the same minimum; Adam and
    similar rules take steps of about lr whatever the gradient's size, so zeros need a strength a hundred
    times as large. On data=digits after 40 epochs, sgd makes 29 % of the weights zero at 0.001 and 77 %
    at 0.003, adam 27 % at 0.1 and 63 % at 0.3, with the accuracy of an unpenalized run.
    Source: Tibshirani, "Regression shrinkage and selection via the lasso", 1996; proximal: Daubechies,
    Defrise and De Mol, "An iterative thresholding algorithm", 2004.
    """
    return strength * weights.abs().sum()


@register("regularizer", place="penalty")
def l2(weights: Tensor, *, strength: NonNegative) -> Tensor:
    """L2 penalty: pulls every weight towards zero in proportion to its size.

    loss + strength sum w^2, so the gradient is 2 strength w; some authors write strength / 2 sum w^2

    strength: at least 0. Biases and norm scales are exempt. The gradient passes through the optimizer:
    only for plain SGD is it equivalent to `weight_decay` (of twice the strength).
    Source: Hoerl and Kennard, "Ridge regression", 1970.
    """
    return strength * (weights * weights).sum()


def elastic_net_proximal(
    params: Tensor, mask: Tensor, lr: Scalar, *, strength: NonNegative, ratio: NonNegative
) -> Tensor:
    """Apply the proximal step of `elastic_net`: soft threshold, then w / (1 + 2 lr strength ratio).

    params [P]; mask [P]: 1 for weights, 0 for biases and norm scales.
    """
    pull = mask * (lr * strength)
    return _soft(params, pull) / (1 + 2 * ratio * pull)


@register("regularizer", place="penalty", options=_proximal, proximal=elastic_net_proximal)
def elastic_net(weights: Tensor, *, strength: NonNegative, ratio: NonNegative) -> Tensor:
    """Elastic net: L2 and L1 penalties combined.

    loss + strength sum (ratio w^2 + |w|);  proximal: after each update
    w <- sign(w) max(|w| - lr strength, 0) / (1 + 2 lr strength ratio)

    strength: at least 0. ratio: of the squared to the absolute term, at least 0; 0 is `l1`. Biases
    and norm scales are exempt. proximal: produces exact zeros, as in `l1`; neither term is then in the
    loss or the gradient.
    Source: Zou and Hastie, "Regularization and variable selection via the elastic net", 2005.
    """
    return strength * (ratio * (weights * weights) + weights.abs()).sum()


@register("regularizer", place="activity")
def activity_l2(x: Tensor, *, strength: NonNegative) -> Tensor:
    """Activity penalty: pulls the outputs of hidden units towards zero, not their weights.

    loss + strength / N sum h^2 for every hidden layer; h is the output of its activation (and of a
    normalization after it), before dropout

    strength: at least 0. x [N, ...] -> a scalar. Examples that fill up the last batch count too.
    Source: Merity, McCann and Socher, "Revisiting activation regularization for language RNNs", 2017.
    """
    x = x.float()
    return strength * (x * x).sum() / len(x)
