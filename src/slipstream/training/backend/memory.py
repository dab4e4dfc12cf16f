"""The memory that a pack will need, predicted before it starts.

The functions of a pack run once on torch's `meta` device, where a tensor has a shape but no data, and the
peak of live bytes is counted. It takes a third of a second, regardless of the size.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from slipstream.core.compat import TorchDispatchMode, pytree
from slipstream.core.types import Plain, Tree
from slipstream.data.image.stored import Stored
from slipstream.optimizers.base import initial_state
from slipstream.training.backend.streaming import bytes_ahead
from slipstream.training.engine import STARTS
from slipstream.training.epoch_plan import BLOCK, Batching, EpochPlan, Planner
from slipstream.training.evaluate import EpochEnd, final_names, make_measure, make_predict, make_report
from slipstream.training.inputs import form_of
from slipstream.training.model_spec import ModelSpec, State
from slipstream.training.pack import Pack
from slipstream.training.step import Part, gradient_alone, gradient_functional, make_step

if TYPE_CHECKING:
    from slipstream.config.run_config import Config
    from slipstream.data import Data

MIB = 2**20
SPLITS = ("train", "val", "test")
META = torch.device("meta")
# Measured on Linux, glibc, torch 2.13 (tests/training/test_memory.py measures again): the code of torch that
# a first pack loads, and that of its compiler.
CODE, CODE_ALONE, COMPILER = 75 * MIB, 14 * MIB, 140 * MIB
# Blocks up to LARGEST come from glibc's heap, which grows to several times its live bytes; larger ones are
# returned one by one. A compiled step has fewer of them.
LARGEST, SCATTER, SCATTER_COMPILED = 32 * MIB, 2.35, 1.6
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
KEPT = 256 * MIB  # most freed memory that the process keeps
TOGETHER = 32  # members evaluated together at their end (summary.py)
SHARE = 0.8  # of free memory that a pack may use


class Alive(TorchDispatchMode):
    """Counts the bytes of live tensors while functions run under it."""

    def __init__(self, scatter: float) -> None:
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
    """Let glibc keep some freed memory for the next update.

    Returning it and fetching it again, page by page, took up to a third of a pack's step. Does nothing
    without glibc.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # musl, macOS, Windows
        return
    mallopt(M_MMAP_THRESHOLD, LARGEST)
    mallopt(M_TRIM_THRESHOLD, KEPT)


