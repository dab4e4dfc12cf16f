"""Traits: all that a component tells the engine besides its signature, in one record for each group.

`register(group, **traits)` fills the group's record when a function is registered. A misspelled trait, one
that the group requires and that is missing, or a value of a wrong type is refused there.
"""

from __future__ import annotations

import inspect
import re
import reprlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_type_hints

from slipstream.core.errors import UserError, did_you_mean, nearest
from slipstream.core.types import Function, Plain

if TYPE_CHECKING:
    from torch import Tensor
else:
    Tensor = object  # the types of traits are read without torch, and none is a tensor

Task = Literal["binary", "multiclass", "multilabel", "regression"]
Kind = Literal["vector", "sequence", "tokens", "image"]  # of an example (InputSpec.kind)
# Places of regularizers: as layers, in a step, and those that keep a vector between steps.
InNetwork = Literal["activity", "noise", "norm", "weight"]
InStep = Literal["penalty", "targets", "gradient", "decay", "constraint"]
Kept = Literal["follow", "average", "epoch", "mask"]


def no_problems(settings: Mapping[str, Plain]) -> list[str]:
    """Object to nothing."""
    return []


@dataclass(frozen=True, kw_only=True)
class Traits:
    """The traits that functions of every group can have, and all that a scheduler can have.

    problems: (settings) -> a message for each reason why settings that are valid one by one do not fit.
    options: a function whose keyword-only arguments are settings that only the engine reads.
    """

    problems: Callable[[Mapping[str, Plain]], list[str]] = no_problems
    options: Function | None = None


@dataclass(frozen=True, kw_only=True)
class ActivationTraits(Traits):
    """The traits of an activation.

    gain: the initializer's factor on the weights that feed it, or a function of the settings:
        1 / sqrt(E[f(z)^2]), z ~ N(0, 1), keeps the mean square of a signal from layer to layer.
    width_factor: the number of input features per output feature, or a function of the settings.
    saturates: (low, high), a pair or a function of the settings: the bounds of the output at which the
        gradient vanishes; infinite for no bound.
    learned: parameters that the engine trains and passes by position: name -> the setting with its initial
        value.
    output_only: useful only after the last layer.
    """

    gain: float | Callable[..., float] = 1.0
    width_factor: int | Callable[..., int] = 1
    saturates: tuple[float, float] | Callable[..., tuple[float, float]] | None = None
    learned: Mapping[str, str] = field(default_factory=dict)
    output_only: bool = False


@dataclass(frozen=True, kw_only=True)
class InitializerTraits(Traits):
    """The traits of an initializer.

    warns: what a run warns of if it is chosen; empty for nothing.
    data_dependent: each weight is then rescaled by its layer's output on training examples (lsuv).
    """

    warns: str = ""
    data_dependent: bool = False


@dataclass(frozen=True, kw_only=True)
class LossTraits(Traits):
    """The traits of a loss.

    tasks: the tasks that it fits.
    outputs: (target, **settings) -> C, the number of outputs that the network needs.
    predict: (outputs [N, C], target, **settings) -> scores: [N, classes] for binary and multiclass, [N, L]
        for multilabel, the predicted values [N, D] for regression.
    soft: it takes distributions over the classes as targets (label smoothing, mixup).
    probabilistic: the scores are probabilities.
    expects_logits: it applies its own sigmoid or softmax; one as output activation is refused.
    unscaled: the targets must stay in their original units.
    auto: it is not a loss but a function that chooses one: (target) -> name.
    """

    tasks: Sequence[Task]
    outputs: Callable[..., int]
    predict: Callable[..., Tensor]
    soft: bool = False
    probabilistic: bool = False
    expects_logits: bool = False
    unscaled: bool = False
    auto: bool = False


@dataclass(frozen=True, kw_only=True)
class MetricTraits(Traits):
    """The traits of a metric.

    tasks: the tasks that it fits.
    mode: the better direction.
    probabilistic: it needs scores that are probabilities.
    min_classes: it is uninformative for fewer classes.
    order_only: it depends only on the order of an example's class scores, so logits serve as well.
    """

    tasks: Sequence[Task]
    mode: Literal["max", "min"]
    probabilistic: bool = False
    min_classes: int = 0
    order_only: bool = False


