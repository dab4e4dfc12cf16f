"""Rules that adapt the learning rate of each weight to the history of its gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slipstream.core.lazy import torch
from slipstream.core.registry import register
from slipstream.core.types import Fraction, NonNegative, Positive, Scalar, UpdateContext
from slipstream.optimizers.base import State, Update, maximum, to_power, weights_only

if TYPE_CHECKING:
    from torch import Tensor

    from slipstream.core.types import Layout


def moments(gradient: Tensor, state: State, beta1: Scalar, beta2: Scalar) -> tuple[Tensor, Tensor]:
    """Return running means m of the gradient and v of its square, both [P], without bias correction."""
    return state["m"].lerp(gradient, 1 - beta1), state["v"].lerp(gradient * gradient, 1 - beta2)


def adam_step(
    m: Tensor, v: Tensor, t: Scalar, lr: Scalar, beta1: Scalar, beta2: Scalar, eps: Scalar
) -> Tensor:
    """Return -lr m_hat / (sqrt(v_hat) + eps) with the bias corrections folded into two scalars."""
    correction = (1 - to_power(beta2, t)) ** 0.5
    return normalized(m, v, eps * correction).mul_(-lr * correction / (1 - to_power(beta1, t)))


def normalized(direction: Tensor, square: Tensor, eps: Scalar) -> Tensor:
    """Return direction / (sqrt(square) + eps) as a new tensor."""
    # In place on the new root: an update is bound by memory bandwidth, not by arithmetic.
    return direction.div(square.sqrt().add_(eps))


@register("optimizer", init=("sum",))
def adagrad(gradient: Tensor, state: State, at: UpdateContext, *, lr: Positive, eps: Positive) -> Update:
    """Adagrad: divides by the root of the sum of all squared gradients so far.

    s <- s + g^2;  w <- w - lr g / (sqrt(s) + eps)

    Rare features keep large steps; all steps keep shrinking, like 1 / sqrt(t).
    lr: learning rate, above 0. eps: keeps the division finite.
    Source: Duchi, Hazan and Singer, JMLR 2011.
    """
    total = state["sum"] + gradient * gradient
    return normalized(gradient, total, eps).mul_(-lr), {"sum": total}


@register("optimizer", init=("square", "moved"))
def adadelta(
    gradient: Tensor, state: State, at: UpdateContext, *, lr: Positive, rho: Fraction, eps: Positive
) -> Update:
    """Adadelta: steps in the units of the weights, from running means of g^2 and of past steps^2.

    s <- rho s + (1 - rho) g^2;  d = g sqrt(u + eps) / sqrt(s + eps);
    u <- rho u + (1 - rho) d^2;  w <- w - lr d

    lr: 1 in the paper. rho: decay of the running means, fraction. eps: also sets the size of the first
    steps, about sqrt(eps / (1 - rho)).
    Source: Zeiler, "ADADELTA: an adaptive learning rate method", 2012.
    """
    square = state["square"].lerp(gradient * gradient, 1 - rho)
    step = ((state["moved"] + eps) / (square + eps)).sqrt_().mul_(gradient)
    return step * -lr, {"square": square, "moved": state["moved"].lerp(step * step, 1 - rho)}


@register("optimizer", init=("square",))
def rmsprop(
    gradient: Tensor, state: State, at: UpdateContext, *, lr: Positive, alpha: Fraction, eps: Positive
) -> Update:
    """RMSProp: divides by the root of a running mean of squared gradients.

    s <- alpha s + (1 - alpha) g^2;  w <- w - lr g / (sqrt(s) + eps)

    s starts at zero without bias correction, so the first steps are up to lr / sqrt(1 - alpha).
    lr: learning rate, above 0. alpha: decay of s, fraction. eps: keeps the division finite.
    Source: Tieleman and Hinton, lecture 6.5 of "Neural networks for machine learning", 2012.
    """
    square = state["square"].lerp(gradient * gradient, 1 - alpha)
    return normalized(gradient, square, eps).mul_(-lr), {"square": square}


@register("optimizer", init=("m", "v"))
def adam(
    gradient: Tensor,
    state: State,
    at: UpdateContext,
    *,
    lr: Positive,
    beta1: Fraction,
    beta2: Fraction,
    eps: Positive,
) -> Update:
    """Adam: momentum divided by the root mean square of the gradient, both bias-corrected.

    m <- beta1 m + (1 - beta1) g;  v <- beta2 v + (1 - beta2) g^2;
    w <- w - lr m_hat / (sqrt(v_hat) + eps),  m_hat = m / (1 - beta1^t),  v_hat = v / (1 - beta2^t)

    lr: learning rate, above 0; roughly the step size. beta1, beta2: fractions. eps: keeps the
    division finite.
    Source: Kingma and Ba, "Adam: a method for stochastic optimization", ICLR 2015.
    """
    if isinstance(at.t, int) and gradient.is_cpu:  # a single run, not compiled
        return _fused(gradient, state, at.t, lr, beta1, beta2, eps)
    m, v = moments(gradient, state, beta1, beta2)
    return adam_step(m, v, at.t, lr, beta1, beta2, eps), {"m": m, "v": v}


def _fused(gradient: Tensor, state: State, t: int, lr: float, b1: float, b2: float, eps: float) -> Update:
    """Apply Adam by torch's kernel, one pass instead of seven: saves a tenth of a small network's step."""
    delta, m, v = torch.zeros_like(gradient), state["m"].clone(), state["v"].clone()
    # It works in place: applied to zeros, it returns the update itself.
    torch._fused_adam_(
        [delta],
        [gradient],
        [m],
        [v],
        [],
        [torch.tensor(float(t))],
        lr=lr,
        beta1=b1,
        beta2=b2,
        weight_decay=0.0,
        eps=eps,
        amsgrad=False,
        maximize=False,
    )
    return delta, {"m": m, "v": v}


@register("optimizer", init=("m", "v"))
def adamw(
    gradient: Tensor,
    state: State,
    at: UpdateContext,
    *,
    lr: Positive,
    beta1: Fraction,
    beta2: Fraction,
    eps: Positive,
    weight_decay: NonNegative,
) -> Update:
    """AdamW: Adam with decoupled weight decay, which bypasses the gradient.

    w <- w - lr (m_hat / (sqrt(v_hat) + eps) + weight_decay w), with Adam's m_hat and v_hat

    lr, beta1, beta2, eps: as `adam`.
    weight_decay: each update subtracts lr weight_decay w. Biases and the scales and shifts of
    normalization do not decay.
    Source: Loshchilov and Hutter, "Decoupled weight decay regularization", ICLR 2019.
    """
    m, v = moments(gradient, state, beta1, beta2)
    delta = adam_step(m, v, at.t, lr, beta1, beta2, eps)
    return delta.add_(weights_only(at.params, at.layout) * (-lr * weight_decay)), {"m": m, "v": v}


@register("optimizer", init=("m", "v", "v_max"))
def amsgrad(
    gradient: Tensor,
    state: State,
    at: UpdateContext,
    *,
    lr: Positive,
    beta1: Fraction,
    beta2: Fraction,
    eps: Positive,
) -> Update:
    """AMSGrad: Adam whose divisor never shrinks.

    v_max <- max(v_max, v);  w <- w - lr m_hat / (sqrt(v_max / (1 - beta2^t)) + eps)

    lr, beta1, beta2, eps: as `adam`. The maximum is over v before its bias correction, as in torch.
    Source: Reddi, Kale and Kumar, "On the convergence of Adam and beyond", ICLR 2018.
    """
    m, v = moments(gradient, state, beta1, beta2)
    v_max = state["v_max"].maximum(v)
    return adam_step(m, v_max, at.t, lr, beta1, beta2, eps), {"m": m, "v": v, "v_max": v_max}


@register("optimizer", init=("m", "u"))
def adamax(
    gradient: Tensor,
    state: State,
    at: UpdateContext,
    *,
    lr: Positive,
    beta1: Fraction,
    beta2: Fraction,
    eps: Positive,
) -> Update:
    """AdaMax: Adam with a decaying maximum of the gradient in place of its root mean square.

    u <- max(beta2 u, |g| + eps);  w <- w - lr m_hat / u

    lr, beta1, beta2: as `adam`. eps: keeps u above zero.
    Source: Kingma and Ba, "Adam: a method for stochastic optimization", ICLR 2015, section 7.1.
    """
    m = state["m"].lerp(gradient, 1 - beta1)
    u = (state["u"] * beta2).maximum(gradient.abs() + eps)
    return m.div(u).mul_(-lr / (1 - to_power(beta1, at.t))), {"m": m, "u": u}


def _nadam_state(params: Tensor, layout: Layout, **settings: object) -> State:
    zeros = torch.zeros_like(params)
    return {"m": zeros, "v": zeros.clone(), "mu_product": params.new_ones(())}


@register("optimizer", init=_nadam_state)
def nadam(
    gradient: Tensor,
    state: State,
    at: UpdateContext,
    *,
    lr: Positive,
    beta1: Fraction,
    beta2: Fraction,
    eps: Positive,
    momentum_decay: NonNegative,
) -> Update:
    """NAdam: Adam with Nesterov momentum.

    mu_t = beta1 (1 - 0.96^(t momentum_decay) / 2);  M_t = mu_1 mu_2 ... mu_t;
    m_hat = mu_(t+1) m / (1 - M_(t+1)) + (1 - mu_t) g / (1 - M_t);
    w <- w - lr m_hat / (sqrt(v_hat) + eps)

    lr, beta1, beta2, eps: as `adam`. momentum_decay: the rate at which mu rises from beta1 / 2 to beta1.
    Source: Dozat, "Incorporating Nesterov momentum into Adam", 2016.
    """
    m, v = moments(gradient, state, beta1, beta2)
    mu = beta1 * (1 - 0.5 * to_power(0.96, at.t * momentum_decay))
    mu_next = beta1 * (1 - 0.5 * to_power(0.96, (at.t + 1) * momentum_decay))
    product = state["mu_product"] * mu
    ahead = m * (mu_next / (1 - product * mu_next)) + gradient * ((1 - mu) / (1 - product))
    correction = (1 - to_power(beta2, at.t)) ** 0.5
    delta = normalized(ahead, v, eps * correction).mul_(-lr * correction)
    return delta, {"m": m, "v": v, "mu_product": product}


@register("optimizer", init=("m", "v"))
def radam(
    gradient: Tensor,
    state: State,
    at: UpdateContext,
    *,
    lr: Positive,
    beta1: Fraction,
    beta2: Fraction,
    eps: Positive,
) -> Update:
    """RAdam: Adam that acts as momentum until enough gradients give a reliable variance.

    rho_inf = 2 / (1 - beta2) - 1;  rho = rho_inf - 2 t beta2^t / (1 - beta2^t);
    w <- w - lr m_hat                                                if rho <= 5,
    w <- w - lr m_hat r sqrt(1 - beta2^t) / (sqrt(v) + eps)          if rho > 5, with
    r = sqrt((rho - 4) (rho - 2) rho_inf / ((rho_inf - 4) (rho_inf - 2) rho))

    lr, beta1, beta2, eps: as `adam`. No separate warm-up is needed.
    Source: Liu et al., "On the variance of the adaptive learning rate and beyond", ICLR 2020.
    """
    m, v = moments(gradient, state, beta1, beta2)
    decayed = to_power(beta2, at.t)
    rho_inf: Scalar = 2 / (1 - beta2) - 1
    rho = rho_inf - 2 * at.t * decayed / (1 - decayed)
    adaptive = (rho > 5) * 1.0  # 1 or 0: the numbers of a pack's members cannot select a branch
    # At least 5 where they have no effect, so that no root of a negative number arises.
    rho, rho_inf = maximum(rho, 5.0), maximum(rho_inf, 5.0)
    r = ((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho)) ** 0.5
    scale = v.sqrt().add_(eps).reciprocal_().mul_(adaptive * r * (1 - decayed) ** 0.5).add_(1 - adaptive)
    return scale.mul_(m).mul_(-lr / (1 - to_power(beta1, at.t))), {"m": m, "v": v}
