"""The device's side of a pack: its functions, lifted and compiled, and its data."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from slipstream import random
from slipstream.errors import ConfigError
from slipstream.packs import Pack
from slipstream.training.evaluate import (
    CHUNK,
    EpochEnd,
    make_measure,
    make_predict,
    make_report,
    report_names,
)
from slipstream.training.plan import Batching, Plan, Planner
from slipstream.training.program import Program, State
from slipstream.training.step import (
    Batch,
    Examples,
    Seen,
    gradient_alone,
    gradient_functional,
    make_step,
    make_stride,
)

if TYPE_CHECKING:
    from slipstream.config import Config
    from slipstream.data import Data, Split

# What a compiled step saves against an eager one, and what compiling costs, in seconds: measured
# with torch 2.13 on 2 cores (docs/performance.md). Only their order of magnitude matters.
SAVED_ALONE, SAVED_PACKED, COMPILATION = 2e-4, 2e-3, 20.0
LONGEST_STRIDE = 5  # updates to a compiled call; the time to compile grows with it


def compile_pays(setting: bool | str, updates: int, pack: Pack) -> bool:
    """Whether the planned updates repay a compilation. Decided before the run, never during it.

    Raises ConfigError where compilation is asked for and there is no compiler.
    """
    compiler = any(map(shutil.which, (os.environ.get("CXX") or "g++", "clang++", "cl")))
    if setting is True and not compiler:
        raise ConfigError(["trainer.compile: needs a C++ compiler, and g++ is not installed; use false"])
    if setting != "auto":
        return bool(setting)
    return compiler and updates * (SAVED_ALONE if pack.alone else SAVED_PACKED) > COMPILATION


class Engine:
    """Trains and evaluates K members on one device. All methods take and give stacked trees."""

    def __init__(self, configs: Sequence[Config], data: Data, device: torch.device) -> None:
        first = configs[0]
        self.device, self.configs, self.pack = device, configs, Pack(len(configs))
        self.batching = Batching.of(
            len(data.train.inputs), first.data.settings["batch_size"], first.trainer.accumulate
        )
        self.splits = {"train": data.train, "val": data.validation, "test": data.test}
        self.examples = {name: _on(device, split) for name, split in self.splits.items()}
        self.weights = {name: split.weights.to(device) for name, split in self.splits.items()}
        self.program = Program(first, data.target, tuple(data.train.inputs.shape[1:]), len(configs))
        self.compiled = compile_pays(
            first.trainer.compile, first.trainer.max_epochs * self.batching.steps, self.pack
        )
        self.numbers = self.pack.numbers(
            [self.program.numbers(config) for config in configs], device, tensors=self.compiled
        )
        keys = self.pack.stack([random.make_key(config.seed, random.SHUFFLE) for config in configs])
        self.plan = Planner(self.batching, keys.to(device), self.weights["train"], self.pack)
        # All strides of an epoch are of one length, so that one graph does for all.
        lengths = range(1, LONGEST_STRIDE + 1) if self.compiled else (1,)
        self.stride = max(length for length in lengths if self.batching.steps % length == 0)
        self._make_step()
        self._predict = self.pack.lift(make_predict(self.program), 0, 0, None)
        self._report = self._make_report(first.trainer.metrics)
        self._evaluated = self.pack.lift(self.program.evaluated, 0, 0)

    def _make_step(self) -> None:
        plain = self.pack.alone and not self.compiled
        mask = self.program.mask(self.device)
        step = make_step(self.program, mask, gradient_alone if plain else gradient_functional)
        self._step = self._compile(self.pack.lift(step, 0, None, 0, 0, None, 0))
        self._stride = self._compile(self.pack.lift(make_stride(step), 0, None, 0, 0, None, 0))

    def _compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return torch.compile(function, fullgraph=True, dynamic=False) if self.compiled else function

    def _make_report(self, metrics: Sequence[str]) -> Callable[..., Tensor]:
        rows = len(self.splits["val"])
        self.reported = report_names(metrics, validates=rows > 0)
        report = make_report(self.program, metrics, validates=rows > 0)
        lifted = self.pack.lift(report, 0, None, None, None, 0)
        # Of many chunks a compiler would unroll every one, and large ones gain nothing.
        return self._compile(lifted) if rows <= CHUNK else lifted

    def start(self) -> State:
        """The state before the first step."""
        examples = self.splits["train"].inputs[: self.batching.size]
        return self.to_device([self.program.start(config, examples) for config in self.configs])

    def to_device(self, trees: Sequence[Any]) -> Any:
        """The members' trees stacked, on the device."""
        return pytree.tree_map(lambda leaf: leaf.to(self.device), self.pack.stack(trees))

    def rates(self, per_member: Sequence[Any]) -> list[Any]:
        """Learning rates, member by member [S], as one value a step: [K], or a number alone."""
        if self.pack.alone and not self.compiled:
            return [float(rate) for rate in per_member[0]]
        table = torch.tensor([list(rates) for rates in per_member], dtype=torch.float32, device=self.device)
        return list((table[0] if self.pack.alone else table.t().contiguous()).unbind(0))

    def counts(self, first: int, steps: int) -> list[Any]:
        """The numbers of the updates after `first`: ints, or tensors for a lifted step."""
        numbers = range(first + 1, first + steps + 1)
        if self.pack.alone and not self.compiled:
            return list(numbers)
        return list(torch.tensor(list(numbers), dtype=torch.float32, device=self.device).unbind(0))

    def settled(self) -> AbstractContextManager[Any]:
        """To be entered once every compiled function has run: nothing that it was compiled for changes
        any more, and asking at each call whether it did costs a sixth of a small network's step."""
        if not self.compiled:
            return nullcontext()
        return torch.compiler.set_stance(skip_guard_eval_unsafe=True)

    def step(self, state: State, batch: Batch, lr: Any, t: Any) -> tuple[State, Seen]:
        """One update of every member."""
        return self._step(state, self.examples["train"], batch, lr, t, self.numbers)

    def advance(
        self, state: State, batches: Sequence[Batch], arguments: Sequence[tuple[Any, Any]]
    ) -> tuple[State, tuple[Seen, ...], Tensor]:
        """`stride` updates: the new state, what each leaves, and the parameters before the last."""
        if self.stride == 1:
            after, seen = self.step(state, batches[0], *arguments[0])
            return after, (seen,), state.params
        lrs, ts = zip(*arguments, strict=True)
        return self._stride(state, self.examples["train"], tuple(batches), lrs, ts, self.numbers)

    def evaluated(self, state: State) -> tuple[Tensor, dict[str, Tensor]]:
        """Parameters and buffers to evaluate with."""
        return self._evaluated(state, self.numbers), state.buffers

    def measure(self, split: str, outputs: Tensor, names: Sequence[str]) -> Tensor:
        """[(K,) 1 + M]: loss and metrics of a split's outputs."""
        measure = self.pack.lift(make_measure(self.program, names), 0, None, None, 0)
        return measure(outputs, self.examples[split].targets, self.weights[split], self.numbers)

    def report(self, plan: Plan, seen: Sequence[Seen], state: State, before: Tensor) -> Tensor:
        """[(K,) R + 1]: the values of `reported` after an epoch, and whether all looks finite.

        before: the parameters before the epoch's last update.
        """
        outputs, norms, objectives = zip(*seen, strict=True)
        end = EpochEnd(
            outputs=torch.cat(outputs, dim=-2),
            indices=plan.indices,
            counts=plan.counts,
            norms=torch.stack(norms, dim=-1),
            objectives=torch.stack(objectives, dim=-1),
            params=state.params,
            before=before,
            evaluated=self.evaluated(state)[0],
            buffers=state.buffers,
        )
        train, val = self.examples["train"], self.examples["val"]
        return self._report(end, train, val, self.weights["val"], self.numbers)

    def predict(self, evaluated: tuple[Tensor, dict[str, Tensor]], split: str) -> Tensor:
        """[(K,) N, C]: the network's outputs for a whole split, in evaluation mode."""
        return self._predict(*evaluated, self.examples[split].inputs)


def _on(device: torch.device, split: Split) -> Examples:
    return Examples(split.inputs.to(device), split.targets.to(device))


def choose_device(name: str) -> torch.device:
    """`auto` takes CUDA where there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)
