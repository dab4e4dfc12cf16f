"""Evaluation of trained networks on examples with known targets: metrics with intervals, and every row."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from slipstream.core.console import number
from slipstream.core.registry import component
from slipstream.core.types import DataLike, Plain, Target
from slipstream.core.wording import counted
from slipstream.inference.asked_data import asked_data, trained_on
from slipstream.inference.ensemble import Ensemble, RunLike, open_run
from slipstream.inference.new_data import NewData
from slipstream.metrics import confusion_matrix, every

LEVEL = 0.95  # the confidence level of intervals
RESAMPLES, LEAST_RESAMPLES, VALUES = (
    1000,
    200,
    2**25,
)  # VALUES: resamples times rows beyond which they are fewer
AT_ONCE = 2**21  # resamples x rows computed together
SEED = 0  # of the resamples, so that an evaluation repeats exactly
FEW = 20  # groups with fewer rows have no interval
# A resample is less calibrated than the rows that it is drawn from. Its errors are larger, so the interval
# would lie above the value.
NO_INTERVAL = ("ece",)

Interval = tuple[float, float]


@dataclass(frozen=True)
class Measured:
    """Metrics of some rows: values by name (None if undefined) and intervals (None if not computed)."""

    rows: int
    values: Mapping[str, float | None]
    intervals: Mapping[str, Interval | None]


@dataclass(frozen=True)
class Evaluation:
    """The evaluation of a run, or of several networks together, on N examples.

    Attributes:
        name: the run, or the networks, that were evaluated.
        target: the task, the target columns and the classes.
        scores: class scores float32 [N, C], or values in original units float64 [N, D].
        targets: class indices [N], 0 and 1 [N, L], or values [N, D].
        losses: the loss of each example, float64 [N]; for several networks, the mean of their losses.
        weights: the weights of the examples [N].
        data: the examples.
        probabilistic: True if the scores are probabilities.
        networks: the number of networks that predict together.
        whole: metrics of all rows with 95 % bootstrap intervals.
        groups: the metrics of each group, if a column was named.

    Example:
        >>> import polars, slipstream
        >>> table = polars.DataFrame({"x": range(80), "y": ["no", "yes"] * 40})
        >>> table.write_csv("xy.csv")
        >>> words = ["data=table", "data.path=xy.csv", "data.target=y", "trainer.max_epochs=1"]
        >>> run = slipstream.train(slipstream.compose(words), "runs/xy")
        >>> table.sample(30, seed=0).write_csv("new.csv")
        >>> found = slipstream.evaluate(run, "data.path=new.csv")
        >>> found.whole.rows, 0 <= found.whole.values["accuracy"] <= 1
        (30, True)
    """

    name: str
    target: Target
    scores: np.ndarray
    targets: np.ndarray
    losses: np.ndarray
    weights: np.ndarray
    data: NewData
    probabilistic: bool
    whole: Measured
    groups: Mapping[str, Measured]
    networks: int = 1

    def __repr__(self) -> str:
        """Return the metrics on one line, without the rows."""
        values = ", ".join(f"{name} {number(value)}" for name, value in self.whole.values.items())
        return f"<evaluation of {self.name}, {counted(len(self.data), self.data.raw.unit)}: {values}>"

    @cached_property
    def confusion(self) -> np.ndarray | None:
        """The confusion matrix [C, C], weights by true (row) and predicted class; None for other tasks."""
        if self.target.task not in ("binary", "multiclass"):
            return None
        scores, targets, weights = (torch.from_numpy(v) for v in (self.scores, self.targets, self.weights))
        found: np.ndarray = confusion_matrix(scores, targets, weights).numpy()
        return found

    @cached_property
    def per_class(self) -> list[dict[str, Plain]]:
        """Precision, recall, F1 and the number of examples of each class; empty for other tasks."""
        if self.target.task == "multilabel":
            right = (self.scores > 0.5) & (self.targets > 0.5)
            tp = self.weights @ right
            predicted, true = self.weights @ (self.scores > 0.5), self.weights @ (self.targets > 0.5)
        elif (counts := self.confusion) is not None:
            tp, predicted, true = counts.diagonal(), counts.sum(axis=0), counts.sum(axis=1)
        else:
            return []
        return [
            {
                "class": name,
                "precision": _ratio(tp[i], predicted[i]),
                "recall": _ratio(tp[i], true[i]),
                "f1": _ratio(2 * tp[i], predicted[i] + true[i]),
                "examples": float(true[i]),
            }
            for i, name in enumerate(self.target.classes)
        ]

    def worst(self, count: int) -> list[int]:
        """Return the rows with the largest losses.

        Args:
            count: the largest number of rows.

        Returns:
            The indices of the rows from 0, the largest loss first.
        """
        return [int(row) for row in np.argsort(-self.losses, kind="stable")[:count]]


def evaluate(run: RunLike, *data: DataLike, target: DataLike = None, by: str | None = None) -> Evaluation:
    """Evaluate a run, a sweep's member or a sweep's best trial on examples with known targets.

    Args:
        run: the folder of a run or a sweep, or the result of `slipstream.fit`, `train` or `sweep`.
        data: a table, an array or a dataset, as in `slipstream.fit`; or overrides of the run's data
            settings, such as "data.path=new.csv". All rows are evaluated. Without any, the run's test
            rows, or its validation or training rows if it has no others.
        target: the targets of examples in memory, [N] or [N, D]; None uses the run's target columns of the
            table. Classes are labels, or their numbers from 0 if the run's classes have names.
        by: a column of a table whose values are groups, each evaluated separately.

    Returns:
        Metrics with intervals, and scores and losses of every row.

    Raises:
        UserError: the folder is not a run. ConfigError, DataError: the data do not fit the run.

    Example:
        >>> import polars, slipstream
        >>> table = polars.DataFrame({"x": range(80), "y": ["no", "yes"] * 40})
        >>> run = slipstream.fit(table, "y", "trainer.max_epochs=1")
        >>> found = slipstream.evaluate(run, table.head(30))
        >>> len(found.losses), len(found.per_class)
        (30, 2)
        >>> slipstream.evaluate(run).whole.rows  # its test rows
        12
    """
    ensemble = open_run(run)
    found, source = asked_data(ensemble, data, target, by)
    texts = [one for one in data if isinstance(one, str)]
    for text in trained_on([origin.config for origin in ensemble.origins], texts):
        warnings.warn(text, stacklevel=2)
    measured = evaluated(ensemble, found)
    return measured if data else replace(measured, name=source)


def evaluated(ensemble: Ensemble, data: NewData) -> Evaluation:
    """Evaluate networks on examples that have already been read."""
    target, models = ensemble.target, ensemble.models
    mean, loss = scored(ensemble, data.inputs, data.raw.targets)
    y, w = torch.from_numpy(np.asarray(data.raw.targets)), data.weights
    probabilistic = all(model.probabilistic for model in models)
    names = every(target.task, len(target.classes), probabilistic)
    groups = {}
    if data.groups is not None:
        for code, label in [*enumerate(data.groups.values), (-1, "(missing)")]:
            rows = torch.from_numpy(data.groups.codes == code)
            if rows.any():
                groups[label] = measure(names, mean[rows], y[rows], w[rows], loss[rows])
    return Evaluation(
        str(ensemble),
        target,
        mean.numpy(),
        y.numpy(),
        loss.numpy(),
        w.numpy(),
        data,
        probabilistic,
        measure(names, mean, y, w, loss),
        groups,
        len(models),
    )


def scored(ensemble: Ensemble, inputs: Sequence[Tensor], targets: np.ndarray) -> tuple[Tensor, Tensor]:
    """Return the scores [N, C] and the loss of each example, float64 [N], both as means over the networks.

    inputs: one tensor per network. targets: class indices, 0 and 1, or values in original units.
    """
    scores, losses = [], []
    for model, own in zip(ensemble.models, inputs, strict=True):
        outputs = model.outputs(own)
        scores.append(model.program.scores(outputs, model.numbers))
        losses.append(model.program.losses(outputs, _for_loss(targets, model.target), model.numbers))
    mean = scores[0] if len(scores) == 1 else torch.stack(scores).mean(0)
    return mean, torch.stack(losses).double().mean(0)


def _for_loss(targets: np.ndarray, target: Target) -> Tensor:
    """Return targets as losses expect them; regression targets are scaled."""
    if target.task == "regression":
        scaled = (targets - np.array(target.offset)) / np.array(target.scale)
        return torch.from_numpy(scaled.astype(np.float32))
    return torch.from_numpy(targets.astype(np.float32) if target.task == "multilabel" else targets)


def measure(names: Sequence[str], scores: Tensor, y: Tensor, w: Tensor, losses: Tensor) -> Measured:
    """Compute metrics of rows with percentile bootstrap intervals (Efron 1979)."""
    values = {name: metric_value(name, scores, y, losses, w) for name in ("loss", *names)}
    known = {name: value if np.isfinite(value) else None for name, value in values.items()}
    if len(scores) < FEW:
        return Measured(len(scores), known, dict.fromkeys(values))
    found: dict[str, list[np.ndarray]] = {name: [] for name in values if name not in NO_INTERVAL}
    for weights in resamples(w):
        for name, many in found.items():
            many.append(metric_values(name, scores, y, losses, weights))
    made = {name: interval_of(np.concatenate(many)) for name, many in found.items()}
    return Measured(len(scores), known, dict.fromkeys(values) | made)


def resamples(w: Tensor, most: int = RESAMPLES, least: int = LEAST_RESAMPLES) -> Iterator[Tensor]:
    """Yield the weights [B, N] of rows in bootstrap resamples, block by block. They depend only on N.

    A resample draws N rows with replacement. Row n has its weight times the number of times it was drawn.
    """
    count = len(w)
    draws = int(np.clip(VALUES // count, least, max(least, most)))
    generator = np.random.default_rng(SEED)
    step = max(AT_ONCE // count, 1)
    for first in range(0, draws, step):
        many = min(step, draws - first)
        yield torch.from_numpy(generator.multinomial(count, np.full(count, 1 / count), size=many)) * w


def metric_value(name: str, scores: Tensor, y: Tensor, losses: Tensor, w: Tensor) -> float:
    """Return a metric, or the mean `loss`, over examples with weights [N]; NaN if it is undefined."""
    if name == "loss":
        return float((losses * w.double()).sum() / w.double().sum())
    return float(component("metric", name)(scores, y, w))


def metric_values(name: str, scores: Tensor, y: Tensor, losses: Tensor, weights: Tensor) -> np.ndarray:
    """Return a metric, or the mean `loss`, under each row of weights [B, N]: float64 [B]."""
    if name == "loss":
        found = weights.double() @ losses / weights.double().sum(1)
    else:
        metric = component("metric", name)
        found = torch.vmap(metric.function, in_dims=(None, None, 0))(scores, y, weights)
    result: np.ndarray = found.numpy()
    return result


def interval_of(values: np.ndarray) -> Interval | None:
    """Return the percentile interval of resampled values; None if more than half of them are undefined."""
    finite = values[np.isfinite(values)]
    if len(finite) < len(values) / 2:
        return None
    low, high = np.quantile(finite, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _ratio(part: float, whole: float) -> float | None:
    return float(part / whole) if whole else None
