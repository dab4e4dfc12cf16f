"""Compiling a pack's functions, and what inductor has to be told before."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function as one graph of shapes that do not change, compiled when it is first called."""
    prepare()
    return torch.compile(function, fullgraph=True, dynamic=False)


@cache
def prepare() -> None:
    """Once a process, before anything is compiled.

    Sums stay in one thread: inductor splits a long sum among threads where there are few other loops
    to run in parallel, so that its rounding would depend on how many members a pack has (a sum over
    more than 4,800 K elements). One member alone keeps that: nothing else could run in parallel.

    The compiler is taken to know the vector instructions that the processor has: trying them costs
    7 s the first time.
    """
    import torch._inductor.config as inductor
    from torch._inductor.codegen.cpp import LoopNest, ParallelDepth

    inductor.cpp.vec_isa_ok = True
    torch.compiler.config.cache_key_tag = "slipstream-1"  # code cached without this is other code
    original: Any = LoopNest.max_parallel_depth

    def outermost(nest: Any) -> Any:
        depth = original(nest)
        if depth.start_depth == 0:
            return depth
        kind, loops = nest.loops[0].is_reduction, nest.loops
        same = next((i for i, loop in enumerate(loops) if loop.is_reduction != kind), len(loops))
        return ParallelDepth(parallel_depth=same, start_depth=0)

    LoopNest.max_parallel_depth = outermost  # type: ignore[assignment]
