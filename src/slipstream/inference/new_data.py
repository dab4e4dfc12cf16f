"""New examples with known targets, read and encoded in the same way as the data of training."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from slipstream.config.grammar import value_of
from slipstream.config.validation import validate
from slipstream.core.errors import ConfigError, DataError, did_you_mean
from slipstream.core.types import Plain
from slipstream.data.dataset import RawData, Settings
from slipstream.data.image.stored import Stored
from slipstream.data.loading import read as read_source
from slipstream.data.tabular.columns import as_text
from slipstream.data.tabular.table_preprocessing import TablePreprocessing
from slipstream.data.tabular.values import Frame, Text
from slipstream.runs.prediction import Model
from slipstream.training.inputs import ready

NO_SPLITS = ("validation_path", "test_path", "split_column", "group_column", "time_column")


@dataclass(frozen=True)
class NewData:
    """N examples with their targets.

    Attributes:
        inputs: the encoded inputs, one tensor per model.
        raw: the data before encoding; targets are class indices, 0 and 1, or values in original units.
        groups: the group of each example, or None if no column was named.
    """

    inputs: tuple[Tensor, ...]
    raw: RawData
    groups: Text | None = None

    def __len__(self) -> int:
        return len(self.raw)

    @property
    def weights(self) -> Tensor:
        """The weights of the examples, float32 [N], 1 by default."""
        own = np.ones(len(self)) if self.raw.weights is None else self.raw.weights
        return torch.from_numpy(own.astype(np.float32))

    def where(self, row: int) -> str:
        """Return the location of an example in its file."""
        return self.raw.where(row) if self.raw.where is not None else f"{self.raw.unit} {row + 1}"


def read_as(
    models: Sequence[Model],
    configs: Sequence[Mapping[str, Plain]],
    overrides: Sequence[str],
    by: str | None = None,
) -> NewData:
    """Read the data that `data.path=...` and other overrides of the runs' data name.

    All rows are read, regardless of the splits. configs: of the runs. by: a column of a table whose values
    are groups.
    Raises ConfigError or DataError for settings that the data do not have, or a file that does not fit.
    """
    changes, inputs, raw, groups = _parsed(overrides), [], None, None
    for model, saved in zip(models, configs, strict=True):
        settings = _settings(model, saved["data"], changes)
        own = by is None or by in settings.get("inputs", ())
        if by is not None and not own:
            settings |= _with_column(settings, by)
        config = validate({**saved, "data": settings})
        raw = _read({"name": config.data.name, **config.data.settings}, None if own else by)
        groups = None if by is None else _groups(raw, by, taken=not own)
        rows = np.arange(len(raw))
        (encoded,), unseen = model.preprocessing.encode_splits(raw, [rows], "all rows")
        for text in unseen:
            warnings.warn(text, stacklevel=3)
        tensor = encoded.tensor() if isinstance(encoded, Stored) else torch.from_numpy(encoded)
        inputs.append(ready(tensor, model.preprocessing.spec, model.program.form))
    assert raw is not None
    return NewData(tuple(inputs), raw, groups)


def _read(settings: Settings, by: str | None) -> RawData:
    try:
        return read_source(settings)
    except DataError as error:
        if by is None or "data.inputs" not in str(error):
            raise
        raise DataError(str(error).replace("data.inputs", "--by")) from None


def _parsed(overrides: Sequence[str]) -> dict[str, Plain]:
    """Return the data settings on the command line by name."""
    changes: dict[str, Plain] = {}
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not key.startswith("data."):
            raise ConfigError([f"{text}: expected a data setting, such as data.path=new.csv"])
        changes[key.removeprefix("data.")] = value_of(value)
    return changes


def _settings(model: Model, saved: Mapping[str, Plain], changes: Mapping[str, Plain]) -> dict[str, Plain]:
    """Return the run's data settings with the changes, and with everything fixed that training inferred."""
    unknown = [name for name in changes if name not in saved]
    if unknown:
        raise ConfigError(
            [
                f"data.{name}: data={saved['name']} has no such setting, {did_you_mean(name, saved)}"
                for name in unknown
            ]
        )
    settings = dict(saved) | {name: None for name in NO_SPLITS if name in saved}
    settings |= {"split": "auto", "folds": None, "fold": 0, "class_weights": "none"}
    target, columns = model.target, model.preprocessing.columns
    if "task" in saved:
        settings["task"] = target.task
    if "classes" in saved and target.task in ("binary", "multiclass"):
        settings["classes"] = list(target.classes)
    if "kinds" in saved and "inputs" in saved and isinstance(model.preprocessing, TablePreprocessing):
        settings["inputs"] = [column.name for column in columns]
        settings["kinds"] = {column.name: column.kind for column in columns}
    if "max_length" in saved:
        settings["max_length"] = model.preprocessing.spec.shape[0]
    orders = {column.format[:1] for column in columns if column.kind == "date"} & {"d", "m"}
    if "day_first" in saved and len(orders) == 1:
        settings["day_first"] = orders == {"d"}
    return settings | dict(changes)


def _with_column(settings: Mapping[str, Plain], by: str) -> dict[str, Plain]:
    """Return the settings with one more column to read, as text."""
    if not settings.get("inputs"):
        raise ConfigError([f"--by {by}: data={settings['name']} has no columns; --by is for tables"])
    for role in ("target", "weight_column"):
        found = settings.get(role)
        if by in (found if isinstance(found, list) else [found]):
            raise ConfigError([f"--by {by}: is the column of data.{role}; choose another column"])
    return {
        "inputs": [*settings["inputs"], by],
        "kinds": {**settings["kinds"], by: "category"},
    }


def _groups(raw: RawData, by: str, *, taken: bool) -> Text:
    """Return the groups of the examples. Remove their column if it is not an input."""
    assert isinstance(raw.inputs, Frame)
    frame = raw.inputs
    groups = as_text(frame.columns[by])
    if taken:
        del frame.columns[by], frame.kinds[by]
    return groups
