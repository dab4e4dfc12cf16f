"""Foundations of update rules: types, the initial state, and helpers on the layout.

An update rule is a pure function on the flat vector of P parameters,

    rule(gradient, state, at, *, lr, ...) -> (delta, new state)

and the engine computes params + delta. `gradient` [P] and `state` (a dict of tensors) are never
modified in place. `lr` is already scaled by the schedule. The traits `init` and `evaluate` complete a rule
(OptimizerTraits in core/traits.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import log
from typing import TYPE_CHECKING

from slipstream.core.lazy import torch
from slipstream.core.registry import Component
from slipstream.core.traits import OptimizerTraits
from slipstream.core.types import Plain, Scalar

if TYPE_CHECKING:
    from torch import Tensor

    from slipstream.core.types import Layout

State = dict[str, "Tensor"]
Update = tuple["Tensor", State]


def initial_state(
    rule: Component[OptimizerTraits], params: Tensor, layout: Layout, settings: Mapping[str, Plain]
) -> State:
    """Return the state of an update rule before its first update."""
    init = rule.traits.init
    if callable(init):
        return init(params, layout, **settings)
    return {name: torch.zeros_like(params) for name in init}


def evaluated(
    rule: Component[OptimizerTraits], params: Tensor, state: State, settings: Mapping[str, Plain]
) -> Tensor:
    """Return the parameters [P] to evaluate and keep, given those that are trained."""
    evaluate = rule.traits.evaluate
    return evaluate(params, state, **settings) if evaluate else params


def weights_only(flat: Tensor, layout: Layout) -> Tensor:
    """Return `flat` [P] with zeros for biases and for the scales and shifts of normalization."""
    if all(layout.penalized):
        return flat
    parts = zip(flat.split(layout.sizes), layout.penalized, strict=True)
    return torch.cat([part if penalized else torch.zeros_like(part) for part, penalized in parts])


def concatenate(parts: Iterable[Tensor], like: Tensor) -> Tensor:
    """Flatten the parts and concatenate them into one vector, empty if there are none."""
    return torch.cat([like[:0], *(part.flatten() for part in parts)])


def maximum(a: Scalar, b: Scalar) -> Scalar:
    """Return max(a, b) of two numbers, each a Python number or a scalar tensor."""
    gap: Scalar = abs(a - b)  # type: ignore[assignment]  # of a union, abs is an object in typeshed
    return (a + b + gap) / 2


def minimum(a: Scalar, b: Scalar) -> Scalar:
    """Return min(a, b) of two numbers, each a Python number or a scalar tensor."""
    gap: Scalar = abs(a - b)  # type: ignore[assignment]  # as above
    return (a + b - gap) / 2


def to_power(base: Scalar, exponent: Scalar) -> Scalar:
    """Return base ** exponent of two numbers, each a Python number or a scalar tensor; base above 0.

    torch's CPU kernel for powers rounds the last few elements of a tensor differently from the rest:
    with it, a member's bytes would depend on its position in the pack and on the pack's size.
    """
    if torch.is_tensor(base):
        return torch.exp(exponent * torch.log(base))
    if torch.is_tensor(exponent):
        return torch.exp(exponent * log(base))
    power: float = base**exponent
    return power
