"""Rules across settings: the selected components must fit each other and the task of the data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, get_args

from slipstream.config import meant
from slipstream.core.contracts import takes_parts
from slipstream.core.registry import EXAMPLES, Component, component, components, misfit
from slipstream.core.traits import AugmentationTraits, InNetwork, LossTraits, ModelTraits, foreign
from slipstream.core.types import Target

if TYPE_CHECKING:
    from slipstream.config.run_config import Config

Rule = Callable[["Config", str | None], Iterator[str]]

# Output activations that would apply softmax or sigmoid twice with a loss that already applies it.
NORMALIZING = ("softmax", "softmin", "sigmoid", "hard_sigmoid", "log_sigmoid")

# Activations whose range is the real numbers.
UNBOUNDED = ("identity", "leaky_relu", "prelu")

IN_NETWORK = get_args(InNetwork)  # places of regularizers that are layers

_rules: list[tuple[frozenset[str], Rule]] = []


def rule(*sections: str) -> Callable[[Rule], Rule]:
    """Register a rule. It is checked only if the `sections` that it reads are valid on their own."""

    def decorate(function: Rule) -> Rule:
        _rules.append((frozenset(sections), function))
        return function

    return decorate


def problems(config: Config, task: str | None, broken: frozenset[str] = frozenset()) -> list[str]:
    """Return a sentence for every contradiction. task: the task of the data, None if not yet known."""
    sound = [function for sections, function in _rules if not sections & broken]
    return [sentence for function in sound for sentence in function(config, task)]


def known_task(config: Config) -> str | None:
    """Return the task of the data if it is known without reading them, or None."""
    part = components("data").get(config.data.name)
    task = (part.traits.task or config.data.settings.get("task")) if part else None
    return None if task == "auto" else task


def loss_of(config: Config, target: Target | None) -> Component[LossTraits]:
    """Return the configured loss; for `auto`, the loss selected by the target."""
    part = component("loss", config.loss.name)
    return component("loss", part(target)) if target and part.traits.auto else part


def known_kind(config: Config) -> str | None:
    """Return the kind of examples (InputSpec.kind) if it is known without reading the data, or None."""
    part = components("data").get(config.data.name)
    return part.traits.form if part and not foreign(part.function) else None


def _loss(config: Config, task: str | None) -> Component[LossTraits]:
    return loss_of(config, Target(task) if task else None)


def _has_hidden_layers(config: Config) -> bool:
    hidden = component("model", config.model.name).traits.hidden and not _brings_layers(config)
    return hidden and config.model.settings.get("depth") != 0


def _brings_layers(config: Config) -> bool:
    """Return True if the model's layers are all its own: its function takes no `parts`."""
    return not takes_parts(component("model", config.model.name))


def _output_activation(config: Config) -> tuple[str, str]:
    """Return the key that chooses the activation after the last layer, and that activation's name."""
    if _brings_layers(config):
        return "", "identity"
    if component("model", config.model.name).traits.hidden:
        return "model.output_activation", config.model.settings.get("output_activation", "identity")
    return "activation", config.activation.name


@rule("name")
def name_is_a_folder(config: Config, task: str | None) -> Iterator[str]:
    """Check that the name is a valid folder name."""
    name = config.name
    if not name or name.startswith(".") or any(letter in name for letter in "/\\\0\n"):
        yield f"name: found {name!r}, expected a folder name without / that does not start with a dot"


@rule("model", "data")
def model_takes_the_data(config: Config, task: str | None) -> Iterator[str]:
    """Check that the model supports the kind of examples of the data."""
    yield from _takes(config, components("model"), [config.model.name])


@rule("augmentation", "data")
def augmentation_takes_the_data(config: Config, task: str | None) -> Iterator[str]:
    """Check that the augmentations support the kind of examples of the data."""
    yield from _takes(config, components("augmentation"), config.augmentations)


