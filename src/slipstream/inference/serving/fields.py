"""The fields that a run accepts: kinds, typical values and examples, from its preprocessing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from slipstream.core.types import Plain
from slipstream.core.wording import counted
from slipstream.data.array_preprocessing import ArrayPreprocessing
from slipstream.data.image.image_preprocessing import ImagePreprocessing
from slipstream.data.sequence.long_table import SequencePreprocessing
from slipstream.data.tabular.encoding import Column
from slipstream.data.tabular.spelling import CLOCK, day_told
from slipstream.data.tabular.values import Text
from slipstream.data.text.vocabulary import TextPreprocessing
from slipstream.inference.ensemble import Ensemble

Layout = Literal["table", "steps", "texts", "images", "numbers"]
IMPUTED = {"mean": "mean", "most_frequent": "most frequent value"}  # the others use the median
CENTRES = {"standard": "mean", "global": "mean", "robust": "median", "minmax": "middle", "none": ""}


@dataclass(frozen=True)
class Field:
    """One value of a row.

    kind: number, boolean, date, time of day, category, text, id or step time. example: a typical value, as
    JSON. low, high: the range of most training values, None if unknown. categories: those of training.
    optional: True if a missing value (null) can be encoded.
    """

    name: str
    kind: str
    example: Plain
    low: float | None = None
    high: float | None = None
    categories: tuple[str, ...] = ()
    optional: bool = True
    format: str = ""

    @property
    def told(self) -> str:
        """A short description of the values seen in training."""
        if self.low is not None and self.high is not None:
            if self.low == self.high:
                return f"always {self.low:g} in training"
            return f"about {_short(self.low)} to {_short(self.high)} in training"
        if self.categories:
            return f"one of {counted(len(self.categories), 'category', 'categories')}"
        return {"date": "such as 2026-01-31", "time of day": "such as 14:30"}.get(self.kind, "")


@dataclass(frozen=True)
class RunInputs:
    """The examples that a run accepts.

    layout: rows of a table, steps of sequences, texts, images, or nested lists of numbers. shape: the shape
    of one example. ids: the number of ids if the numbers are ids, otherwise 0.
    """

    layout: Layout
    fields: tuple[Field, ...]
    shape: tuple[int, ...]
    ids: int = 0

    @property
    def example(self) -> Plain:
        """One row as JSON, or several steps of a sequence."""
        row = {field.name: field.example for field in self.fields}
        if self.layout == "steps":
            order, time = self.fields[:2]
            start = time.example
            times = [start + i for i in range(3)] if order and isinstance(start, int) else [start]
            return [row | {time.name: value} for value in times]
        if self.layout in ("images", "numbers"):
            return np.zeros(self.shape, int if self.ids else float).tolist()
        return row


def inputs_of(ensemble: Ensemble) -> RunInputs:
    """Describe the examples that the networks accept."""
    preprocessing, settings = ensemble.first.preprocessing, ensemble.first.data
    shape, scaling = preprocessing.spec.shape, settings.get("scaling", "standard")
    if isinstance(preprocessing, ImagePreprocessing):
        return RunInputs("images", (), shape)
    if isinstance(preprocessing, TextPreprocessing):
        words = [word for word in preprocessing.vocabulary[2:8] if word.strip()]
        text = Field(preprocessing.columns[0].name, "text", " ".join(words) or "a text")
        return RunInputs("texts", (text,), shape)
    if isinstance(preprocessing, ArrayPreprocessing):
        if preprocessing.kind != "vector" or not preprocessing.columns or len(shape) > 1:
            return RunInputs("numbers", (), shape, preprocessing.spec.vocabulary)
        return RunInputs("table", _fields(preprocessing.columns, scaling, optional=False), shape)
    fields = _fields(preprocessing.columns, scaling)
    if isinstance(preprocessing, SequencePreprocessing):
        steps = preprocessing.steps
        lead = (
            Field(steps.id, "id", "a", optional=False),
            Field(steps.time, "step time", "2026-01-31" if steps.format else 1, optional=False),
        )
        return RunInputs("steps", (*lead, *fields), shape)
    return RunInputs("table", fields, shape)


def _fields(columns: Sequence[Column], scaling: str, optional: bool = True) -> tuple[Field, ...]:
    made = []
    for column in columns:
        kind = "time of day" if column.format == CLOCK else column.kind
        low, high = _range(column, scaling) if kind == "number" else (None, None)
        words = (*column.categories, *column.rare)
        example = _example(column, kind, centre(column, scaling))
        made.append(Field(column.name, kind, example, low, high, words, optional, column.format))
    return tuple(made)


def _range(column: Column, scaling: str) -> tuple[float | None, float | None]:
    """Return the range of most training values: all of them, or two standard deviations around the mean."""
    if scaling == "none":
        return None, None
    if column.factor == 0:
        return column.offset, column.offset
    width = 1 / column.factor
    if scaling == "minmax":
        return column.offset, column.offset + width
    spread = width if scaling == "robust" else 2 * width
    return column.offset - spread, column.offset + spread


def centre(column: Column, scaling: str) -> float:
    """Return a typical value of a column that is not categorical: the fill value of missing ones.

    Columns of arrays have no fill value; theirs is the center of their scaling.
    """
    if column.fill or column.flag or column.kind != "number":
        return column.fill
    low, high = _range(column, scaling)
    return 0.0 if low is None or high is None else (low + high) / 2


def typical(column: Column, scaling: str, impute: str, arrays: bool) -> tuple[np.ndarray, str]:
    """Return typical values of a column, encoded as float32 [outputs, V], and their description.

    V is 1 for a number. For a category it is the number of categories, over which scores are averaged.
    """
    if column.kind == "category":
        words = [*column.categories, *column.rare][:64]
        values: Plain = Text(np.arange(len(words), dtype=np.int32), words or [""], "text")
        if not words:
            values = Text(np.array([-1], np.int32), [], "text")
        told = f"the average over its {counted(len(words), 'category', 'categories')}"
    else:
        value = centre(column, scaling)
        values = np.array([value])
        how = IMPUTED.get(impute, "median") if column.kind != "boolean" else "most frequent value"
        how = CENTRES.get(scaling, "mean") if arrays else how
        shown = (
            day_told(value)
            if column.kind == "date" and column.format != CLOCK
            else _example(column, column.kind, value)
        )
        shown = str(shown).lower() if isinstance(shown, bool) else shown
        told = f"the {how}, {shown}" if how else f"{shown}"
    out = np.empty((len(column.outputs()), len(values)), np.float32)
    column.encode(values, out, [])
    return out, told


def _example(column: Column, kind: str, value: float) -> Plain:
    if kind == "category":
        return next(iter((*column.categories, *column.rare)), "")
    if kind == "boolean":
        return bool(value)
    if kind == "date":
        try:
            return day_told(value)[:10]  # the page has a date field
        except OverflowError:
            return "2026-01-31"
    if column.format == CLOCK:
        hour, minute = divmod(round(value * 60), 60)
        return f"{hour % 24:02}:{minute:02}"
    short = float(f"{value:.4g}")
    return int(short) if short.is_integer() and abs(short) < 1e15 else short


def _short(number: float) -> str:
    return (
        f"{number:.3g}" if abs(number) < 1e3 else f"{number:,.0f}" if abs(number) < 1e7 else f"{number:.3g}"
    )
