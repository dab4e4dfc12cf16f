"""Networks of a user's own making: built from the run's seed, with what our layers bring put around them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import cast

import torch
from torch import Tensor, nn

from slipstream.core import random
from slipstream.core.errors import ConfigError
from slipstream.core.types import InputSpec
from slipstream.models.layers import Standardize, unit

BUILD = (1 << 24) - 1  # numbers the key of what a constructor draws
OFFSET, FACTOR = "standardize_offset", "standardize_factor"


def build(make: Callable[[], nn.Module], seed: int) -> nn.Module:
    """Return what a user's function builds, with random initial values that depend on the seed alone.

    It is built on the processor, since a constructor may compute with values, and then moved.
    """
    device = torch.get_default_device()
    with torch.device("cpu"), random.seeded(random.make_key(seed, random.INIT, BUILD)):
        module = make()
        return module.to(device) if isinstance(module, nn.Module) and device.type == "meta" else module


def complete(module: nn.Module, form: InputSpec) -> nn.Module:
    """Let a network without our layers take the data's examples: raw images are scaled before it.

    Tokens, which are stored in as few bytes as they need, arrive as int64. A first call gives lazy layers
    their shapes.
    """
    if form.scaling is not None:
        scale = Standardize(form)
        module.register_buffer(OFFSET, scale.offset)
        module.register_buffer(FACTOR, scale.factor)
        module.register_forward_pre_hook(_scaled)
    if form.kind == "tokens":
        module.register_forward_pre_hook(_as_ids)
    if any(isinstance(p, nn.UninitializedParameter) for p in module.parameters()):
        with torch.no_grad():
            module.eval()(torch.zeros(2, *form.shape))
        module.train()
    return module


def _as_ids(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (inputs[0].long(), *inputs[1:])


def _scaled(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    offset, factor = cast(Tensor, getattr(module, OFFSET)), cast(Tensor, getattr(module, FACTOR))
    return ((unit(inputs[0]) - offset) * factor, *inputs[1:])


def require_float32(module: nn.Module, where: str) -> None:
    """Raise ConfigError for parameters of another type. where: the model's name."""
    for name, parameter in module.named_parameters():
        if parameter.dtype != torch.float32:
            kind = str(parameter.dtype).removeprefix("torch.")
            raise ConfigError(
                [
                    f"model={where}: {name} is {kind}, expected float32; return network.float() "
                    "(trainer.dtype=bfloat16 computes in 16 bits)"
                ]
            )


def running_statistics(module: nn.Module) -> list[str]:
    """Return the names of a layer's own running statistics, which are averaged along with weights."""
    named = getattr(module, "running", None)
    if not isinstance(named, list):  # torch's batch and instance normalization
        named = ["running_mean", "running_var"]
    return [name for name in named if module._buffers.get(name) is not None]


def layers_with_statistics(network: nn.Module) -> Iterator[tuple[str, nn.Module, list[str]]]:
    """Yield the name, the layer and its running statistics."""
    for name, module in network.named_modules():
        if found := running_statistics(module):
            yield name, module, found
