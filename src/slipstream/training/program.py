"""What is fixed before training: the network's structure, the chosen components, their order.

A `Program` holds no state. Members of a pack share one; what differs between them (weights,
buffers, numbers) is in the `State` and the numbers that are handed to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from slipstream.errors import ConfigError
from slipstream.models.initialize import gain_of, initialize, layout_of
from slipstream.models.layers import Parts
from slipstream.optimizers.base import evaluated, initial_state
from slipstream.registry import Component, component, components
from slipstream.types import Target

if TYPE_CHECKING:
    from slipstream.config import Config


VECTORS = 10  # parameters, gradient, update, best, and a rule's two, each with its successor


class State(NamedTuple):
    """Everything that a step changes, for one member.

    params: [P]. buffers: the network's, by name. rule: the optimizer's vectors, by name.
    average: the averaged parameters [P] where a regularizer keeps them, else empty.
    """

    params: Tensor
    buffers: dict[str, Tensor]
    rule: dict[str, Tensor]
    average: dict[str, Tensor]


class Functional:
    """Calls a module with parameters and buffers from outside and returns its new buffers.

    `torch.func.functional_call` does the same but keeps no changed buffers, and its checks cost a
    tenth of a small network's step.
    """

    def __init__(self, module: nn.Module, autocast: torch.dtype | None = None) -> None:
        self.module = module
        self.layers = list(_chain(module))
        self.autocast = autocast
        self.parameters = [self._slot(name, "_parameters") for name, _ in module.named_parameters()]
        self.buffers = {name: self._slot(name, "_buffers") for name, _ in module.named_buffers()}

    def _slot(self, name: str, kind: str) -> tuple[dict[str, Any], str, Any]:
        owner, _, own = name.rpartition(".")
        slots = getattr(self.module.get_submodule(owner), kind)
        return slots, own, slots[own]

    def __call__(
        self, params: list[Tensor], buffers: dict[str, Tensor], x: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """x [N, ...] -> outputs [N, C], the buffers after the call."""
        for (slots, own, _), value in zip(self.parameters, params, strict=True):
            slots[own] = value
        for name, (slots, own, _) in self.buffers.items():
            slots[own] = buffers[name]
        try:
            with nullcontext() if self.autocast is None else torch.autocast(x.device.type, self.autocast):
                for layer in self.layers:
                    x = layer(x)
            return x.float(), {name: slots[own] for name, (slots, own, _) in self.buffers.items()}
        finally:
            for slots, own, original in (*self.parameters, *self.buffers.values()):
                slots[own] = original


def _chain(module: nn.Module) -> Iterator[nn.Module]:
    """The layers that a plain sequence of sequences comes to: entering each costs a microsecond."""
    if type(module) is nn.Sequential:
        for child in module:
            yield from _chain(child)
    else:
        yield module


@dataclass(frozen=True)
class Choice:
    """A chosen component with the structure part of its settings bound."""

    name: str
    part: Component
    function: partial[Any]

    @classmethod
    def of(cls, group: str, name: str, settings: Mapping[str, Any]) -> Choice:
        part = component(group, name)
        return cls(name, part, partial(part.function, **part.split(settings)[1]))


def require_memory(parameters: int, members: int) -> None:
    """Raise ConfigError where the parameters alone would not fit into the memory that is free."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):  # not Linux: no cheap way to know
        return
    need = 4 * parameters * members * VECTORS
    if need > free:
        raise ConfigError(
            [
                f"model: {parameters:,} parameters need about {need / 2**30:.1f} GB to train and "
                f"{free / 2**30:.1f} GB are free; lower model.width or model.depth"
            ]
        )


