"""The data of a run as the checks see them: raw columns, and a sample of rows on a common scale."""

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

MOST = 500  # training rows that the quick models see
MOST_OTHER = 300  # rows of validation, and of test
WIDEST = 400  # features that the quick models see
CATEGORIES = 20  # the most frequent of a column, which are one-hot encoded


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
        """Return rows as float64 features [rows, features]: one-hot categories, or normal scores.

        Numbers with missing values have a second feature, 1 where the value is missing.
        """
        values = self.values[rows]
        if self.kind == "category":
            found, counts = np.unique(values, return_counts=True)
            kept = found[np.argsort(-counts, kind="stable")[:CATEGORIES]]
            return np.asarray(values[:, None] == kept, np.float64)
        missing = np.isnan(values)
        scores = normal_scores(values)[:, None]
        return np.hstack([scores, missing[:, None]]) if missing.any() else scores

    def plain(self, rows: np.ndarray) -> np.ndarray:
        """Return rows as float64 [rows, features]; numbers are robustly scaled and clipped to -5 ... 5."""
        if not self.numeric:
            return self.features(rows)
        low, middle, high = np.nanquantile(self.values, (0.25, 0.5, 0.75))
        spread = (high - low) / 1.35 or float(np.nanstd(self.values)) or 1.0
        near = np.clip(np.nan_to_num((self.values[rows] - middle) / spread), -5, 5)
        return np.asarray(near[:, None])


@dataclass(frozen=True)
class Sample:
    """Some rows of a split. rows: their numbers in the data. x: features [N, D]. y: targets [N, K]."""

    rows: np.ndarray
    x: np.ndarray
    y: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class CheckedData:
    """Everything that checks look at.

    split_method: such as random; "" if the data came with their splits or it is unknown. parts: the row
    numbers of train, validation and test. raw: as read; None for rows in memory. columns: of a table or an
    array of vectors, otherwise empty. targets: of all rows, as in RawData, indexed by row number.
    """

    config: Config
    data: Data
    split_method: str
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
        """Return a setting of the data, None if the data source lacks it."""
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
            x = np.split(projected(wide), np.cumsum([len(one) for one in numbers])[:-1])
        else:
            x = examples(splits, chosen, self.data.form.kind)
        return tuple(Sample(rows, part, self.y_of(rows)) for rows, part in zip(numbers, x, strict=True))

    def y_of(self, rows: np.ndarray) -> np.ndarray:
        """Return targets for the quick models, float64 [rows, K]: one-hot classes, or normal scores."""
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
        """The quick models of the sampled training rows."""
        return smoothers_of(self.samples[0].x)

    @cached_property
    def predictions(self) -> list[np.ndarray]:
        """The leave-one-out predictions of the sampled training rows by each quick model, [N, K]."""
        return [smoother.predict(self.samples[0].y) for smoother in self.smoothers]

    def predicted_new(self, part: Sample) -> list[np.ndarray]:
        """Return the predictions of another split by each quick model of the training rows, [N, K]."""
        return [smoother.predict_new(self.samples[0].y, part.x) for smoother in self.smoothers]

    def score(self, y: np.ndarray, predicted: np.ndarray) -> float:
        """Return the skill of predictions [N, K]; see `skill`."""
        return skill(y, predicted, labelled=self.labelled)


def skill(y: np.ndarray, predicted: np.ndarray, *, labelled: bool) -> float:
    """Return the skill of predictions [N, K] of targets [N, K]: 0 for a constant prediction, 1 if perfect.

    For classes (`labelled`), (accuracy - c) / (1 - c), where c is the share of the most frequent class;
    otherwise the explained variance. Below 0, the predictions are worse than a constant.
    """
    if labelled:
        right = float((predicted.argmax(axis=1) == y.argmax(axis=1)).mean())
        most = float(y.mean(axis=0).max())
        return (right - most) / max(1 - most, 1e-9)
    spread = ((y - y.mean(axis=0)) ** 2).sum()
    return float(1 - ((y - predicted) ** 2).sum() / max(spread, 1e-12))


def projected(x: np.ndarray) -> np.ndarray:
    """Return features [N, D] randomly projected to WIDEST, with a fixed seed, if there are more."""
    if x.shape[1] <= WIDEST:
        return x
    draw = np.random.default_rng(0).standard_normal((x.shape[1], WIDEST)) / np.sqrt(WIDEST)
    return np.asarray(x @ draw)


def examples(splits: tuple[Split, ...], chosen: list[np.ndarray], kind: str) -> list[np.ndarray]:
    """Return the chosen examples of each split as float64 features [N, D] of mean 0 and deviation 1.

    kind: of the inputs. Tokens become logarithms of word counts.
    """
    wide = [_flat(split, rows, kind) for split, rows in zip(splits, chosen, strict=True)]
    if kind == "tokens":
        together = np.concatenate([one.astype(np.int64) for one in wide])
        counts = np.stack([np.bincount(row, minlength=together.max() + 1) for row in together])
        words = np.argsort(-(counts > 0).sum(axis=0), kind="stable")
        words = words[words > 1][:WIDEST]
        found = np.log1p(counts[:, words].astype(np.float64))
    else:
        found = projected(np.concatenate(wide).astype(np.float64))
    deviation = found.std(axis=0)
    found = (found - found.mean(axis=0)) / np.where(deviation > 1e-9, deviation, 1.0)
    return np.split(found, np.cumsum([len(one) for one in wide])[:-1])


def _flat(split: Split, rows: np.ndarray, kind: str) -> np.ndarray:
    """Return inputs as [rows, D]; large images are pooled to 8 x 8 and long sequences to 32 steps."""
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
