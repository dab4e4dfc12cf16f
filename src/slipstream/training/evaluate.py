"""Evaluation of one member: the outputs of a split, and every metric from them at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from slipstream.core.registry import Component, component
from slipstream.core.types import InputSpec, Numbers, Plain
from slipstream.metrics import final
from slipstream.metrics.sums import mean
from slipstream.training.model_spec import ModelSpec
from slipstream.training.step import Part, rows_of

CHUNK = 8192  # rows evaluated at once: enough to fill a processor, few enough to bound memory
NUMBERS = 2**19  # of the inputs, where a layer holds many for each of them


def chunk_of(form: InputSpec) -> int:
    """How many examples are evaluated at once. A convolution makes a feature map of 32 channels or more of
    every channel, a recurrent layer keeps every step."""
    return CHUNK if form.kind == "vector" else max(min(CHUNK, NUMBERS // form.size), 64)


def make_predict(program: ModelSpec) -> Callable[[Tensor, dict[str, Tensor], Tensor], Tensor]:
    """predict(params, buffers, inputs [N, ...]) -> outputs [N, C], without noise and gradients.

    params [P], or [E P] of E networks, whose outputs are [N, E, C]; their running statistics have an axis E
    too, other buffers they share.
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
    """All parts, `length` long together, one behind the other along `dim`; one alone is not copied.

    Each is put in its place as it comes: small outputs that wait between large inputs that come and go
    cut up the heap, and a validation split read from a file took up to as much as it would as floats.
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
    """The outputs [N, C] of E networks as [N, E, C]; of F that are each an ensemble, as [N, F E, C]."""
    return torch.cat([one if one.dim() == 3 else one.unsqueeze(1) for one in outputs], dim=1)


def final_names(program: ModelSpec, asked: Sequence[str]) -> list[str]:
    """The names of the metrics at the end of a run. asked: those of every epoch."""
    target, probabilistic = program.target, program.loss.part.traits.get("probabilistic", False)
    return final(target.task, len(target.classes), probabilistic, asked)


def make_measure(program: ModelSpec, names: Sequence[str]) -> Callable[..., Tensor]:
    """measure(outputs, targets, metric_targets, counts, numbers) -> [1 + M]: the loss, then named metrics.

    outputs [N, C]; targets [N, ...] as the loss takes them, and metric_targets as metrics do; counts [N] with
    zeros for padding. A metric that needs probabilities is NaN for a loss whose outputs are none, as is
    one that is undefined.
    """
    metrics = [component("metric", name) for name in names]
    traits = program.loss.part.traits
    # Where logits serve, the softmax is left out: it is the larger part of an epoch's accuracy.
    as_they_are = program.target.task == "multiclass" and all(m.traits.get("order_only") for m in metrics)

    def measure(
        outputs: Tensor, targets: Tensor, metric_targets: Tensor, counts: Tensor, numbers: Numbers
    ) -> Tensor:
        losses = program.losses(outputs, targets, numbers)
        values = [mean(losses, counts)]
        if metrics:
            scores = outputs if as_they_are and outputs.dim() == 2 else program.scores(outputs, numbers)
            values += [_measured(metric, traits, scores, metric_targets, counts) for metric in metrics]
        return torch.stack([value.to(torch.float64) for value in values])

    return measure


def _measured(metric: Component, traits: Mapping[str, Plain], scores: Tensor, y: Tensor, w: Tensor) -> Tensor:
    if metric.traits.get("probabilistic") and not traits.get("probabilistic"):
        return torch.full((), float("nan"), device=scores.device)
    result: Tensor = metric(scores, y, w)
    return result


class EpochEnd(NamedTuple):
    """What an epoch left of one member, for its report.

    outputs [R, C] and counts [R] (in metrics): of every row that was trained, in the order of
    `indices` [R] into the training examples. norms, objectives [S]: of every update. params,
    before [P]: after the last update and before it. evaluated [P], buffers: what to evaluate with.
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
    """What stands at each place of a report but the last."""
    train = [f"train/{name}" for name in ("loss", *names, "gradient_norm", "update_norm")]
    layers = [f"zeros/{name}" for name in ("all", *_weights(program))] if program.makes_zeros else []
    return train + layers + ([f"val/{name}" for name in ("loss", *names)] if validates else [])


def _weights(program: ModelSpec) -> list[str]:
    layout = program.layout
    return [name for name, weight in zip(layout.names, layout.penalized, strict=True) if weight]


def zeros(program: ModelSpec, params: Tensor) -> Tensor:
    """The share of exact zeros among all weights, then in each of them: [1 + W].

    params [P], or [E P] of E networks, over all of which it is.
    """
    layout = program.layout
    parts = zip(params.view(-1, layout.size).split(layout.sizes, 1), layout.penalized, strict=True)
    weights = [(part == 0).double().flatten() for part, weight in parts if weight]
    return torch.stack([torch.cat(weights).mean(), *(weight.mean() for weight in weights)])


def make_report(program: ModelSpec, names: Sequence[str], *, validates: bool) -> Callable[..., Tensor]:
    """report(end, train, val, numbers) -> the values of `report_names`, then `is_sound`.

    Training metrics are those of the outputs that the epoch's updates saw, with noise, with mixed targets
    where examples are mixed, and with the weights as they were then; validation metrics and
    zeros are those of the weights at the epoch's end that are evaluated and kept: of an average, where
    there is one.
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
    """Whether the gradients and losses of the updates [S] and the weights [P] look finite, bool.

    A sum may overflow where its terms do not: what looks broken is examined (divergence.py).
    """
    return torch.isfinite((norms + objectives).sum() + params.sum() + evaluated.sum())
