"""Initial values of a network's parameters, from the run's seed alone."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from slipstream.core import random
from slipstream.core.registry import Component, component, shared_function
from slipstream.core.traits import InitializerTraits
from slipstream.core.types import Layout, Plain


def layout_of(module: nn.Module) -> Layout:
    """Return the layout of a module's trained parameters in the flat vector: in order, weights penalized.

    A weight has at least two axes; biases and the scales and shifts of normalization have one. The
    attributes `penalized` and `lr_factor` of a parameter override this.
    """
    named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    factors = tuple(float(getattr(p, "lr_factor", 1.0)) for _, p in named)
    return Layout(
        names=tuple(name for name, _ in named),
        shapes=tuple(tuple(p.shape) for _, p in named),
        penalized=tuple(bool(getattr(p, "penalized", p.ndim >= 2)) for _, p in named),
        lr_factors=factors if any(factor != 1 for factor in factors) else (),
    )


def gain_of(activation: tuple[str, Mapping[str, Plain]]) -> float:
    """Return the activation's gain, which keeps the variance of a signal through W and it at about one."""
    name, settings = activation
    gain = component("activation", name).traits.gain
    return float(gain(**settings) if callable(gain) else gain)


@torch.no_grad()
def initialize(
    module: nn.Module,
    initializer: tuple[Component[InitializerTraits], Mapping[str, Plain]],
    gain: float,
    seed: int,
    examples: Tensor,
) -> None:
    """Set the initial weights and biases of `module`.

    Other parameters keep their values, as do those with the attribute `own_start`. A weight with `blocks`
    consists of as many matrices, stacked by rows. The output layer, which the configured activation does
    not follow, has gain 1. examples [N, ...]: for data-dependent initializers (lsuv).
    """
    part, settings = initializer
    own = {name: settings[name] for name in part.own_settings}
    bias = {"bias": settings["bias"]}
    bias_of = shared_function("initializer")
    assert bias_of is not None
    for number, (name, parameter) in enumerate(module.named_parameters()):
        shape = tuple(parameter.shape)
        if getattr(parameter, "own_start", False):
            continue
        if parameter.ndim >= 2:
            key = random.make_key(seed, random.INIT, number)
            factor, blocks = 1.0 if name.startswith("output.") else gain, getattr(parameter, "blocks", 1)
            block = (shape[0] // blocks, *shape[1:])
            made = [part(random.at(key, i), block, factor, **own) for i in range(blocks)]
            parameter.copy_(torch.cat(made))
        elif _is_bias(module, name):
            parameter.copy_(bias_of(shape, **bias))
    if part.traits.data_dependent:
        _unit_variance(module, examples, **own)


def _is_bias(module: nn.Module, name: str) -> bool:
    owner, _, own = name.rpartition(".")
    weight = module.get_submodule(owner)._parameters.get("weight")
    return own == "bias" and weight is not None and weight.ndim >= 2


def _unit_variance(module: nn.Module, examples: Tensor, *, tolerance: float, max_iterations: int) -> None:
    """Divide each weight by the standard deviation of its layer's output, layer by layer (lsuv).

    Skips weights marked as recurrent: a growing state would feed back into them.
    """
    training = module.training
    module.eval()
    for layer in module.modules():
        weight = layer._parameters.get("weight")
        if weight is None or weight.ndim < 2 or getattr(weight, "recurrent", False):
            continue
        seen: list[Tensor] = []
        handle = layer.register_forward_hook(lambda _m, _x, output, seen=seen: seen.append(output))
        for _ in range(max_iterations):
            module(examples)
            variance = seen.pop().var()
            if not variance > 0 or abs(variance - 1) < tolerance:
                break
            weight.div_(variance.sqrt())
        handle.remove()
    module.train(training)