class Program:
    """The components of a configuration, put together for data of one shape."""

    def __init__(
        self, config: Config, target: Target, input_shape: tuple[int, ...], members: int = 1
    ) -> None:
        self.target = target
        self.loss = Choice.of("loss", config.loss.name, config.loss.settings)
        self.optimizer = Choice.of("optimizer", config.optimizer.name, config.optimizer.settings)
        order = [name for name in components("regularizer") if name in config.regularizers]
        regularizers = [Choice.of("regularizer", name, config.regularizers[name]) for name in order]
        self.places = {
            place: [choice for choice in regularizers if choice.part.traits["place"] == place]
            for place in ("penalty", "targets", "gradient", "decay", "constraint", "average")
        }
        self.accumulate = config.trainer.accumulate
        self.autocast = torch.bfloat16 if config.trainer.dtype == "bfloat16" else None
        self.input_shape = input_shape
        with torch.device("meta"):  # shapes only: they say what the rest would need
            self.layout = layout_of(self._build(config))
        require_memory(self.layout.size, members)
        self.module = self._build(config).train()
        self.forward = Functional(self.module, self.autocast)
        # A second one, because switching a module between training and evaluation walks all of it.
        self.infer = Functional(self._build(config).eval(), self.autocast)

    def _build(self, config: Config) -> nn.Module:
        activation = (config.activation.name, config.activation.settings)
        parts = Parts(activation, config.regularizers, config.seed)
        model = component("model", config.model.name)
        return model(self.input_shape, self.outputs(config), parts, **config.model.settings)

    def outputs(self, config: Config) -> int:
        """How many numbers the network gives for one example: the loss decides."""
        part = component("loss", config.loss.name)
        return part.traits["outputs"](self.target, **part.split(config.loss.settings)[1])

    def start(self, config: Config, examples: Tensor) -> State:
        """The state before the first step of a member with this configuration, on the CPU.

        Another member's numbers and seed give other buffers: the network is built for each.
        """
        module = self._build(config)
        chosen = (component("initializer", config.initializer.name), config.initializer.settings)
        gain = gain_of((config.activation.name, config.activation.settings))
        initialize(module, chosen, gain, config.seed, examples)
        params = torch.cat([p.detach().flatten() for p in module.parameters()])
        return State(
            params=params,
            buffers={name: buffer.clone() for name, buffer in module.named_buffers()},
            rule=initial_state(self.optimizer.part, params, self.layout, config.optimizer.settings),
            average={choice.name: params.clone() for choice in self.places["average"]},
        )

    def numbers(self, config: Config) -> dict[str, dict[str, float]]:
        """The numbers of the components that a step calls, by component; lr is not among them."""
        named = {"loss": (self.loss, config.loss.settings)}
        named |= {"optimizer": (self.optimizer, config.optimizer.settings)}
        for choices in self.places.values():
            named |= {choice.name: (choice, config.regularizers[choice.name]) for choice in choices}
        numbers = {key: choice.part.split(settings)[0] for key, (choice, settings) in named.items()}
        numbers["optimizer"].pop("lr")
        return numbers

    def mask(self, device: torch.device) -> Tensor:
        """[P]: 1 where a parameter is a weight, 0 where penalties and decay leave it alone."""
        shapes = zip(self.layout.sizes, self.layout.penalized, strict=True)
        return torch.cat([torch.full((size,), float(weight)) for size, weight in shapes]).to(device)

    def evaluated(self, state: State, numbers: Mapping[str, Any]) -> Tensor:
        """The parameters [P] to evaluate with: averaged where something averages them."""
        if self.places["average"]:
            return state.average[self.places["average"][-1].name]
        settings = self.optimizer.function.keywords | numbers["optimizer"]
        return evaluated(self.optimizer.part, state.params, state.rule, settings)

    def scores(self, outputs: Tensor, numbers: Mapping[str, Any]) -> Tensor:
        """What the outputs [N, C] predict: class scores [N, classes], or values in original units."""
        predict = self.loss.part.traits["predict"]
        scores = predict(outputs, self.target, **self.loss.function.keywords, **numbers["loss"])
        return self.original_units(scores)

    def original_units(self, values: Tensor) -> Tensor:
        """Regression values [N, D] with the scaling of the targets undone; others as they are."""
        if self.target.task != "regression" or not self.target.scale:
            return values
        scale, offset = (values.new_tensor(part) for part in (self.target.scale, self.target.offset))
        return values * scale + offset

    def views(self, params: Tensor) -> list[Tensor]:
        """The flat vector [P] cut into the module's parameters, in their order."""
        parts = params.split(self.layout.sizes)
        return [part.view(shape) for part, shape in zip(parts, self.layout.shapes, strict=True)]
