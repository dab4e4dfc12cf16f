"""Composition of a command line into a plain configuration, with all errors in one message.

Hydra stops at its first problem and does not suggest names. This module therefore screens the overrides
first: it reports and removes the ones that cannot be composed, composes the rest, and the values are
validated in any case.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from typing import ClassVar

import yaml
from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from slipstream.config import grammar, hints, replay, reuse
from slipstream.config.files import folder, of_signature
from slipstream.config.schema import CHOICES, Unusable
from slipstream.core.compat import show_hydra
from slipstream.core.errors import ConfigError, UserError
from slipstream.core.registry import LISTS, own_components
from slipstream.core.types import Plain
from slipstream.core.wording import counted, spell

ROOT = "train"

FAULTS = (HydraException, OmegaConfBaseException, yaml.YAMLError, UnicodeDecodeError)


class UserFolder(SearchPathPlugin):
    """A search path that prefers the user's --config-dir, where Hydra would prefer a shipped file."""

    path: ClassVar[str | None] = None

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Move the user's folder to the front."""
        if self.path is not None:
            search_path.prepend("command-line", f"file://{self.path}")


grammar.extend()
reuse.extend()


def use_folder(path: str | None) -> None:
    """Also compose with the options in the folder `path` from now on (None: only the shipped ones)."""
    if path is not None and not os.path.isdir(path):
        raise UserError(f"--config-dir {path}: no such folder")
    UserFolder.path = None if path is None else os.path.abspath(path)
    Plugins.instance().register(UserFolder)


def screen(overrides: Sequence[str]) -> tuple[dict[str, Plain], list[str]]:
    """Compose as much as possible. Return the plain configuration and a sentence for each failure."""
    with loading():
        composed, problems = read(replay.replay(overrides))
        return to_plain(composed), problems


def contradictions(overrides: Sequence[str]) -> list[str]:
    """Return a message for each key that has two different values; Hydra would ignore the first."""
    given: dict[str, list[str]] = {}
    for text in overrides:
        key, equals, value = text.partition("=")
        if equals and not key.startswith("~"):
            given.setdefault(key.lstrip("+").strip(), []).append(value.strip())
    return [
        f"{key}: is set {counted(len(values), 'time')}, to {' and '.join(dict.fromkeys(values))}; set it once"
        for key, values in given.items()
        if len(set(values)) > 1 and key != "resume"
    ]


def read(overrides: Sequence[str], *, sweeps: bool = False) -> tuple[DictConfig, list[str]]:
    """Return the composition of overrides, and a sentence for each failure.

    Inside `loading`, references to Hydra's own values use this composition.
    sweeps: allow settings of a sweep among the overrides.
    """
    with loading() as loader:
        kept, problems, strange = _known(loader, overrides, sweeps)
        composed = None
        try:
            composed = _load(loader, [override.input_line for override in kept])
        except FAULTS:
            try:
                lines, unknown = _existing(loader, kept)
                problems += unknown
                composed = _load(loader, lines)
            except FAULTS as error:
                raise ConfigError([*problems, *_strange(strange, None), *explain(error)]) from None
        problems += _strange(strange, composed)
        if composed.hydra.callbacks:  # Hydra would import and call anything that a YAML file names there
            problems.append("hydra.callbacks: a configuration of slipstream cannot contain code; remove it")
        return composed, problems


def to_plain(composed: DictConfig) -> dict[str, Plain]:
    """Return plain dicts and lists without the sections of Hydra and the sweep, which are not part of a run.

    A missing value or a broken reference becomes `Unusable`, so that validation reports it with the rest.
    """
    return {str(key): _plain(composed, key) for key in composed if key not in ("hydra", "sweep")}


def plain_section(composed: DictConfig, key: str) -> Plain:
    """Return one section of a composition, as in the result of `to_plain`."""
    return _plain(composed, key)


