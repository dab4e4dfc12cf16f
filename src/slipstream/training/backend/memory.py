"""Prediction of the memory that a pack needs, before it starts.

The engine itself runs on torch's `meta` device, where tensors have shapes but no data, while the peak of live
bytes is counted. This takes a third of a second, regardless of the size.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import fields, replace
from functools import partial
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from slipstream.core.compat import TorchDispatchMode, pytree
from slipstream.core.types import Tree
from slipstream.training.backend.streaming import bytes_ahead
from slipstream.training.engine import STARTS, TOGETHER, Engine
from slipstream.training.evaluate import final_names
from slipstream.training.inputs import form_of
from slipstream.training.model_spec import ModelSpec, State

if TYPE_CHECKING:
    from slipstream.config.run_config import Config
    from slipstream.data import Data, Split

MIB = 2**20
CPU, META = torch.device("cpu"), torch.device("meta")
# Measured on Linux, glibc, torch 2.13 (tests/training/test_memory.py measures again): the code of torch that
# a first pack loads, and that of its compiler.
CODE, CODE_ALONE, COMPILER = 75 * MIB, 14 * MIB, 140 * MIB
# Blocks up to LARGEST come from glibc's heap, which grows to several times its live bytes; larger ones are
# returned one by one. A compiled step has fewer of them.
LARGEST, SCATTER, SCATTER_COMPILED = 32 * MIB, 2.35, 1.6
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
KEPT = 256 * MIB  # most freed memory that the process keeps
SHARE = 0.8  # of free memory that a pack may use


class Alive(TorchDispatchMode):
    """Counts the bytes of live tensors while functions run under it.

    scatter: the factor by which the heap of small tensors exceeds their bytes; may change during counting.
    """

    def __init__(self, scatter: float = 1.0) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch has no annotation
        self.scatter, self.now, self.peak = scatter, 0.0, 0.0
        self._known: weakref.WeakSet[object] = weakref.WeakSet()

    # Any: as TorchDispatchMode declares it.
    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        pytree.tree_map_only(Tensor, self._count, made)
        return made

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage in self._known:
            return
        self._known.add(storage)
        size = storage.nbytes() * (self.scatter if storage.nbytes() < LARGEST else 1)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._free, size)

    def _free(self, size: float) -> None:
        self.now -= size


def keep_freed() -> None:
    """Make glibc keep some freed memory for the next update.

    Returning it to the system and fetching it again page by page took up to a third of a pack's step. Without
    glibc, this does nothing.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # musl, macOS, Windows
        return
    mallopt(M_MMAP_THRESHOLD, LARGEST)
    mallopt(M_TRIM_THRESHOLD, KEPT)


