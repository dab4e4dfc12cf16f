"""The private names of other libraries that the package uses; no other module uses any.

Their authors do not guarantee these names. INTERNALS lists each with its home, the versions it was tested
with and the reason. tests/core/test_compat.py imports them all, reports when a public name has appeared, and
finds private imports in other modules. Imports happen on first use.
"""

from __future__ import annotations

import importlib
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

if TYPE_CHECKING:
    from hydra._internal import defaults_list as defaults_list
    from hydra._internal.config_loader_impl import ConfigLoaderImpl as ConfigLoaderImpl
    from hydra._internal.config_loader_impl import get_overrides_dirname as get_overrides_dirname
    from hydra._internal.config_repository import ConfigRepository as ConfigRepository
    from hydra._internal.core_plugins.basic_launcher import BasicLauncher as BasicLauncher
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper as BasicSweeper
    from hydra._internal.defaults_list import Overrides as Overrides
    from hydra._internal.utils import get_args_parser as get_args_parser
    from omegaconf import Container, DictConfig
    from torch._higher_order_ops.scan import scan as scan
    from torch._inductor.async_compile import AsyncCompile as AsyncCompile
    from torch._inductor.codegen.cpp import LoopNest as LoopNest
    from torch._inductor.codegen.cpp import ParallelDepth as ParallelDepth
    from torch._inductor.compile_fx import compile_fx_inner as compile_fx_inner
    from torch._inductor.decomposition import select_decomp_table as select_decomp_table
    from torch._inductor.exc import CppCompileError as CppCompileError
    from torch._inductor.exc import InvalidCxxCompiler as InvalidCxxCompiler
    from torch._inductor.runtime.cache_dir_utils import cache_dir as cache_dir
    from torch.utils._python_dispatch import TorchDispatchMode as TorchDispatchMode

    apply_overrides = ConfigLoaderImpl._apply_overrides_to_config
    merge_defaults = ConfigLoaderImpl._compose_config_from_defaults_list

Config = TypeVar("Config", bound="Container")

HYDRA, TORCH = "hydra-core 1.3.8", "torch 2.11, 2.13, 2.14"


class Internal(NamedTuple):
    """A private name: its home (module:attribute), tested versions, reason, and expected public name."""

    home: str
    tried: str
    reason: str
    public: str = ""


_INDUCTOR = "compiles a traced graph without torch.compile, which would analyze bytecode first"

