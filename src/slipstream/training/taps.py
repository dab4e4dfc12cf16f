"""Places of a network whose values are observed, and the hooks that store them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from slipstream.core.types import Tree
from slipstream.models.layers import Activation, Activity
from slipstream.models.own_network import layers_with_statistics
from slipstream.models.recurrent import Direction
from slipstream.training.quantities import by_unit

UNBOUNDED = (-math.inf, math.inf)
STATISTICS = ("running_mean", "running_var")
# torch's own activations, in a user's network, with the bounds of their outputs.
TORCH: dict[type[nn.Module], tuple[float, float]] = {
    **dict.fromkeys((nn.ReLU, nn.Softplus), (0.0, math.inf)),
    **dict.fromkeys((nn.Sigmoid, nn.Hardsigmoid), (0.0, 1.0)),
    **dict.fromkeys((nn.Tanh, nn.Softsign), (-1.0, 1.0)),
    **dict.fromkeys((nn.LeakyReLU, nn.PReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish), UNBOUNDED),
    nn.ReLU6: (0.0, 6.0),
    nn.Hardswish: UNBOUNDED,
}


@dataclass(frozen=True)
class Tap:
    """A place of a network whose outputs are observed.

    name: the hidden layer's; further calls of a module have a number. bounds: the limits of the activation's
    outputs, where its gradient vanishes; infinite ones are ignored.
    """

    name: str
    module: nn.Module
    bounds: tuple[float, float]

    @property
    def saturates(self) -> bool:
        """True if both bounds are finite."""
        return all(map(math.isfinite, self.bounds))

    @property
    def recurrent(self) -> bool:
        """True for a cell that runs over steps [T, N, C]."""
        return isinstance(self.module, Direction)


class Seen(NamedTuple):
    """The values observed during one call of a network.

    units: inputs and outputs [R, units] of each tap, empty if it was not called. norms: the inputs [R, F] of
    each normalization with running statistics. activity: the sum of the penalties on activations.
    """

    units: list[tuple[Tensor, Tensor]]
    norms: list[Tensor]
    activity: Tensor


def taps(module: nn.Module) -> list[Tap]:
    """Return the activations of a network's hidden layers, and its recurrent layers, in order."""
    recurrent = [name for name, inside in module.named_modules() if isinstance(inside, Direction)]
    found = []
    for name, inside in module.named_modules():
        if isinstance(inside, Direction | nn.RNNBase):
            found.append(Tap(name, inside, UNBOUNDED))
        elif isinstance(inside, Activation) and not any(name.startswith(f"{r}.") for r in recurrent):
            found.append(Tap(name.rpartition(".")[0] or name, inside, inside.bounds))
        elif type(inside) in TORCH:
            found.append(Tap(name, inside, TORCH[type(inside)]))
        elif isinstance(inside, nn.Hardtanh):
            found.append(Tap(name, inside, (inside.min_val, inside.max_val)))
    return [tap for tap in found if not tap.name.startswith("output")]


class LayerWatch:
    """Stores the inputs and outputs of a network's layers. Nothing else may use the network.

    example: inputs for calling a user's network once, to count the calls of each layer; slipstream's own
    networks call each layer once.
    """

    def __init__(self, module: nn.Module, example: Tensor | None = None) -> None:
        for inside in module.modules():
            if getattr(inside, "inplace", False):  # it would overwrite its input
                inside.inplace = False  # type: ignore[assignment]  # nn.Module types attributes as Tensor
        self.taps = taps(module)
        named = layers_with_statistics(module)
        self.norms = {name: layer for name, layer, own in named if set(STATISTICS) <= set(own)}
        self._offsets: Sequence[Tensor] = ()
        self._register(module)
        if example is not None:
            self._number_calls(module, example)
        self._places: dict[nn.Module, list[int]] = {}
        for place, tap in enumerate(self.taps):
            self._places.setdefault(tap.module, []).append(place)

    def _register(self, module: nn.Module) -> None:
        self._calls: Counter[nn.Module] = Counter()
        self._units: dict[int, tuple[Tensor, Tensor]] = {}
        self._inputs: dict[nn.Module, Tensor] = {}
        self._penalties: list[Tensor] = []
        self._places = {tap.module: [] for tap in self.taps}
        for tap in self.taps:
            tap.module.register_forward_hook(self._keep)
            if tap.recurrent:
                tap.module.register_forward_pre_hook(self._offset)
        for norm in self.norms.values():
            norm.register_forward_hook(self._keep_inputs)
        for inside in module.modules():
            if isinstance(inside, Activity):
                inside.register_forward_hook(self._penalize)

    def _number_calls(self, module: nn.Module, example: Tensor) -> None:
        """Make each call of a layer a tap; layers that are not called have none."""
        with torch.no_grad():
            module(example)
        numbered = ((tap, range(self._calls[tap.module])) for tap in self.taps)
        self.taps = [
            Tap(f"{tap.name}.{call + 1}" if call else tap.name, tap.module, tap.bounds)
            for tap, calls in numbered
            for call in calls
        ]

    def begin(self, offsets: Sequence[Tensor]) -> None:
        """Forget the last call. offsets: [T, N, C] added to the inputs of each recurrent tap."""
        self._offsets = offsets
        self._calls.clear()
        self._units.clear()
        self._inputs.clear()
        self._penalties.clear()

    def end(self, like: Tensor) -> Seen:
        """Return the values observed since `begin`. like: a tensor on the same device."""
        nothing = like.new_empty(0, 0)
        units = [self._units.get(place, (nothing, nothing)) for place in range(len(self.taps))]
        norms = [self._inputs.get(norm, nothing) for norm in self.norms.values()]
        seen = Seen(units, norms, sum(self._penalties, like.new_zeros(())))
        self.begin(())
        return seen

    def _keep(self, module: nn.Module, inputs: tuple[Tree, ...], output: Tree) -> None:
        call, places = self._calls[module], self._places[module]
        self._calls[module] += 1
        if call < len(places):
            self._units[places[call]] = (by_unit(_tensor(inputs)), by_unit(_tensor(output)))

    def _keep_inputs(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self._inputs[module] = inputs[0].movedim(1, -1).flatten(0, -2).float()

    def _offset(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        if not self._offsets:
            return inputs
        cells = [tap.module for tap in self.taps if tap.recurrent]
        return (inputs[0] + self._offsets[cells.index(module)],)

    def _penalize(self, module: Activity, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self._penalties.append(module.function(inputs[0], **module.settings()))

    def offsets(self, steps: int, rows: int, like: Tensor) -> list[Tensor]:
        """Return zeros [T, N, C] to add to the inputs of each recurrent tap, for differentiation."""
        cells = [tap.module for tap in self.taps if isinstance(tap.module, Direction)]
        return [like.new_zeros(steps, rows, cell.features) for cell in cells]


def _tensor(value: Tree) -> Tensor:
    """Return the first tensor of a layer's input or output, such as an LSTM's outputs and state."""
    while isinstance(value, tuple):
        value = value[0]
    assert isinstance(value, Tensor)
    return value
