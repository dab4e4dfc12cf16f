"""Rules that train at one point and evaluate at an average of past points."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from annotated_types import Gt, Lt

from slipstream.core.registry import register
from slipstream.core.types import Fraction, Natural, NonNegative, Positive, Scalar, UpdateContext
from slipstream.optimizers.adaptive import normalized
from slipstream.optimizers.base import State, Update, maximum, to_power, weights_only

if TYPE_CHECKING:
    from torch import Tensor

    from slipstream.core.types import Layout

Interpolation = Annotated[float, Gt(0), Lt(1)]


def _asgd_state(params: Tensor, layout: Layout, **settings: object) -> State:
    return {"average": params.clone()}


def _asgd_average(params: Tensor, state: State, **settings: object) -> Tensor:
    return state["average"]


@register("optimizer", init=_asgd_state, evaluate=_asgd_average)
def asgd(
    gradient: Tensor,
    state: State,
    at: UpdateContext,
    *,
    lr: Positive,
    decay: NonNegative,
    power: NonNegative,
    start_step: Natural,
) -> Update:
    """Averaged SGD: SGD with a decaying rate; evaluation uses the mean of past weights.

    eta = lr / (1 + decay lr (t - 1))^power;  w <- w (1 - decay eta) - eta g;
    average <- average + (w - average) / max(1, t - 1 - start_step)

    lr: learning rate, above 0. decay: the rate at which eta decays and all weights shrink.
    power: of the decay of eta, 0 for none. start_step: updates before averaging starts; until then
    the average is w.
    Source: Polyak and Juditsky 1992, in the form of Bottou, "Large-scale machine learning with
    stochastic gradient descent", 2010, which torch.optim.ASGD follows (decay, power and start_step
    are its lambd, alpha and t0).
    """
    eta = lr / to_power(1 + decay * lr * (at.t - 1), power)
    delta = at.params * (-decay * eta) - gradient * eta
    share = 1 / maximum(at.t - 1 - start_step, 1)
    average = state["average"]
    return delta, {"average": average + (at.params + delta - average) * share}


def _schedule_free_state(params: Tensor, layout: Layout, **settings: object) -> State:
    return {"z": params.clone(), "v": params.new_zeros(params.shape), "lr_square_sum": params.new_zeros(())}


def _schedule_free_average(params: Tensor, state: State, *, beta1: Scalar, **settings: object) -> Tensor:
    # x from y = (1 - beta1) z + beta1 x
    return state["z"] + (params - state["z"]) / beta1


@register("optimizer", init=_schedule_free_state, evaluate=_schedule_free_average)
def schedule_free(
    gradient: Tensor,
    state: State,
    at: UpdateContext,
    *,
    lr: Positive,
    beta1: Interpolation,
    beta2: Fraction,
    eps: Positive,
    weight_decay: NonNegative,
) -> Update:
    """Schedule-free AdamW: an average of the weights replaces a decaying learning rate.

    y = (1 - beta1) z + beta1 x, where the gradient g is taken;  v <- beta2 v + (1 - beta2) g^2;
    z <- z - lr (g / (sqrt(v / (1 - beta2^t)) + eps) + weight_decay y);
    x <- (1 - c) x + c z,  c = lr^2 / (sum of lr^2 so far)

    The engine's parameters are y; evaluation uses x. Intended for a constant learning rate with
    warm-up (`scheduler.warmup_steps`). The running statistics of `batch_norm` are those of y.
    lr: learning rate, above 0; 1 to 10 times Adam's. beta1: in (0, 1). beta2: fraction. eps: keeps
    the division finite. weight_decay: of weights, not of biases.
    Source: Defazio et al., "The road less scheduled", NeurIPS 2024.
    """
    v = state["v"].lerp(gradient * gradient, 1 - beta2)
    correction = (1 - to_power(beta2, at.t)) ** 0.5
    direction = normalized(gradient, v, eps * correction).mul_(correction)
    direction = direction + weights_only(at.params, at.layout) * weight_decay
    lr_square_sum = state["lr_square_sum"] + lr**2
    c = lr**2 / lr_square_sum
    # The new y minus the old, with x eliminated.
    delta = (state["z"] - at.params) * c - direction * (lr * (1 - beta1 * (1 - c)))
    return delta, {"z": state["z"] - direction * lr, "v": v, "lr_square_sum": lr_square_sum}
