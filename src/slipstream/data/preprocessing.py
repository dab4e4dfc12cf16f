"""The preprocessing of one kind of data: fitted on train, stored as JSON, applied to new examples."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, ClassVar, TypeAlias

import numpy as np

from slipstream.core.types import DataLike, InputSpec, Plain
from slipstream.core.wording import axes, counted
from slipstream.data.dataset import RawData, Settings
from slipstream.data.messages import phrase
from slipstream.data.tabular.encoding import Column

if TYPE_CHECKING:
    from typing import Self

    from slipstream.data.image.stored import Stored
    from slipstream.data.tabular.values import Frame

VERSION = 2
# The keys of the JSON in order, each with the default for a kind that has no such field.
BLANK: Mapping[str, Plain] = {
    "version": VERSION,
    "shape": (),
    "vocabulary": (),
    "span": (),
    "kind": "vector",
    "masked": False,
    "tokenizer": None,
    "steps": None,
    "columns": (),
}
SHOWN = 6  # names in a description
NONE: Settings = {}
Table: TypeAlias = "tuple[Frame | None, np.ndarray | None]"
Encoded: TypeAlias = tuple[np.ndarray, list[str]]
EncodedSplits: TypeAlias = tuple[Sequence["np.ndarray | Stored"], list[str]]


@dataclass(frozen=True)
class Preprocessing(ABC):
    """The transformation of raw examples of one kind of data into a network's inputs.

    Each kind is a class with the fields that it needs. All fields are part of the JSON, which is sufficient
    for `transform`. columns: the encoding of each raw column or channel as numbers (center, scale, fill
    value, categories), which an exporter can repeat; empty if nothing is computed.
    """

    columns: tuple[Column, ...]

    records: ClassVar[Mapping[str, type]] = {"columns": Column}  # fields that are records, or lists of them

    @classmethod
    @abstractmethod
    def fit(cls, raw: RawData, rows: np.ndarray, scaling: str) -> tuple[Self, list[str]]:
        """Fit the preprocessing on the given rows of raw data. Return it with warnings."""

    @abstractmethod
    def encode_splits(self, raw: RawData, rows: list[np.ndarray], how: str) -> EncodedSplits:
        """Encode the rows of each split. Return them with warnings. how: the split method.

        This consumes `raw.inputs`, except for images that stay in their file.
        """

    @abstractmethod
    def transform(self, data: DataLike, settings: Settings = NONE) -> Encoded:
        """Transform new examples. Return them with warnings about values that the training split lacks.

        Images are not yet scaled (see `InputSpec.scaling`). Raises DataError for examples that do not match.
        settings: the run's data settings; only those that define how raw values are read apply.
        """

    @property
    @abstractmethod
    def spec(self) -> InputSpec:
        """The input spec of an example for the network. Images are still raw."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the network's inputs."""
        return tuple(name for column in self.columns for name in column.outputs())

    @classmethod
    def table_of(cls, raw: RawData) -> Table:
        """Return the table of raw data, if they have one, and the rows of each example if it has several."""
        return None, None

    def describe(self, scaling: str) -> str:
        """Describe the inputs in a few words."""
        spec, columns = self.spec, len(self.columns)
        if spec.vocabulary:
            return f"texts of at most {counted(spec.shape[0], 'token')}, vocabulary of {spec.vocabulary:,}"
        if len(spec.shape) > 1:
            found = f"{spec.kind}s of {' x '.join(map(str, spec.shape))}"
            found += " (the last marks padding)" if spec.masked else ""
        else:
            encoded = f", encoded as {len(self.names)}" if len(self.names) != columns else ""
            found = f"{counted(columns, 'column')}{encoded}"
        return f"{found}, scaling {scaling}"

    def __str__(self) -> str:
        names = [column.name for column in self.columns]
        read = f"columns {phrase(names, SHOWN)}" if names else f"inputs {axes(self.spec.shape)}"
        return f"{self.spec.kind} data: {read}"

    def to_json(self) -> dict[str, Plain]:
        """Return a JSON description from which `from_json` restores the same preprocessing."""
        own = {field.name: getattr(self, field.name) for field in fields(self)}
        return {key: _saved(value) for key, value in {**BLANK, "kind": self.spec.kind, **own}.items()}

    @classmethod
    def from_json(cls, saved: Mapping[str, Plain]) -> Self:
        """Restore a preprocessing from its `to_json`."""
        return cls(**{field.name: cls._restored(field.name, saved[field.name]) for field in fields(cls)})

    @classmethod
    def _restored(cls, name: str, saved: Plain) -> Plain:
        record = cls.records.get(name)
        if isinstance(BLANK[name], tuple):
            return tuple(saved if record is None else [_record(record, one) for one in saved])
        return saved if record is None else _record(record, saved)


def _saved(value: Plain) -> Plain:
    """Return a field for JSON. A record omits its format if that is the default."""
    if isinstance(value, tuple):
        return [_saved(one) for one in value]
    if not is_dataclass(value):
        return value
    return {key: _saved(one) for key, one in vars(value).items() if key != "format" or one}


def _record(record: type, saved: Mapping[str, Plain]) -> Plain:
    return record(**{key: tuple(one) if isinstance(one, list) else one for key, one in saved.items()})
