"""Observations of a network: what each layer's weights, gradients and units look like on a fixed probe.

It is one function of a member's parameters, vectorized over a pack and read back with the epoch's report.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from slipstream.core.types import Numbers
from slipstream.models.functional import Functional
from slipstream.models.layers import Activation, Activity
from slipstream.models.recurrent import Direction
from slipstream.training.model_spec import ModelSpec

PROBE = 256  # training rows that are observed, evenly spaced
ROWS = 256  # rows of a layer's outputs (examples, positions, steps) for what needs all pairs of units
UNITS = 256  # units of a layer, evenly spaced, for what needs all pairs of units
FLAT = 0.02  # of a bounded activation's range: nearer to a bound it is saturated
TINY = 1e-30

WEIGHTS = (
    *("weight_norm", "weight_zeros", "unit_similarity", "update_ratio"),
    *("gradient_norm", "gradient_noise"),
)
UPDATES = (
    *("first_objective", "mean_objective", "last_objective", "objective_change"),
    *("mean_gradient_norm", "largest_gradient_norm", "clipped_share", "gradient_left_by_clipping"),
)
UNIT = ("dead", "saturated", "input_mean", "input_std", "rank")


class Probe(NamedTuple):
    """The rows that are observed: inputs [n, ...], targets [n, ...] and weights [n] of a training split."""

    inputs: Tensor
    targets: Tensor
    weights: Tensor


class ProbeHalf(NamedTuple):
    """Every other row of the probe: what the network makes of them.

    weight: the sum of the rows' weights. loss: their weighted mean. gradient [P]: of the loss. outputs
    [n, ...]. activity: the penalties on activations. seen: inputs and outputs [R, units] of each tap.
    """

    gradient: Tensor
    weight: Tensor
    loss: Tensor
    outputs: Tensor
    activity: Tensor
    seen: list[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Tap:
    """A place of a network whose outputs are observed.

    name: of the hidden layer. bounds: of the activation's outputs, where its gradient vanishes; infinite ones
    do not count.
    """

    name: str
    module: nn.Module
    bounds: tuple[float, float]

    @property
    def saturates(self) -> bool:
        """True if both bounds are finite."""
        return all(map(math.isfinite, self.bounds))


def taps(module: nn.Module) -> list[Tap]:
    """Return the activations of a network's hidden layers, and its recurrent layers, in order."""
    recurrent = [name for name, inside in module.named_modules() if isinstance(inside, Direction)]
    found = []
    for name, inside in module.named_modules():
        if isinstance(inside, Direction):
            found.append(Tap(name, inside, (-math.inf, math.inf)))
        elif isinstance(inside, Activation) and not any(name.startswith(f"{r}.") for r in recurrent):
            found.append(Tap(name.rpartition(".")[0] or name, inside, inside.bounds))
    return [tap for tap in found if not tap.name.startswith("output")]


def probe_rows(rows: int) -> Tensor:
    """Return the indices of the probe among the training rows, int64 [n], n at most PROBE."""
    count = min(rows, PROBE)
    return torch.arange(count) * rows // max(count, 1)


