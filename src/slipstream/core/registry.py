"""The closed registry of components: a group, a short name, a function.

A component is a function. The engine passes its positional arguments; its keyword-only arguments
are its settings. Their annotations are the schema, and `configs/<group>/<name>.yaml` alone holds
their values. `traits` tell the engine what the function cannot, such as how many outputs a loss needs.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, get_type_hints

from slipstream.core.errors import ConfigError, did_you_mean
from slipstream.core.types import Annotation, Function, Plain

F = TypeVar("F", bound=Function)

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
}
# The module whose import declares the settings of a section that is not a component: `config` does not
# know about sweeps.
SECTIONS = {"sweep": "slipstream.sweeps.plan.sweep_settings"}

LISTS = ("augmentation", "regularizer")  # groups from which a configuration may take several options

# Names in messages for the kinds of examples (InputSpec.kind).
EXAMPLES = {"vector": "rows of a table", "sequence": "sequences", "tokens": "texts", "image": "images"}

_components: dict[str, dict[str, Component]] = {group: {} for group in MODULES}
_shared: dict[str, Function] = {}


@dataclass(frozen=True)
class Component:
    """A registered function with its traits. Calling it calls the function."""

    group: str
    name: str
    function: Function
    traits: Mapping[str, Any] = field(default_factory=dict)  # what a trait holds is up to its group

    # Any: what a component takes and returns is up to its group.
    def __call__(self, *args: Any, **settings: Any) -> Any:
        return self.function(*args, **settings)

    @property
    def own_settings(self) -> dict[str, Annotation]:
        """The function's keyword-only arguments and its options: name -> annotation."""
        return keyword_only(self.function) | self.options

    @property
    def options(self) -> dict[str, Annotation]:
        """The keyword-only arguments of the trait `options`: the engine reads them, the function does not."""
        return keyword_only(self.traits["options"]) if "options" in self.traits else {}

    @property
    def settings(self) -> dict[str, Annotation]:
        """Its own settings and those that the whole group shares: name -> annotation."""
        shared = keyword_only(_shared[self.group]) if self.group in _shared else {}
        return self.own_settings | shared

    @property
    def numbers(self) -> frozenset[str]:
        """The names of the settings that are numbers: annotated as float, free to differ within a pack."""
        return frozenset(name for name, annotation in self.settings.items() if is_number(annotation))

    def split(self, settings: Mapping[str, Plain]) -> tuple[dict[str, Plain], dict[str, Plain]]:
        """Return the settings that the function takes, as (numbers, structure)."""
        own = {name: settings[name] for name in keyword_only(self.function)}
        numbers = {name: value for name, value in own.items() if name in self.numbers}
        return numbers, {name: value for name, value in own.items() if name not in numbers}


@dataclass(frozen=True)
class BoundComponent:
    """A chosen component with its structure settings bound, and the place where it acts."""

    name: str
    part: Component
    function: functools.partial[Any]  # what it returns is up to its group
    place: str = ""

    @classmethod
    def of(cls, group: str, name: str, settings: Mapping[str, Plain]) -> BoundComponent:
        """Look up a component and bind its structure settings."""
        part = component(group, name)
        place, function = part.traits.get("place", ""), part.function
        if settings.get("proximal"):
            place, function = "proximal", part.traits["proximal"]
        return cls(name, part, functools.partial(function, **part.split(settings)[1]), place)


# Any: what a trait holds is up to its group.
def register(group: str, name: str | None = None, **traits: Any) -> Callable[[F], F]:
    """Register the decorated function as a component of a group.

    Args:
        group: a config group such as "loss", "optimizer" or "model".
        name: the option's name in configurations; the function's name by default.
        traits: facts about the function that the engine needs, such as `init` for an update rule.

    Returns:
        A decorator that returns the function unchanged.

    Raises:
        ValueError: another function is registered under this name.

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
        _components[group][key] = Component(group, key, function, traits)
        return function

    return decorate


def shared(group: str) -> Callable[[F], F]:
    """Declare the keyword-only arguments of the decorated function as settings shared by a whole group."""

    def decorate(function: F) -> F:
        _shared[group] = function
        return function

    return decorate


def components(group: str) -> dict[str, Component]:
    """All components of a group, by name."""
    importlib.import_module(MODULES[group])
    return _components[group]


def registered(group: str) -> list[str]:
    """Names of a group's components in registration order. Imports nothing, so it is safe inside a step."""
    return list(_components[group])


def component(group: str, name: str) -> Component:
    """Return a component. Raises ConfigError with the nearest name if there is none of that name."""
    found = components(group).get(name)
    if found is None:
        raise ConfigError([f"{group}={name}: no such option, {did_you_mean(name, _components[group])}"])
    return found


def shared_function(group: str) -> Function | None:
    """Return the function that declares a group's shared settings, or None."""
    importlib.import_module(MODULES[group])
    return _shared.get(group)


def misfit(group: str, name: str, kind: str, found: str) -> str | None:
    """Return the message for an option that cannot take examples of this kind (InputSpec.kind), or None.

    found: a description of the data.
    """

    def fits(part: Component) -> bool:
        return kind in part.traits.get("takes", (kind,))

    if fits(component(group, name)):
        return None
    takes = " or ".join(EXAMPLES[one] for one in component(group, name).traits["takes"])
    fitting = sorted(part.name for part in components(group).values() if fits(part))
    return f"{group}={name}: takes {takes}, and {found}; one of: {', '.join(fitting) or 'none'}"


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
    # Any: a setting without a type takes anything.
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
