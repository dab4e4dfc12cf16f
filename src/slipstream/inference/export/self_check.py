"""Comparison of an exported folder with its run on the run's own test rows."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import numpy as np
import torch

from slipstream.config.validation import validate
from slipstream.core.errors import UserError
from slipstream.core.types import DataLike, Plain
from slipstream.core.wording import counted
from slipstream.data.array_preprocessing import ArrayPreprocessing
from slipstream.data.dataset import RawData
from slipstream.data.image.image_preprocessing import ImagePreprocessing
from slipstream.data.image.stored import Stored
from slipstream.data.loading import read
from slipstream.data.sequence.long_table import SequencePreprocessing, Sequences
from slipstream.data.splits import split_rows
from slipstream.data.tabular.columns import pick
from slipstream.data.tabular.encoding import Column
from slipstream.data.tabular.values import Frame, Text, Values
from slipstream.data.text.vocabulary import SPECIAL, TextPreprocessing, Texts
from slipstream.inference.ensemble import Ensemble
from slipstream.runs.prediction import Model
from slipstream.training.inputs import ready

MOST = 1000  # rows compared
# Sums in another order differ by a few float32 units in the last place, which grows over a network's layers.
TOLERANCE = 1e-4
ROUGH = 5e-2  # for networks trained and compared in bfloat16, which the exported network does not use


@dataclass(frozen=True)
class Checked:
    """The largest difference between scores, relative to their scale, and the rows compared."""

    rows: int
    difference: float
    tolerance: float
    on: str

    def __str__(self) -> str:
        where = f"on {counted(self.rows, 'example')} {self.on}"
        found = f"{self.difference:.2g} (tolerance {self.tolerance:g})"
        return f"Largest difference from the run's own scores {where}: {found}"


def check(ensemble: Ensemble, folder: Path) -> Checked:
    """Compare the exported loader with the run. Raises UserError for a difference beyond rounding."""
    try:
        examples, expected = _own(ensemble)
        on = "of the run's test split"
    except (UserError, OSError) as error:
        examples = _synthetic(ensemble.first)
        expected = ensemble.scores(examples)
        on = f"drawn at random, because the run's data cannot be read ({error})"
    module = _loaded(folder / "predict.py")
    found = module.Predictor(folder).scores(examples)
    rough = any(model.program.autocast is not None for model in ensemble.models)
    difference = float(np.max(np.abs(found - expected) / _unit(ensemble, expected), initial=0.0))
    checked = Checked(len(expected), difference, ROUGH if rough else TOLERANCE, on)
    if not np.isfinite(found).all() or difference > checked.tolerance:
        raise UserError(
            f"export: {str(checked)[0].lower()}{str(checked)[1:]}. Nothing was written. Try --to torch, and "
            "report the problem with the run's config.yaml"
        )
    return checked


def _unit(ensemble: Ensemble, expected: np.ndarray) -> np.ndarray:
    """Return the scale of differences: a target's standard deviation, or max(1, the largest score)."""
    if ensemble.target.scale:
        return np.array(ensemble.target.scale)
    return np.array(max(1.0, float(np.abs(expected).max())))


