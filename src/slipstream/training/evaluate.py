"""Evaluation of one member: the outputs of a split, and every metric from them at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from slipstream.metrics.steps import mean
from slipstream.registry import Component, component
from slipstream.training.program import Program

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