@rule("augmentation")
def one_resampling_has_one_fill(config: Config, task: str | None) -> Iterator[str]:
    """Check that geometric augmentations, which share one resampling, have the same fill."""
    # The fill of patches, as in erasing, does not apply to the area outside the image.
    fills = {
        name: settings["fill"]
        for name, settings in config.augmentations.items()
        if "fill" in settings and component("augmentation", name).traits.kind in ("geometry", "warp")
    }
    if len(set(fills.values())) > 1:
        found = ", ".join(f"augmentation.{name}.fill={fill}" for name, fill in fills.items())
        yield f"{found}: geometric augmentations share one resampling; give them the same fill"


def _takes(
    config: Config, known: Mapping[str, Component[AugmentationTraits | ModelTraits]], names: Iterable[str]
) -> Iterator[str]:
    kind = known_kind(config)
    if kind is not None:
        found = f"data={config.data.name} has {EXAMPLES[kind]}"
        sentences = (misfit(known, name, kind, found) for name in names)
        yield from filter(None, sentences)


@rule("model", "initializer")
def first_values_have_one_source(config: Config, task: str | None) -> Iterator[str]:
    """Check that no initializer is chosen for a model that initializes itself."""
    if component("model", config.model.name).traits.own_start and config.initializer.name != "auto":
        yield (
            f"initializer={config.initializer.name}: model={config.model.name} has its own initial weights; "
            "use initializer=auto or another model"
        )


@rule("model", "activation", "initializer", "regularizer")
def own_layers_are_not_configured(config: Config, task: str | None) -> Iterator[str]:
    """Check that nothing is chosen for layers that a model brings itself."""
    if not _brings_layers(config):
        return
    name = config.model.name
    why = f"model={name} brings its layers and first values itself (its function takes no parts)"
    if config.activation.name not in ("relu", "identity"):
        yield f"activation={config.activation.name}: {why}; leave activation out"
    if config.initializer.name != "auto" or config.initializer.settings["bias"]:
        yield f"initializer={config.initializer.name}: {why}; leave initializer out"
    known = components("regularizer")
    layered = [n for n in config.regularizers if known[n].traits.place in IN_NETWORK]
    for regularizer in layered:
        others = ",".join(other for other in config.regularizers if other not in layered)
        yield f"regularizer.{regularizer}: is a layer, and {why}; write it there: regularizer=[{others}]"


@rule("model")
def weights_are_skipped_in_a_file(config: Config, task: str | None) -> Iterator[str]:
    """Check that there is a file of weights where some of it are left out."""
    if config.model.settings["weights_skip"] and config.model.settings["weights"] is None:
        yield "model.weights_skip: there is no file to leave anything out of; set model.weights too"


@rule("model", "activation")
def activation_fits_its_place(config: Config, task: str | None) -> Iterator[str]:
    """Check the activations of the output layer and of the hidden layers."""
    key, name = _output_activation(config)
    known = components("activation")
    if name not in known:
        yield f"{key}: found {name!r}, no such activation, {meant.option('activation', name, known)}"
    elif known[name].traits.width_factor != 1:
        yield f"{key}={name}: reduces the number of features, so it cannot follow the output layer"
    elif key != "activation" and known[name].settings:
        yield f"{key}={name}: has settings; only an activation without settings can follow the output layer"
    hidden = known[config.activation.name]
    if key != "activation" and hidden.traits.output_only and _has_hidden_layers(config):
        yield (
            f"activation={hidden.name}: is meant for the output layer; in a hidden layer it would normalize "
            "all units into one distribution. Use relu; cross_entropy applies softmax to the output itself"
        )


