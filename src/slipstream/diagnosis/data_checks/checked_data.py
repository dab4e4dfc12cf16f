"""The data of a run as the checks see them: raw columns, and a sample of rows as numbers on one scale."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from slipstream.core.lazy import torch
from slipstream.core.types import Plain
from slipstream.data.dataset import Data, RawData, Settings, Split
from slipstream.data.kinds import reader_of
from slipstream.data.tabular.columns import as_text, read_as
from slipstream.data.tabular.values import Text
from slipstream.diagnosis.data_checks.smoothers import Smoother, normal_scores, one_hot, smoothers_of

if TYPE_CHECKING:
    from slipstream.config.run_config import Config

MOST = 500  # rows of the training part that models see
MOST_OTHER = 300  # of the other parts
WIDEST = 400  # numbers of an example that models see
CATEGORIES = 20  # of a column


@dataclass(frozen=True)
class RawColumn:
    """A column as in the file. values: float64 [N], NaN for missing; codes of categories."""

    name: str
    kind: str
    values: np.ndarray

    @property
    def numeric(self) -> bool:
        """True for numbers and dates."""
        return self.kind in ("number", "date")

    def features(self, rows: np.ndarray) -> np.ndarray:
        """Return some rows as float64 [rows, outputs] on a common scale."""
        values = self.values[rows]
        if self.kind == "category":
            found, counts = np.unique(values, return_counts=True)
            kept = found[np.argsort(-counts, kind="stable")[:CATEGORIES]]
            return np.asarray(values[:, None] == kept, np.float64)
        missing = np.isnan(values)
        scores = normal_scores(values)[:, None]
        return np.hstack([scores, missing[:, None]]) if missing.any() else scores

    def plain(self, rows: np.ndarray) -> np.ndarray:
        """Return some rows as float64 [rows, outputs] in units of the middle half of the values."""
        if not self.numeric:
            return self.features(rows)
        low, middle, high = np.nanquantile(self.values, (0.25, 0.5, 0.75))
        spread = (high - low) / 1.35 or float(np.nanstd(self.values)) or 1.0
        near = np.clip(np.nan_to_num((self.values[rows] - middle) / spread), -5, 5)
        return np.asarray(near[:, None])


@dataclass(frozen=True)
class Sample:
    """Some rows of a part. rows: their numbers in the data. x: [N, D]. y: [N, K], the targets for models."""

    rows: np.ndarray
    x: np.ndarray
    y: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class CheckedData:
    """Everything that checks look at.

    how: the method of the split, "" if it is unknown. parts: the row numbers of train, validation and test.
    raw: as read; None for rows in memory. columns: of a table or an array of vectors, otherwise empty.
    targets: of all rows, as in RawData, indexed by row number.
    """

    config: Config
    data: Data
    how: str
    parts: tuple[np.ndarray, ...]
    raw: RawData | None
    columns: tuple[RawColumn, ...]
    targets: np.ndarray

    @property
    def settings(self) -> Settings:
        """The settings of the data."""
        return {"name": self.config.data.name, **self.config.data.settings}

    @property
    def task(self) -> str:
        """The task of the target."""
        return self.data.target.task

    @property
    def labelled(self) -> bool:
        """True if every row has one class."""
        return self.task in ("binary", "multiclass")

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes."""
        return self.data.target.classes

    def setting(self, name: str) -> Plain:
        """Return a setting of the data, None if the source has no such setting."""
        return self.settings.get(name)

    @cached_property
    def samples(self) -> tuple[Sample, ...]:
        """At most MOST rows of train and MOST_OTHER of validation and test, drawn with a fixed seed."""
        splits = (self.data.train, self.data.validation, self.data.test)
        chosen = []
        for rows, most in zip(self.parts, (MOST, MOST_OTHER, MOST_OTHER), strict=True):
            kept = np.arange(len(rows))
            if len(rows) > most:
                kept = np.sort(np.random.default_rng(0).choice(len(rows), most, replace=False))
            chosen.append(kept)
        numbers = [rows[kept] for rows, kept in zip(self.parts, chosen, strict=True)]
        if self.columns:
            together = np.concatenate(numbers)
            wide = np.hstack([column.features(together) for column in self.columns])
            x = np.split(narrow(wide), np.cumsum([len(one) for one in numbers])[:-1])
        else:
            x = examples(splits, chosen, self.data.form.kind)
        return tuple(Sample(rows, part, self.y_of(rows)) for rows, part in zip(numbers, x, strict=True))

    def y_of(self, rows: np.ndarray) -> np.ndarray:
        """Return targets for models, float64 [rows, K]: classes as 0 and 1, numbers by rank."""
        if self.labelled:
            return one_hot(self.targets[rows], len(self.classes))
        if self.task == "multilabel":
            return np.asarray(self.targets[rows], np.float64)
        return np.asarray(self._scores[rows])

    @cached_property
    def _scores(self) -> np.ndarray:
        targets = self.targets.reshape(len(self.targets), -1).astype(np.float64)
        return np.stack([normal_scores(column) for column in targets.T], axis=1)

    @cached_property
    def smoothers(self) -> list[Smoother]:
        """The quick models on the sample of the training rows."""
        return smoothers_of(self.samples[0].x)

    @cached_property
    def predictions(self) -> list[np.ndarray]:
        """For each quick model, each training row's prediction from the others, [N, K]."""
        return [smoother.predict(self.samples[0].y) for smoother in self.smoothers]

    def transferred(self, part: Sample) -> list[np.ndarray]:
        """Return, for each quick model of the training rows, its predictions of another part, [N, K]."""
        return [smoother.transfer(self.samples[0].y, part.x) for smoother in self.smoothers]

    def score(self, y: np.ndarray, predicted: np.ndarray) -> float:
        """Return the skill of predictions [N, K], see `skill`."""
        return skill(y, predicted, labelled=self.labelled)


