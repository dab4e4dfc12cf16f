"""Symptoms of a run that does not work, read from its logs. A healthy run has none."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from slipstream.config.files import defaults
from slipstream.config.run_config import Config
from slipstream.core.console import number
from slipstream.core.types import Plain, Target
from slipstream.data import Data
from slipstream.early_stopping import direction
from slipstream.runs.summary import Result
from slipstream.training.member import DIVERGED, FINISHED, STOPPED

FLAT = 0.8  # share of a layer's units that are dead or saturated
PENALTY = 0.6  # largest share of the objective
CLIPPED = 0.05  # smallest share of the gradient that clipping may leave
FAR = 30.0  # ratio of a rate to the usual one
CHANCE = 0.02  # margin around the accuracy, or R2, of a constant prediction
GAP = 0.12  # smallest gap of the metric between two splits
ERRORS = 4.0  # the same, in standard errors of the later split
EARLY = 4  # early stopping rarely keeps one of the first 4 epochs of a run that works
FALLING = 0.1  # relative fall of the loss over the last tenth of the epochs
ROOM = 0.95  # accuracy or R2 above which little is left to gain


@dataclass(frozen=True)
class EndOfRun:
    """A run at its end.

    sizes: the rows of train, validation and test. shares: the share of each class among the training rows,
    None without classes.
    """

    config: Config
    target: Target
    result: Result
    sizes: tuple[int, int, int]
    shares: np.ndarray | None

    @property
    def metric(self) -> str:
        """The metric by which splits are compared: accuracy or r2."""
        return "accuracy" if self.shares is not None else "r2"

    def scored(self, split: str) -> float:
        """Return the metric of the delivered weights on a split, NaN if there is none."""
        kept = self.config.early_stopping.settings["restore_best"]
        values = self.result.best if kept else self.result.last
        found = values.get(f"{split}/{self.metric}")
        return math.nan if found is None else found

    @property
    def chance(self) -> float:
        """The metric of a constant prediction."""
        return 0.0 if self.shares is None else float(self.shares.max())


def end_of_run(config: Config, data: Data, result: Result) -> EndOfRun:
    """Return a run at its end."""
    sizes = len(data.train), len(data.validation.inputs), len(data.test.inputs)
    classes = data.target.task in ("binary", "multiclass")
    return EndOfRun(config, data.target, result, sizes, class_shares(data) if classes else None)


def class_shares(data: Data) -> np.ndarray:
    """Return the share of each class among the training rows, by their weights in metrics: [classes]."""
    weights = data.train.weights if data.train.counts is None else data.train.counts
    classes = data.train.targets.numpy().reshape(-1)
    counts = np.bincount(classes, weights.numpy(), minlength=len(data.target.classes))
    shares: np.ndarray = counts / (counts.sum() or 1.0)
    return shares


def of_layers(line: Mapping[str, Plain], quantity: str) -> dict[str, float]:
    """Return an observed quantity by layer, in order, without the layers that lack it.

    line: a line of observations.jsonl.
    """
    named = [key.split("/") for key in line if key.startswith("layers/")]
    values = {layer: line[f"layers/{layer}/{quantity}"] for _, layer, name in named if name == quantity}
    return {layer: float(value) for layer, value in values.items() if value is not None}


def symptoms(end: EndOfRun) -> list[str]:
    """Return a sentence for each symptom of a run that has ended, the gravest first."""
    found = [_divergence, _settings, _units, _updates, _chance, _gaps, _length]
    return [sentence for symptom in found for sentence in symptom(end)]


def _divergence(end: EndOfRun) -> Iterator[str]:
    if end.result.status == DIVERGED:
        yield "the loss diverged"


def _settings(end: EndOfRun) -> Iterator[str]:
    rate = end.config.optimizer.settings.get("lr")
    usual = defaults("optimizer", end.config.optimizer.name).get("lr")
    if rate and usual and not 1 / FAR < rate / usual < FAR and _poor(end):
        yield f"the learning rate {rate:g} is {number(rate / usual, 2)} times the usual {usual:g}"
    stopping = end.config.early_stopping.settings
    metric, mode = stopping["metric"], stopping["mode"]
    if direction(metric, mode) != direction(metric, "auto"):
        yield f"mode={mode} keeps the worst epoch by {metric}"


def _units(end: EndOfRun) -> Iterator[str]:
    if not end.result.observations:
        return
    last: Mapping[str, Plain] = end.result.observations[-1]
    for quantity, said in (
        ("dead", "of the units of {} are 0 for every row"),
        ("saturated", "of the outputs of {} are saturated"),
    ):
        known = of_layers(last, quantity)
        if known and max(known.values()) > FLAT:
            name = max(known, key=lambda key: known[key])
            yield f"{known[name]:.0%} {said.format(name)}"


def _updates(end: EndOfRun) -> Iterator[str]:
    if not end.result.observations:
        return
    last: Mapping[str, Plain] = end.result.observations[-1]
    share, left = last.get("probe/penalty_share"), last.get("updates/gradient_left_by_clipping")
    if share is not None and share > PENALTY:
        yield f"{share:.0%} of the objective is the penalty"
    if left is not None and left < CLIPPED:
        yield f"clipping leaves {left:.1%} of the gradient"


def _chance(end: EndOfRun) -> Iterator[str]:
    value, chance = end.scored("train"), end.chance
    if math.isfinite(value) and value < chance + CHANCE and chance < 0.98:
        yield f"train/{end.metric} is {value:.3g}; a constant prediction scores {chance:.3g}"
        return
    value = end.scored("val")
    if math.isfinite(value) and value < chance - CHANCE:
        yield f"val/{end.metric} is {value:.3g}; a constant prediction scores {chance:.3g}"


def _gaps(end: EndOfRun) -> Iterator[str]:
    """Yield a gap between train and validation, or validation and test, that exceeds chance."""
    values = [end.scored(split) for split in ("train", "val", "test")]
    for a, b in ((0, 1), (1, 2)):
        first, second, rows = values[a], values[b], end.sizes[b]
        if not (math.isfinite(first) and math.isfinite(second) and rows):
            continue
        error = math.sqrt(max(second * (1 - second), 0.05) / rows) if end.shares is not None else 0.05
        if first - second > max(GAP, ERRORS * error):
            names = ("train", "val", "test")
            yield f"{names[a]}/{end.metric} is {first:.3g}, but {names[b]}/{end.metric} is {second:.3g}"


def _length(end: EndOfRun) -> Iterator[str]:
    records: Sequence[Mapping[str, Plain]] = end.result.records
    planned = end.config.trainer.max_epochs
    if end.result.status == STOPPED and end.result.best_epoch <= EARLY and planned >= 10:
        yield f"early stopping kept epoch {end.result.best_epoch} of {planned}"
    if end.result.status != FINISHED or len(records) < 2:
        return
    losses = [record.get("val/loss", record.get("train/loss")) for record in records]
    known = np.array([float(loss) for loss in losses if loss is not None])
    fall, epochs = fall_at_end(known)
    if fall > FALLING and known[-1] <= known.min() and _poor(end):
        last = "last epoch" if epochs == 1 else f"last {epochs} epochs"
        yield f"the loss still falls: by {fall:.0%} in the {last}"


def fall_at_end(curve: np.ndarray) -> tuple[float, int]:
    """Return the relative fall of a curve over its last tenth, and the epochs of this tenth, at least one.

    curve: one value per epoch, [epochs]; values that are not finite are left out. NaN for fewer than two.

    >>> fall_at_end(np.array([1.0, 0.5, np.nan, 0.25]))
    (0.5, 1)
    """
    known = curve[np.isfinite(curve)]
    epochs = max(len(known) // 10, 1)
    if len(known) < 2:
        return math.nan, epochs
    before, after = float(known[-1 - epochs]), float(known[-1])
    return (before - after) / (abs(before) or 1e-12), epochs


def _poor(end: EndOfRun) -> bool:
    """Return True if the run could still improve by more than noise."""
    value = end.scored("val") if end.sizes[1] else end.scored("train")
    return not value > ROOM
