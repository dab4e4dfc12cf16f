"""The registry of components. Each has a group, a short name and a function.

The engine passes the positional arguments of the function. Its keyword-only arguments are its settings: their
annotations are the schema, and only `configs/<group>/<name>.yaml` holds their values. Traits tell the engine
facts that the function cannot express, such as the number of outputs that a loss needs. Each group has its
own record of traits (core/traits.py).
"""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar, get_type_hints, overload

from slipstream.core.errors import ConfigError, did_you_mean
from slipstream.core.traits import (
    ActivationTraits,
    AugmentationTraits,
    DataTraits,
    EarlyStoppingTraits,
    InitializerTraits,
    LoggerTraits,
    LossTraits,
    MetricTraits,
    ModelTraits,
    OptimizerTraits,
    RegularizerTraits,
    Traits,
    foreign,
    recorded,
)
from slipstream.core.types import Annotation, Function, Plain

F = TypeVar("F", bound=Function)
T = TypeVar("T", bound=Traits, covariant=True)

# The module (or package) whose import registers a group's own components.
MODULES = {
    "activation": "slipstream.activations",
    "initializer": "slipstream.initializers",
    "loss": "slipstream.losses",
    "metric": "slipstream.metrics",
    "optimizer": "slipstream.optimizers",
    "scheduler": "slipstream.schedulers",
    "regularizer": "slipstream.regularizers",
    "augmentation": "slipstream.augmentations",
    "early_stopping": "slipstream.early_stopping",
    "model": "slipstream.models",
    "data": "slipstream.data",
    "logger": "slipstream.loggers",
}
# The module whose import declares the settings of a section that is not a component, since `config` does not
# know about sweeps.
SECTIONS = {"sweep": "slipstream.sweeps.plan.sweep_settings"}

LISTS = (
    "augmentation",
    "regularizer",
    "logger",
)  # groups of which a configuration may take several options

# Names in messages for the kinds of examples (InputSpec.kind).
EXAMPLES = {"vector": "rows of a table", "sequence": "sequences", "tokens": "texts", "image": "images"}

_components: dict[str, dict[str, Component[Traits]]] = {group: {} for group in MODULES}
_shared: dict[str, Function] = {}


@dataclass(frozen=True)
class Component(Generic[T]):
    """A registered function with its traits. Calling it calls the function."""

    group: str
    name: str
    function: Function
    traits: T

    # Any: arguments and return value depend on the group.
    def __call__(self, *args: Any, **settings: Any) -> Any:
        return self.function(*args, **settings)

    @property
    def own_settings(self) -> dict[str, Annotation]:
        """The annotations of the function's keyword-only arguments and of its options, by name."""
        return keyword_only(self.function) | self.options

    @property
    def options(self) -> dict[str, Annotation]:
        """The keyword-only arguments of the trait `options`, which only the engine reads."""
        return keyword_only(self.traits.options) if self.traits.options else {}

    @property
    def settings(self) -> dict[str, Annotation]:
        """The annotations of the component's own settings and of those that its group shares, by name."""
        shared = keyword_only(_shared[self.group]) if self.group in _shared else {}
        return self.own_settings | shared

    @property
    def numbers(self) -> frozenset[str]:
        """The names of the settings that are numbers: annotated as float, and free to vary within a pack."""
        return frozenset(name for name, annotation in self.settings.items() if is_number(annotation))

    @property
    def defaults(self) -> dict[str, Plain]:
        """The values of its keyword-only arguments in its signature; `???` for one that must be given."""
        given = inspect.signature(self.function).parameters.values()
        named = {p.name: p.default for p in given if p.kind is p.KEYWORD_ONLY}
        return {name: "???" if value is inspect.Parameter.empty else value for name, value in named.items()}

    def split(self, settings: Mapping[str, Plain]) -> tuple[dict[str, Plain], dict[str, Plain]]:
        """Return the settings that the function takes, as (numbers, structure)."""
        own = {name: settings[name] for name in keyword_only(self.function)}
        numbers = {name: value for name, value in own.items() if name in self.numbers}
        return numbers, {name: value for name, value in own.items() if name not in numbers}


@dataclass(frozen=True)
class BoundComponent(Generic[T]):
    """A selected component with its structure settings bound, and the place where the engine calls it."""

    name: str
    part: Component[T]
    function: functools.partial[Any]  # what it returns is up to its group
    place: str = ""

    @classmethod
    def of(cls, part: Component[T], settings: Mapping[str, Plain]) -> BoundComponent[T]:
        """Bind a component's structure settings."""
        place, function = "", part.function
        if isinstance(part.traits, RegularizerTraits):
            place = part.traits.place
            if part.traits.proximal and settings.get("proximal"):
                place, function = "proximal", part.traits.proximal
        return cls(part.name, part, functools.partial(function, **part.split(settings)[1]), place)


def register(group: str, name: str | None = None, **traits: object) -> Callable[[F], F]:
    """Register the decorated function as a component of a group.

    Args:
        group: a config group such as "loss", "optimizer" or "model".
        name: the option's name in configurations; the function's name by default.
        traits: facts about the function that the engine needs, such as `init` for an update rule. They are
            the fields of the group's record in core/traits.py.

    Returns:
        A decorator that returns the function unchanged.

    Raises:
        ValueError: another function is registered under this name.
        UserError: a trait is unknown, missing or of a wrong type.

    Example:
        >>> from slipstream import register
        >>> from slipstream.core.registry import component
        >>> @register("activation")
        ... def halved_example(x):
        ...     return x / 2
        >>> component("activation", "halved_example")(3.0)
        1.5
    """

    def decorate(function: F) -> F:
        key = name or function.__name__
        known = _components[group].get(key)
        if known is not None and known.function.__qualname__ != function.__qualname__:
            raise ValueError(f"{group}={key} is already registered by {known.function.__module__}")
        _components[group][key] = Component(group, key, function, recorded(group, key, function, traits))
        return function

    return decorate


