"""Layers whose hyperparameters and randomness are explicit, and `Parts`, which makes them.

A layer's numbers (a dropout rate, a slope) are buffers, so that members of a pack can differ in
them. Its randomness is a counted key, also a buffer, and a count of the calls made in training, so
that a layer needs nothing from outside and a restored state repeats the same masks. Buffers that
change in training are bound anew (`self.calls = self.calls + 1`), never written in place: the
engine reads them back after a functional call.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from slipstream import random
from slipstream.registry import Component, component, components


class Layer(nn.Module):
    """A component as a layer: its numbers become buffers, its structure stays Python."""

    def __init__(self, part: Component, settings: Mapping[str, Any]) -> None:
        super().__init__()
        self.name, self.function = part.name, part.function
        self.structure = {name: value for name, value in settings.items() if name not in part.numbers}
        self.numbers = [name for name in settings if name in part.numbers]
        for name in self.numbers:
            self.register_buffer(name, torch.tensor(float(settings[name])))

    def settings(self) -> dict[str, Any]:
        """The function's keyword arguments, with the numbers as they are bound now."""
        if not self.numbers:
            return self.structure
        return self.structure | {name: self._buffers[name] for name in self.numbers}


class Activation(Layer):
    """An activation; what it learns (the slope of prelu) is a parameter."""

    def __init__(self, part: Component, settings: Mapping[str, Any]) -> None:
        learned = part.traits.get("learned", {})
        super().__init__(part, settings)
        self.learned = list(learned)
        for name, setting in learned.items():
            self.register_parameter(name, nn.Parameter(torch.tensor(float(settings[setting]))))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, *(self._parameters[name] for name in self.learned), **self.settings())


class Noise(Layer):
    """A random change of the activations in training, nothing in evaluation."""

    def __init__(self, part: Component, settings: Mapping[str, Any], key: Tensor) -> None:
        super().__init__(part, settings)
        self.key: Tensor
        self.calls: Tensor
        self.register_buffer("key", key)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        key = random.at(self.key, self.calls)
        self.calls = self.calls + 1
        return self.function(x, key, **self.settings())


class Norm(Layer):
    """A normalization with a learned scale and shift, and running statistics where it has them."""

    def __init__(self, part: Component, settings: Mapping[str, Any], features: int) -> None:
        super().__init__(part, settings)
        self.scale = nn.Parameter(torch.ones(features))
        self.shift = nn.Parameter(torch.zeros(features))
        self.running = list(part.traits.get("buffers", ()))
        for name in self.running:
            start = torch.ones(features) if name.endswith("var") else torch.zeros(features)
            self.register_buffer(name, start)

    def forward(self, x: Tensor) -> Tensor:
        if not self.running:
            return self.function(x, self.scale, self.shift, **self.settings())
        before = [self._buffers[name] for name in self.running]
        y, *after = self.function(x, self.scale, self.shift, *before, self.training, **self.settings())
        for name, value in zip(self.running, after, strict=True):
            self._buffers[name] = value
        return y


class Residual(nn.Sequential):
    """h -> h + layers(h)."""

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


class Parts:
    """Makes the layers that a model is put together from, as the configuration has them.

    The order inside a hidden layer is fixed: linear, normalizations, activation, noise (batch
    normalization stands before the nonlinearity, as in Ioffe & Szegedy, arXiv 1502.03167).
    """

    def __init__(
        self,
        activation: tuple[str, Mapping[str, Any]],
        regularizers: Mapping[str, Mapping[str, Any]],
        seed: int,
    ) -> None:
        self._activation = activation
        # In the order of their registration, not of the configuration: [a, b] is [b, a].
        self._regularizers = {
            name: (part, regularizers[name])
            for name, part in components("regularizer").items()
            if name in regularizers
        }
        self._seed = seed
        self._noises = 0

    def activation(self) -> Activation:
        """The configured activation."""
        name, settings = self._activation
        return Activation(component("activation", name), settings)

    def plain_activation(self, name: str) -> Any:
        """A function that makes the activation of that name, which must have no settings."""
        return lambda: Activation(component("activation", name), {})

    def hidden(self, features: int, width: int, *, residual: bool = False) -> nn.Sequential:
        """One hidden layer: [N, features] -> [N, width]."""
        part, settings = component("activation", self._activation[0]), self._activation[1]
        factor = part.traits.get("width_factor", 1)
        wide = width * (factor(**settings) if callable(factor) else factor)
        norms = self._placed("norm")
        # Batch statistics take a bias away again: its gradient would be rounding, Adam's food.
        bias = not any(part.traits["buffers"] for _, (part, _) in norms)
        layers = OrderedDict[str, nn.Module](linear=linear(features, wide, bias=bias))
        layers |= {name: Norm(*choice, wide) for name, choice in norms}
        layers |= self._active(self.activation)
        layers |= self.noises("hidden")
        return (Residual if residual else nn.Sequential)(layers)

    def output(self, features: int, outputs: int, activation: Any) -> nn.Sequential:
        """The last layer: [N, features] -> [N, outputs]. `activation` makes what stands behind it."""
        return nn.Sequential(OrderedDict(linear=linear(features, outputs), **self._active(activation)))

    def _active(self, activation: Any) -> dict[str, nn.Module]:
        made = activation()
        return {} if made.name == "identity" else {"activation": made}

    def network(
        self, shape: tuple[int, ...], hidden: Sequence[nn.Module], output: nn.Module
    ) -> nn.Sequential:
        """Examples of that shape flattened and given their noise, hidden layers, output."""
        inputs: dict[str, nn.Module] = {"flatten": nn.Flatten()} if len(shape) > 1 else {}
        layers = {"inputs": nn.Sequential(OrderedDict(**inputs, **self.noises("inputs")))}
        return nn.Sequential(OrderedDict(**layers, hidden=nn.Sequential(*hidden), output=output))

    def noises(self, on: str) -> dict[str, nn.Module]:
        """The noise layers that belong `on` the inputs or the hidden layers, each with its own key."""
        made: dict[str, nn.Module] = {}
        for name, (part, settings) in self._placed("noise"):
            if part.traits["on"] == on:
                key = random.make_key(self._seed, random.NOISE, self._noises)
                made[name] = Noise(part, settings, key)
                self._noises += 1
        return made

    def _placed(self, place: str) -> list[tuple[str, tuple[Component, Mapping[str, Any]]]]:
        return [(n, c) for n, c in self._regularizers.items() if c[0].traits["place"] == place]


def linear(features: int, outputs: int, *, bias: bool = True) -> nn.Linear:
    """A dense layer without first values: the initializer gives them."""
    layer = nn.Linear(features, outputs, bias=bias, device="meta")
    return layer.to_empty(device=torch.get_default_device())
