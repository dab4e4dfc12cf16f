"""Traits: facts about a component that its signature cannot express, in one record per group.

`register(group, **traits)` fills the group's record when a function is registered. It rejects misspelled
traits, missing required ones, and values of a wrong type.
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
    Tensor = object  # the types of traits are evaluated without torch; no trait is a tensor

Task = Literal["binary", "multiclass", "multilabel", "regression"]
Kind = Literal["vector", "sequence", "tokens", "image"]  # of an example (InputSpec.kind)
# Places of regularizers: as layers, in a step, and in a step with a vector kept between steps.
InNetwork = Literal["activity", "noise", "norm", "weight"]
InStep = Literal["penalty", "targets", "gradient", "decay", "constraint"]
Kept = Literal["follow", "average", "epoch", "mask"]


def no_problems(settings: Mapping[str, Plain]) -> list[str]:
    """Report no problems."""
    return []


@dataclass(frozen=True, kw_only=True)
class Traits:
    """The traits that functions of every group can have. Schedulers have no others.

    problems: (settings) -> a message for each reason why individually valid settings do not fit together.
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
    saturates: (low, high), a pair or a function of the settings: the output bounds at which the gradient
        vanishes; infinite for no bound.
    learned: parameters that the engine trains and passes by position: name -> setting with the initial value.
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

    warns: the warning of a run that uses it; empty for none.
    data_dependent: each weight is afterwards rescaled by its layer's output on training examples (lsuv).
    """

    warns: str = ""
    data_dependent: bool = False


@dataclass(frozen=True, kw_only=True)
class LossTraits(Traits):
    """The traits of a loss.

    tasks: the tasks that it supports.
    outputs: (target, **settings) -> C, the number of outputs that the network needs.
    predict: (outputs [N, C], target, **settings) -> scores: [N, classes] for binary and multiclass, [N, L]
        for multilabel, the predicted values [N, D] for regression.
    soft: it accepts distributions over the classes as targets (label smoothing, mixup).
    probabilistic: the scores are probabilities.
    expects_logits: it applies sigmoid or softmax itself, so the output activation cannot be one of them.
    unscaled: the targets must stay in their original units.
    auto: it is not a loss but a function that selects one: (target) -> name.
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

    tasks: the tasks that it supports.
    mode: the better direction.
    probabilistic: it needs scores that are probabilities.
    min_classes: the number of classes below which it is uninformative.
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
        at one point and evaluate at another; None evaluates the trained params.
    full_batch: every update uses the whole training split.
    """

    init: Sequence[str] | Callable[..., dict[str, Tensor]]
    evaluate: Callable[..., Tensor] | None = None
    full_batch: bool = False


@dataclass(frozen=True, kw_only=True)
class RegularizerTraits(Traits):
    """The traits of a regularizer. The docstring of slipstream.regularizers says what each place passes.

    place: where the engine calls it.
    on: for noise: the inputs, the outputs of hidden layers, or those of residual branches.
    keyed: for gradient: it also takes a key [4] and t.
    buffers: for norm: running statistics [C], by name; names that end in `var` start at 1, the others at 0.
    kernel: for norm: the function that replaces it in a single run that is not compiled.
    check: for norm: (features, **settings); raises UserError for an unsuitable layer.
    start: (params [P], **structure settings) -> the initial kept vector; None for the parameters.
    rate: (clock, **settings) -> factors [S] on top of the schedule's (schedulers.py).
    fits_epochs: (epochs, **settings) -> a message for each reason why this number of epochs does not fit.
    proximal: for penalty: the function that replaces it under the option `proximal`.
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
    draws: the number of rows of u, uniform numbers in [0, 1) for each example.
    flip: the axis that is reversed if u < probability; exact unless another geometric change resamples.
    warped: for geometry: the matrix is projective instead of affine, so coordinates are divided.
    values: for geometry: a change of the pixels with the same u, (x, u, **settings) -> x.
    """

    kind: Literal["geometry", "warp", "values", "mix"]
    takes: Sequence[Kind]
    draws: int
    flip: int | None = None
    warped: bool = False
    values: Callable[..., Tensor] | None = None


@dataclass(frozen=True, kw_only=True)
class EarlyStoppingTraits(Traits):
    """The traits of an early stopping rule.

    validates: it uses val/loss, so there must be a validation split.
    by_clock: it stops a run by elapsed time, so the run need not repeat.
    """

    validates: bool = False
    by_clock: bool = False


@dataclass(frozen=True, kw_only=True)
class ModelTraits(Traits):
    """The traits of a model.

    takes: the kinds of examples that it supports.
    hidden: it has hidden layers, with the configured activation.
    dense: all its layers are dense; if they are small, a single run uses one thread.
    branches: it has residual branches, on which drop_path acts.
    grows: without normalization its values grow from block to block, and a run warns about it.
    own_start: it has its own initial weights and supports only initializer=auto.
    compiles: it can be compiled: always, never, or only in a single run, since in a pack a compiled sum
        rounds differently.
    compiled_leaves: the fractions of a step's time that remain after compiling, single and in a pack; None
        for the usual ones.
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
    """The traits of a data source.

    task: the task, if it is known without reading the data.
    form: the kind of its examples; None if it is known only after reading.
    splits: ways to split the rows other than at random.
    labels: "from 0": its class labels are numbers that count from 0.
    in_memory: its first argument is the caller's rows, or None if there are none.
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
# The traits that a group requires, as shown in messages.
REQUIRED: Mapping[str, str] = {
    "loss": 'tasks=("regression",), outputs=lambda target, **_: len(target.names), '
    "predict=lambda outputs, target, **_: outputs",
    "metric": 'tasks=("regression",), mode="min"',
    "optimizer": "init=()",
    "regularizer": 'place="penalty"',
    "augmentation": 'kind="values", takes=("image",), draws=1',
}


def recorded(group: str, name: str, function: Function, given: Mapping[str, object]) -> Traits:
    """Return the record of a function's traits. Raises UserError with a line for each problem."""
    found = list(_misnamed(group, given))
    if not found:
        make: Callable[..., Traits] = RECORDS[group]
        record = make(**given)
        # A test checks slipstream's own components, which saves importing pydantic here.
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
        yield f"{trait} is not a trait of {group}, {did_you_mean(trait, known)}{also}"
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
    """Return True if a registered object is not slipstream's own."""
    return not (getattr(function, "__module__", None) or "").startswith("slipstream.")


def defined_at(function: Function, name: str) -> str:
    """Return the file and line where a registered function is defined."""
    owner = inspect.unwrap(function)
    if inspect.isfunction(owner):
        return f"{short_path(owner.__code__.co_filename)}, line {owner.__code__.co_firstlineno}"
    try:
        return f"{short_path(inspect.getfile(owner))}, line {inspect.getsourcelines(owner)[1]}"
    except (TypeError, OSError):  # an instance, which has no source location
        return f"registered as {name}"


def short_path(file: str) -> str:
    """Return a path relative to the current folder if it is inside it."""
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
