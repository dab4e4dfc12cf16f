"""Contract tests for your own components. slipstream's own components pass the same tests.

from slipstream.testing import check_optimizer
check_optimizer(component("optimizer", "mine"), lr=0.01)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from slipstream.core.lazy import torch
from slipstream.core.registry import Component
from slipstream.core.traits import OptimizerTraits
from slipstream.core.types import Layout, Plain, Tree, UpdateContext
from slipstream.optimizers.base import evaluated, initial_state

if TYPE_CHECKING:
    from torch import Tensor

LAYOUT = Layout(("first", "bias", "second"), ((4, 3), (4,), (2, 4)), (True, False, True))


def quadratic(params: Tensor) -> Tensor:
    """Return the sum of c (w - w0)^2 / 2 over the parameters [P], with c in [1/2, 2] and w0 in [-1, 1]."""
    steps = torch.linspace(0, 1, params.numel(), dtype=params.dtype, device=params.device)
    return 0.5 * ((0.5 + 1.5 * steps) * (params - (2 * steps - 1)) ** 2).sum()


def descend(
    rule: Component[OptimizerTraits],
    settings: Mapping[str, Plain],
    params: Tensor,
    layout: Layout = LAYOUT,
    steps: int = 50,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return parameters and state after `steps` updates of a rule on `quadratic`."""
    state = initial_state(rule, params, layout, settings)
    for t in range(1, steps + 1):
        gradient = torch.func.grad(quadratic)(params)
        delta, state = rule(gradient, state, UpdateContext(t, params, layout), **settings)
        params = params + delta
    return params, state


def check_optimizer(rule: Component[OptimizerTraits], **settings: Plain) -> None:
    """Check that an update rule keeps its contract.

    The rule decreases a quadratic within 200 updates. State and update keep their shapes. Inputs are not
    modified in place. A zero gradient gives no NaN. Each member of a pack with different settings equals the
    same run outside the pack (float64, relative 1e-9: only the order of scalar operations differs).

    Args:
        rule: the registered optimizer, from `component("optimizer", NAME)`.
        settings: its settings, such as lr=0.01.

    Raises:
        AssertionError: a check failed; the message says which one.

    Example:
        >>> from slipstream.core.registry import component
        >>> check_optimizer(component("optimizer", "sgd"), lr=0.1)
    """
    start = _start()
    _check_one_update(rule, settings, start)
    params, state = descend(rule, settings, start, steps=200)
    before, after = quadratic(start), quadratic(evaluated(rule, params, state, settings))
    assert after < before, f"{rule.name}: the quadratic rose from {before:.4g} to {after:.4g} in 200 updates"
    _check_pack(rule, settings, start)


def _start() -> Tensor:
    return torch.cos(torch.arange(LAYOUT.size, dtype=torch.float64))


def _check_one_update(
    rule: Component[OptimizerTraits], settings: Mapping[str, Plain], params: Tensor
) -> None:
    state = initial_state(rule, params, LAYOUT, settings)
    for name, gradient in {"a zero": torch.zeros_like(params), "a": torch.sin(7 * params)}.items():
        given = {"gradient": gradient, "params": params, **state}
        copies = {key: tensor.clone() for key, tensor in given.items()}
        delta, new = rule(gradient, state, UpdateContext(1, params, LAYOUT), **settings)
        assert delta.shape == params.shape, f"{rule.name}: the update has shape {tuple(delta.shape)}"
        shapes = [{key: (t.shape, t.dtype) for key, t in s.items()} for s in (state, new)]
        assert shapes[0] == shapes[1], f"{rule.name}: the state changed from {shapes[0]} to {shapes[1]}"
        changed = [key for key, tensor in given.items() if not torch.equal(tensor, copies[key])]
        assert not changed, f"{rule.name}: changed in place: {changed}"
        finite = all(t.isfinite().all() for t in (delta, *new.values()))
        assert finite, f"{rule.name}: {name} gradient gives NaN or infinity"


def _check_pack(rule: Component[OptimizerTraits], settings: Mapping[str, Plain], start: Tensor) -> None:
    # Small changes respect every setting's bounds; the learning rate may differ more.
    members = [
        {name: settings[name] * (0.5**k if name == "lr" else 1 - 0.01 * k) for name in rule.numbers}
        for k in range(3)
    ]
    structure = {name: value for name, value in settings.items() if name not in rule.numbers}
    states = [initial_state(rule, start, LAYOUT, structure | member) for member in members]
    state = {name: torch.stack([s[name] for s in states]) for name in states[0]}
    stacked = {name: torch.tensor([m[name] for m in members], dtype=start.dtype) for name in members[0]}
    params = start.expand(3, -1).clone()

    def update(params: Tensor, state: dict[str, Tensor], t: Tensor, own: dict[str, Tensor]) -> Tree:
        gradient = torch.func.grad(quadratic)(params)
        delta, state = rule(gradient, state, UpdateContext(t, params, LAYOUT), **structure, **own)
        return params + delta, state

    for t in range(1, 21):
        time = torch.full((3,), float(t), dtype=start.dtype)
        params, state = torch.vmap(update)(params, state, time, stacked)
    for k, member in enumerate(members):
        alone, _ = descend(rule, structure | member, start, steps=20)
        gap = (params[k] - alone).abs().max()
        assert gap <= 1e-9 * alone.abs().max(), f"{rule.name}: member {k} of a pack is {gap:.3g} off"
