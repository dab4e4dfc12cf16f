"""The evaluation of a run on its own data, as at its end."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from torch import Tensor

from slipstream.config.validation import validate
from slipstream.core.errors import UserError
from slipstream.data import Data, Split
from slipstream.data.dataset import RawData
from slipstream.data.image.stored import Stored
from slipstream.inference.new_data import NewData
from slipstream.runs import checkpoints, setup, summary
from slipstream.runs.pack_session import PackSession, Slot, prepared, with_idle
from slipstream.runs.prediction import Model, saved_config
from slipstream.training.inputs import ready


def repeated(folder: Path) -> tuple[Mapping[str, float | None], Data]:
    """Return the metrics of the best epoch on every split, as summary.json has them, and the run's data.

    They are computed again from the weights, in the engine of training: on the same machine with the same
    versions they are equal to the last digit. Raises DataError if the data are not those of training.
    """
    config = validate(saved_config(folder))
    path, _ = checkpoints.latest(folder / "checkpoints")
    if path is None:
        raise UserError(f"{folder}: nothing is saved yet")
    saved = checkpoints.load(path)
    (data,), _ = setup.load_all([config])
    member = prepared(setup.as_saved(config, saved), None, data, saved)
    slots = [Slot(member, 0, saved=saved)]
    device = setup.set_up(member.config)
    session = PackSession(with_idle(slots) if saved[1].get("packed") else slots, [data], device)
    with setup.limit_threads(session.engine):
        (result,) = summary.results(session.engine, session.members, [0], session.progress, 0)
    return result.best, data


def shown(model: Model, data: Data) -> tuple[str, NewData]:
    """Return the name and the examples of the split that chose nothing: test, or the next that has rows."""
    splits = {"test": data.test, "validation": data.validation, "train": data.train}
    name = next(name for name, split in splits.items() if len(split))
    return name, examples(model, data, splits[name])


def examples(model: Model, data: Data, split: Split) -> NewData:
    """Return the examples of a split, for an evaluation of every row."""
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
    return NewData((ready(inputs, data.form, model.program.form),), raw)


def _numpy(weights: Tensor) -> np.ndarray:
    found: np.ndarray = weights.numpy()
    return found
