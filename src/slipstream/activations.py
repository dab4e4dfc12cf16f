"""Activation functions: `f(x, *, settings)`, elementwise over any shape, written for one member.

`maxout`, `glu`, `softmax` and `softmin` act along the feature axis, which they take as `dim`.

Some of torch's CPU kernels (sigmoid, softplus, silu, mish, elu, selu, glu, gelu with tanh) round the
last few elements of a tensor differently from the rest, so a member's bytes would depend on its position
in the pack and on the pack's size. These functions use only kernels that do not: exp, expm1, tanh,
logsigmoid.

The trait `gain` is `integrated_gain`'s, with exceptions: sigmoid and tanh have 1 and 5/3, as in
`torch.nn.init.calculate_gain`; selu has 1, as its paper requires, not torch's 3/4.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, reduce
from math import inf, pi
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

from annotated_types import Ge

from slipstream.core.lazy import torch
from slipstream.core.registry import register
from slipstream.core.types import Function, Plain, Positive, Real

if TYPE_CHECKING:
    from torch import Tensor

F = TypeVar("F", bound=Function)

SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805  # Klambauer et al. 2017, eq. 14


def activation(**traits: object) -> Callable[[F], F]:
    """Register the decorated function with its traits, and with an integrated gain if none is given."""

    def decorate(function: F) -> F:
        return register("activation", None, **({"gain": partial(integrated_gain, function)} | traits))(
            function
        )

    return decorate


def integrated_gain(function: Callable[..., Tensor], **settings: Plain) -> float:
    """Return the factor on the weights that compensates for the signal an elementwise function loses.

        gain = 1 / sqrt(E[f(z)^2]),  z ~ N(0, 1)

    With weights of standard deviation gain / sqrt(fan_in) the mean square of the inputs is the same for
    every layer. For relu the gain is sqrt(2) (He et al. 2015).
    """
    result: float = _mean(function(_nodes(), **settings).square()) ** -0.5
    return result


def _nodes() -> Tensor:
    return torch.linspace(-9, 9, 1801, dtype=torch.float64)


def _mean(values: Tensor) -> float:
    """Return E[values(z)] for z ~ N(0, 1), from the values at the nodes, by the trapezoid rule."""
    density = torch.exp(-0.5 * _nodes().square()) * (0.01 / (2 * pi) ** 0.5)
    return float((values * density).sum())


def _leaky_gain(slope: float) -> float:
    result: float = (2 / (1 + slope * slope)) ** 0.5
    return result


@activation(gain=1.0)
def identity(x: Tensor) -> Tensor:
    """f(x) = x: no non-linearity.

    Consecutive layers without a non-linearity collapse into one linear map.
    """
    return x


@activation(gain=1.0, saturates=(0.0, 1.0))
def sigmoid(x: Tensor) -> Tensor:
    """f(x) = 1 / (1 + exp(-x)), in (0, 1).

    Its gradient is at most 1/4 and vanishes at both ends, and its output is not zero-centered: deep
    networks with it learn slowly (Glorot and Bengio 2010).
    """
    return torch.exp(torch.nn.functional.logsigmoid(x))


@activation(gain=5 / 3, saturates=(-1.0, 1.0))
def tanh(x: Tensor) -> Tensor:
    """f(x) = tanh(x), in (-1, 1), zero-centered."""
    return torch.tanh(x)


@activation(saturates=(-1.0, 1.0))
def hard_tanh(x: Tensor) -> Tensor:
    """f(x) = max(-1, min(1, x)): a piecewise linear tanh (Collobert 2004).

    The gradient is exactly 0 outside (-1, 1).
    """
    return torch.nn.functional.hardtanh(x)


@activation(saturates=(-1.0, 1.0))
def softsign(x: Tensor) -> Tensor:
    """f(x) = x / (1 + |x|), in (-1, 1); saturates more slowly than tanh (Bergstra et al. 2009)."""
    return torch.nn.functional.softsign(x)


@activation(gain=2**0.5, saturates=(0.0, inf))
def relu(x: Tensor) -> Tensor:
    """f(x) = max(0, x) (Nair and Hinton 2010).

    The gradient at 0 is 0. A unit whose input is negative for every example is dead: no gradient
    reaches its weights.
    """
    return torch.relu(x)


@activation(gain=lambda negative_slope: _leaky_gain(negative_slope))
def leaky_relu(x: Tensor, *, negative_slope: Real) -> Tensor:
    """f(x) = x for x > 0, negative_slope * x otherwise (Maas, Hannun and Ng 2013).

    negative_slope: any number; 0 is relu, 1 the identity.
    """
    return torch.where(x > 0, x, negative_slope * x)


@activation(gain=lambda init: _leaky_gain(init), learned={"slope": "init"})
def prelu(x: Tensor, slope: Tensor, *, init: Real) -> Tensor:
    """f(x) = x for x > 0, slope * x otherwise, with a learned slope (He et al. 2015).

    slope: a trained parameter that broadcasts against x. init: its initial value, any number.
    Weight decay pulls the slope towards 0, which is relu; the paper does not decay it.
    """
    return torch.where(x > 0, x, slope * x)


@activation(saturates=(0.0, inf))
def softplus(x: Tensor, *, beta: Positive) -> Tensor:
    """f(x) = log(1 + exp(beta * x)) / beta: a smooth relu (Dugas et al. 2001).

    beta: above 0; larger values are closer to relu.
    """
    return _softplus(beta * x) / beta


def _softplus(x: Tensor) -> Tensor:
    """Return log(1 + exp(x)), by the identity softplus(x) = -logsigmoid(-x)."""
    return -torch.nn.functional.logsigmoid(-x)


@activation(saturates=lambda alpha: (-alpha, inf))
def elu(x: Tensor, *, alpha: Positive) -> Tensor:
    """f(x) = x for x > 0, alpha * (exp(x) - 1) otherwise (Clevert, Unterthiner and Hochreiter 2016).

    alpha: above 0; the output never falls below -alpha. The gradient at 0 jumps unless alpha is 1.
    """
    # Without the clamp, exp overflows in the branch not taken and the gradient becomes NaN.
    return torch.where(x > 0, x, alpha * torch.expm1(x.clamp(max=0)))


@activation(saturates=lambda alpha: (-alpha, inf))
def celu(x: Tensor, *, alpha: Positive) -> Tensor:
    """f(x) = x for x > 0, alpha * (exp(x / alpha) - 1) otherwise (Barron 2017).

    alpha: above 0; the output never falls below -alpha. Unlike elu, smooth at 0 for every alpha.
    """
    return torch.where(x > 0, x, alpha * torch.expm1(x.clamp(max=0) / alpha))


@activation(gain=1.0, saturates=(-SELU_ALPHA * SELU_SCALE, inf))
def selu(x: Tensor) -> Tensor:
    """f(x) = 1.0507 * elu(x, alpha=1.6733): keeps mean 0 and variance 1 (Klambauer et al. 2017).

    This requires `initializer=lecun_normal` (or `auto`), standardized inputs and, for dropout,
    `alpha_dropout`.
    """
    return SELU_SCALE * elu(x, alpha=SELU_ALPHA)


@activation(gain=lambda pieces: _maxout_gain(pieces), width_factor=lambda pieces: pieces)
def maxout(x: Tensor, dim: int = -1, *, pieces: Annotated[int, Ge(2)]) -> Tensor:
    """The largest of `pieces` linear functions of the layer's input (Goodfellow et al. 2013).

        y_c = max over j of x_(c + j C),  j = 0 ... pieces-1

    x [..., pieces * C, ...] -> [..., C, ...] along `dim`. pieces: at least 2. The preceding layer has
    `pieces` times as many weights. Tied pieces share the gradient.
    """
    return reduce(torch.maximum, x.chunk(pieces, dim))


def _maxout_gain(pieces: int) -> float:
    """Return 1 / sqrt(E[m^2]) where m, the largest of k independent normals, has density k phi Phi^(k-1)."""
    nodes = _nodes()
    result: float = _mean(pieces * torch.special.ndtr(nodes) ** (pieces - 1) * nodes.square()) ** -0.5
    return result


@activation()
def gelu(x: Tensor, *, approximate: Literal["none", "tanh"]) -> Tensor:
    """f(x) = x * Phi(x), Phi the normal distribution function (Hendrycks and Gimpel 2016).

    approximate: none (exact) or tanh: 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), within 5e-4.
    """
    if approximate == "tanh":
        return 0.5 * x * (1 + torch.tanh((2 / pi) ** 0.5 * (x + 0.044715 * x * x * x)))
    return torch.nn.functional.gelu(x)


@activation()
def silu(x: Tensor) -> Tensor:
    """f(x) = x * sigmoid(x), also called swish (Elfwing et al. 2017; Ramachandran et al. 2017)."""
    return x * sigmoid(x)


@activation()
def mish(x: Tensor) -> Tensor:
    """f(x) = x * tanh(log(1 + exp(x))) (Misra 2019)."""
    return x * torch.tanh(_softplus(x))


@activation(gain=2**0.5, saturates=(0.0, 6.0))
def relu6(x: Tensor) -> Tensor:
    """f(x) = min(6, max(0, x)) (Krizhevsky 2010)."""
    return torch.nn.functional.relu6(x)


@activation(gain=1.0, saturates=(0.0, 1.0))
def hard_sigmoid(x: Tensor) -> Tensor:
    """f(x) = min(1, max(0, x / 6 + 1/2)): a piecewise linear sigmoid.

    The gradient is exactly 0 outside (-3, 3). The gain is that of sigmoid.
    """
    return torch.nn.functional.hardsigmoid(x)


@activation()
def hard_swish(x: Tensor) -> Tensor:
    """f(x) = x * hard_sigmoid(x): silu without an exponential (Howard et al. 2019)."""
    return torch.nn.functional.hardswish(x)


@activation(saturates=(-inf, 0.0))
def log_sigmoid(x: Tensor) -> Tensor:
    """f(x) = log(sigmoid(x)) = -log(1 + exp(-x)), below 0."""
    return torch.nn.functional.logsigmoid(x)


@activation(saturates=(0.0, inf))
def squareplus(x: Tensor, *, b: Positive) -> Tensor:
    """f(x) = (x + sqrt(x^2 + b)) / 2: a smooth relu without an exponential (Barron 2021).

    b: above 0, the width of the bend; 4 gives the curvature of softplus at 0.
    """
    return 0.5 * (x + torch.sqrt(x * x + b))


@activation(gain=lambda: _glu_gain(), width_factor=2)
def glu(x: Tensor, dim: int = -1) -> Tensor:
    """The first half times the sigmoid of the second: a * sigmoid(b) (Dauphin et al. 2017).

    x [..., 2 C, ...] -> [..., C, ...] along `dim`; the preceding layer has twice as many weights.
    """
    a, b = x.chunk(2, dim)
    return a * sigmoid(b)


def _glu_gain() -> float:
    """Return 1 / sqrt(E[a^2] E[sigmoid(b)^2]) for independent a, b ~ N(0, 1)."""
    result: float = _mean(torch.sigmoid(_nodes()).square()) ** -0.5
    return result


@activation(gain=1.0, output_only=True)
def softmax(x: Tensor, dim: int = -1) -> Tensor:
    """f(x)_c = exp(x_c) / sum_k exp(x_k) along `dim`: probabilities that sum to 1.

    For the output, with a loss that takes probabilities; cross-entropy applies its own and refuses it.
    """
    return torch.softmax(x, dim)


@activation(gain=1.0, output_only=True)
def softmin(x: Tensor, dim: int = -1) -> Tensor:
    """f(x)_c = exp(-x_c) / sum_k exp(-x_k) along `dim`: the softmax of -x, for the output."""
    return torch.softmax(-x, dim)
