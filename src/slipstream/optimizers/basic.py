"""Gradient descent, momentum, and rules that follow the gradient's sign."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from annotated_types import Gt, Lt

from slipstream.core.lazy import torch
from slipstream.core.registry import register
from slipstream.core.types import Fraction, NonNegative, Positive, UpdateContext
from slipstream.optimizers.base import State, Update, weights_only

if TYPE_CHECKING:
    from torch import Tensor

    from slipstream.core.types import Layout

Shrinking = Annotated[float, Gt(0), Lt(1)]
Growing = Annotated[float, Gt(1)]


@register("optimizer", init=(), full_batch=True)
def gradient_descent(gradient: Tensor, state: State, at: UpdateContext, *, lr: Positive) -> Update:
    """Gradient descent on the whole training set: one exact, costly update per epoch.

    w <- w - lr g, g the gradient over all training examples. The option also sets
    `data.batch_size: full`.

    lr: learning rate, above 0. Above 2 / (largest curvature) it diverges.
    Source: Cauchy, "Methode generale pour la resolution des systemes d'equations simultanees", 1847.
    """
    return gradient * -lr, {}


@register("optimizer", init=())
def sgd(gradient: Tensor, state: State, at: UpdateContext, *, lr: Positive) -> Update:
    """Stochastic gradient descent: the gradient of a mini-batch, or of one example.

    w <- w - lr g

    lr: learning rate, above 0.
    Source: Robbins and Monro, "A stochastic approximation method", 1951.
    """
    return gradient * -lr, {}


@register("optimizer", init=("velocity",))
def momentum(
    gradient: Tensor, state: State, at: UpdateContext, *, lr: Positive, momentum: Fraction
) -> Update:
    """SGD with momentum: steps along a decaying sum of gradients, which damps oscillations.

    v <- momentum v + g;  w <- w - lr v

    lr: learning rate, above 0. As v sums gradients, steps are up to 1 / (1 - momentum) times
    as long as those of `sgd` at the same lr. (The form v <- momentum v - lr g is equivalent while lr
    is constant.)
    momentum: decay of v, fraction.
    Source: Polyak, "Some methods of speeding up the convergence of iteration methods", 1964.
    """
    velocity = state["velocity"] * momentum + gradient
    return velocity * -lr, {"velocity": velocity}


@register("optimizer", init=("velocity",))
def nesterov(
    gradient: Tensor, state: State, at: UpdateContext, *, lr: Positive, momentum: Fraction
) -> Update:
    """Nesterov momentum: as if the gradient were taken one momentum step ahead.

    v <- momentum v + g;  w <- w - lr (g + momentum v)

    lr: learning rate, above 0. momentum: decay of v, fraction.
    Source: Nesterov 1983, in the form of Sutskever et al., "On the importance of initialization
    and momentum in deep learning", ICML 2013.
    """
    velocity = state["velocity"] * momentum + gradient
    return (gradient + velocity * momentum) * -lr, {"velocity": velocity}


def _rprop_state(params: Tensor, layout: Layout, **settings: object) -> State:
    return {"previous": torch.zeros_like(params), "step": torch.ones_like(params)}


@register("optimizer", init=_rprop_state)
def rprop(
    gradient: Tensor,
    state: State,
    at: UpdateContext,
    *,
    lr: Positive,
    shrink: Shrinking,
    grow: Growing,
    min_step: Positive,
    max_step: Positive,
) -> Update:
    """Rprop: a step size for each weight, from the signs of its last two gradients alone.

    s <- s grow if the sign is unchanged, s shrink if it flipped (that weight skips this update);
    w <- w - lr s sign(g), with s = 1 at the start and clipped to [min_step, max_step]

    For full batches (`data.batch_size=full`): mini-batch noise flips signs at random and the steps
    collapse.
    lr: the first step; all steps are multiples of it, so a schedule scales them.
    shrink: factor in (0, 1). grow: factor above 1. min_step, max_step: bounds of s.
    Source: Riedmiller and Braun 1993, in the variant iRprop- of Igel and Huesken 2003.
    """
    turned = (gradient * state["previous"]).sign()
    # grow if the product is positive, shrink if it is negative, else 1.
    factor = 1 + turned.clamp(min=0) * (grow - 1) - turned.clamp(max=0) * (shrink - 1)
    step = (state["step"] * factor).clamp(min=min_step).clamp(max=max_step)
    kept = gradient * (turned >= 0)
    return kept.sign() * step * -lr, {"previous": kept, "step": step}


@register("optimizer", init=("m",))
def lion(
    gradient: Tensor,
    state: State,
    at: UpdateContext,
    *,
    lr: Positive,
    beta1: Fraction,
    beta2: Fraction,
    weight_decay: NonNegative,
) -> Update:
    """Lion: the sign of an interpolated momentum; every weight moves by exactly lr.

    w <- w - lr (sign(beta1 m + (1 - beta1) g) + weight_decay w);  m <- beta2 m + (1 - beta2) g

    lr: learning rate, above 0; 3 to 10 times smaller than Adam's.
    beta1, beta2: fractions. weight_decay: decoupled, of weights, not of biases; 3 to 10 times larger
    than AdamW's.
    Edge: a weight whose gradient and momentum are exactly zero does not move.
    Source: Chen et al., "Symbolic discovery of optimization algorithms", 2023.
    """
    direction = gradient.lerp(state["m"], beta1).sign()
    decay = weights_only(at.params, at.layout) * weight_decay
    return (direction + decay) * -lr, {"m": state["m"].lerp(gradient, 1 - beta2)}
