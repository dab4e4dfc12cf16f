"""What to write instead: hints for choices and keys that cannot be composed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from slipstream.config.schema import GROUPS, options
from slipstream.errors import did_you_mean
from slipstream.registry import LISTS

# What stands for "nothing" where that is no option of its own.
NOTHING = {
    "regularizer": "write regularizer=[]",
    "augmentation": "write augmentation=[]",
    "scheduler": "did you mean constant?",
    "activation": "did you mean identity?",
    "experiment": "leave it out",
}


def no_option(group: str, name: str, offered: Sequence[str]) -> str:
    """The sentence for an option that is none of those offered."""
    if group in GROUPS and name in options(group):
        file = f"{group}/{name}.yaml"
        return f"{group}={name}: is registered but has no YAML; write DIR/{file} and add --config-dir DIR"
    hint = NOTHING.get(group) if name == "none" else _elsewhere(group, name)
    return f"{group}={name}: no such option, {hint or did_you_mean(name, offered)}"


def written_out(group: str, value: Mapping[Any, Any]) -> str:
    """How names and settings that were given as a mapping are written."""
    names = {str(key): inner for key, inner in value.items() if isinstance(inner, dict)}
    if not names or (group not in LISTS and len(names) > 1):
        below = f"{group}.OPTION.SETTING" if group in LISTS else f"{group}.SETTING"
        return f"settings are given one by one, {below}=VALUE"
    words = [f"{group}=[{','.join(names)}]" if group in LISTS else f"{group}={next(iter(names))}"]
    for name, inner in names.items():
        below = f"{group}.{name}" if group in LISTS else group
        words += [f"{below}.{key}={setting}" for key, setting in inner.items()]
    return f"write {' '.join(words)}"


def _elsewhere(group: str, name: str) -> str | None:
    """Where else such an option is: regularizer=mixup is augmentation=[mixup]."""
    if group in LISTS and name in LISTS:
        return f"it is a group of its own: {name}=[...]"
    others = [other for other in LISTS if group in LISTS and other != group and name in options(other)]
    return f"it is an option of {others[0]}: {others[0]}=[{name}]" if others else None


def no_section(key: str, composed: DictConfig) -> str:
    """The sentence for a key below something that has no keys."""
    group, _, rest = key.partition(".")
    if group in LISTS:
        return f"{key}: {_unchosen(group, rest, list(composed[group]))}"
    parent = key.rpartition(".")[0]
    value = OmegaConf.select(composed, parent)
    return f"{key}: no such key" + ("" if value is None else f", {parent} is {value}; set {parent} itself")


def _unchosen(group: str, rest: str, chosen: Sequence[str]) -> str:
    """What to do about the settings of an option that is not in the list. rest: the key below the group."""
    name = rest.partition(".")[0]
    if name not in options(group):
        other = next((other for other in LISTS if other != group and name in options(other)), None)
        if other is not None:
            return f"{name} is an option of {other}, did you mean {other}.{rest}?"
        return f"no such option, {did_you_mean(name, options(group))}"
    return (
        f"{name} is not among the chosen {group}s ({', '.join(chosen) or 'none'}); "
        f"add it: {group}=[{','.join([*chosen, name])}]"
    )
