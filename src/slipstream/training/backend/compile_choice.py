"""The choice of compilation: for which networks it is possible, and for how many updates it pays."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from slipstream.core.errors import ConfigError
from slipstream.core.registry import component
from slipstream.training.backend import compilers
from slipstream.training.pack import Pack

if TYPE_CHECKING:
    from slipstream.config.run_config import Config

# Seconds that a compiled step saves over an eager one, and that compilation takes: measured with torch
# 2.13 on 2 cores (docs/performance.md). Only their order of magnitude matters.
SAVED_ALONE, SAVED_PACKED, COMPILATION = 2e-4, 2e-3, 12.0
COMPILED_BEFORE = 3.0  # the same from inductor's cache


def can_compile(config: Config, pack: Pack) -> bool:
    """Return True if the model can be compiled, in a pack without changing a member's bytes."""
    able = component("model", config.model.name).traits.compiles
    return pack.single if able == "alone" else able


def compile_pays(setting: bool | str, updates: int, pack: Pack, *, able: bool = True) -> bool:
    """Return True if the planned updates repay a compilation. Decided before the run, never during it.

    able: `can_compile`. If compilation is requested but impossible, raises ConfigError, or StorageError if
    the disk is full.
    """
    compiler = any(map(shutil.which, (os.environ.get("CXX") or "g++", "clang++", "cl")))
    if setting is True and not able:
        where = "" if pack.single else " in a pack"
        raise ConfigError(
            [f"trainer.compile: this model cannot be compiled{where}; use trainer.compile=auto or false"]
        )
    if setting is True and not compiler:
        raise ConfigError(
            ["trainer.compile: needs a C++ compiler, but g++ is not installed; use trainer.compile=false"]
        )
    if setting is True:
        compilers.require_room()
    if setting != "auto":
        return bool(setting)
    pays = updates * (SAVED_ALONE if pack.single else SAVED_PACKED) > COMPILATION
    return able and compiler and pays and compilers.no_room() is None
