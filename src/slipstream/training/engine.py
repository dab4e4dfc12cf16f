"""The device side of a pack: its functions, vectorized and compiled, and its data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from functools import cached_property, partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from slipstream.core import random
from slipstream.core.compat import pytree
from slipstream.core.errors import ConfigError
from slipstream.core.types import Function, Scalar
from slipstream.models.weights_file import digest
from slipstream.training.backend.blocks import UPDATES, UPDATES_EAGER, Blocks, block_size, in_place
from slipstream.training.backend.compilation import Compiled
from slipstream.training.backend.compile_choice import COMPILATION, COMPILED_BEFORE, can_compile, compile_pays
from slipstream.training.backend.streaming import BatchSource, Resident, Streamed
from slipstream.training.device_splits import Splits
from slipstream.training.epoch_plan import Batching, EpochPlan, Planner
from slipstream.training.evaluate import (
    EpochEnd,
    chunk_of,
    concatenated,
    make_measure,
    make_predict,
    make_report,
    report_names,
)
from slipstream.training.lifting import why_not_compiled
from slipstream.training.model_spec import ModelSpec, State
from slipstream.training.observations import (
    LastUpdate,
    LayerObserver,
    Observed,
    Probe,
    penalty_of_update,
    probe_rows,
)
from slipstream.training.pack import Pack, T
from slipstream.training.step import (
    Batch,
    Part,
    StepOutput,
    gradient_alone,
    gradient_functional,
    make_step,
    two_norm,
)

if TYPE_CHECKING:
    from slipstream.config.run_config import Config
    from slipstream.data import Data

# Updates for each observation, which takes as long as 3 to 6 eager ones (scripts/bench_observations.py).
OBSERVED_EVERY, OBSERVED_EVERY_COMPILED = 500, 2000
STARTS = 2**22  # parameters of initial states kept for members that start equal: about 64 MB
TOGETHER = 32  # members whose final metrics are computed at once, since sorting rows needs memory
LARGE = 2**18  # if an update's inputs exceed this many bytes, step outputs are kept in a table


Best = tuple[Tensor, dict[str, Tensor]]  # parameters and buffers to evaluate with


class Engine:
    """The engine that trains and evaluates K members on one device. Methods take and return stacked trees.

    data: shared by all members, or several folds of it with splits of equal size; folds [K]: the fold of
    each member. Members may be replaced by others of the same structure (`place`). counted: on the device
    `meta`, which has shapes only, the device whose memory is counted (backend/memory.py).
    """

    def __init__(
        self,
        configs: Sequence[Config],
        data: Data | Sequence[Data],
        device: torch.device,
        folds: Sequence[int] | None = None,
        counted: torch.device | None = None,
    ) -> None:
        first, self._counted = configs[0], counted
        self.device, self.configs, self.pack = device, list(configs), Pack(len(configs))
        self.folds = [0] * len(configs) if folds is None else list(folds)
        self.splits = Splits(data if isinstance(data, Sequence) else [data], first, device)
        rows = self.splits.rows["train"]
        self.batching = Batching.of(rows, first.data.settings["batch_size"], first.trainer.accumulate)
        updates = first.trainer.max_epochs * self.batching.steps
        self.compiled = compile_pays(
            first.trainer.compile, updates, self.pack, able=can_compile(first, self.pack)
        )
        target, form = self.splits.data[0].target, self.splits.forms[0]
        self.program = ModelSpec(first, target, form, len(configs), compiled=self.compiled)
        if self.compiled and (reason := why_not_compiled(self.program, first)):
            if first.trainer.compile is True:
                found = f"trainer.compile: model={first.model.name}: {reason}"
                raise ConfigError([f"{found}; use trainer.compile=auto or false"])
            self.compiled = False
            self.program = ModelSpec(first, target, form, len(configs))
        path = first.model.settings["weights"]
        self.weights_digest = digest(path) if path and counted is None else None
        self._starts: dict[str, State] = {}
        self._table: list[StepOutput] = []
        self.observes = first.trainer.observations is not False
        self._arrange()
        size = self._block_size(self.pack.size)
        packed = self.compiled and not self.pack.single  # also for one block, to overwrite its state
        self._blocks = Blocks(self.pack.size, size) if packed or size < self.pack.size else None
        self.stride = 1
        if self._blocks and "train" not in self.splits.files:
            self.stride = UPDATES if self.compiled else UPDATES_EAGER
        self._make_step()
        self._predict = self.pack.vmap(make_predict(self.program), 0, 0, self._own)
        self._report = self._make_report(first.trainer.metrics)
        self._evaluated = self.pack.vmap(self.program.evaluated, 0, 0)
        self._close = self.pack.vmap(self.program.close_epoch, 0, 0, 0)

    @property
    def _own(self) -> int | None:
        """The vmap axis of evaluated splits: 0 if each member has its own fold, otherwise None."""
        return 0 if self.splits.folded else None

    def place(self, places: Sequence[int], configs: Sequence[Config], folds: Sequence[int]) -> None:
        """Replace members at some places. The caller sets their states."""
        for k, config, fold in zip(places, configs, folds, strict=True):
            self.configs[k], self.folds[k] = config, fold
        self._arrange()

    def _arrange(self) -> None:
        """Assemble everything that differs between members: numbers, example orders and folds."""
        numbers = [self.program.numbers(config) for config in self.configs]
        self.numbers = self.pack.numbers(numbers, self.device, tensors=self.compiled)
        keys = [self.program.keys(config) for config in self.configs]
        if self.pack.single and not self.compiled and self.device.type == "cpu":
            self.numbers["keys"] = {name: random.HostKey.of(key) for name, key in keys[0].items()}
        else:
            self.numbers["keys"] = self.to_device(keys)
        seeds = [random.key_words(config.seed, random.SHUFFLE) for config in self.configs]
        train = self.splits.joined("train")
        offsets = [self.batching.examples * fold for fold in self.folds]
        of_rows = train.weights, train.counts
        last = max(config.trainer.max_epochs for config in self.configs)
        self.plan = Planner(self.batching, seeds, of_rows, self.pack, offsets, last)
        self.parts = {"train": train, "val": self._part("val", range(self.pack.size))}
        self.probe = self._probe() if self.observes else None
        self.source: BatchSource = Resident(train.examples)
        if "train" in self.splits.files:
            fixed = self.compiled and not self.pack.single
            self.source = Streamed(self.splits.files["train"], train.targets, self.pack, fixed=fixed)

    def _make_step(self) -> None:
        plain = self.pack.single and not self.compiled
        mask = self.program.mask(self.device)
        gradient = gradient_alone if plain else gradient_functional
        norm = two_norm if self.compiled else torch.linalg.vector_norm
        step = make_step(self.program, mask, gradient, self.program.lr_factors(self.device), norm)
        pack = self._blocks.pack if self._blocks else self.pack
        lifted = pack.vmap(step, 0, None, 0, 0, 0, 0)
        self._step = self._compile(in_place(lifted) if self._blocks else lifted)

    def _compile(self, function: Function) -> Function:
        return Compiled(function) if self.compiled and self._counted is None else function

    def _make_report(self, metrics: Sequence[str]) -> Callable[..., Tensor]:
        rows = self.splits.rows["val"]
        self.reported = report_names(self.program, metrics, validates=rows > 0)
        report = make_report(self.program, metrics, validates=rows > 0 and "val" not in self.splits.files)
        lifted = self.pack.vmap(report, 0, None, self._own, 0)
        # A compiler would unroll every chunk. Large chunks gain nothing, nor do packs, whose operations
        # are already large.
        return self._compile(lifted) if rows <= chunk_of(self.program.form) and self.pack.single else lifted

    def start(self) -> State:
        """Return the state before the first step."""
        result: State = self.to_device([self.start_of(k) for k in range(self.pack.size)])
        return result

    def start_of(self, k: int) -> State:
        """Return the state of member k before its first step, on the CPU."""
        config = self.configs[k]
        rule = {name: value for name, value in config.optimizer.settings.items() if name != "lr"}
        network = (config.activation, config.initializer, config.regularizers, config.model)
        same = repr((config.seed, self.folds[k], network, rule))
        if same not in self._starts:
            examples = self.splits.training_inputs(self.folds[k])
            if len(self._starts) >= STARTS // self.program.layout.size:
                self._starts.clear()
            form = self.splits.forms[self.folds[k]]
            self._starts[same] = self.program.start(config, examples, self.batching.size, form)
        return self._starts[same]

    def to_device(self, trees: Sequence[T]) -> T:
        """Stack the members' trees on the device."""
        moved: T = pytree.tree_map(lambda leaf: leaf.to(self.device), self.pack.stack(trees))
        return moved

    def rates(self, per_member: Sequence[Iterable[float]]) -> list[Scalar]:
        """Return the members' learning rates [S] as one value per step: [K], or a number for a single one."""
        if self.pack.single and not self.compiled:
            return [float(rate) for rate in per_member[0]]
        table = torch.tensor([list(rates) for rates in per_member], dtype=torch.float32, device=self.device)
        return list((table[0] if self.pack.single else table.t().contiguous()).unbind(0))

    def counts(self, first: int | Sequence[int], steps: int) -> list[Scalar]:
        """Return the numbers of the updates after each member's `first`: ints, or tensors [K] for a pack."""
        firsts = [first] * self.pack.size if isinstance(first, int) else first
        if self.pack.single and not self.compiled:
            return list(range(firsts[0] + 1, firsts[0] + steps + 1))
        before = torch.tensor(firsts, dtype=torch.float32, device=self.device)
        made = torch.arange(1, steps + 1, dtype=torch.float32, device=self.device)[:, None] + before
        return list((made[:, 0] if self.pack.single else made).unbind(0))

    def price(self, members: int) -> float:
        """Return the seconds before the first update of another pack of this size and structure."""
        if not self.compiled:
            return 0.0
        same = self._blocks and self._blocks.size == self._block_size(members)
        return COMPILED_BEFORE if same else COMPILATION

    def _block_size(self, members: int) -> int:
        device = self._counted or self.device
        return block_size(members, self.program.layout.size, device, compiled=self.compiled)

    def step(self, state: State, batch: Batch, lr: Scalar, t: Scalar) -> tuple[State, StepOutput]:
        """Make one update of every member."""
        if self._blocks:
            after, (seen,), _ = self.advance(state, [batch], [(lr, t)])
            return after, seen
        data, (batch,) = self.source.take([batch])
        result: tuple[State, StepOutput] = self._step(state, data, batch, lr, t, self.numbers)
        return result

    def advance(
        self, state: State, batches: Sequence[Batch], arguments: Sequence[tuple[Scalar, Scalar]]
    ) -> tuple[State, tuple[StepOutput, ...], Tensor]:
        """Make up to `stride` updates. Return the new state, outputs, and the params before the last one."""
        if self._blocks:
            data, batches = self.source.take(batches)
            return self._blocks.train(self._step, state, data, batches, arguments, self.numbers)
        after, seen = self.step(state, batches[0], *arguments[0])
        return after, (seen,), state.params

    def keep(self, number: int, seen: Sequence[StepOutput]) -> Sequence[StepOutput]:
        """Keep the outputs of updates from `number` on until the end of the epoch, unchanged or in a table.

        Small tensors that outlive large temporary ones fragment the heap: an epoch of small images leaked 9
        MB per update (glibc 2.36, CPU).
        """
        inputs = 4 * self.program.form.size * self.batching.size * self.pack.size
        if self.device.type != "cpu" or inputs < LARGE:
            return seen
        self._table = self._table or self.table(seen[0])
        kept = self._table[number : number + len(seen)]
        for row, parts in zip(kept, seen, strict=True):
            for to, part in zip(row, parts, strict=True):
                to.copy_(part)
        return kept

    def table(self, like: StepOutput) -> list[StepOutput]:
        """Allocate a table for the outputs of an epoch's updates."""
        columns = [
            torch.empty(self.batching.steps, *part.shape, dtype=part.dtype, device=part.device)
            for part in like
        ]
        return [StepOutput(*row) for row in zip(*columns, strict=True)]

    @property
    def _apart(self) -> int:
        """Epochs from one observation to the next."""
        return -(-(OBSERVED_EVERY_COMPILED if self.compiled else OBSERVED_EVERY) // self.batching.steps)

    def due(self, epoch: int) -> bool:
        """Return True if the network is observed after this epoch, from 1: rarely, to keep the cost low."""
        last = self.configs[0].trainer.max_epochs
        return self.observes and (epoch in (1, last) or epoch % self._apart == 0)

    def draws(self, k: int, epoch: int) -> bool:
        """Return True if member k's observation has histograms: the first, the last, and some in between."""
        last = self.configs[0].trainer.max_epochs
        times = self.configs[k].loggers.get("tensorboard", {}).get("histograms", 0)
        return times > 0 and (
            epoch in (1, last) or epoch * times // last > (epoch - self._apart) * times // last
        )

    @cached_property
    def observer(self) -> LayerObserver:
        """The function that observes one member, with the names of its values."""
        return LayerObserver(self.program, alone=self.pack.single)

    def _probe(self) -> Probe:
        """Return the training rows that are observed, with a pack axis if members have different folds."""
        at = probe_rows(self.splits.rows["train"])
        probes = []
        for fold in self.folds if self._own == 0 else self.folds[:1]:
            part = self.splits.part("train", fold)
            if "train" not in self.splits.files:
                x = part.inputs[at]
            elif self._counted:  # only the shape is known
                x = torch.empty(len(at), *self.splits.forms[0].shape, dtype=part.inputs.dtype)
            else:
                inputs = self.splits.training_inputs(fold)
                x = torch.cat([inputs[slice(i, i + 1)] for i in at.tolist()])
            probes.append(Probe(x.to(self.device), part.targets[at], part.weights[at]))
        return self.pack.stack(probes) if self._own == 0 else probes[0]

    def observe(
        self, state: State, before: Tensor, seen: Sequence[StepOutput], *, samples: bool = False
    ) -> Observed:
        """Return the observations of each member. before: the parameters before the last update."""
        _, norms, objectives = zip(*seen, strict=True)
        evaluated, buffers = self.evaluated(state)
        of_updates = torch.stack(norms, dim=-1), torch.stack(objectives, dim=-1)
        last = LastUpdate(state.params, before, evaluated, buffers, *of_updates)
        observe = self.pack.vmap(partial(self.observer, samples=samples), 0, 0, self._own, 0)
        result: Observed = observe(last, state.buffers, self.probe, self.numbers)
        return result

    def penalty(self, state: State) -> Tensor | None:
        """Return the penalties [(K,)] that the objective adds to the loss, None if it has none."""
        if not (self.observes and (self.program.hooks["penalty"] or self.program.activities)):
            return None
        lifted = self.pack.vmap(partial(penalty_of_update, self.program), 0, 0, 0)
        result: Tensor = lifted(state.params, state.buffers, self.numbers)
        return result

    def close_epoch(self, state: State, epochs: Sequence[int]) -> State:
        """Return the state after the members' epochs. epochs: the number of finished ones per member."""
        if not (self.program.hooks["epoch"] or self.program.hooks["mask"]):
            return state
        finished = torch.tensor(epochs, dtype=torch.float32, device=self.device)
        result: State = self._close(state, finished[0] if self.pack.single else finished, self.numbers)
        return result

    def evaluated(self, state: State) -> Best:
        """Return the parameters and buffers to evaluate with."""
        best: Best = self._evaluated(state, self.numbers)
        return best

    def predict(self, evaluated: Best, split: str, places: Sequence[int] | None = None) -> Tensor:
        """Return the outputs [(K,) N, C] for a whole split in evaluation mode, of all or some members.

        evaluated: the parameters and buffers of all members.
        """
        places = range(self.pack.size) if places is None else places
        evaluated = self.pack.select(evaluated, places)
        if split not in self.splits.files:
            result: Tensor = self._predict(*evaluated, self._part(split, places).inputs)
            return result
        many = self.splits.folded and not self.pack.single
        folds = [self.folds[k] for k in places] if many else self.folds[places[0]]
        with closing(self.splits.read(split, folds)) as parts:
            outputs = (self._predict(*evaluated, inputs) for inputs in parts)
            return concatenated(outputs, self.splits.rows[split], dim=0 if self.pack.single else 1)

    def measure(self, split: str, outputs: Tensor, names: Sequence[str], places: Sequence[int]) -> Tensor:
        """Return [(K,) 1 + M]: loss and metrics of the outputs of `predict` for the same places."""
        part, own = self._part(split, places), self._own
        numbers = self.numbers if self.pack.single else self.pack.select(self.numbers, places)
        measure = self.pack.vmap(make_measure(self.program, names), 0, own, own, own, 0)
        result: Tensor = measure(outputs, part.targets, part.metric_targets, part.counts, numbers)
        return result

    def measure_all(
        self, evaluated: Best, names: Sequence[str], places: Sequence[int]
    ) -> Iterator[tuple[str, Tensor, Tensor]]:
        """Yield each split that has rows, its outputs (`predict`) and their values (`measure`)."""
        for split, rows in self.splits.rows.items():
            if rows:
                outputs = self.predict(evaluated, split, places)
                yield split, outputs, self.measure(split, outputs, names, places)

    def _part(self, split: str, places: Sequence[int]) -> Part:
        """Return a split, with a pack axis if members have different folds."""
        folds = [self.folds[k] for k in places]
        apart = self.splits.folded and not self.pack.single
        return self.splits.parts(split, folds) if apart else self.splits.part(split, folds[0])

    def report(self, plan: EpochPlan, seen: Sequence[StepOutput], state: State, before: Tensor) -> Tensor:
        """Return [(K,) R + 1]: the values of `reported` after an epoch, and 1 if everything is finite.

        before: the parameters before the epoch's last update.
        """
        outputs, norms, objectives = zip(*seen, strict=True)
        evaluated, buffers = self.evaluated(state)
        end = EpochEnd(
            outputs=torch.cat(outputs, dim=0 if self.pack.single else 1),
            indices=plan.indices,
            counts=plan.counts,
            norms=torch.stack(norms, dim=-1),
            objectives=torch.stack(objectives, dim=-1),
            params=state.params,
            before=before,
            evaluated=evaluated,
            buffers=buffers,
        )
        report: Tensor = self._report(end, self.parts["train"], self.parts["val"], self.numbers)
        if "val" not in self.splits.files:
            return report
        everyone = range(self.pack.size)
        predicted = self.predict((end.evaluated, end.buffers), "val")
        values = self.measure("val", predicted, self.configs[0].trainer.metrics, everyone)
        return torch.cat([report[..., :-1], values, report[..., -1:]], dim=-1)


def choose_device(name: str) -> torch.device:
    """Return the torch device; `auto` is CUDA if available."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)
