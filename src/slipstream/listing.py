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
from slipstream.errors import UserError, did_you_mean

ALL = (*GROUPS, "metric")


def show(arguments: Sequence[str]) -> None:
    """Print all groups, one group (`optimizer`), or one option (`optimizer adam`, `optimizer=adam`).

    Raises UserError for a name that does not exist.
    """
    if len(arguments) == 1:
        arguments = arguments[0].split("=", maxsplit=1)
    if len(arguments) > 2:
        raise UserError(f"list {' '.join(arguments)}: expected list [GROUP [OPTION]]")
    group, option = [*arguments, None, None][:2]
    if group is not None and group not in ALL:
        raise UserError(f"list {group}: no such group, {did_you_mean(group, ALL)}")
    if group is not None and option is not None and option not in options(group):
        raise UserError(f"list {group} {option}: no such option, {did_you_mean(option, options(group))}")
    console = Console(highlight=False, markup=False)
    # Captured, since rich ends the program by itself where the reader has closed the pipe.
    with console.capture() as page:
        if group is None:
            _groups(console)
        elif option is None:
            _group(console, group)
        else:
            _option(console, group, option)
    sys.stdout.write(page.get())


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
    # A docstring has lines of its own: the terminal may wrap them, a pipe keeps them whole.
    console.print(f"{group}={name}\n\n{_docstring(group, name)}\n", soft_wrap=True)
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
