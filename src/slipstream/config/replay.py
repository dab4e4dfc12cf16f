"""Resume: replay a run's command line, and check that no fixed setting has changed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from slipstream.config.files import completed, paths, renamed
from slipstream.config.schema import CHOICES, show
from slipstream.core import folders
from slipstream.core.errors import ConfigError
from slipstream.core.registry import LISTS
from slipstream.core.types import Plain
from slipstream.core.wording import typed

Change = tuple[str, Plain, Plain]

# Keys, with everything below them, that affect how a run is displayed or saved, but not what it computes.
FREE = (
    *("logger", "trainer.device", "trainer.progress", "trainer.checkpoint_seconds", "trainer.keep"),
    *("trainer.allow_changed_data", "data.cache", "data.streaming"),
)
# Keys that may increase, since the epochs that are already trained remain part of the longer run.
EXTENDABLE = ("trainer.max_epochs",)


def folder_of(overrides: Sequence[str]) -> Path | None:
    """Return the folder that `resume=DIR` names, or None."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    typed = [text for text in overrides if _key(text) == "resume"]
    if len(typed) > 1:
        raise ConfigError([f"{' '.join(typed)}: only one run can be resumed at a time"])
    if typed and not typed[0].partition("=")[2].strip("'\" "):
        raise ConfigError([f"{typed[0]}: expected a folder, such as outputs/digits/DATE"])
    try:
        folder = OverridesParser.create().parse_override(typed[-1]).value() if typed else None
    except HydraException:
        raise ConfigError(
            [f"{typed[-1]}: write a path with special characters in quotes inside quotes"]
        ) from None
    return None if folder is None else Path(str(folder))


def replay(overrides: Sequence[str]) -> list[str]:
    """Return the overrides of the run that `resume=DIR` names, followed by the new ones, for its folder.

    A new value or choice replaces the old one. Raises ConfigError if DIR is not a run.
    """
    folder = folder_of(overrides)
    if folder is None:
        return list(overrides)
    elsewhere = [text for text in overrides if _key(text) in ("hydra.run.dir", "hydra.sweep.dir")]
    if elsewhere:
        raise ConfigError([f"{text}: a resumed run keeps its folder; remove this" for text in elsewhere])
    return [*inherited(folder, overrides), *overrides, f"hydra.run.dir={_quoted(str(folder))}"]


def inherited(folder: Path, overrides: Sequence[str]) -> list[str]:
    """Return the command line of the run in a folder, without what the new overrides replace.

    Another option of a group comes with its own settings. Raises ConfigError if the folder is not a run.
    """
    folders.require_own(folder)
    saved = _read(folder, "overrides.yaml")
    if not isinstance(saved, list) or not all(isinstance(text, str) for text in saved):
        raise ConfigError([f"{folder / 'overrides.yaml'}: expected a list of key=value lines"])
    # A run folder may come from anyone. It may select settings, but not what Hydra loads or runs.
    foreign = [text for text in saved if _key(text).partition(".")[0].partition("/")[0] == "hydra"]
    if foreign:
        raise ConfigError(
            [f"{folder / 'overrides.yaml'}: {text} is not a setting of a run" for text in foreign]
        )
    saved = [_today(text) for text in saved]
    config = _config(folder)
    kept = remaining(saved, config, overrides)
    new = {_key(text) for text in overrides}
    data = config.get("data")
    if not isinstance(data, Mapping) or "data" in new:
        data = {}
    # A relative path refers to the directory where the run was started.
    began = {f"data.{key}": data[key] for key in paths(data) if f"data.{key}" not in new}
    kept = [text for text in kept if _key(text) not in began]
    return [*kept, *(f"{key}={_quoted(value)}" for key, value in began.items())]


def remaining(typed: Sequence[str], config: Mapping[str, Plain], overrides: Sequence[str]) -> list[str]:
    """Return the words of a command line that new overrides leave in force. config: what it composes to."""
    new = {_key(text) for text in overrides} | {"resume"}
    gone = tuple(f"{section}." for section in _rechosen(config, overrides))
    return [text for text in typed if _key(text) not in new and not _key(text).startswith(gone)]


