"""Evaluation of one member: the outputs of a split, and all metrics from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from slipstream.core.registry import Component, component
from slipstream.core.traits import MetricTraits
from slipstream.core.types import InputSpec, Numbers
from slipstream.metrics import final
from slipstream.metrics.sums import mean
from slipstream.training.model_spec import ModelSpec
from slipstream.training.step import Part, rows_of

CHUNK = 8192  # rows evaluated at once: enough to use a processor fully, few enough to bound memory
NUMBERS = 2**19  # input values evaluated at once if layers have many values for each of them


def chunk_of(form: InputSpec) -> int:
    """Return the number of examples evaluated at once.

    It is lower for images and sequences, since a convolution turns channels into 32 or more feature maps, and
    a recurrent layer keeps every step.
    """
    return CHUNK if form.kind == "vector" else max(min(CHUNK, NUMBERS // form.size), 64)


def make_predict(program: ModelSpec) -> Callable[[Tensor, dict[str, Tensor], Tensor], Tensor]:
    """Build predict(params, buffers, inputs [N, ...]) -> outputs [N, C], without noise and gradients.

    params [P], or [E P] of E networks, whose outputs are [N, E, C]; their running statistics also have an
    axis E, other buffers are shared.
    """
    chunk = chunk_of(program.form)

    def one(params: Tensor, buffers: dict[str, Tensor], inputs: Tensor) -> Tensor:
        views = program.views(params)
        parts = (program.infer(views, buffers, x)[0] for x in inputs.split(chunk))
        return concatenated(parts, len(inputs))

    def predict(params: Tensor, buffers: dict[str, Tensor], inputs: Tensor) -> Tensor:
        size = program.layout.size
        if len(params) == size:
            return one(params, buffers, inputs)
        outputs = []
        for e, part in enumerate(params.split(size)):
            own = {name: buffers[name][e] for name in program.running}
            outputs.append(one(part, buffers | own, inputs))
        return side_by_side(outputs)

    return predict


def concatenated(parts: Iterable[Tensor], length: int, dim: int = 0) -> Tensor:
    """Concatenate parts of total size `length` along `dim`; a single part is not copied.

    Each part is copied immediately. Otherwise, small outputs that outlive large temporary inputs fragment the
    heap, and a validation split read from a file took up to as much memory as its floats.
    """
    whole, begun = None, 0
    for part in parts:
        size = part.shape[dim]
        if size == length:
            return part
        if whole is None:
            whole = part.new_empty(*part.shape[:dim], length, *part.shape[dim + 1 :])
        whole.narrow(dim, begun, size).copy_(part)
        begun += size
    assert whole is not None
    return whole


def side_by_side(outputs: Sequence[Tensor]) -> Tensor:
    """Stack the outputs [N, C] of E networks to [N, E, C], or those of F ensembles to [N, F E, C]."""
    return torch.cat([one if one.dim() == 3 else one.unsqueeze(1) for one in outputs], dim=1)


def final_names(program: ModelSpec, asked: Sequence[str]) -> list[str]:
    """Return the names of the metrics at the end of a run. asked: those of every epoch."""
    target, probabilistic = program.target, program.loss.part.traits.probabilistic
    return final(target.task, len(target.classes), probabilistic, asked)


def make_measure(program: ModelSpec, names: Sequence[str]) -> Callable[..., Tensor]:
    """Build measure(outputs, targets, metric_targets, counts, numbers) -> [1 + M]: loss and metrics.

    outputs [N, C]; targets [N, ...] for the loss, metric_targets for metrics; counts [N] with zeros for
    padding. A metric is NaN if it is undefined, or if it needs probabilities and the loss gives none.
    """
    metrics = [component("metric", name) for name in names]
    probabilistic = program.loss.part.traits.probabilistic
    # If logits suffice, skip the softmax, which takes most of the time of the accuracy.
    as_they_are = program.target.task == "multiclass" and all(m.traits.order_only for m in metrics)

    def measure(
        outputs: Tensor, targets: Tensor, metric_targets: Tensor, counts: Tensor, numbers: Numbers
    ) -> Tensor:
        losses = program.losses(outputs, targets, numbers)
        values = [mean(losses, counts)]
        if metrics:
            scores = outputs if as_they_are and outputs.dim() == 2 else program.scores(outputs, numbers)
            values += [_measured(metric, probabilistic, scores, metric_targets, counts) for metric in metrics]
        return torch.stack([value.to(torch.float64) for value in values])

    return measure


def _measured(
    metric: Component[MetricTraits], probabilistic: bool, scores: Tensor, y: Tensor, w: Tensor
) -> Tensor:
    if metric.traits.probabilistic and not probabilistic:
        return torch.full((), float("nan"), device=scores.device)
    result: Tensor = metric(scores, y, w)
    return result


class EpochEnd(NamedTuple):
    """The state and outputs of one member at the end of an epoch, for its report.

    outputs [R, C] and counts [R] (in metrics): of every training row, in the order of `indices` [R] into
    the training examples. norms, objectives [S]: of every update. params, before [P]: after and before
    the last update. evaluated [P], buffers: those to evaluate with.
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


