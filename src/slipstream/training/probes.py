"""Checks of user components: a first call on made-up examples must return the expected type and shape.

Otherwise, a loss that returns its mean, or an update that broadcasts, would silently give wrong results.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from slipstream.config.run_config import Config
from slipstream.core import random
from slipstream.core.contracts import own_fault, returned, takes_parts
from slipstream.core.errors import ConfigError
from slipstream.core.registry import Component, component
from slipstream.core.traits import (
    ActivationTraits,
    InitializerTraits,
    LossTraits,
    MetricTraits,
    ModelTraits,
    OptimizerTraits,
    RegularizerTraits,
    Traits,
    foreign,
)
from slipstream.core.types import InputSpec, Layout, Plain, Target, UpdateContext
from slipstream.models.functional import Functional, Nature, split_tensors
from slipstream.models.own_network import layers_with_statistics
from slipstream.optimizers.base import initial_state
from slipstream.schedulers import Clock

ROWS = 3
LAYOUT = Layout(("weight", "bias"), ((2, 3), (2,)), (True, False))


def require(part: Component[Traits], value: object, shape: tuple[int, ...]) -> None:
    """Raise ConfigError unless the value is a tensor of the shape."""
    if not isinstance(value, Tensor) or tuple(value.shape) != shape:
        raise ConfigError([returned(part, _said(value))])


def _said(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of shape {list(value.shape)}"
    if isinstance(value, np.ndarray):
        return f"an array of shape {list(value.shape)}"
    if isinstance(value, tuple):
        return f"({', '.join(map(_said, value))})"
    return "None" if value is None else f"a {type(value).__name__}"


def require_contracts(config: Config, target: Target) -> None:
    """Raise ConfigError if a user's component returns a value that violates the contract of its group."""
    metrics = config.trainer.metrics
    chosen: list[tuple[str, str, Mapping[str, Plain], Callable[..., None]]] = [
        ("loss", config.loss.name, config.loss.settings, _loss),
        ("optimizer", config.optimizer.name, config.optimizer.settings, _optimizer),
        ("activation", config.activation.name, config.activation.settings, _activation),
        ("initializer", config.initializer.name, config.initializer.settings, _initializer),
        ("scheduler", config.scheduler.name, config.scheduler.settings, _scheduler),
        *(("regularizer", name, settings, _penalty) for name, settings in config.regularizers.items()),
        *(("metric", name, {}, _metric) for name in (metrics if isinstance(metrics, list) else ())),
    ]
    for group, name, settings, probe in chosen:
        part = component(group, name)
        if foreign(part.function):
            own = {key: value for key, value in settings.items() if key in part.own_settings}
            with torch.no_grad():
                probe(part, own, target)


def not_a_network(part: Component[ModelTraits], found: object) -> str:
    """Return the message for a model that returned something other than a network."""
    return returned(part, _said(found))


def require_network(part: Component[ModelTraits], module: nn.Module, form: InputSpec, outputs: int) -> Nature:
    """Return a network's nature. Raises ConfigError unless its outputs are [N, outputs]."""
    inputs = torch.zeros(2, *form.shape, dtype=torch.int64 if form.kind == "tokens" else torch.float32)
    whole = not takes_parts(part)
    try:
        with torch.no_grad():
            found = module.eval()(inputs)
            nature = _nature(module.train(), form, whole=whole)
    except (RuntimeError, TypeError, ValueError) as error:
        if own_fault(error):
            raise
        reason = " ".join(str(error).split())
        why = f"a network that rejects inputs of shape {list(inputs.shape)} ({reason})"
        raise ConfigError([returned(part, why)]) from error
    if not isinstance(found, Tensor) or found.shape[:1] + found.shape[-1:] != (2, outputs):
        raise ConfigError([returned(part, f"a network that returns {_said(found)} for 2 examples")])
    return nature


def _nature(module: nn.Module, form: InputSpec, *, whole: bool) -> Nature:
    """Call a network as in training, and return what this has changed. Its buffers stay as they are."""
    call = Functional(module, nature=Nature(whole=whole))
    trained, buffers = split_tensors(module)
    given = {name: buffer.clone() for name, buffer in buffers.items()}
    versions = {name: buffer._version for name, buffer in given.items()}
    with random.seeded(random.HostKey((0, 0), 0, 0)):
        before = random.generators()
        call(list(trained.values()), given, examples(form, ROWS).to(torch.get_default_device()))
        draws = random.generators() != before
    # torch's batch normalization writes its statistics without counting a version.
    written = {
        f"{layer}.{name}".lstrip(".") for layer, _, names in layers_with_statistics(module) for name in names
    }
    written |= {name for name, buffer in given.items() if buffer._version != versions[name]}
    return Nature(whole, draws, tuple(name for name in given if name in written))


def examples(form: InputSpec, rows: int, number: int = 0) -> Tensor:
    """Return made-up examples on the processor: uniform on [0, 1), or tokens. number: of the batch."""
    key, shape = random.HostKey((0, 0), number, 0), (rows, *form.shape)
    with torch.device("cpu"):
        drawn = random.uniform(key, shape)
        return (drawn * form.vocabulary).long() if form.kind == "tokens" else drawn


def _targets(target: Target) -> Tensor:
    if target.task in ("binary", "multiclass"):
        return torch.arange(ROWS) % len(target.classes)
    return torch.zeros(ROWS, len(target.names))


def _loss(part: Component[LossTraits], settings: Mapping[str, Plain], target: Target) -> None:
    outputs = torch.zeros(ROWS, part.traits.outputs(target, **part.split(settings)[1]))
    require(part, part(outputs, _targets(target), **settings), (ROWS,))


def _optimizer(part: Component[OptimizerTraits], settings: Mapping[str, Plain], target: Target) -> None:
    params = torch.ones(LAYOUT.size)
    state = initial_state(part, params, LAYOUT, settings)
    found = part(torch.ones(LAYOUT.size), state, UpdateContext(1, params, LAYOUT), **settings)
    if not isinstance(found, tuple) or len(found) != 2:
        raise ConfigError([returned(part, _said(found))])
    require(part, found[0], (LAYOUT.size,))
    if not isinstance(found[1], Mapping) or set(found[1]) != set(state):
        raise ConfigError(
            [returned(part, (f"the state {sorted(found[1])}, which was initially {sorted(state)}"))]
        )


def _activation(part: Component[ActivationTraits], settings: Mapping[str, Plain], target: Target) -> None:
    if not part.traits.learned and part.traits.width_factor == 1:
        require(part, part(torch.zeros(ROWS, 4), **settings), (ROWS, 4))


def _initializer(part: Component[InitializerTraits], settings: Mapping[str, Plain], target: Target) -> None:
    require(part, part(torch.zeros(4, dtype=torch.int64), (3, 4), 1.0, **settings), (3, 4))


def _scheduler(part: Component[Traits], settings: Mapping[str, Plain], target: Target) -> None:
    steps = np.arange(ROWS)
    found = part(Clock(steps, steps_per_epoch=ROWS, total_steps=2 * ROWS), **settings)
    if np.shape(found) != (ROWS,):
        raise ConfigError([returned(part, _said(found))])


def _penalty(part: Component[RegularizerTraits], settings: Mapping[str, Plain], target: Target) -> None:
    if part.traits.place == "penalty":
        require(part, part(torch.ones(LAYOUT.size), **settings), ())


def _metric(part: Component[MetricTraits], settings: Mapping[str, Plain], target: Target) -> None:
    targets = _targets(target)
    scores = torch.full((ROWS, len(target.classes or target.names)), 0.5)
    require(part, part(scores, targets, torch.ones(ROWS)), ())