def shared(group: str) -> Callable[[F], F]:
    """Declare the keyword-only arguments of the decorated function as settings that a whole group shares."""

    def decorate(function: F) -> F:
        _shared[group] = function
        return function

    return decorate


@overload
def components(group: Literal["activation"]) -> Mapping[str, Component[ActivationTraits]]: ...
@overload
def components(group: Literal["initializer"]) -> Mapping[str, Component[InitializerTraits]]: ...
@overload
def components(group: Literal["loss"]) -> Mapping[str, Component[LossTraits]]: ...
@overload
def components(group: Literal["metric"]) -> Mapping[str, Component[MetricTraits]]: ...
@overload
def components(group: Literal["optimizer"]) -> Mapping[str, Component[OptimizerTraits]]: ...
@overload
def components(group: Literal["regularizer"]) -> Mapping[str, Component[RegularizerTraits]]: ...
@overload
def components(group: Literal["augmentation"]) -> Mapping[str, Component[AugmentationTraits]]: ...
@overload
def components(group: Literal["early_stopping"]) -> Mapping[str, Component[EarlyStoppingTraits]]: ...
@overload
def components(group: Literal["model"]) -> Mapping[str, Component[ModelTraits]]: ...
@overload
def components(group: Literal["data"]) -> Mapping[str, Component[DataTraits]]: ...
@overload
def components(group: Literal["logger"]) -> Mapping[str, Component[LoggerTraits]]: ...
@overload
def components(group: str) -> Mapping[str, Component[Traits]]: ...
def components(group: str) -> Mapping[str, Component[Traits]]:
    """Return all components of a group by name."""
    if MODULES[group] not in sys.modules:  # asked 200 times for each configuration
        importlib.import_module(MODULES[group])
    return _components[group]


def own_components(group: str) -> dict[str, Component[Traits]]:
    """Return the components that a user registered so far."""
    return {name: part for name, part in _components.get(group, {}).items() if foreign(part.function)}


def registered(group: str) -> list[str]:
    """Return the names of a group's components in order of registration, without importing anything."""
    return list(_components[group])


@overload
def component(group: Literal["activation"], name: str) -> Component[ActivationTraits]: ...
@overload
def component(group: Literal["initializer"], name: str) -> Component[InitializerTraits]: ...
@overload
def component(group: Literal["loss"], name: str) -> Component[LossTraits]: ...
@overload
def component(group: Literal["metric"], name: str) -> Component[MetricTraits]: ...
@overload
def component(group: Literal["optimizer"], name: str) -> Component[OptimizerTraits]: ...
@overload
def component(group: Literal["regularizer"], name: str) -> Component[RegularizerTraits]: ...
@overload
def component(group: Literal["augmentation"], name: str) -> Component[AugmentationTraits]: ...
@overload
def component(group: Literal["early_stopping"], name: str) -> Component[EarlyStoppingTraits]: ...
@overload
def component(group: Literal["model"], name: str) -> Component[ModelTraits]: ...
@overload
def component(group: Literal["data"], name: str) -> Component[DataTraits]: ...
@overload
def component(group: Literal["logger"], name: str) -> Component[LoggerTraits]: ...
@overload
def component(group: str, name: str) -> Component[Traits]: ...
def component(group: str, name: str) -> Component[Traits]:
    """Return a component. Raises ConfigError with the nearest name if no component has this name."""
    found = components(group).get(name)
    if found is None:
        raise ConfigError([f"{group}={name}: no such option, {did_you_mean(name, _components[group])}"])
    return found


def shared_function(group: str) -> Function | None:
    """Return the function that declares a group's shared settings, or None."""
    importlib.import_module(MODULES[group])
    return _shared.get(group)


def misfit(
    known: Mapping[str, Component[AugmentationTraits | ModelTraits]], name: str, kind: str, found: str
) -> str | None:
    """Return the message for an option that does not support examples of this kind (InputSpec.kind), or None.

    known: the options of its group. found: a description of the data.
    """
    part = known[name]
    if kind in part.traits.takes:
        return None
    takes = " or ".join(EXAMPLES[one] for one in part.traits.takes)
    fitting = sorted(other.name for other in known.values() if kind in other.traits.takes)
    return f"{part.group}={name}: takes {takes}, and {found}; one of: {', '.join(fitting) or 'none'}"


def is_number(annotation: Annotation) -> bool:
    """Return True for the type of a number: a float, with or without bounds."""
    return annotation is float or getattr(annotation, "__origin__", None) is float


@functools.cache
def keyword_only(function: Function) -> dict[str, Annotation]:
    """Return the keyword-only arguments of a function: name -> evaluated annotation (with its bounds)."""
    owner = inspect.unwrap(function)
    if not inspect.isfunction(owner):  # a user's mistake, which core/contracts.py reports
        return {}
    parameters = inspect.signature(function).parameters.values()
    names = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    # Any: a setting without a type accepts anything.
    return {name: Any if (found := annotation(owner, name)) is None else found for name in names}


# Any: an annotation may be anything.
def annotation(function: Callable[..., Any], name: str) -> Any:
    """Return the evaluated annotation of one argument; None if it has none or cannot be evaluated."""
    # Evaluate only this annotation: the others may name torch, which must stay unimported.
    if name not in function.__annotations__:
        return None
    wanted = {name: function.__annotations__[name]}
    probe = type("_", (), {"__annotations__": wanted, "__module__": function.__module__})
    try:
        return get_type_hints(probe, globalns=function.__globals__, include_extras=True)[name]
    except (NameError, AttributeError, SyntaxError, TypeError):
        return None