def report_names(program: ModelSpec, names: Sequence[str], *, validates: bool) -> list[str]:
    """Return the names of a report's values, except the last."""
    train = [f"train/{name}" for name in ("loss", *names, "gradient_norm", "update_norm")]
    layers = [f"zeros/{name}" for name in ("all", *_weights(program))] if program.makes_zeros else []
    return train + layers + ([f"val/{name}" for name in ("loss", *names)] if validates else [])


def _weights(program: ModelSpec) -> list[str]:
    layout = program.layout
    return [name for name, weight in zip(layout.names, layout.penalized, strict=True) if weight]


def zeros(program: ModelSpec, params: Tensor) -> Tensor:
    """Return the share of exact zeros among all weights, then in each weight: [1 + W].

    params [P], or [E P] of E networks, averaged over all of them.
    """
    layout = program.layout
    parts = zip(params.view(-1, layout.size).split(layout.sizes, 1), layout.penalized, strict=True)
    weights = [(part == 0).double().flatten() for part, weight in parts if weight]
    return torch.stack([torch.cat(weights).mean(), *(weight.mean() for weight in weights)])


def make_report(program: ModelSpec, names: Sequence[str], *, validates: bool) -> Callable[..., Tensor]:
    """Build report(end, train, val, numbers) -> the values of `report_names`, then `is_sound`.

    Training metrics use the outputs of the epoch's updates: with noise, mixed targets if examples are mixed,
    and the weights at that time. Validation metrics and zeros use the weights that are evaluated and kept
    at the end of the epoch: an average, if there is one.
    """
    measure, predict = make_measure(program, names), make_predict(program)
    numeric = program.target.task == "regression"

    def report(end: EpochEnd, train: Part, val: Part, numbers: Numbers) -> Tensor:
        update_norm = torch.linalg.vector_norm(end.params - end.before)
        if program.mixes:
            outputs, targets = program.split_targets(end.outputs)
            metric_targets = program.metric_targets_of_mixed(targets)
        else:
            outputs, targets = end.outputs, rows_of(train.targets, end.indices)
            metric_targets = rows_of(train.metric_targets, end.indices) if numeric else targets
        parts = [
            measure(outputs, targets, metric_targets, end.counts, numbers),
            torch.stack([end.norms.double().mean(), update_norm.double()]),
        ]
        if program.makes_zeros:
            parts.append(zeros(program, end.evaluated))
        if validates:
            outputs = predict(end.evaluated, end.buffers, val.inputs)
            parts.append(measure(outputs, val.targets, val.metric_targets, val.counts, numbers))
        sound = is_sound(end.norms, end.objectives, end.params, end.evaluated)
        return torch.cat([*parts, sound.double().unsqueeze(0)])

    return report


def is_sound(norms: Tensor, objectives: Tensor, params: Tensor, evaluated: Tensor) -> Tensor:
    """Return a bool: True if gradients and losses of the updates [S] and the weights [P] appear finite.

    A sum may overflow although its terms do not, so a negative result is re-examined (divergence.py).
    """
    return torch.isfinite((norms + objectives).sum() + params.sum() + evaluated.sum())