def _plain(node: DictConfig | ListConfig, key: Plain) -> Plain:
    try:
        if OmegaConf.is_missing(node, key):
            return Unusable()
        value = node[key]
    except OmegaConfBaseException as error:
        text = OmegaConf.to_container(node, resolve=False)[key]  # type: ignore[index]  # a container, as the node is
        return Unusable(f"found {text!r}, which refers to nothing: {str(error).splitlines()[0]}")
    if isinstance(value, DictConfig | ListConfig):
        return _filled_in(value, OmegaConf.to_container(value, resolve=False))
    return value


def _filled_in(node: DictConfig | ListConfig, content: Plain) -> Plain:
    """Return the content of a node. OmegaConf is slow, so it resolves only the references."""

    def item(key: Plain, value: Plain) -> Plain:
        if isinstance(value, dict | list):
            return _filled_in(node[key], value)
        return _plain(node, key) if isinstance(value, str) and ("${" in value or value == "???") else value

    if isinstance(content, dict):
        return {key: item(key, value) for key, value in content.items()}
    return [item(index, value) for index, value in enumerate(content)]


def explain(error: BaseException) -> list[str]:
    """Explain an error of Hydra, OmegaConf or the YAML reader in sentences."""
    if isinstance(error, UnicodeDecodeError):
        return [f"{_not_utf8() or 'a YAML file'}: is not UTF-8 text: {error.reason}"]
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return [f"{mark.name}, line {mark.line + 1}: {error.problem}"]
    lines = [line.strip() for line in str(error).splitlines()]
    # The rest of the message lists OmegaConf's types and Hydra's search path, which do not help a user.
    lines = list(takewhile(lambda line: not line.startswith(("full_key:", "Config search")), lines))
    unknown = re.match(r"Could not override '(hydra\b[^']*)'", lines[0] if lines else "")
    if unknown:
        return [
            f"{unknown[1]}: Hydra has no such key or does not accept the value; --cfg hydra prints its keys"
        ]
    if isinstance(error.__cause__, OmegaConfBaseException):
        lines += explain(error.__cause__)
    return [" ".join(line for line in lines if line) or type(error).__name__]


def _not_utf8() -> Path | None:
    # The error does not name the file. Only a user's own file can be wrong.
    for file in Path(UserFolder.path or folder()).rglob("*.yaml"):
        try:
            file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            return file
    return None


_open: list[ConfigLoader] = []
_offered: dict[tuple[str, str], dict[str, Plain]] = {}  # the values of options that no file describes


@contextmanager
def loading() -> Iterator[ConfigLoader]:
    """Read Hydra's configs; nested uses share the outer one's loader."""
    _offer_own()
    if _open:
        yield _open[-1]
        return
    with initialize_config_dir(config_dir=str(folder()), version_base="1.3", job_name="slipstream"):
        before = HydraConfig.instance().cfg
        _open.append(GlobalHydra.instance().config_loader())
        try:
            yield _open[-1]
        finally:
            _open.pop()
            HydraConfig.instance().cfg = before


def _offer_own() -> None:
    """Let a user's components be chosen that no YAML describes: their signatures hold the defaults."""
    for group in (*CHOICES, *LISTS):
        for name in own_components(group):
            values = ({} if group in LISTS else {"name": name}) | of_signature(group, name)
            if _offered.get((group, name)) == values:
                continue
            package = f"{group}.{name}" if group in LISTS else group
            ConfigStore.instance().store(name, values, group, package, "registered")
            _offered[group, name] = values
            reuse.forget()


def _load(loader: ConfigLoader, overrides: Iterable[str | None]) -> DictConfig:
    lines = [line for line in overrides if line is not None and not is_default(line)]
    composed = loader.load_configuration(ROOT, lines, RunMode.RUN)
    show_hydra(composed)  # for ${hydra:...} in values
    return composed


def _strange(overrides: Iterable[Override], composed: DictConfig | None) -> list[str]:
    return [
        hints.no_key(override.key_or_group, override.value(), composed, override.input_line or "")
        for override in overrides
    ]


def is_default(override: str) -> bool:
    """Return True for `experiment=default`, the empty choice, which Hydra lacks and a sweep needs."""
    return override.replace(" ", "").lower() in ("experiment=null", "experiment=none")


