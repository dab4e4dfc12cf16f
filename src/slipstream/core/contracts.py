"""The contract of a component: its traits, its arguments, and its return value.

Tests check slipstream's own components. Violations by a user's component are reported before training.
"""

from __future__ import annotations

import inspect
import os
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from slipstream.core.registry import Component, annotation
from slipstream.core.traits import (
    ActivationTraits,
    DataTraits,
    LossTraits,
    RegularizerTraits,
    Traits,
    defined_at,
    foreign,
    short_path,
)
from slipstream.core.types import Function

# The positional arguments that the engine passes, and the return value that it expects.
CALLS: Mapping[str, tuple[tuple[str, ...], str]] = {
    "activation": (("x",), "a tensor of x's shape"),
    "data": ((), "(inputs, targets), a Dataset, or slipstream.data.dataset.RawData"),
    "early_stopping": (("history",), "a reason to stop, or None"),
    "initializer": (("key", "shape", "gain"), "a tensor of the shape"),
    "logger": (("run",), "log(values, epoch), a slipstream.loggers.Tracker, or None"),
    "loss": (("outputs", "targets"), "the losses [N], one for each example"),
    "metric": (("scores", "targets", "weights"), "a tensor without axes"),
    "model": (("form", "outputs", "parts"), "an nn.Module that gives [N, outputs]"),
    "optimizer": (("gradient", "state", "at"), "the update [P] and the new state"),
    "scheduler": (("clock",), "the factors [S], an array"),
}
PLACES: Mapping[str, tuple[tuple[str, ...], str]] = {
    "activity": (("x",), "a number"),
    "constraint": (("parameters", "layout"), "the parameters [P]"),
    "decay": (("weights", "lr"), "the change of the parameters [P]"),
    "gradient": (("gradient",), "the gradient [P]"),
    "penalty": (("weights",), "a number, as a tensor without axes"),
    "targets": (("targets", "classes"), "distributions [N, classes]"),
}


def problems(part: Component[Traits]) -> Iterator[str]:
    """Yield a message for each reason why a user's component cannot be used.

    It is not a function, has a setting without a type, or takes the wrong arguments.
    """
    if not foreign(part.function):
        return
    owner = inspect.unwrap(part.function)
    if not inspect.isfunction(owner):
        yield f"{part.group}={part.name}: is {_kind(owner)}, expected {_function(part)} ({place(part)})"
        return
    if untyped := [name for name in _keywords(owner) if annotation(owner, name) is None]:
        wanted = ", ".join(f"{name}: Positive" for name in untyped)
        yield (
            f"{part.group}={part.name}: the type of {', '.join(untyped)} cannot be read; expected for "
            f"example {wanted}, with a type of Python or of slipstream.core.types ({place(part)})"
        )
        return
    call = _call(part)
    if call is not None and not _takes(part, call[0]) and takes_parts(part):
        found, wanted = _signature(part), _expected(part)
        yield f"{part.group}={part.name}: takes {found}, expected {wanted} ({place(part)})"
    for trait, function, names in _calls_of_traits(part.traits):
        if not _binds(function, names, part.own_settings):
            takes, wanted = _arguments(function), ", ".join([*names, "**_"])
            yield (
                f"{part.group}={part.name}: {trait}={takes}, expected {trait}=lambda {wanted}: ..., "
                f"which also takes the settings ({place(part)})"
            )
            return


def takes_parts(part: Component[Traits]) -> bool:
    """Return True unless a model is a function of form and outputs alone, whose layers are all its own."""
    form, outputs, _ = CALLS["model"][0]
    return part.group != "model" or not foreign(part.function) or not _takes(part, (form, outputs))


def returned(part: Component[Traits], found: str) -> str:
    """Return the message for a wrong return value. found: a description of the value returned."""
    call = _call(part)
    wanted = call[1] if call else "the return value of its group"
    return f"{part.group}={part.name}: returned {found}, expected {wanted} ({place(part)})"


def place(part: Component[Traits]) -> str:
    """Return the file and line where a component is defined."""
    return defined_at(part.function, part.name)


