"""The valid settings of each section of a configuration, and validation of values.

The settings of a component are the keyword-only arguments of its function. The trainer is not a
component: its settings are the fields of the class below.
"""

from __future__ import annotations

import functools
import importlib
import math
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Le, Lt

from slipstream.config.synonyms import SETTINGS, VALUES
from slipstream.core import registry
from slipstream.core.errors import did_you_mean, folded, nearest
from slipstream.core.registry import LISTS
from slipstream.core.types import Annotation, Count, Plain, Positive
from slipstream.core.wording import entry, typed

if TYPE_CHECKING:
    from pydantic import TypeAdapter

Seed = Annotated[int, Ge(0), Lt(2**64)]
Metrics = Literal["auto", "all"] | list[str]


@dataclass(frozen=True)
class Trainer:
    """The duration, device, metrics and saving of a run, and which parameters it trains.

    max_epochs: passes over the training data. freeze: patterns of names, [backbone.*]: these parameters keep
    their values, and frozen layers with running statistics work as in evaluation. lr_factors: pattern ->
    factor on the updates, {backbone.*: 0.1}; of several that fit, the last one counts. accumulate: batches
    whose gradients are averaged into one update. monitor, mode: the metric that decides on the best epoch,
    and whether it should fall or rise. metrics: names computed after every epoch (and at the end, with the
    task's five usual ones), auto for one or two cheap ones, or all. threads: CPU threads; null is 1 for a
    small dense network alone, else torch's choice. portable: kernels that all x86 processors with AVX2 share,
    in one thread and always as a member of a pack: the same bytes on all of them. checkpoint_seconds: minimum
    time between two saves; 0 saves every epoch. keep: checkpoints kept in addition to the best.
    allow_changed_data: resume even if a data file changed. observations: what each layer's weights, gradients
    and units look like, in observations.jsonl and TensorBoard; auto leaves it out for the members of a sweep.
    """

    max_epochs: Count
    freeze: list[str]
    lr_factors: dict[str, Positive]
    device: Literal["auto", "cpu", "cuda"]
    dtype: Literal["float32", "bfloat16"]
    compile: Literal["auto"] | bool
    accumulate: Count
    monitor: str
    mode: Literal["auto", "min", "max"]
    metrics: Metrics
    threads: Count | None
    portable: bool
    checkpoint_seconds: Annotated[float, Ge(0)]
    keep: Annotated[int, Ge(2)]
    allow_changed_data: bool
    progress: Literal["auto", "bar", "plain", "none"]
    observations: Literal["auto"] | bool


# Groups with options that are not components of the registry.
SECTIONS: dict[str, Mapping[str, type]] = {
    "trainer": {"default": Trainer},
}

# Groups with one selected option, given by `name`. LISTS may have any number; `trainer` has no options.
CHOICES = (
    *("data", "model", "activation", "initializer", "loss", "optimizer", "scheduler"),
    "early_stopping",
)
GROUPS = (*CHOICES, *LISTS, "trainer")


def section(group: str) -> Mapping[str, type] | None:
    """Return the classes of a group's options, or None for a group of components."""
    if group in registry.SECTIONS and group not in SECTIONS:
        importlib.import_module(registry.SECTIONS[group])
    return SECTIONS.get(group)


def options(group: str) -> list[str]:
    """Return the names of a group's options."""
    return sorted(section(group) or registry.components(group))


def settings(group: str, name: str) -> dict[str, Plain]:
    """Return the settings of an option: name -> annotation."""
    if classes := section(group):
        return _fields(classes[name])
    return registry.component(group, name).settings


@functools.cache
def _fields(section: type) -> dict[str, Plain]:
    return get_type_hints(section, include_extras=True)


