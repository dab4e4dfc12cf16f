"""A cache in Hydra's loader, which makes repeated composition ten times as fast.

A composition has two halves. The first reads and merges files, and depends only on the choices: options of
groups, and overrides for Hydra itself. The second sets values. The cache keeps the first half as long as no
shipped file changes, and applies the second half to a copy, as Hydra does. Other choices begin with the same
files of Hydra's own, which are half of the work: they are merged once. With a user's own folders nothing
is cached, since their files can do anything.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import Any

from hydra import version
from hydra.core.default_element import InputDefault, ResultDefault
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import ConfigCompositionException
from hydra.plugins.config_source import ConfigResult
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, flag_override
from omegaconf.errors import OmegaConfBaseException

from slipstream.config.files import folder
from slipstream.core.compat import (
    ConfigLoaderImpl,
    ConfigRepository,
    Overrides,
    apply_overrides,
    copied,
    defaults_list,
    get_overrides_dirname,
    merge_defaults,
)

Stamp = tuple[tuple[str, int, int, int], ...]


MARK = "slipstream_kept"


@dataclass
class Kept:
    """Cached compositions, files and listings for shipped files in the state of `stamp`."""

    places: tuple[str, ...]
    stamp: Stamp
    bases: dict[tuple[Any, ...], DictConfig] = field(default_factory=dict)  # Any: names, lines and a mode
    beginnings: dict[str, DictConfig] = field(default_factory=dict)
    files: dict[str, ConfigResult | None] = field(default_factory=dict)
    listings: dict[tuple[str, ObjectType | None], list[str]] = field(default_factory=dict)

    def __deepcopy__(self, memo: object) -> Kept:
        """Return the same object, because Hydra copies its repository of files for each composition."""
        return self


_kept: dict[tuple[str, ...], Kept] = {}

plain = ConfigLoaderImpl.load_configuration
_list = ConfigLoaderImpl.get_group_options
_read = ConfigRepository.load_config
map_plainly = defaults_list._create_interpolation_map


def kept(loader: ConfigLoaderImpl) -> Kept | None:
    """Return a loader's cache, or None with a user's own folders. It keeps files as of its first use."""
    if MARK not in loader.__dict__:
        sources = loader.get_sources()
        found = None
        if [source.path for source in sources if source.scheme() == "file"] == [str(folder())]:
            places = tuple(source.full_path() for source in sources)
            stamp = tuple(sorted(_stamps(str(folder()))))
            found = _kept.get(places)
            if found is None or found.stamp != stamp:
                found = _kept[places] = Kept(places, stamp)
        loader.__dict__[MARK] = loader.repository.__dict__[MARK] = found
    answer: Kept | None = loader.__dict__[MARK]
    return answer


def forget() -> None:
    """Forget everything: there are options that no file describes, and they have changed."""
    for memory in _kept.values():
        for kept_of_kind in (memory.bases, memory.beginnings, memory.files, memory.listings):
            kept_of_kind.clear()


def _stamps(path: str) -> Iterator[tuple[str, int, int, int]]:
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from _stamps(entry.path)
            else:
                stat = entry.stat()
                yield entry.path, stat.st_mtime_ns, stat.st_size, stat.st_ino


def _get_group_options(
    self: ConfigLoaderImpl,
    group_name: str,
    results_filter: ObjectType | None = ObjectType.CONFIG,
    config_name: str | None = None,
    overrides: list[str] | None = None,
) -> list[str]:
    """Hide a group's _base.yaml from completion and --help, because it is not an option."""
    memory = kept(self) if config_name is None and not overrides else None
    if memory is None:
        found = _list(self, group_name, results_filter, config_name, overrides)
        return [name for name in found if not name.startswith("_")]
    key = (group_name, results_filter)
    if key not in memory.listings:
        found = self.repository.get_group_options(group_name, results_filter)
        memory.listings[key] = [name for name in found if not name.startswith("_")]
    return list(memory.listings[key])


