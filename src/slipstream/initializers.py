"""Initial weights: `f(key, shape, gain, *, settings) -> float32 tensor of the shape`.

key [4] is a counted key (slipstream.core.random), so weights depend only on the run's seed and the
layer's number. shape is [out, in] or [out, in, *kernel]. gain is the factor for the activation after the
layer (its trait `gain`); initializers that ignore it say so.

Traits
  warns           a warning that the run shows, since the choice is legal but rarely intended.
  data_dependent  the engine rescales the layers on the first batch; see `lsuv`.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Literal

from slipstream.core import random
from slipstream.core.lazy import torch
from slipstream.core.registry import register, shared
from slipstream.core.types import Count, Positive, Real, Scalar

if TYPE_CHECKING:
    from torch import Tensor

Shape = tuple[int, ...]
Mode = Literal["fan_in", "fan_out"]

SYMMETRY = "hidden units start identical and stay so: a layer of any width learns like a single unit"
BELOW = 0.02275013194817921  # the share of a normal distribution below -2 standard deviations


def fans(shape: Shape) -> tuple[int, int]:
    """Return (fan_in, fan_out): the number of inputs of one output, and of outputs of one input.

    Raises ValueError for fewer than two axes: not the shape of a weight.

    >>> fans((16, 3, 5, 5))
    (75, 400)
    """
    if len(shape) < 2:
        raise ValueError(f"a weight has at least the axes [out, in], found shape {list(shape)}")
    kernel = prod(shape[2:])
    return shape[1] * kernel, shape[0] * kernel


@shared("initializer")
def bias(shape: Shape, *, bias: Real) -> Tensor:
    """The initial biases: all equal to `bias`, any number (0.01 is sometimes advised for relu)."""
    return torch.zeros(shape) + bias


def _normal(key: Tensor, shape: Shape, std: Scalar) -> Tensor:
    return random.normal(key, shape) * std


def _uniform(key: Tensor, shape: Shape, bound: Scalar) -> Tensor:
    return (2 * random.uniform(key, shape) - 1) * bound


def _fan(shape: Shape, mode: Mode) -> int:
    fan_in, fan_out = fans(shape)
    return fan_in if mode == "fan_in" else fan_out


@register("initializer")
def auto(key: Tensor, shape: Shape, gain: Scalar) -> Tensor:
    """N(0, std^2) with std = gain / sqrt(fan_in): adapts to the activation.

    This is kaiming_normal (fan_in) for every activation: He's initializer for relu, and lecun_normal for
    selu and the identity, whose gain is 1 (He et al. 2015; Klambauer et al. 2017).
    """
    return _normal(key, shape, gain * fans(shape)[0] ** -0.5)


@register("initializer")
def normal(key: Tensor, shape: Shape, gain: Scalar, *, std: Positive) -> Tensor:
    """N(0, std^2), regardless of the layer's size and activation.

    std: above 0. If too small, the signal vanishes with depth; if too large, it explodes.
    """
    return _normal(key, shape, std)


@register("initializer")
def uniform(key: Tensor, shape: Shape, gain: Scalar, *, bound: Positive) -> Tensor:
    """U(-bound, bound), regardless of the layer's size and activation; std = bound / sqrt(3).

    bound: above 0.
    """
    return _uniform(key, shape, bound)


@register("initializer")
def truncated_normal(key: Tensor, shape: Shape, gain: Scalar, *, std: Positive) -> Tensor:
    """N(0, std^2) truncated at 2 std, regardless of the layer's size and activation.

    std: above 0, the standard deviation before truncation; afterwards it is 0.880 std. A uniform number u
    becomes the normal quantile of Phi(-2) + u (Phi(2) - Phi(-2)).
    """
    u = random.uniform(key, shape)
    result: Tensor = torch.special.ndtri(BELOW + u * (1 - 2 * BELOW)).clamp(-2, 2) * std
    return result


@register("initializer", warns=SYMMETRY)
def zeros(key: Tensor, shape: Shape, gain: Scalar) -> Tensor:
    """All zeros: legal, but the run warns that hidden units stay identical.

    Only a network without hidden layers learns properly from zeros.
    """
    return torch.zeros(shape, device=key.device)


@register("initializer", warns=SYMMETRY)
def constant(key: Tensor, shape: Shape, gain: Scalar, *, value: Real) -> Tensor:
    """All equal to `value`, any number: the run warns that hidden units stay identical."""
    return torch.zeros(shape, device=key.device) + value


@register("initializer")
def xavier_normal(key: Tensor, shape: Shape, gain: Scalar) -> Tensor:
    """N(0, std^2) with std = gain * sqrt(2 / (fan_in + fan_out)) (Glorot and Bengio 2010)."""
    return _normal(key, shape, gain * (2 / sum(fans(shape))) ** 0.5)


@register("initializer")
def xavier_uniform(key: Tensor, shape: Shape, gain: Scalar) -> Tensor:
    """U(-a, a) with a = gain * sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio 2010)."""
    return _uniform(key, shape, gain * (6 / sum(fans(shape))) ** 0.5)


@register("initializer")
def kaiming_normal(key: Tensor, shape: Shape, gain: Scalar, *, mode: Mode) -> Tensor:
    """N(0, std^2) with std = gain / sqrt(fan) (He et al. 2015).

    mode: fan_in preserves the scale of activations in the forward pass, fan_out that of gradients in the
    backward pass.
    """
    return _normal(key, shape, gain * _fan(shape, mode) ** -0.5)


@register("initializer")
def kaiming_uniform(key: Tensor, shape: Shape, gain: Scalar, *, mode: Mode) -> Tensor:
    """U(-a, a) with a = gain * sqrt(3 / fan) (He et al. 2015).

    mode: fan_in preserves the scale of activations in the forward pass, fan_out that of gradients in the
    backward pass.
    """
    return _uniform(key, shape, gain * (3 / _fan(shape, mode)) ** 0.5)


@register("initializer")
def lecun_normal(key: Tensor, shape: Shape, gain: Scalar) -> Tensor:
    """N(0, 1 / fan_in), regardless of the activation (LeCun et al. 1998); the initializer for selu."""
    return _normal(key, shape, fans(shape)[0] ** -0.5)


@register("initializer")
def orthogonal(key: Tensor, shape: Shape, gain: Scalar) -> Tensor:
    """gain * Q with orthonormal rows, or columns if these are fewer (Saxe et al. 2014).

    Q is uniformly distributed over orthogonal matrices; the weight is treated as [out, in * kernel].
    Raises ValueError for a shape with fewer than two axes.
    """
    fan_in, _ = fans(shape)
    rows, columns = max(shape[0], fan_in), min(shape[0], fan_in)
    q, r = torch.linalg.qr(random.normal(key, (rows, columns)))
    # QR does not fix the signs of the columns: Q is uniform if R's diagonal is positive (Mezzadri 2007).
    q = q * r.diagonal().sign()
    result: Tensor = (q if shape[0] == rows else q.mT).reshape(shape) * gain
    return result


@register("initializer", data_dependent=True)
def lsuv(key: Tensor, shape: Shape, gain: Scalar, *, tolerance: Positive, max_iterations: Count) -> Tensor:
    """Layer-sequential unit variance: orthogonal, then rescaled on data (Mishkin and Matas 2016).

    Layer by layer from the input, the engine divides the weight by the standard deviation of the
    layer's output (before the activation) on the first batch, until its variance is within
    `tolerance` of 1 or after `max_iterations`. This function returns the orthogonal weights; it ignores
    the activation's gain, since the data determine the scale.
    tolerance: above 0. max_iterations: at least 1.
    """
    return orthogonal(key, shape, 1.0)