def check(
    annotations: Mapping[str, Annotation],
    values: Plain,
    path: str,
    owner: str,
    meant: Callable[[str, Plain], str | None] = lambda key, value: None,
) -> tuple[dict[str, Plain], list[str]]:
    """Check `values` against `annotations`. Return the valid ones, and a sentence for every problem.

    path: the key of the section ("" at the top level). owner: the option that has the settings, for messages.
    meant: returns the hint for an unknown key and its value, if there is one.
    """
    import pydantic

    if not isinstance(values, Mapping):
        return {}, [f"{path}: found {show(values)}, expected settings of {owner}"]
    dotted = f"{path}." if path else ""
    if strange := [key for key in values if not isinstance(key, str)]:
        known = {key: value for key, value in values.items() if isinstance(key, str)}
        valid, found = check(annotations, known, path, owner, meant)
        return valid, [f"{path}: found the key {show(strange[0])}, expected the name of a setting", *found]
    try:
        return dict(_adapter(annotations).validate_python(dict(values))), []
    except pydantic.ValidationError as error:
        problems = {}
        for fault in error.errors(include_url=False, include_context=False):
            key = str(fault["loc"][0])
            if fault["type"] == "extra_forbidden":
                hint = meant(dotted + key, values[key]) or _nearest(key, annotations)
                problems[key] = f"{dotted}{key}: {owner} has no such setting, {hint}"
            elif fault["type"] == "missing":
                problems[key] = missing(dotted + key, annotations[key])
            else:
                problems[key] = _mismatch(dotted + key, values[key], annotations[key])
        valid = {key: value for key, value in values.items() if key not in problems}
        return valid, list(problems.values())


def _adapter(annotations: Mapping[str, Annotation]) -> TypeAdapter[Plain]:
    """Return the cached validator of some annotations. Building one takes longer than a hundred uses."""
    # The cache compares by identity: annotations may be unhashable, and some, such as Literal[1] and
    # Literal[True], compare equal.
    key = tuple((name, id(annotation)) for name, annotation in annotations.items())
    if key not in _adapters:
        import pydantic
        from typing_extensions import TypedDict

        # Names may come from a user's component. A TypedDict has no attributes that could clash with them.
        schema = TypedDict("schema", dict(annotations))  # type: ignore[misc]  # made while running, of which mypy knows nothing  # noqa: UP013
        schema.__pydantic_config__ = pydantic.ConfigDict(  # type: ignore[attr-defined]  # read by pydantic
            strict=True, extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True
        )
        # Keep the annotations alive, so that no other object can reuse their id.
        _adapters[key] = pydantic.TypeAdapter(schema), tuple(annotations.values())
    return _adapters[key][0]


_adapters: dict[tuple[tuple[str, int], ...], tuple[TypeAdapter[Plain], tuple[Annotation, ...]]] = {}


@dataclass(frozen=True)
class Unusable:
    """A placeholder for a missing value, with the reason."""

    reason: str = ""


def missing(key: str, annotation: Annotation) -> str:
    """Return the sentence for a setting without a value."""
    return f"{key}: has no value, expected {describe(annotation)}; set it with {key}=..."


def _mismatch(key: str, found: Plain, annotation: Annotation) -> str:
    """Return the sentence of `mismatch`. For a mapping, it is about the first wrong entry."""
    inner = next((get_args(kind)[1] for kind in _kinds(annotation) if _is_mapping(kind)), None)
    if inner is None or not isinstance(found, Mapping):
        return mismatch(key, found, annotation)
    for name, value in found.items():
        if not fits(inner, value):
            right = mended(key, value, inner)
            hint = "" if right is None else f", did you mean {entry(key, str(name), right)}?"
            return f"{key}.{name}: found {show(value)}, expected {describe(inner)}{hint}"
    return mismatch(key, found, annotation)


def _kinds(annotation: Annotation) -> tuple[Annotation, ...]:
    """Return the types of a union, or the only one."""
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)


def is_mapping(annotation: Annotation) -> bool:
    """Return True if a setting of this type may be a mapping."""
    return any(_is_mapping(kind) for kind in _kinds(annotation))


def _is_mapping(kind: Annotation) -> bool:
    origin = get_origin(kind)
    return isinstance(origin, type) and issubclass(origin, Mapping)