@dataclass(frozen=True, kw_only=True)
class OptimizerTraits(Traits):
    """The traits of an update rule.

    init: the names of state vectors that start as zeros [P], or a function
        (params [P], layout, **settings) -> state.
    evaluate: (params [P], state, **settings) -> the params [P] to evaluate and keep, for rules that train
        at one point and evaluate at another; None for the trained ones.
    full_batch: every update uses the whole training split.
    """

    init: Sequence[str] | Callable[..., dict[str, Tensor]]
    evaluate: Callable[..., Tensor] | None = None
    full_batch: bool = False


@dataclass(frozen=True, kw_only=True)
class RegularizerTraits(Traits):
    """The traits of a regularizer. The docstring of slipstream.regularizers says what each place passes.

    place: where the engine calls it.
    on: of noise: the inputs, the outputs of hidden layers, or those of residual branches.
    keyed: of gradient: it also takes a key [4] and t.
    buffers: of norm: running statistics [C], by name; those that end in `var` start at 1, the others at 0.
    kernel: of norm: the function that replaces it in a run alone that is not compiled.
    check: of norm: (features, **settings); raises UserError for an unsuitable layer.
    start: (params [P], **structure settings) -> the initial kept vector; None for the parameters.
    rate: (clock, **settings) -> factors [S] on top of the schedule's (schedulers.py).
    fits_epochs: (epochs, **settings) -> a message for each reason why this number of epochs does not fit.
    proximal: of penalty: the function that replaces it under the option `proximal`.
    """

    place: Literal[InNetwork, InStep, Kept]
    on: Literal["inputs", "hidden", "branch"] | None = None
    keyed: bool = False
    buffers: Sequence[str] = ()
    kernel: Function | None = None
    check: Callable[..., None] | None = None
    start: Callable[..., Tensor] | None = None
    rate: Function | None = None
    fits_epochs: Callable[..., Iterable[str]] | None = None
    proximal: Function | None = None


@dataclass(frozen=True, kw_only=True)
class AugmentationTraits(Traits):
    """The traits of an augmentation. The docstring of slipstream.augmentations says what each kind passes.

    kind: what it changes; kinds act in this order.
    takes: the kinds of examples that it supports.
    draws: the number of rows of u, uniform numbers on [0, 1) for each example.
    flip: the axis that is reversed if u < probability; exact unless other geometry resamples.
    warped: of geometry: the matrix is projective, not affine: coordinates are divided.
    values: of geometry: a change of the pixels with the same u, (x, u, **settings) -> x.
    """

    kind: Literal["geometry", "warp", "values", "mix"]
    takes: Sequence[Kind]
    draws: int
    flip: int | None = None
    warped: bool = False
    values: Callable[..., Tensor] | None = None


@dataclass(frozen=True, kw_only=True)
class EarlyStoppingTraits(Traits):
    """The traits of a rule of early stopping.

    validates: it looks at val/loss, so there must be a validation split.
    by_clock: it ends a run by elapsed time, so the run cannot be repeated elsewhere.
    """

    validates: bool = False
    by_clock: bool = False


@dataclass(frozen=True, kw_only=True)
class ModelTraits(Traits):
    """The traits of a model.

    takes: the kinds of examples that it supports.
    hidden: it has hidden layers, with the configured activation.
    dense: all its layers are dense; where they are small, a run alone takes one thread.
    branches: it has residual branches, on which drop_path acts.
    grows: its values grow from block to block without a normalization, of which a run then warns.
    own_start: it brings its own initial weights; only initializer=auto goes with it.
    compiles: it can be compiled: always, never, or only in a run alone, since in a pack a compiled sum
        rounds differently.
    compiled_leaves: the shares of a step's time that compiling leaves, alone and in a pack; None for the
        usual ones.
    """

    takes: Sequence[Kind] = ("vector", "sequence", "tokens", "image")
    hidden: bool = True
    dense: bool = False
    branches: bool = False
    grows: bool = False
    own_start: bool = False
    compiles: bool | Literal["alone"] = True
    compiled_leaves: tuple[float, float] | None = None


@dataclass(frozen=True, kw_only=True)
class DataTraits(Traits):
    """The traits of a source of data.

    task: the task, if it is known without reading.
    form: the kind of its examples; None if only reading tells.
    splits: how rows can be split besides at random.
    labels: "from 0": its class labels are numbers that count from 0.
    in_memory: its first argument are rows that a caller gives, None if there are none.
    """

    task: Task | None = None
    form: Kind | None = "vector"
    splits: Sequence[Literal["group", "time"]] = ()
    labels: Literal["from 0"] | None = None
    in_memory: bool = False


