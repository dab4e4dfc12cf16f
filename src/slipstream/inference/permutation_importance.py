"""Permutation importance: how much worse a metric gets when one column, region or word is perturbed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from slipstream.core.console import number
from slipstream.core.errors import ConfigError, did_you_mean
from slipstream.core.registry import component
from slipstream.core.types import DataLike
from slipstream.core.wording import counted
from slipstream.inference.asked_data import asked_data
from slipstream.inference.dependence import Dependence, dependence_of
from slipstream.inference.ensemble import Ensemble, RunLike, open_run
from slipstream.inference.evaluation import (
    FEW,
    NO_INTERVAL,
    Interval,
    interval_of,
    metric_value,
    metric_values,
    resamples,
    scored,
)
from slipstream.inference.new_data import NewData
from slipstream.inference.perturbations import Kind, Perturbation, perturbations
from slipstream.metrics import every

REPEATS, GRID, WORDS, DEPENDENCE = 5, 4, 200, 3
MOST_ROWS = 20_000  # larger data are subsampled to this many rows
RESAMPLES = 400  # of the rows, for the intervals
SHOWN = 6  # features in a repr
SEED = 0  # of the permutations, so that importances repeat exactly


@dataclass(frozen=True)
class FeatureImportance:
    """The importance of one column, channel, region or word.

    worse: how much worse the metric gets, as the mean over the permutations: positive if the network uses the
    feature, None if the metric is undefined. interval: the 95 % interval from resampling the rows, or None.
    deviation: the standard deviation over permutations, None if nothing is permuted. rows: how many examples
    change.
    """

    name: str
    kind: Kind
    worse: float | None
    interval: Interval | None
    deviation: float | None
    rows: int


@dataclass(frozen=True)
class ImportanceResult:
    """The importance of every input of a run's network, in descending order.

    Attributes:
        name: the name of the run.
        rows: the number of examples.
        source: the origin of the examples.
        metric: the metric, or `loss` for the run's loss.
        mode: its better direction, "min" or "max".
        baseline: its value before anything is permuted.
        repeats: the number of permutations of each column.
        features: the importances, sorted by `worse`.
        dependence: the partial dependence on the first columns of a table.

    Example:
        >>> import slipstream
        >>> config = slipstream.compose("data=iris", "trainer.max_epochs=20")
        >>> run = slipstream.train(config, "runs/iris").directory
        >>> found = slipstream.importance(run)
        >>> found.metric, found.source, len(found.features)
        ('loss', 'the test rows of the run', 4)
    """

    name: str
    source: str
    rows: int
    metric: str
    mode: str
    baseline: float
    repeats: int
    features: tuple[FeatureImportance, ...]
    dependence: tuple[Dependence, ...]

    def __repr__(self) -> str:
        """Return the largest importances in a line."""
        told = ", ".join(f"{each.name} {number(each.worse)}" for each in self.features[:SHOWN])
        more = ", ..." if len(self.features) > SHOWN else ""
        rows = counted(self.rows, "example")
        return f"<importance for {self.name} by {self.metric} on {rows}, {self.source}: {told}{more}>"


def importance(
    run: RunLike,
    *data: DataLike,
    target: DataLike = None,
    metric: str | None = None,
    repeats: int = REPEATS,
    grid: int = GRID,
    words: int = WORDS,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> ImportanceResult:
    """Measure which inputs a run, a member of a sweep or a sweep's best trial uses to predict.

    An importance is how much worse the metric gets on the same examples when the values of one column are
    permuted between them, a region of the images is filled with the mean color, or a word is removed. The
    permutations equal those of scikit-learn's `permutation_importance` with random_state=0.

    Args:
        run: the folder of a run or a sweep, or the result of `slipstream.fit`, `train` or `sweep`.
        data: as in `slipstream.evaluate`; without any, the run's test rows, or its validation or training
            rows if it has no others.
        target: the targets of examples in memory.
        metric: a metric of the task, or "loss"; by default the one that chose the run's best epoch.
        repeats: permutations of each column.
        grid: regions along each side of an image.
        words: the number of words to try, those in most texts.
        progress: called with the number of features done and their total.

    Returns:
        Importances with intervals, and the partial dependence on the first columns of a table.

    Raises:
        UserError: the folder holds no trained run.
        ConfigError, DataError: the data or the metric do not fit the run.

    Example:
        >>> import slipstream
        >>> config = slipstream.compose("data=iris", "trainer.max_epochs=20")
        >>> run = slipstream.train(config, "runs/iris").directory
        >>> slipstream.importance(run, metric="accuracy").mode
        'max'
    """
    ensemble = open_run(run)
    _metric(ensemble, metric)  # fail before reading data
    found, source = asked_data(ensemble, data, target)
    return importance_of(ensemble, found, source, metric, repeats, grid, words, progress)


def importance_of(
    ensemble: Ensemble,
    data: NewData,
    source: str,
    metric: str | None = None,
    repeats: int = REPEATS,
    grid: int = GRID,
    words: int = WORDS,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> ImportanceResult:
    """Measure importances on examples that have already been read. source: their description."""
    metric = _metric(ensemble, metric)
    examples = _Examples.of(ensemble, data, metric)
    if len(examples.y) < len(data):
        source += f" ({len(examples.y):,} drawn at random from {len(data):,})"
    baseline = metric_value(metric, *examples.scored(), examples.w)
    if not np.isfinite(baseline):
        raise ConfigError([f"{metric}: undefined on {source}; choose another one, such as --metric loss"])
    mode = "min" if metric == "loss" else component("metric", metric).traits.mode
    what = perturbations([m.preprocessing for m in ensemble.models], examples.inputs, grid, words)
    found = []
    for done, one in enumerate(what):
        progress(done, len(what))
        found.append(examples.importance(one, -1.0 if mode == "max" else 1.0, repeats))
    progress(len(what), len(what))
    found.sort(key=lambda each: -np.inf if each.worse is None else each.worse, reverse=True)
    first = [each.name for each in found if each.kind == "column"][:DEPENDENCE]
    return ImportanceResult(
        str(ensemble),
        source,
        len(examples.y),
        metric,
        mode,
        baseline,
        repeats,
        tuple(found),
        tuple(dependence_of(ensemble, examples.inputs, examples.w, first)),
    )


def _metric(ensemble: Ensemble, asked: str | None) -> str:
    """Return the requested metric, or the one that the first run monitored."""
    first = ensemble.first
    if asked is None:
        monitored = ensemble.origins[0].config["early_stopping"]["metric"]
        return str(monitored).partition("/")[2]
    known = ["loss", *every(first.target.task, len(first.target.classes), first.probabilistic)]
    if asked not in known:
        raise ConfigError([f"--metric {asked}: not a metric of this run, {did_you_mean(asked, known)}"])
    return asked


def orders(count: int, repeats: int) -> Iterator[Tensor]:
    """Yield permutations [N] equal to those of scikit-learn's permutation_importance with random_state=0.

    scikit-learn shuffles one list of positions repeatedly and applies it to the already permuted column.
    """
    draw = np.random.RandomState(np.random.RandomState(SEED).randint(np.iinfo(np.int32).max + 1))
    shuffled, made = np.arange(count), np.arange(count)
    for _ in range(repeats):
        draw.shuffle(shuffled)
        made = made[shuffled]
        yield torch.from_numpy(made)


@dataclass
class _Examples:
    """Examples, networks and a metric, with the values that all perturbations share."""

    ensemble: Ensemble
    inputs: tuple[Tensor, ...]
    targets: np.ndarray
    w: Tensor
    metric: str
    weights: Tensor | None  # [B, N], of the resamples; None if there are too few rows
    scores: Tensor
    losses: Tensor

    @classmethod
    def of(cls, ensemble: Ensemble, data: NewData, metric: str) -> _Examples:
        """Subsample the rows if there are too many, and predict them."""
        inputs, targets, w = data.inputs, np.asarray(data.raw.targets), data.weights
        if len(data) > MOST_ROWS:
            rows = np.sort(np.random.default_rng(SEED).choice(len(data), MOST_ROWS, replace=False))
            inputs = tuple(x[torch.from_numpy(rows)] for x in inputs)
            targets, w = targets[rows], w[torch.from_numpy(rows)]
        enough = len(targets) >= FEW and metric not in NO_INTERVAL
        weights = torch.cat(list(resamples(w, RESAMPLES))) if enough else None
        return cls(ensemble, inputs, targets, w, metric, weights, *scored(ensemble, inputs, targets))

    @property
    def y(self) -> Tensor:
        """The targets."""
        return torch.from_numpy(self.targets)

    @cached_property
    def before(self) -> np.ndarray:
        """The metric of each resample [B] before anything is permuted."""
        assert self.weights is not None
        return metric_values(self.metric, *self.scored(), self.weights)

    def scored(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return scores, targets and losses."""
        return self.scores, self.y, self.losses

    def importance(self, one: Perturbation, sign: float, repeats: int) -> FeatureImportance:
        """Measure how much worse the metric gets. sign: -1 for a metric where larger is better."""
        values, resampled = [], []
        for order in orders(len(self.y), repeats if one.shuffles else 1):
            seen = self._spoiled(one, order)
            values.append(metric_value(self.metric, *seen, self.w))
            if self.weights is not None:
                resampled.append(metric_values(self.metric, *seen, self.weights))
        worse = sign * (np.array(values) - metric_value(self.metric, *self.scored(), self.w))
        interval = None
        if self.weights is not None:
            interval = interval_of(sign * (np.mean(resampled, axis=0) - self.before))
        return FeatureImportance(
            one.name,
            one.kind,
            float(worse.mean()) if np.isfinite(worse).all() else None,
            interval,
            float(worse.std()) if one.shuffles else None,
            len(self.y) if one.touched is None else int(one.touched.sum()),
        )

    def _spoiled(self, one: Perturbation, order: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return scores, targets and losses after the change. Only changed examples are predicted again."""
        if one.touched is None:
            changed = [one.change(i, x, order) for i, x in enumerate(self.inputs)]
            scores, losses = scored(self.ensemble, changed, self.targets)
            return scores, self.y, losses
        rows = torch.nonzero(one.touched).flatten()
        changed = [one.change(i, x[rows], rows) for i, x in enumerate(self.inputs)]
        scores, losses = self.scores.clone(), self.losses.clone()
        scores[rows], losses[rows] = scored(self.ensemble, changed, self.targets[rows.numpy()])
        return scores, self.y, losses