def _rechosen(config: Mapping[str, Plain], overrides: Sequence[str]) -> Iterator[str]:
    """Yield the sections of a configuration that new choices replace or remove."""
    for text in overrides:
        key, value = _key(text), text.partition("=")[2].strip("'\" ")
        section = config.get(key)
        if key in LISTS and isinstance(section, Mapping):
            names = value.strip("[]").split(",")
            yield from (f"{key}.{name}" for name in section if name not in map(str.strip, names))
        elif key in CHOICES and isinstance(section, Mapping) and section.get("name") != value:
            yield key


def _today(override: str) -> str:
    """Return an override of an earlier version as it is typed today."""
    key, equals, value = override.partition("=")
    return f"{renamed(key)}{equals}{value}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _config(folder: Path) -> dict[str, Plain]:
    saved = _read(folder, "config.yaml")
    if not isinstance(saved, dict):
        raise ConfigError([f"{folder / 'config.yaml'}: expected a mapping of settings"])
    return completed(saved)


def check_resume(folder: Path, new: Mapping[str, Plain]) -> None:
    """Raise ConfigError with the differences if `new` changes a fixed setting of the run in `folder`."""
    frozen = [change for change in diff(_config(folder), new) if classify(*change) == "frozen"]
    # A different option has different settings, which need not be listed.
    rechosen = tuple(key.removesuffix("name") for key, _, _ in frozen if key.endswith(".name"))
    told = [change for change in frozen if change[0].endswith(".name") or not change[0].startswith(rechosen)]
    if told:
        raise ConfigError(
            f"{key}: was {show(old)} in {folder}, now {show(value)}; "
            + ("it can only be increased" if key in EXTENDABLE else "a resumed run cannot change it")
            for key, old, value in told
        )


def diff(saved: Mapping[str, Plain], new: Mapping[str, Plain], prefix: str = "") -> list[Change]:
    """Return the differences as (key, old, new), with None if a side lacks the key.

    >>> diff({"seed": 0, "trainer": {"keep": 2}}, {"seed": 1, "trainer": {"keep": 2}})
    [('seed', 0, 1)]
    """
    changes: list[Change] = []
    for key in [*saved, *(key for key in new if key not in saved)]:
        old, value = saved.get(key), new.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            changes += diff(old, value, f"{prefix}{key}.")
        elif old != value or isinstance(old, bool) is not isinstance(value, bool):
            changes.append((f"{prefix}{key}", old, value))
    return changes


def classify(key: str, old: Plain, new: Plain) -> Literal["free", "extendable", "frozen"]:
    """Classify a key: a resumed run may change it, only increase it, or not change it."""
    if any(key == free or key.startswith(f"{free}.") for free in FREE):
        return "free"
    if key in EXTENDABLE and isinstance(old, int) and isinstance(new, int) and new >= old:
        return "extendable"
    return "frozen"


def _key(override: str) -> str:
    return override.lstrip("+~").partition("=")[0]


def _read(folder: Path, name: str) -> Plain:
    import yaml
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    file = folder / name
    if not folder.is_dir():
        raise ConfigError([f"resume={folder}: no such folder, expected for example outputs/digits/DATE"])
    if not file.is_file():
        inside = sorted(found.parent for found in folder.glob(f"*/{name}"))
        hint = f"; it contains runs, such as {typed('resume', inside[0])}" if inside else ""
        raise ConfigError([f"resume={folder}: has no {name}, so it is not the folder of a run{hint}"])
    try:
        if os.path.getsize(file) > 1_000_000:
            raise ConfigError([f"{file}: is too large for a configuration"])
        return OmegaConf.to_container(OmegaConf.load(file), resolve=False)
    except (OSError, ValueError, yaml.YAMLError, OmegaConfBaseException) as error:
        raise ConfigError([f"{file}: cannot be read: {' '.join(str(error).split())}"]) from None
