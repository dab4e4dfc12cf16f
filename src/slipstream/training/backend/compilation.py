"""Compiling a pack's functions, and what inductor has to be told before."""

from __future__ import annotations

import atexit
import errno
import getpass
import os
import re
import shutil
import stat
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile, gettempdir, mkdtemp
from typing import Any

import torch
from torch import Tensor

from slipstream.core import compat, folders, kernels
from slipstream.training.backend import compilers

Read = Callable[[Any, list[Tensor]], None]


class Compiled:
    """A function of trees of tensors as one graph of fixed shapes, compiled when it is first called.

    It may write over its arguments. Shapes and the order of axes in memory are those of the first call.
    The graph goes to inductor as it is traced: `torch.compile` would read the function's bytecode first
    and ask at every call whether anything changed, which costs a second at the start and 40 us a call.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self._call: Callable[[list[Tensor]], Any] | None = None

    def __call__(self, *arguments: Any) -> Any:
        if self._call is None:
            self._compile(arguments)
        assert self._call is not None
        leaves: list[Tensor] = []
        self._read(arguments, leaves)
        return self._rebuild(iter(self._call(leaves)))

    def _compile(self, arguments: tuple[Any, ...]) -> None:
        from torch.fx.experimental.proxy_tensor import make_fx

        prepare()
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
        with compilers.explained(), compilers.stopped_with(), torch.no_grad(), compat.compiling():
            trace = make_fx(
                functional, compat.select_decomp_table(), tracing_mode="fake", _allow_non_fake_inputs=True
            )
            graph = trace(*leaves)
            inputs = [node.meta["val"] for node in graph.graph.nodes if node.op == "placeholder"]
            mode = compat.guards.detect_fake_mode(inputs)
            with compat.guards.tracing(compat.guards.TracingContext(mode)):
                self._call = compat.compile_fx_inner(graph, inputs)


def reader(template: Any) -> Read:
    """Puts the leaves of a tree of this structure into a list, keys of a dict in the template's order."""
    if isinstance(template, Tensor):
        return lambda tree, leaves: leaves.append(tree)
    keys = list(template) if isinstance(template, Mapping) else range(len(template))
    parts = [(key, None if isinstance(template[key], Tensor) else reader(template[key])) for key in keys]

    def read(tree: Any, leaves: list[Tensor]) -> None:
        for key, part in parts:
            if part is None:
                leaves.append(tree[key])
            else:
                part(tree[key], leaves)

    return read


def rebuilder(template: Any) -> Callable[[Any], Any]:
    """Makes a tree of this structure of an iterator over its leaves."""
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
    """Why compiled code does not outlive this process, None where it does.

    Inductor keeps it in a folder that the environment or a temporary directory gives. Where that cannot be
    written, a folder of this process takes its place.
    """
    folder = Path(os.environ.get("TORCHINDUCTOR_CACHE_DIR", ""))
    try:
        folder = compilers.folder()
        if "TORCHINDUCTOR_CACHE_DIR" not in os.environ and _foreign(usual := _usual_folder()):
            folder = usual
            raise PermissionError(errno.EPERM, "belongs to somebody else, whose code would be run")
        folders.mkdir(folder)
        with TemporaryFile(dir=folder):
            return None
    except OSError as error:
        with suppress(OSError):  # there is no place at all: who compiles is told so
            os.environ["TORCHINDUCTOR_CACHE_DIR"] = mine = mkdtemp(prefix="slipstream-")
            atexit.register(shutil.rmtree, mine, ignore_errors=True)
        return (
            f"{folder}: {error.strerror or error}; what is compiled cannot be kept there and costs its time "
            "in every process; set TORCHINDUCTOR_CACHE_DIR to a folder that can be written"
        )


def _usual_folder() -> Path:
    """Where inductor keeps what is compiled if nothing else is said."""
    with suppress(KeyError, OSError):  # a user without a name
        return Path(gettempdir(), "torchinductor_" + re.sub(r'[\\/:*?"<>|]', "_", getpass.getuser()))
    return Path(gettempdir(), f"torchinductor_{os.getuid()}")


def _foreign(folder: Path) -> bool:
    """Whether a folder in a place for all is another user's, or open to others."""
    try:
        state = os.lstat(folder)
    except OSError:
        return False
    others = state.st_mode & stat.S_IWOTH
    return os.name != "nt" and (state.st_uid != os.geteuid() or stat.S_ISLNK(state.st_mode) or bool(others))


@cache
def prepare() -> None:
    """Once a process, before anything is compiled.

    Sums stay in one thread: inductor splits a long sum among threads where there are few other loops
    to run in parallel, so that its rounding would depend on how many members a pack has (a sum over
    more than 4,800 K elements). One member alone keeps that: nothing else could run in parallel.

    Where a process computes with portable kernels, code is made for all processors with AVX2.

    The compiler is taken to know the vector instructions that the processor has: trying them costs
    7 s the first time.
    """
    inductor = compat.inductor_config
    LoopNest, ParallelDepth = compat.LoopNest, compat.ParallelDepth

    compilers.write_whole()
    inductor.cpp.vec_isa_ok = True
    if kernels.are_portable():
        inductor.cpp.simdlen = 256
        if hasattr(inductor.cpp, "march"):  # before torch 2.13 it is the processor's own
            inductor.cpp.march = "x86-64-v3"
    # Code cached without this is other code: not inductor's key, but ATEN_CPU_CAPABILITY decides for which
    # vector registers it is made, and what is cached for others crashes.
    torch.compiler.config.cache_key_tag = f"slipstream-1 {kernels.capability()}"
    original: Any = LoopNest.max_parallel_depth

    def outermost(nest: Any) -> Any:
        depth = original(nest)
        if depth.start_depth == 0:
            return depth
        kind, loops = nest.loops[0].is_reduction, nest.loops
        same = next((i for i, loop in enumerate(loops) if loop.is_reduction != kind), len(loops))
        return ParallelDepth(parallel_depth=same, start_depth=0)

    LoopNest.max_parallel_depth = outermost  # type: ignore[assignment]
