"""Layers with explicit hyperparameters and randomness, and `LayerFactory`, which builds them.

A layer's numbers (a dropout rate, a slope) are buffers, so members of a pack can differ in them. Its
randomness comes from a counted key, also a buffer, and a count of training calls, so a layer is
self-contained and a restored state repeats the same masks. Buffers that change in training are rebound
(`self.calls = self.calls + 1`), never written in place: the engine reads them back after a functional
call.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from math import inf

import torch
from torch import Tensor, nn

from slipstream.core import random
from slipstream.core.registry import Component, component, components
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


Make = Callable[[int, bool], nn.Module]  # (outputs, bias) -> a layer with a weight
Regularizer = tuple[Component[RegularizerTraits], Mapping[str, Plain]]  # with its settings


class LayerFactory:
    """Builds a model's layers as configured.

    The order inside a hidden layer is fixed: weights, normalizations, activation, normalizations with
    `position: after`, noise (batch normalization comes before the nonlinearity, as in Ioffe & Szegedy,
    arXiv 1502.03167); regularizers of one kind keep the order of their registration.

    form: of the examples. members: the number that train together. alone: a single run, not compiled,
    which may use kernels that neither vmap nor a compiler supports.
    """

    def __init__(
        self,
        form: InputSpec,
        activation: tuple[str, Mapping[str, Plain]],
        regularizers: Mapping[str, Mapping[str, Plain]],
        seed: int,
        *,
        members: int = 1,
        alone: bool = False,
    ) -> None:
        self.form, self.members, self.alone = form, members, alone
        self._activation = activation
        # In registration order, not configuration order: [a, b] equals [b, a].
        self._regularizers = {
            name: (part, regularizers[name])
            for name, part in components("regularizer").items()
            if name in regularizers
        }
        self._seed = seed
        self._noises = self._keys = 0

    def activation(self) -> Activation:
        """Build the configured activation."""
        name, settings = self._activation
        return Activation(component("activation", name), settings)

    @property
    def width_factor(self) -> int:
        """The number of input features per output feature of the activation."""
        name, settings = self._activation
        factor = component("activation", name).traits.width_factor
        return factor(**settings) if callable(factor) else factor

    def plain_activation(self, name: str) -> Callable[[], Activation]:
        """Return a function that builds the named activation, which must not have settings."""
        return lambda: Activation(component("activation", name), {})

    def key(self) -> Tensor:
        """Return a new counted key for what a module draws when it is built."""
        self._keys += 1
        return random.make_key(self._seed, random.INIT, OWN_KEYS + self._keys)

    def linear(self, features: int) -> Make:
        """Return a builder of dense layers [..., features] -> [..., outputs]."""
        return lambda outputs, bias: linear(features, outputs, bias=bias)

    def hidden(self, features: int, width: int, *, residual: bool = False) -> nn.Sequential:
        """Build a dense hidden layer: [N, features] -> [N, width]."""
        return self.block(self.linear(features), width, residual=residual)

    def block(
        self,
        make: Make,
        width: int,
        *,
        residual: bool = False,
        activation: Callable[[], nn.Module] | None = None,
    ) -> nn.Sequential:
        """Build a hidden layer from `make` and everything that follows it, with `width` output features.

        residual: add the layer's input to its output. activation: builds another than the configured one.
        """
        wide = width * self.width_factor
        # Batch normalization cancels a bias: its gradient would be only rounding noise, which Adam amplifies.
        layers = OrderedDict[str, nn.Module](
            linear=self.weighted(make(wide, not self.has_batch_norm("before")))
        )
        layers |= (
            self.norms("before", wide)
            | self._active(activation or self.activation)
            | self.norms("after", width)
        )
        layers |= self.activities() | self.noises("hidden")
        layers |= self.noises("branch") if residual else {}
        return (Residual if residual else nn.Sequential)(layers)

    def norms(self, position: str, features: int) -> dict[str, nn.Module]:
        """Build the normalizations `before` or `after` the activation."""
        return {
            name: Norm(part, settings, features, alone=self.alone)
            for name, (part, settings) in self._norms(position)
        }

    def has_batch_norm(self, position: str) -> bool:
        """Return True if a normalization at this position uses batch statistics."""
        return any(part.traits.buffers for _, (part, _) in self._norms(position))

    def _norms(self, position: str) -> list[tuple[str, Regularizer]]:
        chosen = self._placed("norm")
        return [(name, (p, s)) for name, (p, s) in chosen if s.get("position", "before") == position]

    def activities(self) -> dict[str, nn.Module]:
        """Build the penalties on the activations of a hidden layer."""
        return {name: Activity(part, settings) for name, (part, settings) in self._placed("activity")}

    def weighted(self, layer: nn.Module) -> nn.Module:
        """Wrap a layer in the configured reparametrizations of its weight."""
        for _, (part, settings) in self._placed("weight"):
            layer = Reparametrized(part, settings, layer, self.key())
        return layer

    def output(
        self, features: int, outputs: int, activation: Callable[[], nn.Module], make: Make | None = None
    ) -> nn.Sequential:
        """Build the last layer: [N, features] -> [N, outputs].

        activation: builds what follows it. make: builds a layer other than a dense one.
        """
        layer = (make or self.linear(features))(outputs, True)
        return nn.Sequential(OrderedDict(linear=layer, **self._active(activation)))

    def _active(self, activation: Callable[[], nn.Module]) -> dict[str, nn.Module]:
        made = activation()
        return {} if made.name == "identity" else {"activation": made}

    def network(
        self,
        hidden: Sequence[nn.Module],
        output: nn.Module,
        *,
        flatten: bool = True,
        front: Mapping[str, nn.Module | None] | None = None,
    ) -> nn.Sequential:
        """Assemble a network: inputs (scaling, flattening, noise, `front`), hidden layers, output.

        front: further layers before the hidden ones, by name; None is skipped.
        """
        inputs: dict[str, nn.Module] = {"standardize": Standardize(self.form)} if self.form.scaling else {}
        inputs |= {"flatten": nn.Flatten()} if flatten and len(self.form.shape) > 1 else {}
        inputs |= self.noises("inputs")
        inputs |= {name: layer for name, layer in (front or {}).items() if layer is not None}
        layers = {"inputs": nn.Sequential(OrderedDict(inputs))}
        return nn.Sequential(OrderedDict(**layers, hidden=nn.Sequential(*hidden), output=output))

    def noises(self, on: str) -> dict[str, nn.Module]:
        """Build the noise layers, each with its own key.

        on: `inputs`, `hidden` or `branch` (a residual branch).
        """
        made: dict[str, nn.Module] = {}
        for name, (part, settings) in self._placed("noise"):
            if part.traits.on == on:
                key = random.make_key(self._seed, random.NOISE, self._noises)
                made[name] = Noise(part, settings, key, alone=self.alone)
                self._noises += 1
        return made

    def _placed(self, place: str) -> list[tuple[str, Regularizer]]:
        return [(n, c) for n, c in self._regularizers.items() if c[0].traits.place == place]


class Linear(nn.Linear):
    """A dense layer without initial values, which the initializer sets."""

    def reset_parameters(self) -> None:
        """Do nothing. (`to_empty` of a layer on the meta device imports 0.4 s of torch.)"""


def linear(features: int, outputs: int, *, bias: bool = True) -> nn.Linear:
    """Build a dense layer on torch's default device."""
    return Linear(features, outputs, bias=bias)
