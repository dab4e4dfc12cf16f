"""Observations of a network: statistics of each layer's weights, gradients and units on a fixed probe.

One function of a member's parameters computes them, vectorized over a pack, together with the epoch's report.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from slipstream.core.types import Numbers
from slipstream.models.functional import Functional
from slipstream.training.model_spec import ModelSpec
from slipstream.training.probes import examples
from slipstream.training.quantities import (
    SAMPLE,
    TINY,
    at_ends,
    course,
    lost,
    norm_of,
    rank,
    right_by_class,
    sample,
    sample_places,
    saturated,
    similarity,
    statistics_gap,
)
from slipstream.training.taps import STATISTICS, LayerWatch, Seen

PROBE = 256  # training rows that are observed, evenly spaced
CLASSES = 20  # the largest number of classes with a separate recall

WEIGHTS = (
    *("weight_norm", "weight_zeros", "unit_similarity", "update_ratio", "update_lost"),
    *("gradient_norm", "gradient_noise"),
)
UNIT = ("dead", "saturated", "input_mean", "input_std", "rank")
UPDATES = (
    *("first_objective", "mean_objective", "last_objective", "objective_change"),
    *("objective_slope", "objective_turns", "late_spread"),
    *("mean_gradient_norm", "largest_gradient_norm", "clipped_share", "gradient_left_by_clipping"),
    "unchanged_weights",
)
PROBED = ("loss", "penalty", "penalty_share", "gradient_norm", "gradient_noise")
OF_CLASSES = ("accuracy", "confidence", "lowest_recall", "predicted_classes")


class Probe(NamedTuple):
    """The rows that are observed: inputs [n, ...], targets [n, ...] and weights [n] of a training split."""

    inputs: Tensor
    targets: Tensor
    weights: Tensor


class LastUpdate(NamedTuple):
    """The results of the updates of an epoch.

    params, before [P]: after and before the last update. evaluated [P], buffers: those to evaluate with; an
    ensemble has several. norms, objectives [S]: the gradient's norm and the objective of each update.
    """

    params: Tensor
    before: Tensor
    evaluated: Tensor
    buffers: dict[str, Tensor]
    norms: Tensor
    objectives: Tensor


class Observed(NamedTuple):
    """Values [Q], float64, and samples [H, SAMPLE] of tensors for histograms, filled up with NaN."""

    values: Tensor
    samples: Tensor


class ProbeHalf(NamedTuple):
    """The network's results for every other row of the probe.

    gradient [P]: of the loss. at_ends: squared norms [2] of its gradient with respect to the first and the
    last inputs of each recurrent layer. weight: the sum of the rows' weights. loss: their weighted mean.
    outputs [n, ...].
    """

    gradient: Tensor
    at_ends: list[Tensor]
    weight: Tensor
    loss: Tensor
    outputs: Tensor
    seen: Seen


def probe_rows(rows: int) -> Tensor:
    """Return the indices of the probe among the training rows, int64 [n], n at most PROBE."""
    count = min(rows, PROBE)
    return torch.arange(count) * rows // max(count, 1)


def weight_penalty(program: ModelSpec, params: Tensor, numbers: Numbers) -> Tensor:
    """Return the penalties on the weights that the objective adds to the loss."""
    weights = params * program.mask(params.device)
    total = params.new_zeros(())
    for choice in program.hooks["penalty"]:
        total = total + choice.function(weights, **numbers[choice.name])
    return total


def penalty_of_update(
    program: ModelSpec, params: Tensor, buffers: dict[str, Tensor], numbers: Numbers
) -> Tensor:
    """Return the sum of all penalties, float64; those on activations come from the last update."""
    total = weight_penalty(program, params, numbers)
    for name in program.activities:
        total = total + buffers[name]
    return total.double()


class LayerObserver:
    """Observes a network. It is a function for one member, to be vectorized.

    alone: True if it will not be vectorized.

    Attributes:
        names: the names of the returned values, `layers/LAYER/QUANTITY`, `updates/...`, `probe/...`.
        sampled: the names of the sampled tensors, `gradients/WEIGHT`, `last_update/WEIGHT`,
            `layer_inputs/LAYER`, `layer_outputs/LAYER`.
    """

    def __init__(self, program: ModelSpec, *, alone: bool) -> None:
        self.program, self.alone = program, alone
        module = copy.deepcopy(program.infer.module)
        example = examples(program.form, 2).to(torch.get_default_device()) if program.own else None
        self.watch = LayerWatch(module, example)
        self.forward = Functional(module, program.autocast, program.infer.nature)
        layout = program.layout
        named = zip(layout.names, layout.shapes, layout.penalized, strict=True)
        self.weights = {name: shape for name, shape, weight in named if weight and len(shape) > 1}
        frozen = (p for p in module.parameters() if not p.requires_grad and p.dim() > 1)
        self.frozen = sum(1 for _ in frozen)
        task = program.target.task
        self.classes = program.target.classes if task in ("binary", "multiclass") else ()
        kept = [choice for choice in program.keeping if choice.place != "mask"]
        averages = bool(kept) or program.optimizer.part.traits.evaluate is not None
        self.averages = averages and all(choice.part.traits.start is None for choice in kept)
        self.names, self.sampled = list(self._names()), list(self._sampled())
        self._places: Tensor | None = None

    def _names(self) -> Iterator[str]:
        for name in self.weights:
            yield from (f"layers/{name}/{quantity}" for quantity in WEIGHTS)
        for tap in self.watch.taps:
            yield from (f"layers/{tap.name}/{quantity}" for quantity in UNIT)
        yield from (f"layers/{tap.name}/first_step_gradient" for tap in self.watch.taps if tap.recurrent)
        for quantity in ["statistics_gap"] + ["average_statistics_gap"] * self.averages:
            yield from (f"layers/{name}/{quantity}" for name in self.watch.norms)
        yield from (f"updates/{quantity}" for quantity in UPDATES)
        yield from ["updates/average_distance"] if self.averages else []
        yield from (f"probe/{quantity}" for quantity in PROBED)
        if self.classes:
            yield from (f"probe/{quantity}" for quantity in OF_CLASSES)
            yield from (f"probe/recall/{name}" for name in self.classes[:CLASSES])

    def _sampled(self) -> Iterator[str]:
        for of in ("gradients", "last_update"):
            yield from (f"{of}/{name}" for name in self.program.layout.names)
        for tap in self.watch.taps:
            yield from (f"{of}/{tap.name}" for of in ("layer_inputs", "layer_outputs"))

    def _of_parameters(self) -> Tensor:
        """Return the indices of the samples of each parameter, [N, SAMPLE], with -1 for missing ones."""
        rows, start = [], 0
        for size in self.program.layout.sizes:
            places = sample_places(size, torch.device("cpu")) + start
            rows.append(torch.nn.functional.pad(places, (0, SAMPLE - len(places)), value=-1))
            start += size
        return torch.stack(rows)

    def __call__(
        self, last: LastUpdate, buffers: dict[str, Tensor], probe: Probe, numbers: Numbers, *, samples: bool
    ) -> Observed:
        """Return the values of `names`, NaN if they do not apply, and the samples of `sampled`.

        samples: False leaves out the latter, which take as long as an update of a small network.
        """
        # Every other row, because rows are in the order of the file, whose halves may have different classes.
        first, second = (self._half(last.params, buffers, probe, start, numbers) for start in (0, 1))
        share = first.weight / (first.weight + second.weight + TINY)
        gradient = share * first.gradient + (1 - share) * second.gradient
        loss = share * first.loss + (1 - share) * second.loss
        noise, total = first.gradient - second.gradient, first.gradient + second.gradient
        units = [
            (torch.cat([a, c]), torch.cat([b, d]))
            for (a, b), (c, d) in zip(first.seen.units, second.seen.units, strict=True)
        ]
        values = [*self._of_weights(last, (gradient, noise, total)), *self._of_units(units)]
        for one, other in zip(first.at_ends, second.at_ends, strict=True):
            begin, end = (share**2 * one + (1 - share) ** 2 * other).sqrt()
            values.append(begin / (end + TINY))
        norms = zip(first.seen.norms, second.seen.norms, strict=True)
        values += self._of_norms([torch.cat(halves) for halves in norms], buffers)
        values += self._of_averaged_norms(last, probe)
        values += self._of_updates(last, gradient, numbers)
        penalty = self._penalty(last.params, first, second, numbers)
        values += [loss, penalty, penalty / (loss.abs() + penalty.abs() + TINY)]
        values += [norm_of(gradient), norm_of(noise) / (norm_of(total) + TINY)]
        if self.classes:
            outputs = torch.cat([first.outputs, second.outputs])
            targets = torch.cat([probe.targets[0::2], probe.targets[1::2]])
            found = right_by_class(self.program.scores(outputs, numbers).double(), targets)
            values += found[: len(OF_CLASSES) + CLASSES]
        sampled = self._samples(gradient, last, units) if samples else gradient.new_empty(0, SAMPLE)
        return Observed(torch.stack([value.double() for value in values]), sampled)

    def _half(
        self, params: Tensor, buffers: dict[str, Tensor], probe: Probe, start: int, numbers: Numbers
    ) -> ProbeHalf:
        """Return every other row of the probe, from `start`."""
        x, y, weights = (tensor[start::2] for tensor in probe)
        weight = weights.sum()

        def loss_of(parts: tuple[Tensor, list[Tensor]]) -> tuple[Tensor, tuple[Tensor, Tensor, Seen]]:
            flat, offsets = parts
            self.watch.begin(offsets)
            outputs, _ = self.forward(self.program.views(flat), buffers, x)
            seen = self.watch.end(params)
            losses = self.program.losses(outputs, y, numbers)
            loss = (losses * weights).sum() / (weight + TINY)
            return loss, (loss, outputs, seen)

        parts = params, self.watch.offsets(self.program.form.shape[0], len(x), params)
        if self.alone:  # works for any network, even one that torch.func cannot transform
            leaves = [part.detach().requires_grad_() for part in (parts[0], *parts[1])]
            value, (_, outputs, seen) = loss_of((leaves[0], leaves[1:]))
            gradient, *inputs = torch.autograd.grad(value, leaves)
            loss, outputs = value.detach(), outputs.detach()
            seen = Seen(
                [(given.detach(), made.detach()) for given, made in seen.units],
                [norm.detach() for norm in seen.norms],
                seen.activity.detach(),
            )
        else:
            (gradient, inputs), (loss, outputs, seen) = torch.func.grad(loss_of, has_aux=True)(parts)
        return ProbeHalf(gradient, [at_ends(steps) for steps in inputs], weight, loss, outputs, seen)

    def _of_weights(self, last: LastUpdate, gradients: tuple[Tensor, Tensor, Tensor]) -> Iterator[Tensor]:
        """Yield the quantities of `WEIGHTS`. gradients [P]: the probe's, its halves' difference and sum."""
        layout = self.program.layout
        parts = (flat.split(layout.sizes) for flat in (last.params, last.before, *gradients))
        for name, weight, old, grad, noise, total in zip(layout.names, *parts, strict=True):
            if name in self.weights:
                yield norm_of(weight)
                yield (weight == 0).double().mean()
                yield similarity(weight.view(self.weights[name]).flatten(1))
                yield norm_of(weight - old) / (norm_of(old) + TINY)
                yield lost(weight, old, grad)
                yield norm_of(grad)
                yield norm_of(noise) / (norm_of(total) + TINY)

    def _of_units(self, units: list[tuple[Tensor, Tensor]]) -> Iterator[Tensor]:
        for tap, (given, made) in zip(self.watch.taps, units, strict=True):
            undefined = made.new_full((), math.nan)
            if not made.numel():  # a layer that was not called
                yield from [undefined] * len(UNIT)
                continue
            yield (made == 0).all(0).double().mean()
            yield saturated(made, tap.bounds) if tap.saturates else undefined
            yield given.mean()
            yield given.std()
            yield rank(made)

    def _of_norms(self, inputs: list[Tensor], buffers: dict[str, Tensor]) -> Iterator[Tensor]:
        for name, values in zip(self.watch.norms, inputs, strict=True):
            own = (buffers[f"{name}.{of}".lstrip(".")] for of in STATISTICS)
            yield statistics_gap(values, *own) if values.numel() else values.new_full((), math.nan)

    def _of_averaged_norms(self, last: LastUpdate, probe: Probe) -> Iterator[Tensor]:
        """Yield the same for averaged weights, whose statistics may belong to other weights."""
        if self.averages and self.watch.norms:
            self.watch.begin(())
            with torch.no_grad():
                self.forward(self.program.views(last.evaluated), last.buffers, probe.inputs)
            yield from self._of_norms(self.watch.end(last.params).norms, last.buffers)

    def _penalty(self, params: Tensor, first: ProbeHalf, second: ProbeHalf, numbers: Numbers) -> Tensor:
        rows = len(first.outputs), len(second.outputs)
        activity = rows[0] * first.seen.activity + rows[1] * second.seen.activity
        return weight_penalty(self.program, params, numbers) + activity / sum(rows)

    def _of_updates(self, last: LastUpdate, gradient: Tensor, numbers: Numbers) -> Iterator[Tensor]:
        """Yield the quantities of `UPDATES`. gradient [P]: of the probe."""
        objectives, norms = last.objectives, last.norms
        steps = objectives.diff().abs().mean() if len(objectives) > 1 else objectives.new_zeros(())
        yield from (objectives[0], objectives.mean(), objectives[-1], steps)
        yield from course(objectives)
        yield from (norms.mean(), norms.amax())
        yield from self._of_clipping(norms, gradient, numbers)
        sizes = self.program.layout.sizes
        pairs = zip(
            self.program.layout.names, last.params.split(sizes), last.before.split(sizes), strict=True
        )
        same = [(after == before).all().double() for name, after, before in pairs if name in self.weights]
        yield sum(same, norms.new_zeros(())) + self.frozen
        if self.averages:
            yield norm_of(last.evaluated - last.params) / (norm_of(last.params) + TINY)

    def _of_clipping(self, norms: Tensor, gradient: Tensor, numbers: Numbers) -> tuple[Tensor, Tensor]:
        """Return the share that was clipped, and the mean factor on the gradient's norm.

        For clipping by norm, it is the share of updates; by value, the share of the probe's gradient.
        """
        clips = [c for c in self.program.hooks["gradient"] if c.name == "gradient_clipping"]
        if not clips:
            return norms.new_zeros(()), norms.new_ones(())
        most = numbers["gradient_clipping"]["max_norm"]
        if clips[0].function.keywords["mode"] == "norm":
            left = torch.where(norms > most, most / norms, 1.0).mean()
            return (norms > most).double().mean(), left
        clipped: Tensor = clips[0].function(gradient, max_norm=most)
        return (clipped != gradient).double().mean(), norm_of(clipped) / (norm_of(gradient) + TINY)

    def _samples(self, gradient: Tensor, last: LastUpdate, units: list[tuple[Tensor, Tensor]]) -> Tensor:
        if self._places is None:
            self._places = self._of_parameters().to(gradient.device)
        places = self._places
        flat = torch.stack([gradient, last.params - last.before])
        chosen = torch.where(places >= 0, flat[:, places.clamp(min=0)], torch.nan).flatten(0, 1)
        layers = [sample(values) for pair in units for values in pair]
        return torch.cat([chosen, torch.stack(layers)]) if layers else chosen