def predict(
    config: Config, folds: Sequence[Data], members: int, *, device: torch.device = CPU, compiled: bool = False
) -> int:
    """Return the peak bytes that `members` members of this configuration need in addition to current use.

    config: resolved (runs.setup.resolve). folds: the data, already in memory. device: to train on. All
    members are assumed to have different seeds.
    """
    # The meta device has no autocast: a step in bfloat16 is assumed to need as much as one in float32.
    config = replace(config, trainer=replace(config.trainer, dtype="float32", compile=compiled))
    configs = [replace(config, seed=seed) for seed in range(members)]
    with META, Alive() as alive:
        shapes = [_shapes(data) for data in folds]
        there = alive.now if device.type == "cpu" else 0
        engine = Engine(configs, shapes, META, [k % len(folds) for k in range(members)], device)
        alive.scatter = SCATTER_COMPILED if compiled else SCATTER
        start = engine.program.state_of(engine.program.module, config)
        _train(engine, start)
    code = CODE_ALONE if members == 1 else CODE
    starts = _bytes(start) * min(members, max(STARTS // engine.program.layout.size, 1))  # Engine.start_of
    ahead = 0
    if "train" in engine.splits.files:  # read by threads, which Alive does not observe
        rows = engine.batching.size * engine.batching.accumulate * members
        ahead = bytes_ahead(rows * prod(engine.splits.files["train"].shape[1:]))
    result: int = round(code + compiled * COMPILER + alive.peak - there + starts + ahead)
    return result


def _shapes(data: Data) -> Data:
    """Return the data without content. Images that stay in their file have none."""

    def shape(split: Split) -> Split:
        named = ((each.name, getattr(split, each.name)) for each in fields(split))
        return replace(split, **{name: x.to(META) for name, x in named if isinstance(x, Tensor)})

    return replace(data, train=shape(data.train), validation=shape(data.validation), test=shape(data.test))


def _train(engine: Engine, start: State) -> None:
    """Make the same calls as training/loop.py and runs/summary.py, with at most two updates."""
    size = engine.pack.size
    base = state = engine.to_device([start] * size)
    best = pytree.tree_map(torch.clone, engine.evaluated(state))  # of an earlier epoch
    plan = engine.plan(0)
    arguments = list(zip(engine.rates([[0.1]] * size), engine.counts(0, 1), strict=True))
    for batch in plan.batches[:: engine.stride][-2:]:
        state, seen, before = engine.advance(state, [batch], arguments)
    state = engine.close_epoch(state, [1] * size)
    evaluated = engine.evaluated(state)
    table = engine.table(seen[0])
    engine.report(plan, table, state, before)
    if engine.observes:
        engine.observe(state, before, table, samples=engine.draws(0, 1))
    best = engine.pack.where([True] * size, evaluated, best)
    del plan, base, seen, before, evaluated
    names = final_names(engine.program, engine.configs[0].trainer.metrics)
    for _ in engine.measure_all(best, names, range(size)[:TOGETHER]):
        pass


def _bytes(tree: Tree) -> int:
    return sum(leaf.numel() * leaf.element_size() for leaf in pytree.tree_leaves(tree))


def is_small(config: Config, folds: Sequence[Data], members: int, free: int | None) -> bool:
    """Return True if a pack is so small relative to free memory that counting is unnecessary.

    The bound is generous: forty vectors of parameters, and the outputs of eight layers for every row. The
    first count in a process takes 0.9 s of imports.
    """
    data = folds[0]
    if data.form.kind != "vector":  # the size of a layer's output does not depend only on its weights
        return False
    program = ModelSpec(config, data.target, form_of(config, data), members)
    if program.hooks["epoch"]:  # which may keep many networks
        return False
    rows = sum(len(split.inputs) for split in (data.train, data.validation, data.test))
    widths = sum(shape[0] for shape in program.layout.shapes)
    numbers = 40 * program.layout.size + 8 * rows * (program.outputs(config) + widths)
    need = 4 * members * len(folds) * numbers
    return free is not None and CODE + need < free / 4


def free_bytes(device: torch.device) -> int | None:
    """Return the free bytes on a device, or None if there is no cheap way to find out."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return min(_free_here(), default=None)


def _free_here() -> Iterator[int]:
    """Yield the free bytes of the machine and of this process's control group (a container)."""
    with suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        yield next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        with suppress(OSError, ValueError):  # without a limit, the file contains "max" or does not exist
            group = Path("/sys/fs/cgroup")
            yield int((group / limit).read_text()) - int((group / used).read_text())


def fitting(config: Config, folds: Sequence[Data], most: int, device: torch.device) -> int:
    """Return the largest number of members up to `most` that fit into the device's free memory; 0 if none.

    config: resolved. folds: the data, already in memory.
    """
    free = free_bytes(device)
    if is_small(config, folds, most, free):
        return most
    return fits(partial(predict, config, folds, device=device), most, free)


def fits(need: Callable[[int], int], most: int, free: int | None) -> int:
    """Return the largest number of members up to `most` whose `need` fits in free memory; 0 if none.

    need: bytes as a function of members, nearly linear (`predict`). free: None if unknown.
    """
    if free is None:
        return most
    room = free * SHARE
    if (all_need := need(most)) <= room:
        return most
    if most <= 2 or (two := need(2)) > room:
        return 1 if need(1) <= room else 0
    size = 2 + int((room - two) / max(all_need - two, 1) * (most - 2))
    while size > 2 and need(size) > room:
        size = max(size * 7 // 8, 2)
    return size
