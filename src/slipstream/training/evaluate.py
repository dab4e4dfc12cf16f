"""Evaluation of one member: the outputs of a split, and every metric from them at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from slipstream.metrics.steps import mean
from slipstream.registry import Component, component
from slipstream.training.program import Program
from slipstream.training.step import Examples, rows_of

CHUNK = 8192  # rows evaluated at once: enough to fill a processor, few enough to bound memory


def make_predict(program: Program) -> Callable[[Tensor, dict[str, Tensor], Tensor], Tensor]:
    """predict(params, buffers, inputs [N, ...]) -> outputs [N, C], without noise and gradients."""

    def predict(params: Tensor, buffers: dict[str, Tensor], inputs: Tensor) -> Tensor:
        views = program.views(params)
        parts = [program.infer(views, buffers, x)[0] for x in inputs.split(CHUNK)]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    return predict


def make_measure(program: Program, names: Sequence[str]) -> Callable[..., Tensor]:
    """measure(outputs, targets, weights, numbers) -> [1 + M]: the loss, then the named metrics.

    outputs [N, C], targets [N, ...], weights [N] with zeros for padding. A metric that needs
    probabilities is NaN for a loss whose outputs are none, as is one that is undefined.
    """
    metrics = [component("metric", name) for name in names]
    traits = program.loss.part.traits
    # Where logits serve, the softmax is left out: it is the larger part of an epoch's accuracy.
    as_they_are = program.target.task == "multiclass" and all(m.traits.get("order_only") for m in metrics)

    def measure(outputs: Tensor, targets: Tensor, weights: Tensor, numbers: Mapping[str, Any]) -> Tensor:
        losses = program.loss.function(outputs, targets, **numbers["loss"])
        values = [mean(losses, weights)]
        if metrics:
            scores = outputs if as_they_are else program.scores(outputs, numbers)
            truth = program.original_units(targets)
            values += [_measured(metric, traits, scores, truth, weights) for metric in metrics]
        return torch.stack([value.to(torch.float64) for value in values])

    return measure


def _measured(metric: Component, traits: Mapping[str, Any], scores: Tensor, y: Tensor, w: Tensor) -> Tensor:
    if metric.traits.get("probabilistic") and not traits.get("probabilistic"):
        return torch.full((), float("nan"), device=scores.device)
    return metric(scores, y, w)


class EpochEnd(NamedTuple):
    """What an epoch left of one member, for its report.

    outputs [R, C] and counts [R]: of every row that was trained, in the order of `indices` [R] into
    the training examples. norms, objectives [S]: of every update. params, before [P]: after the last
    update and before it. evaluated [P], buffers: what to evaluate with.
    """

    outputs: Tensor
    indices: Tensor
    counts: Tensor
    norms: Tensor
    objectives: Tensor
    params: Tensor
    before: Tensor
    evaluated: Tensor
    buffers: dict[str, Tensor]


def report_names(names: Sequence[str], *, validates: bool) -> list[str]:
    """What stands at each place of a report but the last."""
    train = [f"train/{name}" for name in ("loss", *names, "gradient_norm", "update_norm")]
    return train + ([f"val/{name}" for name in ("loss", *names)] if validates else [])


def make_report(program: Program, names: Sequence[str], *, validates: bool) -> Callable[..., Tensor]:
    """report(end, train, val, val_weights, numbers) -> the values of `report_names`, then `is_sound`.

    Training metrics are those of the outputs that the epoch's updates saw, with noise and with the
    weights as they were then; validation metrics are those of the weights at the epoch's end.
    """
    measure, predict = make_measure(program, names), make_predict(program)

    def report(end: EpochEnd, train: Examples, val: Examples, weights: Tensor, numbers: Mapping) -> Tensor:
        update_norm = torch.linalg.vector_norm(end.params - end.before)
        targets = rows_of(train.targets, end.indices)
        parts = [
            measure(end.outputs, targets, end.counts, numbers),
            torch.stack([end.norms.double().mean(), update_norm.double()]),
        ]
        if validates:
            outputs = predict(end.evaluated, end.buffers, val.inputs)
            parts.append(measure(outputs, val.targets, weights, numbers))
        sound = is_sound(end.norms, end.objectives, end.params, end.evaluated)
        return torch.cat([*parts, sound.double().unsqueeze(0)])

    return report


def is_sound(norms: Tensor, objectives: Tensor, params: Tensor, evaluated: Tensor) -> Tensor:
    """Whether the gradients and losses of the updates [S] and the weights [P] look finite, bool.

    A sum may overflow where its terms do not: what looks broken is examined (divergence.py).
    """
    return torch.isfinite((norms + objectives).sum() + params.sum() + evaluated.sum())