@rule("model", "activation", "loss", "data")
def output_fits_the_loss(config: Config, task: str | None) -> Iterator[str]:
    """Check that a loss on logits has no activation after the output layer."""
    key, name = _output_activation(config)
    loss = _loss(config, task)
    if not loss.traits.expects_logits or name == "identity" or name not in components("activation"):
        return
    if name in NORMALIZING:
        yield (
            f"{key}={name}: the loss {loss.name} expects logits and normalizes them itself; after {name} "
            f"they would be normalized twice and gradients would vanish. Use {key}=identity, or a loss such "
            "as mse"
        )
    else:
        yield (
            f"{key}={name}: the loss {loss.name} expects logits, which may be any real numbers, but {name} "
            f"restricts their range. Use {key}=identity, or a loss such as mse"
        )


@rule("model", "activation", "data")
def output_reaches_the_targets(config: Config, task: str | None) -> Iterator[str]:
    """Check that the range of the output activation covers scaled regression targets."""
    key, name = _output_activation(config)
    scaled = task == "regression" and config.data.settings.get("target_scaling") != "none"
    if scaled and name in components("activation") and name not in UNBOUNDED:
        yield (
            f"{key}={name}: regression targets are standardized to negative values and values above 1, which "
            f"{name} cannot reach. Use {key}=identity, or data.target_scaling=none if it fits your targets"
        )


@rule("loss", "data")
def loss_fits_the_task(config: Config, task: str | None) -> Iterator[str]:
    """Check that the loss supports the task of the data."""
    if task is None:
        return
    loss = _loss(config, task)
    if task not in loss.traits.tasks:
        fitting = [name for name, part in components("loss").items() if task in part.traits.tasks]
        yield (
            f"loss={loss.name}: supports {' and '.join(loss.traits.tasks)}, but data={config.data.name} is "
            f"{task}; one of: {', '.join(sorted(fitting))}"
        )


@rule("optimizer", "data")
def full_batch_means_all_data(config: Config, task: str | None) -> Iterator[str]:
    """Check that a full-batch optimizer has batch_size=full."""
    found = config.data.settings.get("batch_size")
    if component("optimizer", config.optimizer.name).traits.full_batch and found != "full":
        yield (
            f"data.batch_size: found {found}, but optimizer={config.optimizer.name} uses the whole training "
            "set for every update; use data.batch_size=full or optimizer=sgd"
        )


@rule("regularizer", "optimizer")
def weights_decay_once(config: Config, task: str | None) -> Iterator[str]:
    """Check that only one of regularizer and optimizer decays the weights."""
    if "weight_decay" in config.regularizers and config.optimizer.settings.get("weight_decay", 0) > 0:
        yield (
            f"regularizer.weight_decay: optimizer={config.optimizer.name} already decays the weights; set "
            "optimizer.weight_decay=0 or remove the regularizer"
        )


@rule("regularizer", "data")
def batch_statistics_need_a_batch(config: Config, task: str | None) -> Iterator[str]:
    """Check that regularizers with batch statistics have batches of more than one example."""
    if config.data.settings.get("batch_size") != 1:
        return
    for name in config.regularizers:
        if component("regularizer", name).traits.buffers:
            yield f"regularizer.{name}: one example has no variance; raise data.batch_size or use layer_norm"


@rule("trainer", "optimizer")
def rates_fit_the_optimizer(config: Config, task: str | None) -> Iterator[str]:
    """Check that factors on updates leave an optimizer's own average of them as it is."""
    optimizer = config.optimizer.name
    if config.trainer.lr_factors and component("optimizer", optimizer).traits.evaluate:
        yield (
            f"trainer.lr_factors: optimizer={optimizer} evaluates at another point than it trains, which "
            "factors on its updates would move away; take optimizer=adamw"
        )


@rule("regularizer", "optimizer")
def one_thing_is_evaluated(config: Config, task: str | None) -> Iterator[str]:
    """Check that at most one component determines the weights to evaluate."""
    known = components("regularizer")
    own = [
        f"regularizer.{name}"
        for name in config.regularizers
        if known[name].traits.place in ("average", "epoch", "follow")
    ]
    if component("optimizer", config.optimizer.name).traits.evaluate:
        own.append(f"optimizer={config.optimizer.name}")
    if len(own) > 1:
        yield f"{own[0]}: sets the weights to evaluate, and so does {' and '.join(own[1:])}; use only one"