@dataclass(frozen=True, kw_only=True)
class LoggerTraits(Traits):
    """The traits of a logger.

    needs: the module that it imports, of the package that the extra of its name installs; empty for none.
    sweep: called once when a sweep that this logger wrote has been reported, if it is given:
        (folder, status, values, files), all of the sweep: its folder, `finished` or what else became of it,
        the best trial's metrics, and what can be kept beside them.
    """

    needs: str = ""
    sweep: Callable[[Path, str, Mapping[str, Plain], Sequence[Path]], None] | None = None


RECORDS: Mapping[str, type[Traits]] = {
    "activation": ActivationTraits,
    "initializer": InitializerTraits,
    "loss": LossTraits,
    "metric": MetricTraits,
    "optimizer": OptimizerTraits,
    "scheduler": Traits,
    "regularizer": RegularizerTraits,
    "augmentation": AugmentationTraits,
    "early_stopping": EarlyStoppingTraits,
    "model": ModelTraits,
    "data": DataTraits,
    "logger": LoggerTraits,
}
# The traits that a group requires, as a message shows them.
REQUIRED: Mapping[str, str] = {
    "loss": 'tasks=("regression",), outputs=lambda target, **_: len(target.names), '
    "predict=lambda outputs, target, **_: outputs",
    "metric": 'tasks=("regression",), mode="min"',
    "optimizer": "init=()",
    "regularizer": 'place="penalty"',
    "augmentation": 'kind="values", takes=("image",), draws=1',
}


def recorded(group: str, name: str, function: Function, given: Mapping[str, object]) -> Traits:
    """Return the record of a function's traits. Raises UserError, with a line for each problem."""
    found = list(_misnamed(group, given))
    if not found:
        make: Callable[..., Traits] = RECORDS[group]
        record = make(**given)
        # A test checks the types of slipstream's own, since a typing error need not wait for pydantic.
        found = list(mistyped(record)) if foreign(function) else []
        if not found:
            return record
    where = defined_at(function, name)
    raise UserError("\n".join(f"{group}={name}: {problem} ({where})" for problem in found))


def _misnamed(group: str, given: Iterable[str]) -> Iterator[str]:
    known = {f.name: f.default is MISSING and f.default_factory is MISSING for f in fields(RECORDS[group])}
    unknown = [trait for trait in given if trait not in known]
    for trait in unknown:
        also = f" The traits are {', '.join(sorted(known))}" if nearest(trait, known) else ""
        yield f"{trait} is no trait of {group}, {did_you_mean(trait, known)}{also}"
    missing = [trait for trait, required in known.items() if required and trait not in given]
    if missing and not unknown:
        yield f'has no {missing[0]}, expected @register("{group}", {REQUIRED[group]})'


def mistyped(record: Traits) -> Iterator[str]:
    """Yield a message for each trait whose value does not have the type of its field."""
    import pydantic

    strict = pydantic.ConfigDict(strict=True)
    for trait, annotation in get_type_hints(type(record)).items():
        try:
            pydantic.TypeAdapter(annotation, config=strict).validate_python(getattr(record, trait))
        except pydantic.ValidationError:
            wanted = re.sub(r"\b(typing|collections\.abc)\.", "", inspect.formatannotation(annotation))
            yield f"found {trait}={reprlib.repr(getattr(record, trait))}, expected {wanted}"


def foreign(function: object) -> bool:
    """Return True if what was registered is not slipstream's own."""
    return not (getattr(function, "__module__", None) or "").startswith("slipstream.")


def defined_at(function: Function, name: str) -> str:
    """Return the file and line where what was registered under a name is defined."""
    owner = inspect.unwrap(function)
    if inspect.isfunction(owner):
        return f"{short_path(owner.__code__.co_filename)}, line {owner.__code__.co_firstlineno}"
    try:
        return f"{short_path(inspect.getfile(owner))}, line {inspect.getsourcelines(owner)[1]}"
    except (TypeError, OSError):  # no class, and so without a place of its own
        return f"registered as {name}"


def short_path(file: str) -> str:
    """Return a path relative to the current folder where it is inside."""
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