INTERNALS = {
    "ConfigLoaderImpl": Internal(
        "hydra._internal.config_loader_impl:ConfigLoaderImpl",
        HYDRA,
        "composes without the global state of hydra.main; a group's _base.yaml is hidden from completion",
        "hydra.core.config_loader:ConfigLoaderImpl",
    ),
    "ConfigRepository": Internal(
        "hydra._internal.config_repository:ConfigRepository",
        HYDRA,
        "reads an unchanged file only once per process",
        "hydra.core.config_repository:ConfigRepository",
    ),
    "defaults_list": Internal(
        "hydra._internal.defaults_list:",
        HYDRA,
        "it lists all choices again for each file, a third of the time, for references that nobody makes",
        "hydra.core.defaults_list:",
    ),
    "Overrides": Internal("hydra._internal.defaults_list:Overrides", HYDRA, "as defaults_list"),
    "apply_overrides": Internal(
        "hydra._internal.config_loader_impl:ConfigLoaderImpl._apply_overrides_to_config",
        HYDRA,
        "sets values on a copy of an earlier composition",
        "hydra.core.config_loader:ConfigLoader.apply_overrides_to_config",
    ),
    "merge_defaults": Internal(
        "hydra._internal.config_loader_impl:ConfigLoaderImpl._compose_config_from_defaults_list",
        HYDRA,
        "merges Hydra's own files only once per process",
        "hydra.core.config_loader:ConfigLoader.compose_config_from_defaults_list",
    ),
    "get_overrides_dirname": Internal(
        "hydra._internal.config_loader_impl:get_overrides_dirname",
        HYDRA,
        "records the overrides of a composition that was made from a copy of another",
        "hydra.core.utils:get_overrides_dirname",
    ),
    "BasicLauncher": Internal(
        "hydra._internal.core_plugins.basic_launcher:BasicLauncher", HYDRA, "runs other task functions"
    ),
    "BasicSweeper": Internal(
        "hydra._internal.core_plugins.basic_sweeper:BasicSweeper", HYDRA, "sweeps other task functions"
    ),
    "get_args_parser": Internal(
        "hydra._internal.utils:get_args_parser",
        HYDRA,
        "parses the command line before Hydra composes, so that all mistakes are reported together",
        "hydra.utils:get_args_parser",
    ),
    "pytree": Internal(
        "torch.utils._pytree:",
        TORCH,
        "states are trees of tensors, also NamedTuples",
        "torch.utils:pytree_map",
    ),
    "safe_split": Internal(
        "sklearn.utils.metaestimators:_safe_split",
        "scikit-learn 1.9",
        "a search gives its fits the rows that GridSearchCV would give them",
        "sklearn.utils.metaestimators:safe_split",
    ),
    "check_method_params": Internal(
        "sklearn.utils.validation:_check_method_params",
        "scikit-learn 1.9",
        "as safe_split, for sample_weight and other arguments of fit",
        "sklearn.utils.validation:check_method_params",
    ),
    "scan": Internal(
        "torch._higher_order_ops.scan:scan",
        "torch 2.13",
        "exports recurrent layers as a loop over steps; a Python loop would be unrolled",
    ),
    "TorchDispatchMode": Internal(
        "torch.utils._python_dispatch:TorchDispatchMode",
        TORCH,
        "observes the storages that a step allocates",
        "torch.utils:TorchDispatchMode",
    ),
    "guards": Internal("torch._guards:", TORCH, "provides the tracing context that inductor needs"),
    "inductor_config": Internal(
        "torch._inductor.config:", TORCH, "sets vector width and target of compiled code"
    ),
    "LoopNest": Internal(
        "torch._inductor.codegen.cpp:LoopNest", TORCH, "keeps the order of a sum independent of the pack size"
    ),
    "ParallelDepth": Internal("torch._inductor.codegen.cpp:ParallelDepth", TORCH, "as LoopNest"),
    "compile_fx_inner": Internal(
        "torch._inductor.compile_fx:compile_fx_inner", TORCH, _INDUCTOR, "torch.compiler:compile_fx_inner"
    ),
    "select_decomp_table": Internal("torch._inductor.decomposition:select_decomp_table", TORCH, _INDUCTOR),
    "cpp_builder": Internal(
        "torch._inductor.cpp_builder:",
        TORCH,
        "keeps a killed linker from leaving a partial library in the cache",
    ),
    "AsyncCompile": Internal(
        "torch._inductor.async_compile:AsyncCompile", TORCH, "stops compilers immediately on a signal"
    ),
    "CppCompileError": Internal("torch._inductor.exc:CppCompileError", TORCH, "becomes a message"),
    "InvalidCxxCompiler": Internal("torch._inductor.exc:InvalidCxxCompiler", TORCH, "becomes a message"),
    "cache_dir": Internal(
        "torch._inductor.runtime.cache_dir_utils:cache_dir",
        TORCH,
        "tells whether such a pack was compiled before",
        "torch.compiler:cache_dir",
    ),
    "is_avx2_supported": Internal(
        "torch.cpu:_is_avx2_supported", TORCH, "portable kernels need AVX2", "torch.cpu:is_avx2_supported"
    ),
    "parse_graph": Internal(
        "torch.utils.tensorboard._pytorch_graph:parse",
        TORCH,
        "traces once; the public function traces twice, which imports 0.4 s of torch",
    ),
}


def __getattr__(name: str) -> Any:  # the type depends on the name
    if name not in INTERNALS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return found(INTERNALS[name].home)


def found(home: str) -> Any:  # the type depends on the name
    """Import `module:attribute`, or the module itself if no attribute is named.

    Raises ImportError or AttributeError if the library does not have it.
    """
    module, _, attribute = home.partition(":")
    imported = importlib.import_module(module)
    return attrgetter(attribute)(imported) if attribute else imported


@contextmanager
def compiling() -> Iterator[None]:
    """Make `torch.compiler.is_compiling()` return True inside; no public function does (torch 2.11, 2.13)."""
    import torch

    torch.compiler._is_compiling_flag = True
    try:
        yield
    finally:
        torch.compiler._is_compiling_flag = False


def show_hydra(composed: DictConfig) -> None:
    """Make `${hydra:...}` refer to a composition: `HydraConfig.set_config` with a fast copy (Hydra 1.3.8)."""
    composed.hydra._set_flag("readonly", True)
    shown = type(composed)({})
    shown.__dict__["_content"]["hydra"] = _copied(composed._get_node("hydra"), composed)
    found("hydra.core.hydra_config:HydraConfig").instance().cfg = shown


def copied(node: Config) -> Config:
    """Copy a configuration as `copy.deepcopy` does, in a tenth of the time (omegaconf 2.3.1)."""
    made: Config = _copied(node, None)
    return made


def _copied(node: Any, parent: Any) -> Any:  # an OmegaConf node with private attributes
    made = object.__new__(type(node))
    inner = made.__dict__
    inner.update(node.__dict__)
    was = inner["_metadata"]
    metadata = inner["_metadata"] = object.__new__(type(was))
    metadata.__dict__.update(was.__dict__)
    metadata.flags = None if was.flags is None else dict(was.flags)
    cache = was.resolver_cache
    metadata.resolver_cache = deepcopy(cache) if cache else defaultdict(dict)
    inner["_parent"], inner["_flags_cache"] = parent, None
    content = inner.get("_content")
    if isinstance(content, dict):
        inner["_content"] = {key: _copied(value, made) for key, value in content.items()}
    elif isinstance(content, list):
        inner["_content"] = [_copied(value, made) for value in content]
    elif hasattr(content, "_metadata"):  # a union node
        inner["_content"] = _copied(content, made)
    return made
