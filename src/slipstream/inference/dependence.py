"""Partial dependence: the mean prediction when all examples have one value of a column (Friedman 2001)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from slipstream.data.scaling import CLIP
from slipstream.data.tabular.encoding import Column
from slipstream.data.tabular.spelling import day_told
from slipstream.inference.ensemble import Ensemble
from slipstream.inference.perturbations import slices

NEARLY = 0.003  # days: a scaled date is a float32, and midnight is printed without a time of day
LEVELS = 20  # the largest number of values tried per column


@dataclass(frozen=True)
class Dependence:
    """The mean prediction at some of the values that a column has in the examples.

    Attributes:
        column: the name of the column.
        kind: its kind, as in the run's data.
        values: [V], numbers in the units of the file, or strings.
        outputs: [D], the classes (only the second of two) or the targets.
        means: [V, D], mean probabilities (or scores), or values in original units.
    """

    column: str
    kind: str
    values: tuple[float | str, ...]
    outputs: tuple[str, ...]
    means: tuple[tuple[float, ...], ...]


def dependence_of(
    ensemble: Ensemble, inputs: Sequence[Tensor], w: Tensor, names: Sequence[str]
) -> list[Dependence]:
    """Return the partial dependence on the columns of a table, or an empty list for other data.

    inputs: [N, D] for each network. w: the weights of the examples [N].
    """
    first, found = ensemble.first, []
    if first.preprocessing.spec.kind != "vector":
        return []
    columns = {column.name: column for column in first.preprocessing.columns}
    places = [slices(model.preprocessing) for model in ensemble.models]
    task, classes = first.target.task, first.target.classes
    keep = slice(1, 2) if task == "binary" else slice(None)
    for name in names:
        column = columns[name]
        levels = levels_of(column, inputs[0][:, places[0][name]].numpy())
        means = []
        for row, _ in levels:
            scores = []
            for model, x, place in zip(ensemble.models, inputs, places, strict=True):
                fixed = x.clone()
                fixed[:, place[name]] = x[row, place[name]]
                scores.append(model.scores(fixed))
            mean = np.average(np.mean(scores, axis=0)[:, keep], axis=0, weights=w.numpy())
            means.append(tuple(mean.tolist()))
        told = tuple(value for _, value in levels)
        outputs = (classes or first.target.names)[keep]
        found.append(Dependence(name, column.kind, told, outputs, tuple(means)))
    return found


def levels_of(column: Column, encoded: np.ndarray) -> list[tuple[int, float | str]]:
    """Return examples [row, value] whose values of a column are taken, in order.

    For numbers, including dates, these are up to LEVELS quantiles.
    encoded: the column's inputs [N, outputs].
    """
    missing = encoded[:, -1] == 1 if column.flag else np.zeros(len(encoded), bool)
    if column.kind == "category":
        kept, rows = np.unique(encoded, axis=0, return_index=True)
        named = [*column.categories, *(["(other)"] if column.rare else [])]
        told: list[tuple[int, float | str]] = []
        for pattern, row in zip(kept, rows.tolist(), strict=True):
            place = int(pattern.argmax()) if pattern.any() else -1
            name = "(unknown)" if place < 0 else named[place] if place < len(named) else "(missing)"
            told.append((row, name))
        return sorted(told, key=lambda each: str(each[1]))[: 2 * LEVELS]
    there = np.flatnonzero(~missing)
    if not len(there):
        return []
    order = there[np.argsort(encoded[there, 0], kind="stable")]
    distinct = order[np.concatenate([[True], np.diff(encoded[order, 0]) > 0])]
    if len(distinct) > LEVELS:
        at = np.linspace(0, len(order) - 1, LEVELS).round().astype(int)
        _, first = np.unique(encoded[order[at], 0], return_index=True)
        distinct = order[at][first]
    return [(int(row), _raw(column, encoded[row].astype(float))) for row in distinct]


def _raw(column: Column, outputs: np.ndarray) -> float | str:
    """Return an encoded value [outputs] in the units of the file, rounded to float32 precision."""
    value = float(outputs[0])
    if column.clip:
        value = value / float(np.sqrt(max(1 - (value / CLIP) ** 2, 1e-12)))
    raw = column.offset + (value / column.factor if column.factor else 0.0)
    if column.kind == "boolean":
        return "true" if raw > 0.5 else "false"
    if column.kind == "date" and "year" in column.cycles:
        return day_told(_with_time(column, raw, outputs))
    return float(f"{raw:.6g}")


def _with_time(column: Column, days: float, outputs: np.ndarray) -> float:
    """Return days since 1970 with the time of day of its cycle: over a century a float32 is minutes off."""
    if "day" not in column.cycles:
        return round(days) if abs(days - round(days)) < NEARLY else days
    sine = 1 + 2 * column.cycles.index("day")
    time = np.arctan2(outputs[sine], outputs[sine + 1]) / (2 * np.pi)
    return float(round(days - time) + time)
