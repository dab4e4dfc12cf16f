"""Compilation of a pack's functions, and inductor's settings for it."""

from __future__ import annotations

import atexit
import errno
import getpass
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile, gettempdir, mkdtemp
from typing import Any

import torch
from torch import Tensor

from slipstream.core import compat, folders, kernels
from slipstream.core.types import Function, Tree
from slipstream.training.backend import compilers

Read = Callable[[Tree, list[Tensor]], None]


class Compiled:
    """A function of trees of tensors, compiled on the first call as one graph with fixed shapes.

    It may overwrite its arguments. Shapes and memory layouts are those of the first call. The traced graph
    goes directly to inductor, because `torch.compile` first analyzes the function's bytecode and checks
    guards at every call, which costs a second at the start and 40 us per call.
    """

    def __init__(self, function: Function) -> None:
        self.function = function
        self._call: Callable[[list[Tensor]], Tree] | None = None

    def __call__(self, *arguments: Tree) -> Tree:
        if self._call is None:
            self._compile(arguments)
        assert self._call is not None
        leaves: list[Tensor] = []
        self._read(arguments, leaves)
        return self._rebuild(iter(self._call(leaves)))

    def _compile(self, arguments: tuple[Tree, ...]) -> None:
        from torch.fx.experimental.proxy_tensor import make_fx

        self._read, rebuild = reader(arguments), rebuilder(arguments)
        leaves: list[Tensor] = []
        self._read(arguments, leaves)

        def flat(*inputs: Tensor) -> tuple[Tensor, ...]:
            result = self.function(*rebuild(iter(inputs)))
            self._rebuild = rebuilder(result)
            made: list[Tensor] = []
            reader(result)(result, made)
            return tuple(value.contiguous() for value in made)

        functional = torch.func.functionalize(flat, remove="mutations")
        prepare()
        compile_graph = compat.compile_fx_inner  # its import loads the decompositions of pooling
        with compilers.explained(), compilers.stopped_with(), settings(), torch.no_grad(), compat.compiling():
            trace = make_fx(
                functional, compat.select_decomp_table(), tracing_mode="fake", _allow_non_fake_inputs=True
            )
            graph = trace(*leaves)
            inputs = [node.meta["val"] for node in graph.graph.nodes if node.op == "placeholder"]
            mode = compat.guards.detect_fake_mode(inputs)
            with compat.guards.tracing(compat.guards.TracingContext(mode)):
                self._call = compile_graph(graph, inputs)


def reader(template: Tree) -> Read:
    """Return a function that appends a tree's leaves to a list, with dict keys in the template's order."""
    if isinstance(template, Tensor):
        return lambda tree, leaves: leaves.append(tree)
    keys = list(template) if isinstance(template, Mapping) else range(len(template))
    parts = [(key, None if isinstance(template[key], Tensor) else reader(template[key])) for key in keys]

    def read(tree: Tree, leaves: list[Tensor]) -> None:
        for key, part in parts:
            if part is None:
                leaves.append(tree[key])
            else:
                part(tree[key], leaves)

    return read


def rebuilder(template: Tree) -> Callable[[Tree], Tree]:
    """Return a function that builds a tree of this structure from an iterator over its leaves."""
    if isinstance(template, Tensor):
        return next
    if isinstance(template, Mapping):
        named = [(key, rebuilder(value)) for key, value in template.items()]
        return lambda leaves: {key: part(leaves) for key, part in named}
    parts = [rebuilder(value) for value in template]
    if hasattr(template, "_fields"):
        return lambda leaves: type(template)(*[part(leaves) for part in parts])
    return lambda leaves: tuple([part(leaves) for part in parts])


@cache
def cache_problem() -> str | None:
    """Return the reason why compiled code cannot be cached across processes, or None.

    Inductor's cache is a folder given by the environment or in the temporary directory. If it cannot be
    written, a temporary folder of this process replaces it.
    """
    folder = Path(os.environ.get("TORCHINDUCTOR_CACHE_DIR", ""))
    try:
        folder = compilers.folder()
        if "TORCHINDUCTOR_CACHE_DIR" not in os.environ and _foreign(usual := _usual_folder()):
            folder = usual
            raise PermissionError(errno.EPERM, "belongs to another user, whose code would be executed")
        folders.mkdir(folder)
        with TemporaryFile(dir=folder):
            return None
    except OSError as error:
        with suppress(OSError):  # if no place is writable, the compiler reports it
            os.environ["TORCHINDUCTOR_CACHE_DIR"] = mine = mkdtemp(prefix="slipstream-")
            atexit.register(shutil.rmtree, mine, ignore_errors=True)
        return (
            f"{folder}: {error.strerror or error}; compiled code cannot be cached there, so every process "
            "compiles again; set TORCHINDUCTOR_CACHE_DIR to a writable folder"
        )


def _usual_folder() -> Path:
    """Return inductor's default cache folder."""
    with suppress(KeyError, OSError):  # the user has no name
        return Path(gettempdir(), "torchinductor_" + re.sub(r'[\\/:*?"<>|]', "_", getpass.getuser()))
    return Path(gettempdir(), f"torchinductor_{os.getuid()}")


def _foreign(folder: Path) -> bool:
    """Return True if a folder in a shared place belongs to another user or is writable by others."""
    try:
        state = os.lstat(folder)
    except OSError:
        return False
    others = state.st_mode & stat.S_IWOTH
    return os.name != "nt" and (state.st_uid != os.geteuid() or stat.S_ISLNK(state.st_mode) or bool(others))


@contextmanager
def settings() -> Iterator[None]:
    """Set inductor's options inside the block. torch keeps options per thread, so each compilation sets them.

    With portable kernels, code is generated for all processors with AVX2, one function after another, because
    threads that compile in parallel would not see the target and would compile for this processor.

    The compiler is assumed to support the processor's vector instructions, since testing them takes 7 s the
    first time.
    """
    inductor: Any = compat.inductor_config  # Any: torch adds `patch` to the modules when it loads them
    options: Any = torch.compiler.config  # Any: as above
    changes: dict[str, object] = {"cpp.vec_isa_ok": True}
    if kernels.are_portable():
        changes |= {"cpp.simdlen": 256, "compile_threads": 1}
        if hasattr(inductor.cpp, "march"):  # before torch 2.13 it is always the processor's own
            changes["cpp.march"] = "x86-64-v3"
    # Part of the cache key: ATEN_CPU_CAPABILITY decides the vector registers that code uses, but is not in
    # inductor's own key, and code cached for other registers crashes.
    key = f"slipstream-2 {kernels.capability()}"
    with inductor.patch(changes), options.patch(cache_key_tag=key):
        yield


@cache
def prepare() -> None:
    """Configure how inductor splits loops and writes files, once per process before the first compilation.

    Sums stay in one thread. inductor splits a long sum (over more than 4,800 K elements) among threads if few
    other loops can run in parallel, so its rounding would depend on the size of the pack. A single member
    keeps the split, since nothing else can run in parallel.
    """
    LoopNest, ParallelDepth = compat.LoopNest, compat.ParallelDepth

    compilers.write_whole()
    original: Function = LoopNest.max_parallel_depth

    def outermost(nest: Any) -> Any:  # inductor's LoopNest, and its ParallelDepth
        depth = original(nest)
        if depth.start_depth == 0:
            return depth
        kind, loops = nest.loops[0].is_reduction, nest.loops
        same = next((i for i, loop in enumerate(loops) if loop.is_reduction != kind), len(loops))
        return ParallelDepth(parallel_depth=same, start_depth=0)

    LoopNest.max_parallel_depth = outermost  # type: ignore[assignment]  # replaced on purpose