def _loaded(path: Path) -> ModuleType:
    """Import the exported loader, as a user would."""
    spec = importlib.util.spec_from_file_location("exported_predict", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look it up
    written, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # keep __pycache__ out of the folder
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[spec.name]
        sys.dont_write_bytecode = written
    return module


def _own(ensemble: Ensemble) -> tuple[DataLike, np.ndarray]:
    """Return examples of the run's test split (or validation or train) and the run's scores for them."""
    origin = ensemble.origins[0]
    config = validate(origin.config)
    settings = {"name": config.data.name, **config.data.settings}
    raw = read(settings, origin.given)
    _, parts = split_rows(raw, settings)
    rows = next(part for part in reversed(parts) if len(part))
    rows = np.sort(rows[:: -(-len(rows) // MOST)])
    nothing, scores = np.arange(0), []
    for model in ensemble.models:
        some = _picked(raw, rows)
        every = np.arange(len(rows))
        (encoded, *_), _ = model.preprocessing.encode_splits(some, [every, nothing, nothing], "all rows")
        tensor = encoded.tensor() if isinstance(encoded, Stored) else torch.from_numpy(encoded)
        scores.append(model.scores(ready(tensor, model.preprocessing.spec, model.program.form)))
    return _examples(_picked(raw, rows).inputs), np.mean(scores, 0) if len(scores) > 1 else scores[0]


def _picked(raw: RawData, rows: np.ndarray) -> RawData:
    """Return a copy of some rows of raw data, because encoding may consume the inputs."""
    inputs = raw.inputs
    if isinstance(inputs, Frame):
        found: Plain = _frame(inputs, rows)
    elif isinstance(inputs, Sequences):
        frame = _frame(inputs.frame, inputs.rows_of(rows))
        found = replace(inputs, frame=frame, lengths=inputs.lengths[rows])
    elif isinstance(inputs, Texts):
        keep = np.zeros(len(inputs), bool)
        keep[rows] = True
        found = inputs.pick(keep)
    else:
        found = np.asarray(inputs[rows])
    return replace(raw, inputs=found, targets=raw.targets[rows], notes=[])


def _frame(frame: Frame, rows: np.ndarray) -> Frame:
    return replace(frame, columns={name: pick(values, rows) for name, values in frame.columns.items()})


def _examples(inputs: Plain) -> DataLike:
    """Return raw inputs in the form that the loader expects."""
    if isinstance(inputs, Frame):
        return {name: _listed(values) for name, values in inputs.columns.items()}
    if isinstance(inputs, Sequences):
        steps, lengths = inputs.steps, inputs.lengths
        owner = np.repeat(np.arange(len(lengths)), lengths)
        places = {steps.id: [f"s{i}" for i in owner], steps.time: np.arange(len(owner), dtype=float)}
        return {name: _listed(values) for name, values in inputs.frame.columns.items()} | places
    if isinstance(inputs, Texts):
        words = [inputs.words[i] for i in inputs.tokens]
        ends = np.cumsum(inputs.lengths)
        return [words[end - length : end] for end, length in zip(ends, inputs.lengths, strict=True)]
    return inputs


def _listed(values: Values) -> Plain:
    if isinstance(values, Text):
        return [None if code < 0 else values.values[code] for code in values.codes]
    return values


def _synthetic(model: Model) -> DataLike:
    """Draw random examples within the range of the training data."""
    draw, count = np.random.default_rng(0), 64
    preprocessing = model.preprocessing
    shape, columns = preprocessing.spec.shape, preprocessing.columns
    if isinstance(preprocessing, TextPreprocessing):
        words = preprocessing.vocabulary[len(SPECIAL) :]
        return [" ".join(draw.choice(words, draw.integers(1, shape[0] + 1))) for _ in range(count)]
    if isinstance(preprocessing, ImagePreprocessing):
        low, high = preprocessing.span
        drawn = draw.uniform(low, high, (count, *shape))
        return drawn.astype(np.uint8 if (low, high) == (0, 255) else np.float32)
    if isinstance(preprocessing, ArrayPreprocessing):
        if preprocessing.kind == "tokens":
            return draw.integers(1, max(len(preprocessing.vocabulary), 2), (count, *shape))
        made = np.stack([_drawn(column, draw, count * int(np.prod(shape))) for column in columns], -1)
        return made.reshape(count, -1)[:, : int(np.prod(shape))].reshape(count, *shape)
    rows: Sequence[int] = [1] * count
    if isinstance(preprocessing, SequencePreprocessing):
        least = 1 if preprocessing.masked else shape[0]
        rows = draw.integers(least, shape[0] + 1, count).tolist()
    table = {column.name: _drawn(column, draw, sum(rows)) for column in columns}
    if isinstance(preprocessing, SequencePreprocessing):
        steps = preprocessing.steps
        table[steps.id] = [f"s{i}" for i, many in enumerate(rows) for _ in range(many)]
        table[steps.time] = np.arange(sum(rows), dtype=float)
    return table


def _drawn(column: Column, draw: np.random.Generator, count: int) -> Plain:
    """Draw values of a column, some of them missing if training had missing values."""
    gone = draw.random(count) < (0.1 if column.flag else 0.0)
    if column.kind == "category":
        words = [*column.categories, *column.rare] or ["none"]
        return [
            None if g else words[i] for g, i in zip(gone, draw.integers(0, len(words), count), strict=True)
        ]
    if column.kind == "boolean":
        values = draw.integers(0, 2, count).astype(float)
    else:
        values = column.offset + draw.normal(size=count) / (column.factor or 1.0)
    return np.where(gone, np.nan, values)
