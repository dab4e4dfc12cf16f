"""The YAML files: where they are, and what an option's own file says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

from slipstream.core.registry import LISTS


@cache
def folder() -> Path:
    """The shipped configs: inside the installed package, or beside src/ in a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "configs"
    return installed if installed.is_dir() else package.parents[1] / "configs"


REFERENCE = re.compile(r"\$\{(\w+)\.(\w+)\}")
OWN_PATHS = {"idx": ("labels", "test_labels"), "images": ("cache",)}  # beside those that others have too


def experiments() -> list[str]:
    """The names of the shipped experiments."""
    return sorted(file.stem for file in (folder() / "experiment").glob("*.yaml"))


def experiment(name: str) -> str:
    """What an experiment says of itself in its first comment, and what it sets."""
    text = (folder() / "experiment" / f"{name}.yaml").read_text(encoding="utf-8")
    return text.removeprefix("# @package _global_\n").removeprefix("# ")


def experiment_content(name: str) -> dict[str, Any]:
    """What a shipped experiment chooses and sets, as its YAML has it."""
    from omegaconf import OmegaConf

    content = OmegaConf.to_container(OmegaConf.load(folder() / "experiment" / f"{name}.yaml"))
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


def paths(data: Mapping[str, Any]) -> list[str]:
    """Those of the data's settings that name a file or folder."""
    names = ("path", "validation_path", "test_path", *OWN_PATHS.get(data.get("name", ""), ()))
    return [key for key in names if isinstance(data.get(key), str) and data[key] != "auto"]


def defaults(group: str, name: str) -> dict[str, Any]:
    """The settings in an option's YAML, without its name; references such as ${seed} stay text.

    An option that only a user's --config-dir describes has none here: {}.
    """
    merged = deepcopy(_content(folder() / group, name))
    merged.pop("name", None)
    return merged


def completed(saved: Mapping[str, Any]) -> dict[str, Any]:
    """A saved configuration, with the settings that options have got since at their defaults.

    A default that refers to another setting, as ${trainer.monitor}, is its value. What is no section of a
    configuration is left as it is.
    """
    full = dict(saved)
    for group, section in saved.items():
        if not isinstance(section, Mapping):
            continue
        if group in LISTS:
            full[group] = {name: _completed(group, name, own) for name, own in section.items()}
        else:
            name = "default" if group == "trainer" else section.get("name")
            full[group] = _completed(group, name, section)
    for group, section in full.items():
        if isinstance(section, Mapping) and isinstance(saved[group], Mapping):
            own = saved[group]
            full[group] = {k: v if k in own else _referred(full, v) for k, v in section.items()}
    return full


def _referred(full: Mapping[str, Any], value: Any) -> Any:
    """A default, or what it refers to. What is saved is never resolved: it may come from anyone."""
    found = REFERENCE.fullmatch(value) if isinstance(value, str) else None
    section = full.get(found[1]) if found else None
    return section.get(found[2], value) if found and isinstance(section, Mapping) else value


def _completed(group: str, name: Any, own: Any) -> Any:
    if not (isinstance(own, Mapping) and isinstance(name, str) and name.isidentifier()):
        return own
    return dict(own) | {key: value for key, value in defaults(group, name).items() if key not in own}


@cache  # every member of a sweep asks
def _content(group: Path, name: str) -> dict[str, Any]:
    from omegaconf import OmegaConf

    file = group / f"{name}.yaml"
    if not file.is_file():
        return {}
    content = OmegaConf.to_container(OmegaConf.load(file))
    assert isinstance(content, dict)
    merged: dict[str, Any] = {}
    for base in content.pop(
        "defaults", []
    ):  # what options of a group share stands in files such as _base.yaml
        if isinstance(base, str) and base != "_self_":
            merged |= _content(group, base)
    # gradient_descent reaches beyond its own group and so nests its settings.
    inner = content.get(group.name)
    return merged | {str(k): v for k, v in (inner if isinstance(inner, dict) else content).items()}