def own_fault(error: BaseException) -> str | None:
    """Return the message for an exception from user code that the engine called, or None.

    If a frame of slipstream is further in than the user's, slipstream itself is at fault.
    """
    package = Path(__file__).parents[1]
    frames = traceback.extract_tb(error.__traceback__)
    ours = [package in Path(frame.filename).parents for frame in frames]
    if not any(ours):
        return None
    for frame, own in zip(reversed(frames), reversed(ours), strict=True):
        if own:
            return None
        if not _installed(frame.filename):
            said = " ".join(str(error).split())
            where = f"{short_path(frame.filename)}, line {frame.lineno}, in {frame.name}: {frame.line}"
            return f"{where}\n  {type(error).__name__}{said and f': {said}'}"
    return None


def _installed(file: str) -> bool:
    parts = Path(file).parts
    library = Path(os.__file__).parent
    return file.startswith("<") or "site-packages" in parts or library in Path(file).parents


def _call(part: Component[Traits]) -> tuple[tuple[str, ...], str] | None:
    traits = part.traits
    if isinstance(traits, RegularizerTraits):
        return None if traits.keyed else PLACES.get(traits.place)
    if isinstance(traits, ActivationTraits) and traits.learned:
        return ("x", *traits.learned), CALLS["activation"][1]
    if isinstance(traits, DataTraits) and traits.in_memory:
        return ("given",), CALLS["data"][1]
    return None if isinstance(traits, LossTraits) and traits.auto else CALLS.get(part.group)


def _calls_of_traits(traits: Traits) -> Iterator[tuple[str, Function, tuple[str, ...]]]:
    """Yield the traits that are called with the settings: name, function and leading arguments."""
    if isinstance(traits, LossTraits) and not traits.auto:
        yield "outputs", traits.outputs, ("target",)
        yield "predict", traits.predict, ("outputs", "target")


def _takes(part: Component[Traits], names: tuple[str, ...]) -> bool:
    parameters = inspect.signature(part.function).parameters.values()
    if any(p.name == "dim" and p.kind is not p.KEYWORD_ONLY for p in parameters):
        names = (*names, "dim")
    return _binds(part.function, names, _keywords(part.function))


# Any: a user's function may return anything.
def _binds(function: Callable[..., Any], names: Iterable[str], settings: Iterable[str]) -> bool:
    """Return True if a function can be called with these positional arguments and these settings."""
    try:
        inspect.signature(function).bind(*names, **dict.fromkeys(settings))
    except TypeError:
        return False
    return True


# Any: a user's function may return anything.
def _keywords(function: Callable[..., Any]) -> list[str]:
    parameters = inspect.signature(function).parameters.values()
    return [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]


def _signature(part: Component[Traits]) -> str:
    parameters = inspect.signature(part.function).parameters.values()
    return f"({', '.join('*' * (p.kind is p.VAR_POSITIONAL) + p.name for p in parameters)})"


# Any: a user's function may return anything.
def _arguments(function: Callable[..., Any]) -> str:
    name = getattr(function, "__name__", type(function).__name__)
    return f"{'lambda' if name == '<lambda>' else name}{inspect.signature(function)}"


def _kind(value: object) -> str:
    """Describe an object that was registered instead of a function."""
    return "a class" if inspect.isclass(value) else f"a {type(value).__name__}"


def _function(part: Component[Traits]) -> str:
    """Return the signature that should have been registered, with the settings of a class's __init__."""
    owner, settings = part.function, []
    if inspect.isclass(owner):
        settings = _keywords(owner)
    call = _call(part)
    arguments = [*(call[0] if call else ()), *(["*", *settings] if settings else [])]
    result = f" that returns {call[1]}" if call else ""
    return f"a function, def {part.name.lower()}({', '.join(arguments)}):{result}"


def _expected(part: Component[Traits]) -> str:
    call = _call(part)
    assert call is not None
    settings = [f"*, {', '.join(part.own_settings)}"] if part.own_settings else []
    return f"{part.function.__name__}({', '.join([*call[0], *settings])}) -> {call[1]}"
