"""The factory that builds a model's layers as configured."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence

from torch import Tensor, nn

from slipstream.core import random
from slipstream.core.registry import Component, component, components
from slipstream.core.traits import RegularizerTraits
from slipstream.core.types import InputSpec, Plain
from slipstream.models.layers import (
    OWN_KEYS,
    Activation,
    Activity,
    Noise,
    Norm,
    Reparametrized,
    Residual,
    Standardize,
    linear,
)

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
