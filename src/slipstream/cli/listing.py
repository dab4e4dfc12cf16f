"""`slipstream list`: groups, options, and each option's settings with type, range, default and source."""

from __future__ import annotations

import inspect
import sys
from argparse import ArgumentError, ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from slipstream.config.files import defaults, experiment, experiments, of_all
from slipstream.config.schema import GROUPS, describe, options, section, settings
from slipstream.core import contracts, registry
from slipstream.core.errors import UserError, did_you_mean
from slipstream.core.registry import LISTS
from slipstream.core.traits import foreign
from slipstream.core.types import Plain

ALL = (*GROUPS, "sweep", "experiment", "metric")
MISSING = "???"  # a value that must be typed
USAGE = "slipstream list, slipstream list GROUP, slipstream list GROUP OPTION, slipstream list OPTION"


def show(arguments: Sequence[str]) -> None:
    """Print all groups, one group (`optimizer`), or options (`optimizer adam`, `optimizer=adam`, `adam`).

    With `--config-dir DIR`, print the defaults of the user's own YAML files.

    Raises:
        UserError: a group, option or folder does not exist.
    """
    arguments, own = _config_dir(arguments)
    if own is not None and not own.is_dir():
        raise UserError(f"--config-dir {own}: no such folder")
    arguments = arguments[1:]
    if {"-h", "--help"} & set(arguments):
        print(USAGE)
        return
    if len(arguments) == 1:
        arguments = arguments[0].split("=", maxsplit=1)
    if len(arguments) > 2:
        raise UserError(f"list {' '.join(arguments)}: expected list [GROUP [OPTION]]")
    console = Console(highlight=False, markup=False)
    # The output is captured because rich exits the program itself when the reader has closed the pipe.
    with console.capture() as page:
        if not arguments:
            _groups(console, own)
        elif len(arguments) == 1 and arguments[0] in ALL:
            _group(console, arguments[0], own)
        else:
            for number, group in enumerate(_homes(own, *arguments)):
                console.print("\n" if number else "", end="")
                _option(console, group, arguments[-1], own)
    sys.stdout.write(page.get())


def is_asked(arguments: Sequence[str]) -> bool:
    """Return True for `list ...`, with or without a leading --config-dir."""
    return _config_dir(arguments)[0][:1] == ["list"]


def _config_dir(arguments: Sequence[str]) -> tuple[list[str], Path | None]:
    """Split --config-dir DIR from the other words."""
    parser = ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--config-dir", "-cd", type=Path)
    try:
        flags, words = parser.parse_known_args(list(arguments))
    except ArgumentError:
        raise UserError("--config-dir: expected --config-dir DIR") from None
    return words, flags.config_dir


def _homes(own: Path | None, word: str, option: str | None = None) -> list[str]:
    """Return the named group, or every group that has an option of that name."""
    if option is None:
        homes = [group for group in ALL if word in _options(group, own)]
        if not homes:
            hint = did_you_mean(word, [*ALL, *(name for group in ALL for name in _options(group, own))])
            hint = hint if hint.startswith("did") else did_you_mean(word, ALL)
            raise UserError(f"list {word}: no such group or option, {hint}")
        return homes
    if word not in ALL:
        raise UserError(f"list {word}: no such group, {did_you_mean(word, ALL)}")
    if option not in (offered := _options(word, own)):
        raise UserError(f"list {word} {option}: no such option, {did_you_mean(option, offered)}")
    return [word]


def _options(group: str, own: Path | None) -> list[str]:
    return experiments(own) if group == "experiment" else options(group)


def _groups(console: Console, own: Path | None) -> None:
    table = _table("group", "options")
    for group in ALL:
        table.add_row(group, ", ".join(_options(group, own)))
    console.print(table)
    console.print(f"\n{USAGE}", soft_wrap=True)


def _group(console: Console, group: str, own: Path | None) -> None:
    table = _table(group, "description", "settings")
    for name in _options(group, own):
        named = [key for key in _settings(group, name) if key not in of_all(group)]
        table.add_row(name, _docstring(group, name, own).partition("\n")[0], ", ".join(named))
    console.print(table)


def _option(console: Console, group: str, name: str, own: Path | None) -> None:
    # A docstring has its own line breaks. The terminal may wrap it; a pipe receives it unchanged.
    console.print(f"{group}={name}\n\n{_docstring(group, name, own)}\n", soft_wrap=True)
    known, values = _settings(group, name), defaults(group, name, own)
    if not known:
        return None if group == "experiment" else console.print("It has no settings.")
    prefix = f"{group}.{name}." if group in LISTS else f"{group}."
    table = _table("setting", "type and range", "default")
    for key, annotation in known.items():
        table.add_row(prefix + key, describe(annotation), _value(values, key))
    console.print(table)
    ours = section(group) is not None or not foreign(registry.component(group, name).function)
    if not ours and any(values.get(key, MISSING) == MISSING for key in known):
        where = f"DIR/{group}/{name}.yaml: list {group} {name} --config-dir DIR shows them"
        console.print(f"\nThe defaults of your own options are in {where}", soft_wrap=True)
    return None


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, column in enumerate(columns):
        table.add_column(column, no_wrap=number == 0, overflow="fold")
    return table


def _settings(group: str, name: str) -> dict[str, Plain]:
    return {} if group == "experiment" else settings(group, name)


def _docstring(group: str, name: str, own: Path | None) -> str:
    if group == "experiment":
        return experiment(name, own)
    classes = section(group)
    if classes:
        return inspect.getdoc(classes[name]) or ""
    part = registry.component(group, name)
    return next(contracts.problems(part), None) or inspect.getdoc(part.function) or ""


def _value(values: dict[str, Plain], key: str) -> str:
    if key not in values:
        return "-"
    value = values[key]
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return "required" if value == MISSING else str(value)
