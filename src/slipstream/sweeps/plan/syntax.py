"""The syntax of sweeps: Hydra's on the command line, lists and mappings in YAML."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    ChoiceSweep,
    IntervalSweep,
    Override,
    OverrideType,
    RangeSweep,
)
from hydra.errors import HydraException

from slipstream.config import composition, hints
from slipstream.config.schema import show
from slipstream.core.errors import ConfigError
from slipstream.core.types import Plain
from slipstream.core.wording import shell, spell
from slipstream.sweeps.plan.space import Axis, Choices, Interval

CHANGE = OverrideType.CHANGE
LOGARITHMIC = "=tag(log,interval(1e-4,1))"
INTERVAL = ("low", "high", "log", "integer")
WIDE = 1000.0  # for larger ratios, uniform draws rarely reach an interval's lower end


@dataclass
class CommandParts:
    """A parsed command line.

    lines: key -> the whole override, or None for an axis, in order. axes: by key. hydra, sweep: overrides for
    Hydra and for the sweep itself. problems: sentences about invalid overrides.
    """

    lines: dict[str, str | None] = field(default_factory=dict)
    axes: dict[str, Axis] = field(default_factory=dict)
    hydra: list[str] = field(default_factory=list)
    sweep: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def add(self, key: str, entry: Axis | str) -> None:
        """Add a fixed override or an axis. A repeated key keeps its last value at its first position."""
        self.axes.pop(key, None)
        self.lines[key] = entry if isinstance(entry, str) else None
        if not isinstance(entry, str):
            self.axes[key] = entry


def read(overrides: Sequence[str]) -> CommandParts:
    """Parse the overrides of a command line."""
    words, problems = hints.without_blanks(overrides)
    reading = CommandParts(problems=problems)
    with composition.loading() as loader:
        parser = OverridesParser.create(config_loader=loader)
        for text in words:
            try:
                (override,) = parser.parse_overrides([text])  # for glob(...), which parse_override rejects
                head = override.key_or_group.partition(".")[0].partition("/")[0]
                if override.is_hydra_override():
                    reading.hydra.append(text)
                elif head in ("sweep", "resume"):
                    reading.problems += _refused(head, override)
                    # A cluster's parameters are open-ended, so the YAML lists none.
                    opens = override.key_or_group.startswith("sweep.slurm") and override.type is CHANGE
                    reading.sweep.append(f"++{text}" if opens else text)
                elif override.is_sweep_override():
                    reading.add(*_axis(override))
                else:
                    reading.add(override.get_key_element(), text)
            except HydraException:
                reading.problems.append(hints.unreadable(text))
            except ConfigError as error:
                reading.problems += error.problems
    return reading


def read_space(written: Mapping[Plain, Plain], where: str) -> CommandParts:
    """Parse axes from YAML: strings as on the command line, lists of values, or {low, high, log, integer}."""
    reading = CommandParts()
    for key, value in written.items():
        name = f"{where}: {key}"
        try:
            if not isinstance(key, str) or not key:
                raise ConfigError([f"{name}: expected a key such as optimizer.lr"])
            if key.partition(".")[0].partition("/")[0] in ("sweep", "hydra", "resume"):
                raise ConfigError([f"{name}: cannot be swept"])
            if isinstance(value, str):
                typed = read([f"{key}={value}"])
                reading.problems += [f"{where}: {problem}" for problem in typed.problems]
                for inner, line in typed.lines.items():
                    reading.add(inner, typed.axes[inner] if line is None else line)
            elif isinstance(value, Mapping):
                reading.add(key, _interval(key, name, value))
            elif isinstance(value, Sequence):
                if not value:
                    raise ConfigError([f"{name}: has no values"])
                reading.add(key, Choices(key, tuple(value)))
            else:
                reading.add(key, f"{key}={spell(value)}")
        except ConfigError as error:
            reading.problems += error.problems
    return reading


def _refused(head: str, override: Override) -> list[str]:
    line, key = override.input_line, override.key_or_group
    if head == "resume":
        return [f"{line}: resume continues a run or a sweep; remove -m"]
    if key == "sweep.space" or key.startswith("sweep.space."):
        return [f"{line}: write the swept key and its values: optimizer.lr=0.1,0.01"]
    if override.is_sweep_override():
        return [f"{line}: settings of the sweep itself must have one value"]
    return []


def _axis(override: Override) -> tuple[str, Axis]:
    key, line, value = override.get_key_element(), override.input_line or "", override.value()
    if isinstance(value, IntervalSweep):
        if not value.tags <= {"log"}:
            raise ConfigError([f"{line}: the only tag of an interval is log: {shell(key + LOGARITHMIC)}"])
        assert value.start is not None
        assert value.end is not None
        whole = isinstance(value.start, int) and isinstance(value.end, int)
        return key, _sound(Interval(key, value.start, value.end, "log" in value.tags, whole), line)
    if isinstance(value, ChoiceSweep | RangeSweep) and value.tags:
        raise ConfigError([f"{line}: tags are for intervals: {shell(key + LOGARITHMIC)}"])
    shuffled = bool(getattr(value, "shuffle", False))
    if shuffled:
        value.shuffle = False  # type: ignore[union-attr]  # a sweep here
    values = []
    for item in override.sweep_iterator():  # ranges can occur among other values: range(3),7
        parts = item.range() if isinstance(item, RangeSweep) and not item.shuffle else [item]
        values += [Override._convert_value(part) for part in parts]
    if shuffled:  # the same command sweeps in the same order
        random.Random(line).shuffle(values)  # noqa: S311
    if not values:
        raise ConfigError([f"{line}: has no values, expected at least one"])
    return key, Choices(key, tuple(values))


def _interval(key: str, name: str, written: Mapping[Plain, Plain]) -> Interval:
    unknown = [str(inner) for inner in written if inner not in INTERVAL]
    if unknown or not {"low", "high"} <= set(written):
        raise ConfigError(
            [f"{name}: found {show(dict(written))}, expected low and high, optionally log and integer"]
        )
    low, high = written["low"], written["high"]
    flags = {inner: written.get(inner, False) for inner in ("log", "integer")}
    wrong = [inner for inner, flag in flags.items() if not isinstance(flag, bool)]
    wrong += [inner for inner in ("low", "high") if type(written[inner]) not in (int, float)]
    if wrong:
        raise ConfigError([f"{name}: {inner}: found {show(written[inner])}" for inner in wrong])
    return _sound(Interval(key, low, high, **flags), name)


def _sound(interval: Interval, name: str) -> Interval:
    low, high = interval.low, interval.high
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ConfigError([f"{name}: expected two numbers in ascending order"])
    if interval.log and low <= 0:
        raise ConfigError([f"{name}: a logarithmic interval must start above 0"])
    if interval.integer and (int(low) != low or int(high) != high):
        raise ConfigError([f"{name}: expected whole numbers at both ends"])
    kind = int if interval.integer else float
    return Interval(interval.key, kind(low), kind(high), interval.log, interval.integer)


def whole(interval: Interval) -> Interval:
    """Return the interval for a setting that accepts only integers."""
    return _sound(replace(interval, integer=True), interval.key)


def notes(axes: Iterable[Axis]) -> list[str]:
    """Return a sentence for every interval that should probably be logarithmic."""
    return [
        f"{axis.key}: the interval is linear, so 9 of 10 draws are above "
        f"{0.9 * axis.low + 0.1 * axis.high:g}; "
        f"to draw uniformly over its powers of ten, write "
        + shell(f"{axis.key}=tag(log,interval({axis.low:g},{axis.high:g}))")
        for axis in axes
        if isinstance(axis, Interval) and not axis.log and axis.low > 0 and axis.high / axis.low >= WIDE
    ]
