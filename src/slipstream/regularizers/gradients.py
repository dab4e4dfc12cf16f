"""Changes of the gradient before the optimizer sees it (`gradient`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from slipstream.core.random import normal
from slipstream.core.registry import register
from slipstream.core.types import NonNegative, Positive, Scalar
from slipstream.optimizers.base import to_power

if TYPE_CHECKING:
    from torch import Tensor

    from slipstream.core.random import Key


@register("regularizer", place="gradient")
def gradient_clipping(gradient: Tensor, *, max_norm: Positive, mode: Literal["norm", "value"]) -> Tensor:
    """Gradient clipping: bounds the norm of the gradient, or each of its entries.

    norm: g min(1, max_norm / ||g||) over all parameters together;  value: entries to [-max_norm, max_norm]

    max_norm: above 0. gradient [P]. Edge: NaN stays NaN. If an entry is infinite, mode norm
    makes it NaN and the others zero.
    Source: Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural networks", 2013.
    """
    if mode == "value":
        return gradient.clamp(min=-max_norm).clamp(max=max_norm)
    result: Tensor = gradient * (max_norm / gradient.norm()).clamp(max=1.0)
    return result


@register("regularizer", place="gradient", keyed=True)
def gradient_noise(gradient: Tensor, key: Key, t: Scalar, *, eta: NonNegative, gamma: NonNegative) -> Tensor:
    """Gradient noise: normal noise on every entry of the gradient, which decays over the updates.

    g + N(0, eta / t^gamma)

    eta: variance at the first update, at least 0; the paper tries 0.01, 0.3 and 1. gamma: the
    decay rate, at least 0; 0.55 in the paper. t: the number of the update, from 1. gradient [P], key [4]
    of this update. It acts after `gradient_clipping`, which would rescale the noise.
    Source: Neelakantan et al., "Adding gradient noise improves learning for very deep networks",
    arXiv 1511.06807.
    """
    std = eta**0.5 * to_power(t, -0.5 * gamma)
    result: Tensor = gradient + (normal(key, gradient.shape) * std).to(gradient.dtype)
    return result