class LayerObserver:
    """Observes a network. It is a function for one member, to be vectorized.

    alone: it will not be vectorized.

    Attributes:
        names: of the values that a call returns, `layers/LAYER/QUANTITY` and `probe/QUANTITY`.
    """

    def __init__(self, program: ModelSpec, *, alone: bool) -> None:
        self.program, self.alone = program, alone
        module = copy.deepcopy(program.infer.module)
        self.taps = taps(module)
        self._seen: list[tuple[Tensor, Tensor]] = []
        self._activity: list[Tensor] = []
        for inside in module.modules():
            if isinstance(inside, Activity):
                inside.register_forward_hook(self._penalize)
        for tap in self.taps:
            tap.module.register_forward_hook(self._keep)
        self.forward = Functional(module, program.autocast, program.infer.nature)
        layout = program.layout
        named = zip(layout.names, layout.shapes, layout.penalized, strict=True)
        self.weights = {name: shape for name, shape, weight in named if weight and len(shape) > 1}
        self.classes = len(program.target.classes) if program.target.task in ("binary", "multiclass") else 0
        self.names = list(self._names())

    def _keep(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self._seen.append((by_unit(inputs[0]), by_unit(output)))

    def _penalize(self, module: Activity, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self._activity.append(module.function(inputs[0], **module.settings()))

    def _names(self) -> Iterator[str]:
        for name in self.weights:
            yield from (f"layers/{name}/{quantity}" for quantity in WEIGHTS)
        for tap in self.taps:
            yield from (f"layers/{tap.name}/{quantity}" for quantity in UNIT)
        yield from (f"updates/{quantity}" for quantity in UPDATES)
        yield from ("probe/loss", "probe/penalty_share", "probe/gradient_norm", "probe/gradient_noise")
        if self.classes:
            yield from (
                "probe/accuracy",
                "probe/confidence",
                "probe/lowest_recall",
                "probe/predicted_classes",
            )

    def __call__(
        self,
        params: Tensor,
        before: Tensor,
        buffers: dict[str, Tensor],
        updates: tuple[Tensor, Tensor],
        probe: Probe,
        numbers: Numbers,
    ) -> Tensor:
        """Return the values of `names`, float64 [Q]; NaN where one does not apply.

        params, before [P]: after and before the epoch's last update. updates: gradient norms and objectives
        [S] of the epoch's updates. numbers: of the components.
        """
        # Every other row: training rows keep the order of their file, whose halves may be of other classes.
        first, second = (self._half(params, buffers, probe, start, numbers) for start in (0, 1))
        share = first.weight / (first.weight + second.weight + TINY)
        gradient = share * first.gradient + (1 - share) * second.gradient
        loss = share * first.loss + (1 - share) * second.loss
        noise, total = first.gradient - second.gradient, first.gradient + second.gradient
        rows = len(first.outputs), len(second.outputs)
        activity = (rows[0] * first.activity + rows[1] * second.activity) / sum(rows)
        penalty = self._penalty(params, numbers) + activity
        seen = [
            (torch.cat([a, c]), torch.cat([b, d]))
            for (a, b), (c, d) in zip(first.seen, second.seen, strict=True)
        ]
        values = [*self._of_weights(params, before, (gradient, noise, total)), *self._of_units(seen)]
        values += self._of_updates(*updates, numbers)
        values += [loss, penalty / (loss.abs() + penalty.abs() + TINY)]
        values += [_norm(gradient), _norm(noise) / (_norm(total) + TINY)]
        if self.classes:
            outputs = torch.cat([first.outputs, second.outputs])
            targets = torch.cat([probe.targets[0::2], probe.targets[1::2]])
            values += self._of_classes(outputs, targets, numbers)
        return torch.stack([value.double() for value in values])

    def _half(
        self, params: Tensor, buffers: dict[str, Tensor], probe: Probe, start: int, numbers: Numbers
    ) -> ProbeHalf:
        """Return every other row of the probe, from `start`."""
        x, y, weights = (tensor[start::2] for tensor in probe)
        weight = weights.sum()

        def loss_of(
            flat: Tensor,
        ) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor, list[tuple[Tensor, Tensor]]]]:
            self._seen, self._activity = [], []
            outputs, _ = self.forward(self.program.views(flat), buffers, x)
            seen, self._seen = self._seen, []
            penalties, self._activity = self._activity, []
            losses = self.program.losses(outputs, y, numbers)
            loss = (losses * weights).sum() / (weight + TINY)
            return loss, (loss, outputs, sum(penalties, params.new_zeros(())), seen)

        if self.alone:  # any network at all, also one that torch.func cannot transform
            leaf = params.detach().requires_grad_()
            value, (_, outputs, activity, seen) = loss_of(leaf)
            (gradient,) = torch.autograd.grad(value, leaf)
            pairs = [(given.detach(), made.detach()) for given, made in seen]
            return ProbeHalf(gradient, weight, value.detach(), outputs.detach(), activity.detach(), pairs)
        gradient, aux = torch.func.grad(loss_of, has_aux=True)(params)
        return ProbeHalf(gradient, weight, *aux)

    def _of_weights(
        self, params: Tensor, before: Tensor, gradients: tuple[Tensor, Tensor, Tensor]
    ) -> Iterator[Tensor]:
        """Yield what `WEIGHTS` names. gradients [P]: of the probe, its halves' difference and their sum."""
        layout = self.program.layout
        parts = (flat.split(layout.sizes) for flat in (params, before, *gradients))
        for name, weight, old, grad, noise, total in zip(layout.names, *parts, strict=True):
            if name in self.weights:
                yield _norm(weight)
                yield (weight == 0).double().mean()
                yield similarity(weight.view(self.weights[name]).flatten(1))
                yield _norm(weight - old) / (_norm(old) + TINY)
                yield _norm(grad)
                yield _norm(noise) / (_norm(total) + TINY)

    def _of_units(self, seen: list[tuple[Tensor, Tensor]]) -> Iterator[Tensor]:
        for tap, (given, made) in zip(self.taps, seen, strict=True):
            yield (made == 0).all(0).double().mean()
            yield saturated(made, tap.bounds) if tap.saturates else made.new_full((), math.nan)
            yield given.mean()
            yield given.std()
            yield rank(made)

    def _penalty(self, params: Tensor, numbers: Numbers) -> Tensor:
        """Return the penalties on the weights that the objective adds to the loss."""
        weights = params * self.program.mask(params.device)
        total = params.new_zeros(())
        for choice in self.program.hooks["penalty"]:
            total = total + choice.function(weights, **numbers[choice.name])
        return total

    def _of_updates(self, norms: Tensor, objectives: Tensor, numbers: Numbers) -> list[Tensor]:
        """Return what `UPDATES` names, of gradient norms and objectives [S]."""
        clips = [c for c in self.program.hooks["gradient"] if c.name == "gradient_clipping"]
        share, left = norms.new_zeros(()), norms.new_ones(())
        if clips and clips[0].function.keywords["mode"] == "norm":
            most = numbers["gradient_clipping"]["max_norm"]
            share = (norms > most).double().mean()
            left = torch.where(norms > most, most / norms, 1.0).mean()
        elif clips:  # of entries, which norms do not tell
            share, left = share * math.nan, left * math.nan
        steps = objectives.diff().abs().mean() if len(objectives) > 1 else objectives.new_zeros(())
        return [
            objectives[0],
            objectives.mean(),
            objectives[-1],
            steps,
            norms.mean(),
            norms.amax(),
            share,
            left,
        ]

    def _of_classes(self, outputs: Tensor, y: Tensor, numbers: Numbers) -> list[Tensor]:
        """Return accuracy, mean confidence, the lowest recall, and the share of classes ever predicted."""
        scores = self.program.scores(outputs, numbers).double()
        confidence, predicted = scores.max(-1)
        right = (predicted == y).double()
        classes = torch.arange(self.classes, device=y.device)
        of_class = (y[:, None] == classes).double()
        recall = (of_class * right[:, None]).sum(0) / of_class.sum(0).clamp(min=1)
        there = torch.where(of_class.sum(0) > 0, recall, torch.ones_like(recall))
        share = (predicted[:, None] == classes).any(0).double().mean()
        return [right.mean(), confidence.mean(), there.min(), share]


