"""The part of training that is fixed in advance: the structure of the network and the selected components.

A `ModelSpec` has no state. The members of a pack share one; the `State` and the numbers passed to it contain
their differences (weights, buffers, numbers).
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from slipstream.core import random
from slipstream.core.contracts import takes_parts
from slipstream.core.errors import ConfigError
from slipstream.core.registry import BoundComponent, Component, component, components, misfit
from slipstream.core.traits import Traits, foreign
from slipstream.core.types import InputSpec, Layout, Numbers, Plain, Scalar, Target
from slipstream.core.wording import sizes
from slipstream.models.functional import Functional, Nature, fit, split_tensors
from slipstream.models.initialize import gain_of, initialize, layout_of
from slipstream.models.layer_factory import LayerFactory
from slipstream.models.layers import Activity, unit
from slipstream.models.own_network import build, complete, layers_with_statistics, require_float32
from slipstream.models.parameter_patterns import mark, rest
from slipstream.models.weights_file import load_weights
from slipstream.optimizers.base import evaluated, initial_state
from slipstream.training.probes import not_a_network, require_contracts, require_network

if TYPE_CHECKING:
    from slipstream.config.run_config import Config
    from slipstream.data.image.stored import Sliced

T = TypeVar("T", bound=Traits)

NETWORK = (1 << 24) - 1  # the number of the key for a user network's random draws
VECTORS = 10  # parameters, gradient, update, best, and two of the rule, some of them old and new


class State(NamedTuple):
    """Everything that a step changes, for one member.

    params: [P]. buffers: of the network, by name. opt_state: vectors of the optimizer, by name.
    regularizer_state: the tensors that regularizers keep, by regularizer: slow parameters [P], a mask [P];
    averages and snapshots with their running statistics.
    """

    params: Tensor
    buffers: dict[str, Tensor]
    opt_state: dict[str, Tensor]
    regularizer_state: dict[str, Tensor]


def require_memory(parameters: int, members: int, settings: Mapping[str, Plain]) -> None:
    """Raise ConfigError if the parameters alone would not fit into free memory."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):  # other systems than Linux have no cheap way to find out
        return
    need = 4 * parameters * members * VECTORS
    if need > free:
        raise ConfigError(
            [
                f"model: {parameters:,} parameters need about {need / 2**30:.1f} GB to train, but only "
                f"{free / 2**30:.1f} GB are free; "
                f"lower one of {sizes(settings)}"
            ]
        )


# Places in a step or at the end of an epoch where regularizers act. The others are layers of the network.
PLACES = (
    *("penalty", "targets", "gradient", "decay", "constraint", "proximal", "mask", "follow"),
    *("average", "epoch"),
)
KEEPING = ("average", "follow", "mask", "epoch")  # places whose regularizers keep state between steps


