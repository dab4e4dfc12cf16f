"""The YAML files: their location, and the content of an option's file."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from copy import deepcopy
from functools import cache
from pathlib import Path

from slipstream.core.registry import LISTS, keyword_only, own_components, shared_function
from slipstream.core.types import Plain


@cache
def folder() -> Path:
    """Return the folder of shipped configs: in the installed package, or next to src/ in a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "configs"
    return installed if installed.is_dir() else package.parents[1] / "configs"


REFERENCE = re.compile(r"\$\{(\w+)\.(\w+)\}")
# The options whose YAML has nothing but what their whole group shares.
PLAIN = {"scheduler": "constant", "initializer": "auto", "early_stopping": "none"}
# In addition to those that other sources share.
OWN_PATHS = {"idx": ("labels", "test_labels"), "images": ("cache",)}


def experiments(own: Path | None = None) -> list[str]:
    """Return the names of the experiments: the shipped ones, and those of a user's --config-dir."""
    places = [folder(), *([own] if own else [])]
    return sorted({file.stem for place in places for file in (place / "experiment").glob("*.yaml")})


def experiment(name: str, own: Path | None = None) -> str:
    """Return an experiment's description (its first comment) and its settings."""
    files = [place / "experiment" / f"{name}.yaml" for place in (own, folder()) if place]
    text = next(file for file in files if file.is_file()).read_text(encoding="utf-8")
    return text.removeprefix("# @package _global_\n").removeprefix("# ")


def experiment_content(name: str) -> dict[str, Plain]:
    """Return the choices and settings of a shipped experiment, as in its YAML."""
    from omegaconf import OmegaConf

    content = OmegaConf.to_container(OmegaConf.load(folder() / "experiment" / f"{name}.yaml"))
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


def paths(data: Mapping[str, Plain]) -> list[str]:
    """Return the data settings that name a file or folder."""
    names = ("path", "validation_path", "test_path", *OWN_PATHS.get(data.get("name", ""), ()))
    return [key for key in names if isinstance(data.get(key), str) and data[key] != "auto"]


def defaults(group: str, name: str, own: Path | None = None) -> dict[str, Plain]:
    """Return the settings in an option's YAML without its name. References such as ${seed} stay text.

    own: a user's --config-dir, which precedes the shipped folder. Without it, an option that only
    such a folder defines has no settings: {}.
    """
    shipped = _content(folder() / group, name) or of_signature(group, name)
    merged = deepcopy((own and _content(own / group, name)) or shipped)
    merged.pop("name", None)
    return merged | deepcopy(of_all(group))


def of_signature(group: str, name: str) -> dict[str, Plain]:
    """Return the defaults of a user's component that no YAML describes: those of its signature."""
    part = own_components(group).get(name)
    if part is None or not inspect.isfunction(inspect.unwrap(part.function)):
        return {}
    shared = keyword_only(of_group) if (of_group := shared_function(group)) else {}
    plain = _content(folder() / group, PLAIN[group]) if group in PLAIN else {}
    common = _content(folder() / group, "_base") | {k: v for k, v in plain.items() if k in shared}
    return common | part.defaults


def of_all(group: str) -> dict[str, Plain]:
    """Return the settings that all options of a group share without naming them: those in train.yaml."""
    shared = _content(folder(), "train").get(group)
    return dict(shared) if isinstance(shared, dict) else {}


def completed(saved: Mapping[str, Plain]) -> dict[str, Plain]:
    """Return a saved configuration completed with the defaults of settings that were added since.

    A default that refers to another setting, such as ${trainer.monitor}, takes that setting's value.
    Anything that is not a section of a configuration stays unchanged.
    """
    saved = {group: listed(own) if group in LISTS else own for group, own in saved.items()}
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


def listed(section: Plain) -> Plain:
    """Return a section of a list; of one that was a choice, as `logger` was, in today's form.

    >>> listed({"name": "tensorboard", "graph": True})
    {'tensorboard': {'graph': True}}
    """
    if not isinstance(section, Mapping) or not isinstance(section.get("name"), str):
        return section
    return {section["name"]: {key: value for key, value in section.items() if key != "name"}}


# The settings of `logger` when it was a choice.
ONCE_OF_TENSORBOARD = ("logger.histograms", "logger.graph")


def renamed(key: str) -> str:
    """Return today's name of a key that an earlier version wrote.

    >>> renamed("logger.graph"), renamed("optimizer.lr")
    ('logger.tensorboard.graph', 'optimizer.lr')
    """
    return key.replace("logger.", "logger.tensorboard.") if key in ONCE_OF_TENSORBOARD else key


def _referred(full: Mapping[str, Plain], value: Plain) -> Plain:
    """Return a default, or the value it refers to. Saved values are untrusted and never resolved."""
    found = REFERENCE.fullmatch(value) if isinstance(value, str) else None
    section = full.get(found[1]) if found else None
    return section.get(found[2], value) if found and isinstance(section, Mapping) else value


def _completed(group: str, name: Plain, own: Plain) -> Plain:
    if not (isinstance(own, Mapping) and isinstance(name, str) and name.isidentifier()):
        return own
    return dict(own) | {key: value for key, value in defaults(group, name).items() if key not in own}


@cache  # every member of a sweep calls this
def _content(group: Path, name: str) -> dict[str, Plain]:
    from omegaconf import OmegaConf

    file = group / f"{name}.yaml"
    if not file.is_file():
        return {}
    content = OmegaConf.to_container(OmegaConf.load(file))
    assert isinstance(content, dict)
    merged: dict[str, Plain] = {}
    for base in content.pop(
        "defaults", []
    ):  # files such as _base.yaml contain settings that the options of a group share
        if isinstance(base, str) and base != "_self_":
            merged |= _content(group, base) or _content(folder() / group.name, base)
    # gradient_descent sets keys outside its own group, so it nests its settings.
    inner = content.get(group.name)
    return merged | {str(k): v for k, v in (inner if isinstance(inner, dict) else content).items()}