def by_unit(values: Tensor) -> Tensor:
    """Return a layer's values as [rows, units]: of [N, C, H, W] the channels, otherwise the last axis."""
    if values.dim() == 4:
        values = values.movedim(1, -1)
    return values.flatten(0, -2).float()


def saturated(outputs: Tensor, bounds: tuple[float, float]) -> Tensor:
    """Return the share of outputs [...] within FLAT of a bound, relative to the range."""
    low, high = bounds
    margin = FLAT * (high - low)
    return ((outputs < low + margin) | (outputs > high - margin)).double().mean()


def rank(outputs: Tensor) -> Tensor:
    """Return the participation ratio of [R, F], as a share of the possible directions: 1 / F to 1.

    (sum of the covariance's eigenvalues)^2 / sum of their squares, the number of directions that the outputs
    use. 0 for constant outputs. Rows and units are thinned out to at most ROWS and UNITS.
    """
    thin = outputs[:: -(-outputs.shape[0] // ROWS), :: -(-outputs.shape[1] // UNITS)]
    centered = thin - thin.mean(0)
    small = centered.t() @ centered if thin.shape[1] <= thin.shape[0] else centered @ centered.t()
    ratio: Tensor = small.diagonal().sum().square() / (small.square().sum() + TINY)
    return ratio / min(thin.shape)


def similarity(weight: Tensor) -> Tensor:
    """Return the largest absolute cosine of two rows of [F, D]; 0 for a single row. Rows are thinned out."""
    thin = weight[:: -(-len(weight) // UNITS)]
    unit = thin / (torch.linalg.vector_norm(thin, dim=1, keepdim=True) + TINY)
    cosines: Tensor = (unit @ unit.t()).abs()
    own = torch.eye(len(thin), dtype=torch.bool, device=weight.device)
    return cosines.masked_fill(own, 0.0).max()


def _norm(vector: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(vector)
    return norm