class ModelSpec:
    """The components of a configuration, assembled for examples with one input spec.

    members: the number that train together. compiled: True if the step will be compiled.
    """

    def __init__(
        self, config: Config, target: Target, form: InputSpec, members: int = 1, *, compiled: bool = False
    ) -> None:
        self.target, self.form = target, form
        self._members, self._alone = members, members == 1 and not compiled
        require_form(config, form)
        require_contracts(config, target)
        self.loss = BoundComponent.of(component("loss", config.loss.name), config.loss.settings)
        rule = component("optimizer", config.optimizer.name)
        self.optimizer = BoundComponent.of(rule, config.optimizer.settings)
        regularizers = _chosen(components("regularizer"), config.regularizers)
        self.hooks = {place: [c for c in regularizers if c.place == place] for place in PLACES}
        self.augmentations = _chosen(components("augmentation"), config.augmentations)
        self.mixes = any(choice.part.traits.kind == "mix" for choice in self.augmentations)
        self.keeping = [choice for place in KEEPING for choice in self.hooks[place]]
        self.epochs = config.trainer.max_epochs
        self.makes_zeros = any(choice.place in ("proximal", "mask") for choice in regularizers)
        self.accumulate = config.trainer.accumulate
        self.autocast = torch.bfloat16 if config.trainer.dtype == "bfloat16" else None
        self.own = foreign(component("model", config.model.name).function)
        if not self.own:
            self.layout = self._laid_out(config)
            require_memory(self.layout.size, members, config.model.settings)
        self.module = self._build(config)
        nature = self._tried(config) if self.own else Nature()
        self.draws = nature.draws
        self.module.train()
        rest(self.module, config.trainer.freeze)
        self.forward = Functional(self.module, self.autocast, nature)
        # A second module, because switching between training and evaluation traverses all of it.
        self.infer = Functional(self._build(config).eval(), self.autocast, nature)
        modules = self.module.named_modules()
        self.activities = [f"{name}.penalty" for name, module in modules if isinstance(module, Activity)]
        buffers = dict(self.module.named_buffers())
        found = layers_with_statistics(self.module)
        running = [f"{name}.{own}".lstrip(".") for name, _, names in found for own in names]
        self.running = {name: tuple(buffers[name].shape) for name in running}
        calls, kept = [name for name in buffers if name.endswith(".calls")], split_tensors(self.module)[1]
        frozen = [name for name in kept if name not in buffers]
        # Changed by updates, or trained before they were frozen.
        self.carried = list(dict.fromkeys([*running, *calls, *nature.writes, *frozen]))

    def _laid_out(self, config: Config) -> Layout:
        """Return the layout of a network that is not built: shapes only, to estimate memory."""
        try:
            with torch.device("meta"):
                return layout_of(self._build(config))
        except RuntimeError as error:
            if "overflow" not in str(error):
                raise
            large = sizes(config.model.settings)
            raise ConfigError([f"model: too large for memory; lower one of {large}"]) from error

    def _tried(self, config: Config) -> Nature:
        """Call a user's network once, and return its nature."""
        model = component("model", config.model.name)
        nature = require_network(model, self.module, self.form, self.outputs(config))
        self.layout = layout_of(self.module)
        if not self.layout.names:
            raise ConfigError(
                [f"model={model.name}: the network has no parameters; there is nothing to train"]
            )
        return nature

    def _build(self, config: Config, form: InputSpec | None = None) -> nn.Module:
        """Build the network, and mark the parameters that are frozen or have their own learning rate."""
        model, form = component("model", config.model.name), form or self.form
        if not foreign(model.function):
            made = self._made(config, form)
        else:
            made = build(lambda: self._made(config, form), config.seed)
            if not isinstance(made, nn.Module):
                raise ConfigError([not_a_network(model, made)])
            if not takes_parts(model):
                complete(made, form)
            require_float32(made, model.name)
        mark(made, config.trainer.freeze, config.trainer.lr_factors)
        return made

    def _made(self, config: Config, form: InputSpec) -> nn.Module:
        model = component("model", config.model.name)
        if not takes_parts(model):
            own: nn.Module = model(form, self.outputs(config), **_own_settings(model, config))
            return own
        activation = (config.activation.name, config.activation.settings)
        parts = LayerFactory(
            form,
            activation,
            config.regularizers,
            config.seed,
            members=self._members,
            alone=self._alone,
        )
        result: nn.Module = model(form, self.outputs(config), parts, **_own_settings(model, config))
        return result

    def outputs(self, config: Config) -> int:
        """Return the number of outputs per example, which the loss determines."""
        part = component("loss", config.loss.name)
        return part.traits.outputs(self.target, **part.split(config.loss.settings)[1])

    def start(
        self, config: Config, examples: Tensor | Sliced, rows: int, form: InputSpec | None = None
    ) -> State:
        """Return the state before the first step of a member with this configuration, on the CPU.

        The network is built for each member, since numbers and seed determine buffers. examples: of the
        training split; data-dependent initializers see the first `rows` of them. form: with the scaling of
        the member's own fold.
        """
        module, model = self._build(config, form), component("model", config.model.name)
        if takes_parts(model):
            fit(module, examples)
        if not (self.own and (model.traits.own_start or not takes_parts(model))):
            chosen = (component("initializer", config.initializer.name), config.initializer.settings)
            gain = gain_of((config.activation.name, config.activation.settings))
            initialize(module, chosen, gain, config.seed, examples[:rows])
        if path := config.model.settings["weights"]:
            load_weights(module, path, config.model.settings["weights_skip"], own=self.own)
        return self.state_of(module, config)

    def state_of(self, module: nn.Module, config: Config) -> State:
        """Return the state before the first step of a member whose network has the module's values."""
        trained, buffers = split_tensors(module)
        params = torch.cat([p.flatten() for p in trained.values()])
        return State(
            params=params,
            buffers={name: buffer.clone() for name, buffer in buffers.items()},
            opt_state=initial_state(self.optimizer.part, params, self.layout, config.optimizer.settings),
            regularizer_state=self.first_kept(params, buffers),
        )

    def first_kept(self, params: Tensor, buffers: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the initial state of regularizers.

        It is the parameters (with running statistics if these are averaged too), or the result of the
        trait `start`.
        """
        kept = {}
        for choice in self.keeping:
            averages = choice.place in ("average", "epoch")
            first = self.with_statistics(params, buffers) if averages else params
            start = choice.part.traits.start
            kept[choice.name] = start(first, **choice.function.keywords) if start else first.clone()
        return kept

    def with_statistics(self, params: Tensor, buffers: Mapping[str, Tensor]) -> Tensor:
        """Concatenate the parameters [P] and the running statistics: [P + S]."""
        if not self.running:
            return params
        return torch.cat([params, *(buffers[name].flatten() for name in self.running)])

    def keys(self, config: Config) -> dict[str, Tensor]:
        """Return the keys [4] of all randomness in a step outside the network, by name."""
        named = {"batch": random.make_key(config.seed, random.BATCH)} if self.augmentations else {}
        if self.draws:
            named["network"] = random.make_key(config.seed, random.NOISE, NETWORK)
        keyed = [c.name for c in self.hooks["gradient"] if c.part.traits.keyed]
        return named | {n: random.make_key(config.seed, random.GRADIENT, i) for i, n in enumerate(keyed)}

    def call_key(self, numbers: Numbers, t: Scalar, part: int) -> random.Key | None:
        """Return the key of the network's call for a micro-batch of update t; None if it draws nothing."""
        if not self.draws:
            return None
        return random.fold(at_update(numbers["keys"]["network"], t), part << 12)

    def numbers(self, config: Config) -> dict[str, dict[str, float]]:
        """Return the numbers of the components that a step calls, by component, without lr."""
        named: dict[str, tuple[BoundComponent[Traits], Mapping[str, Plain]]] = {
            "loss": (self.loss, config.loss.settings),
            "optimizer": (self.optimizer, config.optimizer.settings),
        }
        for choices in self.hooks.values():
            named |= {choice.name: (choice, config.regularizers[choice.name]) for choice in choices}
        named |= {choice.name: (choice, config.augmentations[choice.name]) for choice in self.augmentations}
        numbers = {key: choice.part.split(settings)[0] for key, (choice, settings) in named.items()}
        numbers["optimizer"].pop("lr")
        return numbers

    def mask(self, device: torch.device) -> Tensor:
        """Return a mask [P]: 1 for weights, 0 for parameters that penalties and decay skip."""
        shapes = zip(self.layout.sizes, self.layout.penalized, strict=True)
        return torch.cat([torch.full((size,), float(weight)) for size, weight in shapes]).to(device)

    def lr_factors(self, device: torch.device) -> Tensor | None:
        """Return the factors [P] on the updates of parameters, or None if all are 1."""
        if not self.layout.lr_factors:
            return None
        pairs = zip(self.layout.sizes, self.layout.lr_factors, strict=True)
        return torch.cat([torch.full((size,), factor) for size, factor in pairs]).to(device)

    def augment(self, x: Tensor, y: Tensor, key: random.Key, numbers: Numbers) -> tuple[Tensor, Tensor]:
        """Apply the selected augmentations to a batch."""
        from slipstream.augmentations import augment

        return augment(unit(x), y, self.augmentations, key, numbers, len(self.target.classes), self.form)

    def concat_targets(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Concatenate outputs [N, C] or [N, E, C] and mixed targets [N, T]: [..., C + T]."""
        targets = targets if outputs.dim() == 2 else targets.unsqueeze(1).expand(-1, outputs.shape[1], -1)
        return torch.cat([outputs, targets.to(outputs.dtype)], dim=-1)

    def split_targets(self, both: Tensor) -> tuple[Tensor, Tensor]:
        """Split the result of `concat_targets` into outputs and targets."""
        width = len(self.target.classes or self.target.names)
        outputs, targets = both.split([both.shape[-1] - width, width], dim=-1)
        return outputs, targets if both.dim() == 2 else targets[:, 0]

    def metric_targets_of_mixed(self, targets: Tensor) -> Tensor:
        """Return mixed targets for metrics: the class of the largest weight, or values in original units."""
        if self.target.task == "regression":
            return original_units(targets, self.target)
        if self.target.task == "multilabel":
            return (targets >= 0.5).to(targets.dtype)
        return targets.argmax(-1)

    def close_epoch(self, state: State, epoch: Tensor, numbers: Numbers) -> State:
        """Return the state after an epoch's last update. epoch: the number of finished ones."""
        kept = dict(state.regularizer_state)
        for choice in (*self.hooks["epoch"], *self.hooks["mask"]):
            averages = choice.place == "epoch"
            now = self.with_statistics(state.params, state.buffers) if averages else state.params
            kept[choice.name] = choice.function(
                kept[choice.name], now, epoch, self.epochs, self.layout, **numbers[choice.name]
            )
        return state._replace(regularizer_state=kept)

    def evaluated(self, state: State, numbers: Numbers) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the parameters [P] and buffers to evaluate with, averaged if a component averages them.

        For an ensemble the parameters are [E P], and each running statistic has an axis E.
        """
        for choice in self.keeping:  # validation allows only one
            if choice.place == "follow":
                return state.regularizer_state[choice.name], state.buffers
            if choice.place in ("average", "epoch"):
                return self._without_statistics(state.regularizer_state[choice.name], state.buffers)
        settings = {**self.optimizer.function.keywords, **numbers["optimizer"]}
        return evaluated(self.optimizer.part, state.params, state.opt_state, settings), state.buffers

    def _without_statistics(
        self, both: Tensor, buffers: dict[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Split the result of `with_statistics`, for one network [P + S] or E networks [E (P + S)]."""
        if not self.running:
            return both, buffers
        sizes = [prod(shape) for shape in self.running.values()]
        rows = both.view(-1, self.layout.size + sum(sizes))
        axes = () if len(rows) == 1 else (len(rows),)
        params, *parts = rows.split([self.layout.size, *sizes], dim=1)
        pairs = zip(self.running.items(), parts, strict=True)
        return params.flatten(), buffers | {n: part.reshape(*axes, *shape) for (n, shape), part in pairs}

    def losses(self, outputs: Tensor, targets: Tensor, numbers: Numbers) -> Tensor:
        """Return the loss of each example [N]. outputs [N, C], or [N, E, C]: averaged over an ensemble."""
        if outputs.dim() == 2:
            losses: Tensor = self.loss.function(outputs, targets, **numbers["loss"])
            return losses
        n, e = outputs.shape[:2]
        of_each = targets[:, None].expand(n, e, *targets.shape[1:]).flatten(0, 1)
        losses = self.loss.function(outputs.flatten(0, 1), of_each, **numbers["loss"])
        return losses.view(n, e).mean(1)

    def scores(self, outputs: Tensor, numbers: Numbers) -> Tensor:
        """Return the predictions: class scores [N, classes], or float64 values in original units.

        outputs [N, C], or [N, E, C] of an ensemble, whose scores are averaged.
        """
        if outputs.dim() == 3:
            n, e = outputs.shape[:2]
            result: Tensor = self.scores(outputs.flatten(0, 1), numbers).unflatten(0, (n, e)).mean(1)
            return result
        predict = self.loss.part.traits.predict
        scores = predict(outputs, self.target, **self.loss.function.keywords, **numbers["loss"])
        return original_units(scores, self.target) if self.target.task == "regression" else scores

    def views(self, params: Tensor) -> list[Tensor]:
        """Return views of the flat vector [P] as the module's parameters, in order."""
        parts = params.split(self.layout.sizes)
        return [part.view(shape) for part, shape in zip(parts, self.layout.shapes, strict=True)]


def original_units(values: Tensor, target: Target) -> Tensor:
    """Return scaled regression values [N, D] in the units of the data.

    They are float64, because float32 has only seven digits and a Unix time has ten.
    """
    values = values.double()
    if not target.scale:
        return values
    # Not values.new_tensor, which fails for batched tensors on the meta device (used to count memory).
    scale = torch.tensor(target.scale, dtype=torch.float64, device=values.device)
    offset = torch.tensor(target.offset, dtype=torch.float64, device=values.device)
    return values * scale + offset


def _chosen(
    known: Mapping[str, Component[T]], settings: Mapping[str, Mapping[str, Plain]]
) -> list[BoundComponent[T]]:
    """Return the selected options of a group in the order of registration."""
    return [BoundComponent.of(part, settings[name]) for name, part in known.items() if name in settings]


def _own_settings(model: Component[Traits], config: Config) -> dict[str, Plain]:
    """Return the settings that a model's function takes, without those of all models."""
    return {name: config.model.settings[name] for name in model.own_settings}


def at_update(key: random.Key, t: Scalar) -> random.Key:
    """Return the key at update number t."""
    return random.at(key, t.to(torch.int64) if isinstance(t, Tensor) else t)


def require_form(config: Config, form: InputSpec) -> None:
    """Raise ConfigError if the model or an augmentation does not support such examples."""
    found = (
        f"an example of data={config.data.name} is of kind {form.kind}, {' x '.join(map(str, form.shape))}"
    )
    sentences = [misfit(components("model"), config.model.name, form.kind, found)]
    sentences += [misfit(components("augmentation"), name, form.kind, found) for name in config.augmentations]
    if problems := [sentence for sentence in sentences if sentence]:
        raise ConfigError(problems)
