"""The YAML files: where they are, and what an option's own file says."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any


@cache
def folder() -> Path:
    """The shipped configs: inside the installed package, or beside src/ in a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "configs"
    return installed if installed.is_dir() else package.parents[1] / "configs"


def experiments() -> list[str]:
    """The names of the shipped experiments."""
    return sorted(file.stem for file in (folder() / "experiment").glob("*.yaml"))


def experiment(name: str) -> str:
    """What an experiment says of itself in its first comment, and what it sets."""
    text = (folder() / "experiment" / f"{name}.yaml").read_text(encoding="utf-8")
    return text.removeprefix("# @package _global_\n").removeprefix("# ")


def paths(data: Mapping[str, Any]) -> list[str]:
    """Those of the data's settings that name a file or folder."""
    return [key for key in ("path", "validation_path", "test_path") if isinstance(data.get(key), str)]


def defaults(group: str, name: str) -> dict[str, Any]:
    """The settings in an option's YAML, without its name; references such as ${seed} stay text.

    An option that only a user's --config-dir describes has none here: {}.
    """
    from omegaconf import OmegaConf

    merged: dict[str, Any] = {}
    # A group's common settings stand in its _base.yaml.
    for file in (folder() / group / "_base.yaml", folder() / group / f"{name}.yaml"):
        if file.is_file():
            content = OmegaConf.to_container(OmegaConf.load(file))
            assert isinstance(content, dict)
            # gradient_descent reaches beyond its own group and so nests its settings.
            inner = content.get(group)
            merged |= {str(k): v for k, v in (inner if isinstance(inner, dict) else content).items()}
    for key in ("name", "defaults"):
        merged.pop(key, None)
    return merged