def mismatch(key: str, found: Plain, annotation: Annotation) -> str:
    """Return the sentence for a value that does not match its annotation."""
    if isinstance(found, Unusable) or found == "???":
        reason = found.reason if isinstance(found, Unusable) else ""
        return f"{key}: {reason}" if reason else missing(key, annotation)
    sentence = f"{key}: found {show(found)}, expected {describe(annotation)}"
    if isinstance(found, float) and not math.isfinite(found):
        return f"{sentence} (finite)"
    if isinstance(found, str) and _reads_as_number(found) and "number" in describe(annotation):
        return f"{sentence}; YAML reads this as text: write it without quotes, and 1e-3 as 0.001 or 1.0e-3"
    right = mended(key, found, annotation)
    return sentence if right is None else f"{sentence}, did you mean {typed(key, right)}?"


def fits(annotation: Annotation, value: Plain) -> bool:
    """Return True if a setting of this type accepts the value."""
    import pydantic

    try:
        _adapter({"it": annotation}).validate_python({"it": value})
    except pydantic.ValidationError:
        return False
    return True


def mended(key: str, found: Plain, annotation: Annotation) -> Plain:
    """Return the most likely intended value, or None."""
    return next((value for value in _guesses(key, found, annotation) if fits(annotation, value)), None)


def _guesses(key: str, found: Plain, annotation: Annotation) -> Iterator[Plain]:
    """Yield possible corrections of a value of the wrong type: 100 for 100.0, true for 1, [a] for a."""
    if not isinstance(found, str | int | float) or found == "":
        return
    other = VALUES.get(key, {}).get(folded(str(found)))
    if other is not None:
        yield other
    if isinstance(found, str):
        yield nearest(found, words(annotation))
    elif isinstance(found, float) and found.is_integer():
        yield int(found)
    elif found in (0, 1):
        yield bool(found)
    yield [found]


def words(annotation: Annotation) -> list[str]:
    """Return the strings that a Literal, alone or in a union, allows.

    >>> words(Literal["auto"] | bool | None)
    ['auto']
    """
    found = get_args(annotation)
    return [word for item in found for word in ([item] if isinstance(item, str) else words(item))]


def describe(annotation: Annotation) -> str:
    """Describe an annotation in words.

    >>> describe(Annotated[float, Gt(0)]), describe(Literal["full"] | Count)
    ('number > 0', "'full' or whole number >= 1")
    >>> describe(Annotated[dict[str, int], "{size: 3}"])  # with its own description
    '{size: 3}'
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        if isinstance(arguments[1], str):
            return arguments[1]
        bounds = [_bound(item) for item in arguments[1:]]
        return " ".join([describe(arguments[0]), " and ".join(filter(None, bounds))]).strip()
    if origin is Literal:
        words = [show(value) for value in arguments]
        return words[0] if len(words) == 1 else f"one of {', '.join(words)}"
    if origin in (Union, types.UnionType):
        return " or ".join(describe(argument) for argument in arguments)
    if origin is list:
        return f"list of ({describe(arguments[0])})"
    if origin is not None and issubclass(origin, Mapping):
        return f"mapping of ({describe(arguments[0])}) to ({describe(arguments[1])})"
    plain: dict[object, str] = {
        float: "number",
        int: "whole number",
        bool: "true or false",
        str: "text",
        type(None): "null",
        Any: "anything",  # Any is an annotation here
    }
    return plain.get(annotation, str(annotation))


def takes_fractions(annotation: Annotation) -> bool:
    """Return True if a value of this type may be a non-integer number."""
    # Any is an annotation here.
    return annotation in (float, Any) or any(map(takes_fractions, get_args(annotation)))


def show(value: Plain) -> str:
    """Format a value as in YAML, shortened."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _bound(item: object) -> str:
    for kind, sign, name in ((Gt, ">", "gt"), (Ge, ">=", "ge"), (Lt, "<", "lt"), (Le, "<=", "le")):
        if isinstance(item, kind):
            return f"{sign} {getattr(item, name)}"
    return ""


def _nearest(key: str, names: Mapping[str, Plain]) -> str:
    other = [name for name in SETTINGS.get(folded(key), ()) if name in names]
    return f"did you mean {other[0]}?" if other else did_you_mean(key, names) if names else "it has none"


def _reads_as_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