def skill(y: np.ndarray, predicted: np.ndarray, *, labelled: bool) -> float:
    """Return accuracy or explained variance, from 0 for a constant prediction to 1."""
    if labelled:
        right = float((predicted.argmax(axis=1) == y.argmax(axis=1)).mean())
        most = float(y.mean(axis=0).max())
        return (right - most) / max(1 - most, 1e-9)
    spread = ((y - y.mean(axis=0)) ** 2).sum()
    return float(1 - ((y - predicted) ** 2).sum() / max(spread, 1e-12))


def narrow(x: np.ndarray) -> np.ndarray:
    """Return at most WIDEST columns, by a random projection with a fixed seed if there are more."""
    if x.shape[1] <= WIDEST:
        return x
    draw = np.random.default_rng(0).standard_normal((x.shape[1], WIDEST)) / np.sqrt(WIDEST)
    return np.asarray(x @ draw)


def examples(splits: tuple[Split, ...], chosen: list[np.ndarray], kind: str) -> list[np.ndarray]:
    """Return the chosen examples of each split as float64 [N, D], each column of deviation 1."""
    wide = [_flat(split, rows, kind) for split, rows in zip(splits, chosen, strict=True)]
    if kind == "tokens":
        together = np.concatenate([one.astype(np.int64) for one in wide])
        counts = np.stack([np.bincount(row, minlength=together.max() + 1) for row in together])
        words = np.argsort(-(counts > 0).sum(axis=0), kind="stable")
        words = words[words > 1][:WIDEST]
        found = np.log1p(counts[:, words].astype(np.float64))
    else:
        found = narrow(np.concatenate(wide).astype(np.float64))
    deviation = found.std(axis=0)
    found = (found - found.mean(axis=0)) / np.where(deviation > 1e-9, deviation, 1.0)
    return np.split(found, np.cumsum([len(one) for one in wide])[:-1])


def _flat(split: Split, rows: np.ndarray, kind: str) -> np.ndarray:
    """Return some inputs as [rows, D], images and sequences coarsened."""
    inputs = split.inputs
    tensor = (
        inputs[torch.from_numpy(rows)] if isinstance(inputs, torch.Tensor) else inputs.part(rows).tensor()
    )
    if kind == "image" and max(tensor.shape[2:]) > 12 and len(tensor):
        tensor = torch.nn.functional.adaptive_avg_pool2d(tensor.float(), (8, 8))
    if kind == "sequence" and tensor.shape[1] > 32 and len(tensor):
        tensor = torch.nn.functional.adaptive_avg_pool1d(tensor.float().transpose(1, 2), 32)
    return np.asarray(tensor.reshape(len(tensor), -1).numpy())


def raw_columns(raw: RawData) -> tuple[RawColumn, ...]:
    """Return the columns of a table or of an array [N, D] as read; none for other inputs."""
    frame, lengths = reader_of(raw).table_of(raw)
    if lengths is not None:
        return ()
    if frame is None:
        flat = isinstance(raw.inputs, np.ndarray) and raw.inputs.ndim == 2 and raw.kind in (None, "vector")
        if not flat or len(raw.input_names) != raw.inputs.shape[1]:
            return ()
        named = zip(raw.input_names, raw.inputs.T, strict=True)
        return tuple(RawColumn(name, "number", values.astype(np.float64)) for name, values in named)
    found = []
    for name, kind in frame.kinds.items():
        values = frame.columns[name]
        if kind == "category":
            found.append(RawColumn(name, kind, as_text(values).codes.astype(np.float64)))
        else:
            text = isinstance(values, Text)
            numbers = read_as(kind, name, values, frame.formats.get(name, "") if text else "")
            found.append(RawColumn(name, kind, numbers.astype(np.float64)))
    return tuple(found)