def predict(config: Config, folds: Sequence[Data], members: int, *, compiled: bool = False) -> int:
    """Return the most bytes that `members` members of this configuration need in addition to current use.

    config: resolved (runs.setup.resolve). folds: the data, already in memory. All members are assumed to
    have different seeds.
    """
    rehearsal = _Rehearsal(config, folds, members)
    with Alive(SCATTER_COMPILED if compiled else SCATTER) as alive:
        rehearsal.run()
    # Initial states are kept in addition to the stacked ones; for a single member they are the same.
    kept = min(members, max(STARTS // rehearsal.program.layout.size, 1))
    code, starts = (CODE_ALONE, 0) if members == 1 else (CODE, kept * rehearsal.start_bytes)
    read = rehearsal.read_bytes
    result: int = round(code + compiled * COMPILER + alive.peak + starts + rehearsal.module_bytes + read)
    return result


def is_small(config: Config, folds: Sequence[Data], members: int, free: int | None) -> bool:
    """Return True if a pack is so small relative to free memory that counting is unnecessary.

    A generous bound: forty vectors of parameters and eight layers' outputs of every row. The first
    count in a process takes 0.9 s of imports.
    """
    data = folds[0]
    if data.form.kind != "vector":  # the size of a layer's output depends on more than its weights
        return False
    program = ModelSpec(config, data.target, form_of(config, data), members)
    if program.hooks["epoch"]:  # which may keep many networks
        return False
    rows = sum(len(split.inputs) for split in (data.train, data.validation, data.test))
    widths = sum(shape[0] for shape in program.layout.shapes)
    numbers = 40 * program.layout.size + 8 * rows * (program.outputs(config) + widths)
    need = 4 * members * len(folds) * numbers
    return free is not None and CODE + need < free / 4


class _Rehearsal:
    """Two updates, a report and the end of a pack on the meta device."""

    def __init__(self, config: Config, folds: Sequence[Data], members: int) -> None:
        # The meta device has no autocast: a step in bfloat16 is assumed to need as much as one in float32.
        self.config = replace(config, trainer=replace(config.trainer, dtype="float32"))
        self.data, self.folds, self.pack = folds[0], len(folds), Pack(members)
        examples = self.data.train.inputs
        with META:
            form = form_of(self.config, self.data)
            self.program = ModelSpec(self.config, self.data.target, form, members)
            self.first = self._start()
        self.batching = Batching.of(
            len(examples), config.data.settings["batch_size"], config.trainer.accumulate
        )
        leaves = pytree.tree_leaves(self.first)
        self.start_bytes = sum(leaf.numel() * leaf.element_size() for leaf in leaves)
        self.module_bytes = 2 * 4 * self.program.layout.size  # one for training and one for evaluation
        # A single fold is not copied: it is already in memory.
        self._there = {name: self._stored(name) for name in SPLITS} if self.folds == 1 else {}

    def _start(self) -> State:
        """Return the shapes and types of one member's state."""
        program, config = self.program, self.config
        params, buffers = torch.empty(program.layout.size), dict(program._build(config).named_buffers())
        return State(
            params=params,
            buffers=buffers,
            opt_state=initial_state(
                program.optimizer.part, params, program.layout, config.optimizer.settings
            ),
            regularizer_state=program.first_kept(params, buffers),
        )

    def _blank(self, *shape: int, dtype: torch.dtype = torch.float32, members: int = 0) -> Tensor:
        """Return a tensor with a pack axis, unless there is a single member."""
        axis = () if self.pack.single else (members or self.pack.size,)
        return torch.empty((*axis, *shape), dtype=dtype, device=META)

    def _like(self, tree: Tree, members: int = 0) -> Tree:
        """Return the tree of one member, stacked for all or some members."""
        return pytree.tree_map(lambda leaf: self._blank(*leaf.shape, dtype=leaf.dtype, members=members), tree)

    def run(self) -> None:
        """Run a pack's second epoch, and its end."""
        stored = self._there or {name: self._stored(name) for name in SPLITS}
        drawn = self._drawn(stored["train"])
        plan = self._plan(drawn)
        state, best = self._like(self.first), self._like((self.first.params, self.first.buffers))
        after = self._epoch(plan, state, stored)
        del plan, state
        self._end(stored)
        del drawn, best, after  # held until here, as the pack does

    def _stored(self, name: str) -> Part:
        """Return a split; folds are stacked, [F, N, ...]."""
        part = {"train": self.data.train, "val": self.data.validation, "test": self.data.test}[name]
        axis = () if self.folds == 1 else (self.folds,)
        targets, weights = (
            torch.empty(*axis, *tensor.shape, dtype=tensor.dtype, device=META)
            for tensor in (part.targets, part.weights)
        )
        metric_targets = targets.double() if self.data.target.task == "regression" else targets
        rest = targets, metric_targets, weights, weights if part.counts is None else weights.clone()
        if isinstance(part.inputs, Stored):  # shapes without bytes
            example = torch.empty(part.inputs.shape[1:], dtype=torch.uint8, device=META)
            return Part(example.expand(*axis, *part.inputs.shape), *rest)
        scaled = self.data.form.scaling is not None and self.program.form.scaling is None
        kind = torch.float32 if scaled else part.inputs.dtype
        return Part(torch.empty(*axis, *part.inputs.shape, dtype=kind, device=META), *rest)

    def _own(self, stored: Part, members: int) -> Part:
        """Return a split as members see it: with several folds, each has its own copy."""
        if self.folds == 1:
            return stored
        inputs = stored.inputs
        which = torch.zeros(members, dtype=torch.int64, device=META)
        in_file = isinstance(self.data.train.inputs, Stored)
        own = inputs[:1].expand(members, *inputs.shape[1:]) if in_file else inputs[which]
        return stored._replace(inputs=which).each(lambda tensor: tensor[which])._replace(inputs=own)

    @property
    def read_bytes(self) -> int:
        """The bytes read ahead of the step if images stay in their file, with different rows per member."""
        inputs, batching = self.data.train.inputs, self.batching
        if not isinstance(inputs, Stored):
            return 0
        return bytes_ahead(batching.size * batching.accumulate * self.pack.size * prod(inputs.shape[1:]))

    def _drawn(self, train: Part) -> list[Tensor]:
        """Return the orders of a block of epochs, which the planner keeps."""
        size = self.pack.size
        of_rows = train.weights.flatten(), train.counts.flatten()
        self.planner = Planner(self.batching, torch.zeros(size, 4, dtype=torch.int64), of_rows, self.pack)
        block = min(max(BLOCK // (self.batching.examples * size), 1), self.config.trainer.max_epochs)
        times = torch.zeros(size, block, dtype=torch.int64, device=META)
        keys = torch.zeros(size, 4, dtype=torch.int64, device=META)
        parts = self.planner._orders(keys, times, times[:, 0])
        return [part.transpose(0, 1).contiguous() for part in parts]

    def _plan(self, drawn: list[Tensor]) -> EpochPlan:
        """Return the plan of one epoch from these orders."""
        if self.pack.single:
            return self.planner._cut(*(part[0, 0] for part in drawn))
        places = torch.zeros(self.pack.size, dtype=torch.int64, device=META)
        return self.planner._cut(*(part[0].index_select(0, places) for part in drawn))

    def _epoch(self, plan: EpochPlan, state: State, stored: dict[str, Part]) -> State:
        pack, program, batching = self.pack, self.program, self.batching
        numbers = self._numbers()
        mask = torch.empty(program.layout.size, device=META)
        gradient = gradient_alone if pack.single else gradient_functional
        step = pack.vmap(make_step(program, mask, gradient, program.lr_factors(META)), 0, None, 0, 0, 0, 0)
        train = stored["train"]
        if self.folds > 1:
            train = train.each(lambda tensor: tensor.flatten(0, 1))
        rate, count = (0.1, 1) if pack.single else (self._blank(), self._blank())
        for batch in (plan.batches[0], plan.batches[-1]):
            before = state.params
            state, seen = step(state, train.examples, batch, rate, count, numbers)
        if program.hooks["epoch"] or program.hooks["mask"]:
            state = pack.vmap(program.close_epoch, 0, 0, 0)(state, self._blank(), numbers)
        rows = batching.steps * batching.size * batching.accumulate
        shape = seen.outputs.shape[1 if pack.single else 2 :]
        outputs = self._blank(rows, *shape)  # of all updates
        of_steps = self._blank(batching.steps), self._blank(batching.steps)
        evaluated, buffers = pack.vmap(program.evaluated, 0, 0)(state, numbers)
        validates = len(self.data.validation.inputs) > 0
        report = make_report(program, self.config.trainer.metrics, validates=validates)
        own = self._own(stored["val"], pack.size)
        axis = 0 if self.folds > 1 else None
        end = EpochEnd(
            torch.cat(outputs.split(batching.size, dim=int(not pack.single)), dim=int(not pack.single)),
            *(plan.indices, plan.counts, *of_steps),
            *(state.params, before, evaluated, buffers),
        )
        pack.vmap(report, 0, None, axis, 0)(end, train, own, numbers)
        return state

    def _end(self, stored: dict[str, Part]) -> None:
        """Compute the metrics of every split, for as many members as are evaluated together."""
        program, pack = self.program, self.pack
        size = min(pack.size, TOGETHER)
        names = final_names(program, self.config.trainer.metrics)
        axis = 0 if self.folds > 1 else None
        predict = pack.vmap(make_predict(program), 0, 0, axis)
        measure = pack.vmap(make_measure(program, names), 0, axis, axis, axis, 0)
        weights = self._like(program.evaluated(self.first, program.numbers(self.config)), size)
        numbers = self._numbers(size)
        for part in stored.values():
            if part.weights.numel():
                own = self._own(part, size)
                measure(predict(*weights, own.inputs), own.targets, own.metric_targets, own.counts, numbers)

    def _numbers(self, members: int = 0) -> Tree:
        """Return the numbers that a step takes."""
        numbers: dict[str, Plain] = dict(self.program.numbers(self.config))
        if not self.pack.single:
            numbers = pytree.tree_map(lambda _: self._blank(members=members), numbers)
        numbers["keys"] = self._like(self.program.keys(self.config), members)
        return numbers


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
        with suppress(OSError, ValueError):  # without a limit it contains "max", or there is no such file
            group = Path("/sys/fs/cgroup")
            yield int((group / limit).read_text()) - int((group / used).read_text())


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
