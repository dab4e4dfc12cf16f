"""`slipstream list`: groups, their options, an option's settings with type, range, default and source."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from slipstream import registry
from slipstream.config.files import defaults
from slipstream.config.schema import GROUPS, SECTIONS, describe, options, settings
from slipstream.errors import ConfigError, did_you_mean

ALL = (*GROUPS, "metric")


def show(arguments: Sequence[str], console: Console | None = None) -> None:
    """Print all groups, one group (`optimizer`), or one option (`optimizer adam`).

    Raises ConfigError for a name that does not exist.
    """
    console = console or _console()
    if len(arguments) > 2:
        raise ConfigError([f"list {' '.join(arguments)}: expected list [GROUP [OPTION]]"])
    if not arguments:
        return _groups(console)
    group, *rest = arguments[0].split("=") if len(arguments) == 1 else arguments
    if group not in ALL:
        raise ConfigError([f"list {group}: no such group, {did_you_mean(group, ALL)}"])
    if not rest:
        return _group(console, group)
    if rest[0] not in options(group):
        raise ConfigError([f"list {group} {rest[0]}: {did_you_mean(rest[0], options(group))}"])
    return _option(console, group, rest[0])


def _console() -> Console:
    # A pipe has no width: long lines are the reader's to cut, not ours.
    return Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 120)


def _groups(console: Console) -> None:
    table = _table("group", "options")
    for group in ALL:
        table.add_row(group, ", ".join(options(group)))
    console.print(table)
    console.print("\nslipstream list GROUP, slipstream list GROUP OPTION")


def _group(console: Console, group: str) -> None:
    table = _table(group, "what it is", "settings")
    for name in options(group):
        table.add_row(name, _docstring(group, name).partition("\n")[0], ", ".join(settings(group, name)))
    console.print(table)


def _option(console: Console, group: str, name: str) -> None:
    console.print(f"{group}={name}\n\n{_docstring(group, name)}\n")
    known, values = settings(group, name), defaults(group, name)
    if not known:
        return console.print("It has no settings.")
    prefix = f"{group}.{name}." if group == "regularizer" else f"{group}."
    table = _table("setting", "type and range", "default")
    for key, annotation in known.items():
        table.add_row(prefix + key, describe(annotation), _value(values, key))
    return console.print(table)


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, column in enumerate(columns):
        table.add_column(column, no_wrap=number == 0, overflow="fold")
    return table


def _docstring(group: str, name: str) -> str:
    source = SECTIONS[group][name] if group in SECTIONS else registry.component(group, name).function
    return inspect.getdoc(source) or ""


def _value(values: dict[str, Any], key: str) -> str:
    if key not in values:
        return "-"
    value = values[key]
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return "must be given" if value == "???" else str(value)