def load_configuration(
    self: ConfigLoaderImpl,
    config_name: str | None,
    overrides: list[str],
    run_mode: RunMode,
    from_shell: bool = True,
    validate_sweep_overrides: bool = True,
) -> DictConfig:
    """Compose as Hydra does, from a copy of an earlier composition with the same choices."""
    memory = kept(self)
    parsed = OverridesParser.create().parse_overrides(overrides)
    if memory is None or any(override.get_key_element() == "hydra.searchpath" for override in parsed):
        return plain(self, config_name, overrides, run_mode, from_shell, validate_sweep_overrides)
    if validate_sweep_overrides:
        self.validate_sweep_overrides_legal(parsed, run_mode, from_shell)
    chosen = [_is_choice(self, override) for override in parsed]
    lines = [
        override.input_line or "" for override, is_choice in zip(parsed, chosen, strict=True) if is_choice
    ]
    # The modes report a missing choice differently.
    open_ = any("???" in line for line in lines)
    key = (config_name, version.getbase(), run_mode if open_ else None, *lines)
    if key not in memory.bases:
        memory.bases[key] = plain(self, config_name, lines, run_mode, from_shell, False)
    composed = copied(memory.bases[key])
    rest = [override for override, is_choice in zip(parsed, chosen, strict=True) if not is_choice]
    try:
        apply_overrides([override for override in rest if not override.is_sweep_override()], composed)
    except OmegaConfBaseException as error:
        raise ConfigCompositionException() from error
    _say_what_was_typed(composed, parsed)
    return composed


def _is_choice(loader: ConfigLoaderImpl, override: Override) -> bool:
    """Return True for overrides that decide which files are read, and for most overrides of Hydra itself."""
    name = override.key_or_group
    if override.is_sweep_override():
        return False
    if override.is_hydra_override():
        return not name.startswith(("hydra.run.", "hydra.sweep."))
    listed = name and "/" not in name
    exists = name in loader.list_groups("") if listed else loader.repository.group_exists(name)
    return exists and not isinstance(override.value(), dict)


def _load_config(self: ConfigRepository, config_path: str) -> ConfigResult | None:
    """Read a file as Hydra does, or return a copy of its cached content."""
    memory: Kept | None = self.__dict__.get(MARK)
    if memory is None or memory.places != tuple(source.full_path() for source in self.get_sources()):
        return _read(self, config_path)
    if config_path not in memory.files:
        memory.files[config_path] = _read(self, config_path)
    found = memory.files[config_path]
    return found and replace(found, config=copied(found.config))


def _merge_defaults(
    self: ConfigLoaderImpl,
    defaults: list[ResultDefault],
    repo: Any,  # an interface of Hydra's insides
) -> DictConfig:
    """Merge files as Hydra does, those of Hydra's own that come first only once."""
    memory = kept(self)
    begin = [*takewhile(lambda default: (default.config_path or "").startswith("hydra/"), defaults)]
    merged: DictConfig
    if memory is None or memory.places != tuple(source.full_path() for source in repo.get_sources()):
        merged = merge_defaults(self, defaults, repo)
        return merged
    key = repr(begin)
    if key not in memory.beginnings:
        memory.beginnings[key] = merge_defaults(self, begin, repo)
    merged = copied(memory.beginnings[key])
    rest = merge_defaults(self, defaults[len(begin) :], repo)
    try:
        with flag_override(merged, "no_deepcopy_set_nodes", True):
            merged.merge_with(rest)
    except OmegaConfBaseException:
        repo.cache.clear()  # its nodes have become parts of the rest
        merged = merge_defaults(self, defaults, repo)  # the error of Hydra names the file
    return merged


def _create_interpolation_map(
    overrides: Overrides, defaults_list: list[InputDefault], self_added: bool
) -> DictConfig:
    """List the choices for a default that refers to them; Hydra does so for every file, and few refer."""
    refers = any(default.is_interpolation() for default in defaults_list)
    return map_plainly(overrides, defaults_list, self_added) if refers else OmegaConf.create()


def _say_what_was_typed(composed: DictConfig, overrides: list[Override]) -> None:
    """Fill in the parts of Hydra's section that describe the command line and its location."""
    hydra = composed.hydra
    typed = [override for override in overrides if not override.is_hydra_override()]
    hydra.overrides.task = [override.input_line for override in typed]
    hydra.overrides.hydra = [override.input_line for override in overrides if override.is_hydra_override()]
    hydra.runtime.cwd = os.getcwd()
    for name in hydra.job.env_copy:
        hydra.job.env_set[name] = os.environ[name]
    how = hydra.job.config.override_dirname
    hydra.job.override_dirname = get_overrides_dirname(
        overrides=typed, kv_sep=how.kv_sep, item_sep=how.item_sep, exclude_keys=how.exclude_keys
    )


def extend() -> None:
    """Extend Hydra's loader everywhere, as described in the module's docstring."""
    ConfigLoaderImpl.load_configuration = load_configuration  # type: ignore[method-assign]  # replaced on purpose
    ConfigLoaderImpl.get_group_options = _get_group_options  # type: ignore[method-assign]  # as above
    ConfigLoaderImpl._compose_config_from_defaults_list = _merge_defaults  # type: ignore[method-assign]  # as above
    ConfigRepository.load_config = _load_config  # type: ignore[method-assign]  # as above
    defaults_list._create_interpolation_map = _create_interpolation_map