@rule("regularizer", "trainer")
def epochs_are_enough(config: Config, task: str | None) -> Iterator[str]:
    """Check that there are enough epochs for each regularizer."""
    for name, settings in config.regularizers.items():
        fits_epochs = component("regularizer", name).traits.fits_epochs
        if fits_epochs:
            yield from fits_epochs(config.trainer.max_epochs, **settings)


@rule("regularizer", "model")
def hidden_layers_exist(config: Config, task: str | None) -> Iterator[str]:
    """Check that regularizers of hidden layers have hidden layers."""
    if _has_hidden_layers(config) or _brings_layers(config):
        return
    for name in config.regularizers:
        traits = component("regularizer", name).traits
        if traits.place in ("norm", "weight", "activity") or traits.on in ("hidden", "branch"):
            yield (
                f"regularizer.{name}: acts on hidden layers, but this model={config.model.name} has none; "
                "remove it or use model=mlp with model.depth >= 1"
            )


@rule("regularizer", "model")
def branches_exist(config: Config, task: str | None) -> Iterator[str]:
    """Check that regularizers of residual branches have branches."""
    branching = component("model", config.model.name).traits.branches or _brings_layers(config)
    if branching or config.model.settings.get("residual"):
        return
    for name in config.regularizers:
        if component("regularizer", name).traits.on == "branch":
            yield (
                f"regularizer.{name}: drops residual branches, but model={config.model.name} has none; set "
                "model.residual=true if the model has this setting, or use model=resnet"
            )


@rule("augmentation", "loss", "data")
def mixed_targets_fit_the_loss(config: Config, task: str | None) -> Iterator[str]:
    """Check that the loss accepts the soft targets of mixing augmentations."""
    loss = _loss(config, task)
    for name in config.augmentations:
        if component("augmentation", name).traits.kind != "mix" or loss.traits.auto:
            continue
        if task != "regression" and not loss.traits.soft:
            soft = [part.name for part in components("loss").values() if part.traits.soft]
            yield (
                f"augmentation.{name}: mixes the labels, which loss={loss.name} does not support; "
                f"one of: {', '.join(sorted(soft))}"
            )


@rule("regularizer", "loss", "data")
def changed_targets_fit_the_loss(config: Config, task: str | None) -> Iterator[str]:
    """Check that the loss accepts the soft targets of regularizers."""
    loss = _loss(config, task)
    for name in config.regularizers:
        if component("regularizer", name).traits.place != "targets" or loss.traits.auto:
            continue
        if task == "regression":
            others = ",".join(other for other in config.regularizers if other != name)
            yield (
                f"regularizer.{name}: smooths class labels, but data={config.data.name} is regression; "
                f"remove it: regularizer=[{others}]"
            )
        elif not loss.traits.soft:
            soft = [part.name for part in components("loss").values() if part.traits.soft]
            yield (
                f"regularizer.{name}: turns labels into distributions, which loss={loss.name} does not "
                f"support; one of: {', '.join(sorted(soft))}"
            )


@rule("trainer", "early_stopping")
def bits_can_be_portable(config: Config, task: str | None) -> Iterator[str]:
    """Check that trainer.portable is not combined with settings that make bytes differ."""
    trainer = config.trainer
    if not trainer.portable:
        return
    if trainer.dtype != "float32":
        yield f"trainer.portable: processors round {trainer.dtype} differently; use trainer.dtype=float32"
    if trainer.device == "cuda":
        yield "trainer.portable: supports only CPUs; use trainer.device=cpu"
    rule = component("early_stopping", config.early_stopping.name)
    if rule.traits.by_clock:
        yield f"trainer.portable: early_stopping={rule.name} stops a run by the clock; use another rule"
