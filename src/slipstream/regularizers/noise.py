"""Noise on inputs, hidden units and residual branches (`noise`), in training only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slipstream.core.lazy import torch
from slipstream.core.random import normal, uniform
from slipstream.core.registry import register
from slipstream.core.types import Fraction, NonNegative, Scalar

if TYPE_CHECKING:
    from torch import Tensor

    from slipstream.core.random import Key


# SELU's lower limit, -scale * alpha (Klambauer et al. 2017): the value of units that alpha dropout drops.
SELU_FLOOR = -1.7580993408473766


@register("regularizer", place="noise", on="hidden")
def dropout(x: Tensor, key: Key, *, rate: Fraction) -> Tensor:
    """Dropout: sets hidden units to zero at random and scales up the others to preserve the mean.

    x mask / (1 - rate), mask = 1 with probability 1 - rate; in training only

    rate: probability of being dropped, in [0, 1). x [N, ...], key [4].
    Source: Srivastava et al., JMLR 2014, in the inverted form.
    """
    return x * ((uniform(key, x.shape) >= rate).to(x.dtype) * (1 / (1 - rate)))


@register("regularizer", place="noise", on="hidden")
def alpha_dropout(x: Tensor, key: Key, *, rate: Fraction) -> Tensor:
    """Alpha dropout: dropout for SELU networks, which preserves mean and variance.

    a (x mask + f (1 - mask)) + b, f = SELU's floor -1.758, a = ((1 - rate) (1 + rate f^2))^(-1/2),
    b = -a rate f; in training only

    rate: probability of being dropped, in [0, 1). x [N, ...], key [4].
    Source: Klambauer et al., "Self-normalizing neural networks", NeurIPS 2017.
    """
    kept = uniform(key, x.shape) >= rate
    a = ((1 - rate) * (1 + rate * SELU_FLOOR**2)) ** -0.5
    result: Tensor = torch.where(kept, x, SELU_FLOOR) * a - a * rate * SELU_FLOOR
    return result


@register("regularizer", place="noise", on="hidden")
def gaussian_dropout(x: Tensor, key: Key, *, rate: Fraction) -> Tensor:
    """Gaussian dropout: multiplies hidden units by noise with dropout's mean 1 and variance.

    x (1 + N(0, 1) sqrt(rate / (1 - rate))); in training only

    rate: in [0, 1), that of dropout with the same mean and variance. x [N, ...], key [4].
    Source: Srivastava et al., JMLR 2014, section 10.
    """
    result: Tensor = x * (1 + normal(key, x.shape) * (rate / (1 - rate)) ** 0.5).to(x.dtype)
    return result


def _whole(x: Tensor, key: Key, rate: Scalar, axes: int) -> Tensor:
    """Drop whole slices: one mask entry per index of the first `axes` axes."""
    kept = uniform(key, x.shape[:axes]) >= rate
    return x * kept.reshape(*x.shape[:axes], *(1,) * (x.dim() - axes)) * (1 / (1 - rate))


@register("regularizer", place="noise", on="hidden")
def spatial_dropout(x: Tensor, key: Key, *, rate: Fraction) -> Tensor:
    """Spatial dropout: drops whole channels, because neighboring values in a channel are correlated.

    x mask / (1 - rate), mask [N, C] = 1 with probability 1 - rate; in training only

    rate: probability of being dropped, in [0, 1). x [N, C, ...], key [4]. For a dense layer, x [N, C], it
    equals `dropout`.
    Source: Tompson et al., "Efficient object localization using convolutional networks", CVPR 2015.
    """
    return _whole(x, key, rate, 2)


@register("regularizer", place="noise", on="branch")
def drop_path(x: Tensor, key: Key, *, rate: Fraction) -> Tensor:
    """Drop path (stochastic depth): skips residual branches at random, independently per example.

    h + branch(h) mask / (1 - rate), mask [N] = 1 with probability 1 - rate; in training only

    rate: probability of being skipped, in [0, 1), the same at every depth. x [N, ...], key [4]. Needs
    residual branches: model.residual=true, or a model that always has them.
    Source: Huang et al., "Deep networks with stochastic depth", ECCV 2016, scaled as in Larsson et al.,
    "FractalNet", ICLR 2017.
    """
    return _whole(x, key, rate, 1)


@register("regularizer", place="noise", on="inputs")
def gaussian_noise(x: Tensor, key: Key, *, std: NonNegative) -> Tensor:
    """Gaussian noise on the inputs.

    x + std N(0, 1); in training only

    std: in units of the preprocessed inputs, at least 0. x [N, ...], key [4].
    Source: Bishop, "Training with noise is equivalent to Tikhonov regularization", 1995.
    """
    return x + (normal(key, x.shape) * std).to(x.dtype)
