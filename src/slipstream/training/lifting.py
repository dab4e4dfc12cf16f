"""Tests, before training, of whether a user's network can be vectorized and compiled.

slipstream's own layers can. A user's network may draw random numbers, branch on values, or depend on its
place in a pack by rounding; its members then train one at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from slipstream.core.compat import pytree
from slipstream.core.registry import component
from slipstream.core.traits import foreign
from slipstream.core.types import Function, Tree
from slipstream.models.functional import split_tensors
from slipstream.training.inputs import form_of
from slipstream.training.model_spec import ModelSpec
from slipstream.training.probes import examples
from slipstream.training.step import gradient_alone, gradient_functional

if TYPE_CHECKING:
    from slipstream.config.run_config import Config
    from slipstream.data import Data

ROWS, MEMBERS = 64, 3  # examples and members of a test
CLOSE = 1e-3  # relative difference allowed between a pack and a single member, from the order of sums
DRAWS = "it draws random numbers from a generator in its forward pass (as nn.Dropout does)"


def why_alone(config: Config, data: Data) -> str | None:
    """Return the reason why members of this configuration cannot train as one computation, or None.

    config: resolved, with any compile mode.
    """
    program = _program(config, data)
    return None if program is None else _why_alone(program, _batches(config, program, MEMBERS))


def why_eager(config: Config, data: Data) -> str | None:
    """Return the reason why the network of this configuration cannot be compiled, or None."""
    program = _program(config, data)
    return None if program is None else why_not_compiled(program, config)


def _program(config: Config, data: Data) -> ModelSpec | None:
    if not foreign(component("model", config.model.name).function):
        return None
    return ModelSpec(config, data.target, form_of(config, data))


def why_not_compiled(program: ModelSpec, config: Config) -> str | None:
    """Return the reason why a network cannot be compiled, or None. Only users' networks are tested."""
    if not program.own:
        return None
    if program.draws:
        return DRAWS
    from torch.fx.experimental.proxy_tensor import make_fx

    (x,), (params, buffers) = _batches(config, program, 1), _member(program, 0)
    names = list(buffers)

    def flat(x: Tensor, params: Tensor, *values: Tensor) -> list[Tensor]:
        made: list[Tensor] = pytree.tree_leaves(
            _of_one(program, gradient_functional)(params, dict(zip(names, values, strict=True)), x)
        )
        return made

    functional = torch.func.functionalize(flat, remove="mutations")
    try:
        make_fx(functional, tracing_mode="fake", _allow_non_fake_inputs=True)(x, params, *buffers.values())
    except Exception as error:  # whatever a user's code raises
        return _failed("torch cannot trace it", error)
    return None


def _why_alone(program: ModelSpec, batches: Sequence[Tensor]) -> str | None:
    if program.draws:
        return DRAWS
    members = [(*_member(program, k), x) for k, x in enumerate(batches)]
    orders = (range(MEMBERS), [2, 0])
    try:
        three, two = (_vectorized(program, [members[k] for k in order]) for order in orders)
    except Exception as error:  # whatever a user's code raises
        return _failed("torch.vmap cannot vectorize it", error)
    for place, k in enumerate(orders[1]):
        alone = pytree.tree_leaves(_of_one(program, gradient_alone)(*members[k]))
        packed = zip(pytree.tree_leaves(three), pytree.tree_leaves(two), strict=True)
        for (here, there), one in zip(packed, alone, strict=True):
            if not _close(here[k], one):
                return "in a pack it computes different values than alone"
            if not torch.equal(here[k], there[place]):
                return "its last digits would depend on its place in the pack"
    return None


def _close(found: Tensor, wanted: Tensor) -> bool:
    scale = float(wanted.double().abs().max()) if wanted.numel() else 0.0
    return bool((found.double() - wanted.double()).abs().le(CLOSE * scale + 1e-6).all())


def _vectorized(program: ModelSpec, members: Sequence[Tree]) -> Tree:
    stacked = pytree.tree_map(lambda *leaves: torch.stack(leaves), *members)
    return torch.vmap(_of_one(program, gradient_functional))(*stacked)


def _of_one(program: ModelSpec, gradient: Function) -> Function:
    """Return the function (params, buffers, x) -> gradient, value, outputs and buffers of a training call."""

    def objective(params: Tensor, buffers: dict[str, Tensor], x: Tensor) -> Tree:
        outputs, after = program.forward(program.views(params), buffers, x)
        return outputs.square().mean(), (outputs, after)

    return lambda params, buffers, x: gradient(objective, params, buffers, x)


def _member(program: ModelSpec, k: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Return parameters and buffers of a made-up member."""
    trained, buffers = split_tensors(program.module)
    params = torch.cat([value.flatten() for value in trained.values()]) * (1 + 0.1 * k)
    return params, {name: value.clone() for name, value in buffers.items()}


def _batches(config: Config, program: ModelSpec, count: int) -> list[Tensor]:
    size = config.data.settings["batch_size"]
    return [examples(program.form, ROWS if size == "full" else min(size, ROWS), k) for k in range(count)]


def _failed(what: str, error: Exception) -> str:
    """Return the reason why a test failed. what: the failure."""
    text = " ".join(str(error).split())
    if "data-dependent" in text or ".item()" in text:
        return "it branches on the values of a tensor"
    return f"{what} ({text.partition('. ')[0][:120] or type(error).__name__})"