def _known(
    loader: ConfigLoader, overrides: Sequence[str], sweeps: bool
) -> tuple[list[Override], list[str], list[Override]]:
    """Split overrides into those with existing groups, options and first keys, and those outside any group.

    Also return a sentence for each override whose option or key does not exist.
    """
    groups = [group for group in loader.list_groups("") if group != "hydra"]
    top = {*groups, "name", "seed", "resume"}
    kept: list[Override] = []
    strange: list[Override] = []
    spoilt = set()
    overrides, problems = hints.without_blanks(overrides)
    for text in overrides:
        override = grammar.parsed(text)
        if override is None:
            problems.append(hints.unreadable(text))
            continue
        if _head(override) not in top and not (override.is_hydra_override() or override.is_sweep_override()):
            strange.append(override)
            continue
        found = _faults(loader, groups, override, sweeps)
        if found:
            spoilt.add(_head(override))
            problems += found
        else:
            kept.append(override)
    # The settings of an unknown option are unknown too.
    return [override for override in kept if _head(override) not in spoilt], problems, strange


def _faults(loader: ConfigLoader, groups: Sequence[str], override: Override, sweeps: bool) -> list[str]:
    group, value, line = override.key_or_group, override.value(), override.input_line
    if override.is_delete() or override.is_hydra_override():
        return []
    if _head(override) == "sweep" and not sweeps:
        return [f"{line}: is a setting of a sweep; add -m"]
    if override.is_sweep_override():
        return [f"{line}: has several values; add -m to run them all, or write a list as [a,b]"]
    section, _, setting = group.rpartition(".")
    if section in (*CHOICES, "sweep") and setting == "name":
        return [f"{line}: select the option with {section}={value}"]
    if group not in groups:
        return []
    if override.is_add():
        return [f"{line}: the group exists; write it without +"]
    if is_default(line or ""):
        return []
    if value is None:
        return [f"{group}=null: not an option, {hints.NOTHING.get(group, 'remove it or choose one')}"]
    if isinstance(value, list) and group == "sweep":
        return [f"{line}: takes one option, found {len(value)}"]
    if isinstance(value, list) and group not in LISTS:
        return [f"{group}: takes one option, found {len(value)}; with -m, {group}=a,b runs both"]
    if isinstance(value, dict):
        return [f"{line}: expected the name of an option; {hints.written_out(group, value)}"]
    names = [
        spell(n) if isinstance(n, bool) else str(n) for n in (value if isinstance(value, list) else [value])
    ]
    offered = loader.get_group_options(group)
    twice = [
        f"{group}={name}: appears twice in the list" for name in dict.fromkeys(names) if names.count(name) > 1
    ]
    return twice + [hints.no_option(group, name, offered) for name in names if name not in offered]


def _head(override: Override) -> str:
    return override.key_or_group.partition(".")[0].partition("/")[0]


def _existing(loader: ConfigLoader, overrides: Sequence[Override]) -> tuple[list[str], list[str]]:
    """Force unknown keys into a composition that failed, so that validation reports all of them.

    A key below something that is not a section cannot be forced in, so it gets its sentence here.
    """
    groups = set(loader.list_groups(""))
    choices = [o.input_line or "" for o in overrides if o.key_or_group in groups or o.is_hydra_override()]
    composed = _load(loader, choices)
    kept, problems = list(choices), []
    for override in overrides:
        key, line = override.key_or_group, override.input_line or ""
        if line in choices:
            continue
        parent, _, last = key.rpartition(".")
        section = OmegaConf.select(composed, parent) if parent else composed
        if not isinstance(section, DictConfig):
            problems.append(hints.no_section(key, override.value(), composed))
        elif override.is_add() and last in section:
            problems.append(f"{line}: the key exists; write it without +")
        else:
            plain = last in section or override.is_delete() or override.is_force_add()
            kept.append(line if plain else "++" + line.lstrip("+"))
    return kept, problems
