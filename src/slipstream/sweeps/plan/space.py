"""The space of a sweep: its axes and the conditions under which they apply, as plain values.

An axis is a swept key, which may apply only under a condition: `optimizer.momentum` if the selected optimizer
has a momentum, `regularizer.dropout.rate` if dropout is in the list.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from slipstream.core.types import Plain

MOST = 100_000  # the maximum number of configurations to enumerate


@dataclass(frozen=True)
class Choices:
    """A key and its values in order: strings, numbers, booleans, null or lists."""

    key: str
    values: tuple[Plain, ...]


@dataclass(frozen=True)
class Interval:
    """A key and the numbers from low to high, inclusive.

    log: uniform in the logarithm. integer: integers only.
    """

    key: str
    low: float
    high: float
    log: bool = False
    integer: bool = False


Axis = Choices | Interval


def identity(value: Plain) -> Hashable:
    """Return an object that is equal for equivalent values such as 1 and 1.0, but not for 1 and true or "1".

    The order of a mapping counts, since that of regularizers may matter.

    >>> identity({"lr": 0.1}) == identity({"lr": 1e-1}), identity(True) == identity(1)
    (True, False)
    """
    if isinstance(value, Mapping):
        return dict, tuple((identity(key), identity(inner)) for key, inner in value.items())
    if isinstance(value, list | tuple):
        return list, tuple(map(identity, value))
    return (bool, value) if isinstance(value, bool) else value


def without_repetition(axis: Choices) -> tuple[Choices, list[tuple[Plain, int]]]:
    """Return the axis without repeated values, and the repeated values with their counts."""
    values: dict[Hashable, Plain] = {}
    counts = Counter(map(identity, axis.values))
    for value in axis.values:
        values.setdefault(identity(value), value)
    repeated = [(value, counts[name]) for name, value in values.items() if counts[name] > 1]
    return replace(axis, values=tuple(values.values())), repeated


@dataclass(frozen=True)
class Condition:
    """A condition for a key, which applies if the combined values of these axes are allowed."""

    axes: tuple[str, ...]
    allowed: tuple[tuple[Plain, ...], ...]


@dataclass(frozen=True)
class Space:
    """The axes of a sweep in order, and the conditions of keys that have one.

    conditions: by key; fixed keys may also have one. Axes in a condition are Choices without conditions of
    their own.
    """

    axes: tuple[Axis, ...] = ()
    conditions: Mapping[str, Condition] = field(default_factory=dict)

    def applies(self, key: str, chosen: Mapping[str, Plain]) -> bool:
        """Return True if a key applies to the chosen values: axis -> value.

        >>> only = Condition(("optimizer",), (("momentum",),))
        >>> space = Space((Choices("optimizer", ("sgd", "momentum")),), {"optimizer.momentum": only})
        >>> space.applies("optimizer.momentum", {"optimizer": "sgd"})
        False
        """
        condition = self.conditions.get(key)
        return condition is None or tuple(chosen[axis] for axis in condition.axes) in condition.allowed

    @property
    def in_asking_order(self) -> tuple[Axis, ...]:
        """Return the axes sorted such that `applies` can always be evaluated: dependent ones come last."""
        return tuple(sorted(self.axes, key=lambda axis: axis.key in self.conditions))

    @property
    def size(self) -> int | None:
        """Return the maximum number of combinations of a grid, or None if an axis is an interval."""
        size = 1
        for axis in self.axes:
            if isinstance(axis, Interval):
                return None
            size *= len(axis.values)
        return size

    @cached_property
    def countable(self) -> tuple[dict[str, Plain], ...] | None:
        """Return all configurations, including all integers of intervals, or None if there are too many."""
        axes = [_listed(axis) for axis in self.axes]
        size = math.prod(math.inf if axis is None else len(axis) for axis in axes)
        if size > MOST:
            return None
        choices = [Choices(a.key, tuple(values or ())) for a, values in zip(self.axes, axes, strict=True)]
        return tuple(Space(tuple(choices), self.conditions).grid())

    def grid(self) -> Iterator[dict[str, Plain]]:
        """Yield all combinations (key -> value) without keys that do not apply. The last axis varies fastest.

        Combinations that are equal without these keys occur once. Raises ValueError if an axis is an
        interval.
        """
        columns = []
        for axis in self.axes:
            if isinstance(axis, Interval):
                raise ValueError(f"{axis.key}: an interval cannot be enumerated")
            columns.append(axis.values)
        seen: set[str] = set()
        for row in itertools.product(*columns):
            chosen = dict(zip((axis.key for axis in self.axes), row, strict=True))
            values = {key: value for key, value in chosen.items() if self.applies(key, chosen)}
            if len(values) < len(chosen):
                if (text := repr(values)) in seen:
                    continue
                seen.add(text)
            yield values

    def to_json(self) -> dict[str, Plain]:
        """Return plain dicts and lists from which `from_json` restores an equal space."""
        return {
            "axes": [_axis_to_json(axis) for axis in self.axes],
            "conditions": {
                key: {"axes": list(condition.axes), "allowed": [list(row) for row in condition.allowed]}
                for key, condition in self.conditions.items()
            },
        }

    @classmethod
    def from_json(cls, saved: Mapping[str, Plain]) -> Space:
        """Restore a space from its `to_json`."""
        return cls(
            tuple(
                Choices(axis["key"], tuple(decoded(axis["values"]))) if "values" in axis else Interval(**axis)
                for axis in saved["axes"]
            ),
            {
                key: Condition(tuple(entry["axes"]), tuple(tuple(row) for row in entry["allowed"]))
                for key, entry in saved["conditions"].items()
            },
        )


def _listed(axis: Axis) -> Sequence[Plain] | None:
    """Return the values of an axis, or None if they cannot be enumerated."""
    if isinstance(axis, Choices):
        return axis.values
    return range(int(axis.low), int(axis.high) + 1) if axis.integer else None


def _axis_to_json(axis: Axis) -> dict[str, Plain]:
    if isinstance(axis, Choices):
        return {"key": axis.key, "values": encoded(list(axis.values))}
    return {
        "key": axis.key,
        "low": axis.low,
        "high": axis.high,
        "log": axis.log,
        "integer": axis.integer,
    }


def encoded(value: Plain) -> Plain:
    """Encode a plain value for JSON. Mappings become pairs, since JSON keys must be strings.

    >>> encoded([{1: 0.5}, None])
    [{'pairs': [[1, 0.5]]}, None]
    """
    if isinstance(value, Mapping):
        return {"pairs": [[key, encoded(inner)] for key, inner in value.items()]}
    return [encoded(inner) for inner in value] if isinstance(value, list) else value


def decoded(value: Plain) -> Plain:
    """Decode a value from `encoded`."""
    if isinstance(value, dict):
        return {key: decoded(inner) for key, inner in value["pairs"]}
    return [decoded(inner) for inner in value] if isinstance(value, list) else value
