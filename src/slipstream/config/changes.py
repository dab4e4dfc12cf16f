"""The differences between a configuration and the defaults, as overrides."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

from slipstream.config.files import defaults, folder, paths
from slipstream.config.schema import CHOICES
from slipstream.core.registry import LISTS
from slipstream.core.types import Plain
from slipstream.core.wording import shell, spell

# No result depends on these settings.
SILENT = ("trainer.progress", "trainer.checkpoint_seconds", "trainer.keep", "trainer.allow_changed_data")


def changes(raw: Mapping[str, Plain]) -> list[str]:
    """Return the choices and settings of a run that differ from the defaults, such as `model.depth=3`.

    The settings of an option are compared with its own defaults. This omits settings that no result depends
    on, the seed (in which repeats of a run differ), and settings whose default refers to another setting.
    Files appear by name.
    raw: as `Config.raw`.
    """
    usual = [f"{group}={name}" for group, name in chosen().items()] + [f"{group}=[]" for group in LISTS]
    found: list[str] = []
    for choice, key, own, default in _sections(raw):
        if key.partition(".")[0] == "logger":
            continue
        if key == "data":
            own |= {path: Path(own[path]).name for path in paths(raw["data"])}
        found += [choice] if choice not in ("", *usual) else []
        found += _settings(key, own, default)
    return found


def written(raw: Mapping[str, Plain]) -> list[str]:
    """Return a command line that composes to a configuration, however it was made.

    raw: as `Config.raw`, with the paths of files as they are.
    """
    found = [f"{key}={spell(raw[key])}" for key in ("name", "seed")]
    for choice, key, own, default in _sections(raw):
        found += [choice] if choice else []
        found += _differing(raw, key, own, default)
    return found


def _sections(raw: Mapping[str, Plain]) -> Iterator[tuple[str, str, dict[str, Plain], dict[str, Plain]]]:
    """Yield each section's choice ("" if there is none to type), its key, its settings and their defaults."""
    for group in CHOICES:
        own = dict(raw[group])
        name = own.pop("name")
        yield f"{group}={name}", group, own, defaults(group, name)
    for group in LISTS:
        yield f"{group}=[{','.join(raw[group])}]", group, {}, {}
        for name, own in raw[group].items():
            yield "", f"{group}.{name}", own, defaults(group, name)
    yield "", "trainer", raw["trainer"], defaults("trainer", "default")


def _differing(
    raw: Mapping[str, Plain], section: str, own: Mapping[str, Plain], usual: Mapping[str, Plain]
) -> Iterator[str]:
    for key, value in own.items():
        default = usual.get(key)
        if isinstance(default, str) and (reference := re.fullmatch(r"\$\{([\w.]+)\}", default)):
            default = functools.reduce(lambda at, part: at.get(part, {}), reference[1].split("."), raw)
        if key not in usual or value != default:
            yield f"{section}.{key}={spell(value)}"


def _settings(section: str, own: Mapping[str, Plain], usual: Mapping[str, Plain]) -> Iterator[str]:
    for key, value in own.items():
        default = usual.get(key)
        refers = isinstance(default, str) and "${" in default
        if not refers and value != default and f"{section}.{key}" not in SILENT:
            yield f"{section}.{key}={spell(value)}"


@cache
def chosen() -> dict[str, str]:
    """Return the default option of every group."""
    from omegaconf import OmegaConf

    listed = OmegaConf.to_container(OmegaConf.load(folder() / "train.yaml"))
    assert isinstance(listed, dict)
    pairs = [entry for entry in listed["defaults"] if isinstance(entry, dict)]
    return {group: name for entry in pairs for group, name in entry.items() if isinstance(name, str)}


def differing(raws: Sequence[Mapping[str, Plain]]) -> dict[str, list[str | None]]:
    """Return the choices and settings that differ between configurations, as text; None if one lacks it.

    Only the seed and settings that at least one configuration changes from the defaults are compared.
    """
    keys = ["seed", *(text.partition("=")[0] for raw in raws for text in changes(raw))]
    found = {key: [_at(raw, key) for raw in raws] for key in dict.fromkeys(keys)}
    return {key: values for key, values in found.items() if any(value != values[0] for value in values)}


def repeating(raw: Mapping[str, Plain]) -> str:
    """Return the command that repeats a run."""
    keys = dict.fromkeys([*(text.partition("=")[0] for text in changes(raw)), "seed"])
    return " ".join(["python train.py", *(shell(f"{key}={_at(raw, key)}") for key in keys)])


def _at(raw: Mapping[str, Plain], key: str) -> str | None:
    """Return the text value of `optimizer`, `optimizer.lr`, `regularizer` or `regularizer.l2.strength`."""
    value: Plain = raw
    for name in key.split("."):
        if not isinstance(value, Mapping) or name not in value:
            return None
        value = value[name]
    if isinstance(value, Mapping) and key in CHOICES:
        value = value["name"]
    return f"[{','.join(value)}]" if key in LISTS else spell(value)
