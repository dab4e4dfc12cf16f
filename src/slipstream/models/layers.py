"""Layers with explicit hyperparameters and randomness.

A layer's numbers (a dropout rate, a slope) are buffers, so members of a pack can differ in them. Its
randomness comes from a counted key, also a buffer, and a count of training calls, so a layer is
self-contained and a restored state repeats the same masks. Buffers that change in training are rebound
(`self.calls = self.calls + 1`), never written in place: the engine reads them back after a functional
call.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from math import inf

import torch
from torch import Tensor, nn

from slipstream.core import random
from slipstream.core.registry import Component
from slipstream.core.traits import ActivationTraits, RegularizerTraits, Traits
from slipstream.core.types import InputSpec, Plain

OWN_KEYS = 1 << 20  # modules' own keys start here; lower ones belong to parameters


class Layer(nn.Module):
    """A component as a layer: its numbers become buffers, its structure stays plain Python values."""

    def __init__(self, part: Component[Traits], settings: Mapping[str, Plain]) -> None:
        super().__init__()
        self.name, self.function = part.name, part.function
        numbers, self.structure = part.split(settings)
        self.numbers = list(numbers)
        for name, value in numbers.items():
            self.register_buffer(name, torch.tensor(float(value)))

    def settings(self) -> dict[str, Plain]:
        """Return the function's keyword arguments, with the numbers currently bound."""
        if not self.numbers:
            return self.structure
        return self.structure | {name: self._buffers[name] for name in self.numbers}


class Activation(Layer):
    """An activation; its learned values (the slope of prelu) are parameters."""

    def __init__(self, part: Component[ActivationTraits], settings: Mapping[str, Plain]) -> None:
        learned = part.traits.learned
        super().__init__(part, settings)
        bounds = part.traits.saturates or (-inf, inf)
        self.bounds: tuple[float, float] = bounds(**settings) if callable(bounds) else bounds
        self.learned = list(learned)
        for name, setting in learned.items():
            self.register_parameter(name, nn.Parameter(torch.tensor(float(settings[setting]))))

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.function(
            x, *(self._parameters[name] for name in self.learned), **self.settings()
        )
        return result


class Noise(Layer):
    """Noise on the activations in training; the identity in evaluation.

    alone: a single run, for which the host draws the numbers on a CPU.
    """

    def __init__(
        self,
        part: Component[RegularizerTraits],
        settings: Mapping[str, Plain],
        key: Tensor,
        *,
        alone: bool = False,
    ) -> None:
        super().__init__(part, settings)
        self.alone = alone
        self.ahead: dict[Hashable, tuple[int, Tensor]] = {}
        self.key: Tensor
        self.calls: Tensor
        self.register_buffer("key", key)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        key: random.Key = self.key
        if self.alone and x.device.type == "cpu":
            key = random.HostKey.of(self.key, self.ahead)
        key = random.at(key, self.calls)
        self.calls = self.calls + 1
        result: Tensor = self.function(x, key, **self.settings())
        return result


class Norm(Layer):
    """A normalization with a learned scale and shift, and running statistics if it has any.

    alone: a single run, which may use a torch kernel that takes Python numbers.
    """

    def __init__(
        self,
        part: Component[RegularizerTraits],
        settings: Mapping[str, Plain],
        features: int,
        *,
        alone: bool = False,
    ) -> None:
        super().__init__(part, settings)
        if alone and part.traits.kernel:
            numbers, structure = part.split(settings)
            self.numbers, self.structure = [], structure | numbers
            self.function = part.traits.kernel
        if part.traits.check:
            part.traits.check(features, **settings)
        self.scale = nn.Parameter(torch.ones(features))
        self.shift = nn.Parameter(torch.zeros(features))
        self.running = list(part.traits.buffers)
        for name in self.running:
            start = torch.ones(features) if name.endswith("var") else torch.zeros(features)
            self.register_buffer(name, start)

    def forward(self, x: Tensor) -> Tensor:
        if not self.running:
            y: Tensor = self.function(x, self.scale, self.shift, **self.settings())
            return y
        before = [self._buffers[name] for name in self.running]
        y, *after = self.function(x, self.scale, self.shift, *before, self.training, **self.settings())
        for name, value in zip(self.running, after, strict=True):
            self._buffers[name] = value
        return y


class Activity(Layer):
    """The identity with a penalty on its input, which the step adds to the loss."""

    def __init__(self, part: Component[RegularizerTraits], settings: Mapping[str, Plain]) -> None:
        super().__init__(part, settings)
        self.register_buffer("penalty", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.penalty = self.function(x, **self.settings())
        return x


class Reparametrized(Layer):
    """A layer whose weight passes through a function at every call; a vector u is kept between calls."""

    def __init__(
        self, part: Component[RegularizerTraits], settings: Mapping[str, Plain], layer: nn.Module, key: Tensor
    ) -> None:
        super().__init__(part, settings)
        self.layer = layer
        self.running = ["u"]
        self.u: Tensor
        self.register_buffer("u", random.normal(key, (len(layer.weight),)))  # type: ignore[arg-type]  # nn.Module types weight as Tensor or Module

    def forward(self, x: Tensor) -> Tensor:
        slots = self.layer._parameters
        weight = slots["weight"]
        changed, self.u = self.function(weight, self.u, self.training, **self.settings())
        slots["weight"] = changed
        try:
            result: Tensor = self.layer(x)
            return result
        finally:
            slots["weight"] = weight


class Standardize(nn.Module):
    """Raw images to inputs: bytes to the range 0 to 1, then (x - offset) * factor per channel.

    Both are buffers, because each fold of a pack has its own.
    """

    def __init__(self, form: InputSpec) -> None:
        super().__init__()
        assert form.scaling is not None
        axes = (1,) * (len(form.shape) - 1)
        offset, factor = (torch.tensor(values).view(-1, *axes) for values in form.scaling.of_unit)
        self.offset: Tensor
        self.factor: Tensor
        self.register_buffer("offset", offset)
        self.register_buffer("factor", factor)

    def forward(self, x: Tensor) -> Tensor:
        return (unit(x) - self.offset) * self.factor


def unit(x: Tensor) -> Tensor:
    """Scale raw images to the range 0 to 1: divide bytes by 255; floats already are in it."""
    return x.float() * (1 / 255) if x.dtype == torch.uint8 else x


class Residual(nn.Sequential):
    """h -> h + layers(h)."""

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = super().forward(x)  # type: ignore[no-untyped-call]  # torch has no annotation
        return x + y


class Linear(nn.Linear):
    """A dense layer without initial values, which the initializer sets."""

    def reset_parameters(self) -> None:
        """Do nothing. (`to_empty` of a layer on the meta device imports 0.4 s of torch.)"""


def linear(features: int, outputs: int, *, bias: bool = True) -> nn.Linear:
    """Build a dense layer on torch's default device."""
    return Linear(features, outputs, bias=bias)
