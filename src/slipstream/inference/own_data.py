"""Evaluation of a run on its own data, as at the end of training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from torch import Tensor

from slipstream.config.run_config import Config
from slipstream.config.validation import validate
from slipstream.core.errors import UserError
from slipstream.data import Data, Split
from slipstream.data.dataset import PARTS, RawData
from slipstream.data.image.stored import Stored
from slipstream.data.loading import read
from slipstream.data.messages import Where
from slipstream.data.splits import split_rows
from slipstream.inference.ensemble import Ensemble, RunOrigin
from slipstream.inference.new_data import NewData
from slipstream.runs import setup, summary
from slipstream.runs.pack_session import PackSession, Slot, prepared, with_idle
from slipstream.runs.prediction import Model, saved_config
from slipstream.runs.resuming import require_same_data
from slipstream.training.inputs import ready
from slipstream.training.snapshot import Taken


def repeated(folder: Path) -> tuple[Mapping[str, float | None], Data]:
    """Return the metrics of the best epoch on every split, as in summary.json, and the run's data.

    The engine of training recomputes them from the weights: on the same machine with the same versions, they
    are equal to the last digit. Raises DataError if the data are not those of training.
    """
    config, data, saved = _loaded(RunOrigin(saved_config(folder), folder))
    member = prepared(setup.as_saved(config, saved), None, data, saved)
    slots = [Slot(member, 0, saved=saved)]
    device = setup.set_up(member.config)
    session = PackSession(with_idle(slots) if saved[1].get("packed") else slots, [data], device)
    with setup.limit_threads(session.engine):
        (result,) = summary.results(session.engine, session.members, [0], session.progress, 0)
    return result.best, data


def shown(model: Model, data: Data, origin: RunOrigin) -> tuple[str, NewData]:
    """Return the name and the examples of the test split, or of validation or train if it has no rows."""
    splits = {"test": data.test, "validation": data.validation, "train": data.train}
    name = next(name for name, split in splits.items() if len(split))
    found = examples(model, data, name, splits[name])
    found.raw.where = _location(origin, name, found.raw.unit)
    return name, found


def _loaded(origin: RunOrigin) -> tuple[Config, Data, Taken]:
    """Return a run's configuration, its data (read again) and its newest checkpoint."""
    config, saved = validate(origin.config), origin.taken()
    (data,), _ = setup.load_all([config], origin.given)
    return config, data, saved


@dataclass(frozen=True)
class OwnRows:
    """The test rows of a run, or its validation or training rows if it has no others.

    key: equal for rows with equal inputs and targets, in any run. card, warnings: the first run's description
    of its data.
    """

    data: NewData
    split: str
    key: str
    card: str
    warnings: tuple[str, ...]


def unseen_rows(ensemble: Ensemble) -> OwnRows:
    """Return the test rows of networks, or the validation or training rows if there are no others.

    Raises DataError if the data are not those of training, and UserError if the networks' rows differ.
    """
    found = [_unseen(model, origin) for model, origin in zip(ensemble.models, ensemble.origins, strict=True)]
    first = found[0]
    if len({own.key for own in found}) > 1:
        raise UserError(f"{ensemble.path}: its members have different {first.split} rows; add data.path=FILE")
    inputs = tuple(tensor for own in found for tensor in own.data.inputs)
    return replace(first, data=replace(first.data, inputs=inputs))


def _unseen(model: Model, origin: RunOrigin) -> OwnRows:
    config, data, saved = _loaded(origin)
    require_same_data(config, data, saved)
    name, found = shown(model, data, origin)
    key = dict(zip(PARTS, data.rows_keys, strict=True))[name]
    return OwnRows(found, name, key, data.card, data.warnings)


def _location(origin: RunOrigin, name: str, unit: str) -> Where:
    """Return a function that locates a row of a split, in its file, which is read again, and in the split."""

    @cache
    def read_again() -> tuple[RawData, np.ndarray]:
        config = validate(origin.config)
        settings = {"name": config.data.name, **config.data.settings}
        raw = read(settings, origin.given)
        return raw, split_rows(raw, settings)[1][PARTS.index(name)]

    def where(row: int) -> str:
        (raw, rows), inside = read_again(), f"{unit} {row + 1} of {name}"
        return inside if raw.where is None else f"{raw.where(int(rows[row]))} ({inside})"

    return where


def examples(model: Model, data: Data, name: str, split: Split) -> NewData:
    """Return the examples of a split for an evaluation of every row. Rows are counted within the split."""
    inputs = split.inputs.tensor() if isinstance(split.inputs, Stored) else split.inputs
    targets = split.targets if split.metric_targets is None else split.metric_targets
    raw = RawData(
        inputs=None,
        input_names=data.input_names,
        targets=targets.numpy(),
        target=data.target,
        weights=_numpy(split.weights if split.counts is None else split.counts),
        kind=data.form.kind,
    )
    raw.where = lambda row: f"{raw.unit} {row + 1} of {name}"
    return NewData((ready(inputs, data.form, model.program.form),), raw)


def _numpy(weights: Tensor) -> np.ndarray:
    found: np.ndarray = weights.numpy()
    return found
