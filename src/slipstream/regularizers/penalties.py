"""Penalties on weights (`penalty`, or `proximal` after the update) and on activations (`activity`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slipstream.core.registry import register
from slipstream.core.types import NonNegative

if TYPE_CHECKING:
    from torch import Tensor


def _proximal(*, proximal: bool) -> None:
    """Whether exact zeros are made after the update, in place of a penalty in the loss."""


def _soft(weights: Tensor, threshold: Any) -> Tensor:
    """sign(w) max(|w| - threshold, 0)."""
    return weights - weights.clamp(min=-threshold, max=threshold)


def l1_proximal(params: Tensor, mask: Tensor, lr: Any, *, strength: NonNegative) -> Tensor:
    """The update after which `l1` stands: w <- sign(w) max(|w| - lr strength, 0).

    params [P]; mask [P]: 1 for weights, 0 for biases and norm scales.
    """
    return _soft(params, mask * (lr * strength))


@register("regularizer", place="penalty", options=_proximal, proximal=l1_proximal)
def l1(weights: Tensor, *, strength: NonNegative) -> Tensor:
    """L1 penalty: pulls every weight towards zero by the same force, and many arrive.

    loss + strength sum |w|;  proximal: after each update w <- sign(w) max(|w| - lr strength, 0)

    strength: at least 0. Biases and norm scales are left alone. proximal: false puts the penalty into
    the loss, with the subgradient 0 at 0, and weights oscillate around zero rather than being zero;
    true keeps it out of gradient and loss and makes exact zeros, whose share is logged as `zeros/...`.
    The threshold scales with the schedule as lr does. For plain SGD both seek the same minimum; Adam and
    its like make steps of about lr whatever the gradient's size, so that zeros need a strength a hundred
    times as large. On the digits, after 40 epochs: sgd 0.001 makes 29 % of the weights zero and 0.003
    77 %, adam 0.1 27 % and 0.3 63 %, at the accuracy of none.
    Source: Tibshirani, "Regression shrinkage and selection via the lasso", 1996; proximal: Daubechies,
    Defrise and De Mol, "An iterative thresholding algorithm", 2004.
    """
    return strength * weights.abs().sum()


@register("regularizer", place="penalty")
def l2(weights: Tensor, *, strength: NonNegative) -> Tensor:
    """L2 penalty: pulls every weight towards zero in proportion to itself.

    loss + strength sum w^2, so the gradient is 2 strength w; others write strength / 2 sum w^2

    strength: at least 0. Biases and norm scales are left alone. It passes through the optimizer:
    only for plain SGD is it the same as `weight_decay` (of twice the strength).
    Source: Hoerl and Kennard, "Ridge regression", 1970.
    """
    return strength * (weights * weights).sum()


def elastic_net_proximal(
    params: Tensor, mask: Tensor, lr: Any, *, strength: NonNegative, ratio: NonNegative
) -> Tensor:
    """The update after which `elastic_net` stands: soft threshold, then w / (1 + 2 lr strength ratio).

    params [P]; mask [P]: 1 for weights, 0 for biases and norm scales.
    """
    pull = mask * (lr * strength)
    return _soft(params, pull) / (1 + 2 * ratio * pull)


@register("regularizer", place="penalty", options=_proximal, proximal=elastic_net_proximal)
def elastic_net(weights: Tensor, *, strength: NonNegative, ratio: NonNegative) -> Tensor:
    """Elastic net: L2 and L1 penalty together.

    loss + strength sum (ratio w^2 + |w|);  proximal: after each update
    w <- sign(w) max(|w| - lr strength, 0) / (1 + 2 lr strength ratio)

    strength: at least 0. ratio: of the squared to the absolute term, at least 0; 0 is `l1`. Biases
    and norm scales are left alone. proximal: makes exact zeros, as in `l1`; both terms then leave
    gradient and loss.
    Source: Zou and Hastie, "Regularization and variable selection via the elastic net", 2005.
    """
    return strength * (ratio * (weights * weights) + weights.abs()).sum()


@register("regularizer", place="activity")
def activity_l2(x: Tensor, *, strength: NonNegative) -> Tensor:
    """Activity penalty: hidden units are pulled towards zero by their outputs, not by their weights.

    loss + strength / N sum h^2 for every hidden layer, of what leaves its activation (and a
    normalization behind it), before dropout

    strength: at least 0. x [N, ...] -> a number. The examples that fill up the last batch count as others.
    Source: Merity, McCann and Socher, "Revisiting activation regularization for language RNNs", 2017.
    """
    x = x.float()
    return strength * (x * x).sum() / len(x)
