"""Preprocessing of raw inputs to float32: fitted on train, stored as JSON, applied to new data."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from math import prod

import numpy as np

from slipstream.core.errors import DataError
from slipstream.core.types import DataLike, InputSpec, Plain, Scaling
from slipstream.core.wording import counted
from slipstream.data.identity import Known
from slipstream.data.messages import phrase
from slipstream.data.sequence.long_table import (
    PRESENT,
    Order,
    StepColumns,
    fill_forward,
    refuse_missing,
    side_by_side,
    times_of,
)
from slipstream.data.tabular.columns import as_booleans, as_dates, as_numbers, as_text, check_finite, pick
from slipstream.data.tabular.frames import from_any
from slipstream.data.tabular.values import Text, Values
from slipstream.data.text.vocabulary import Texts, Tokenizer, texts_of

VERSION = 2
# Periods of the cycles of a date (in days) or a time of day (in hours), encoded in addition to the number.
CYCLES = {"year": 365.2425, "week": 7.0, "day": 1.0, "24 hours": 24.0}
BLOCK = 4096  # rows scaled at a time in float64
CLIP = 3.0  # the bound of a smooth clip


@dataclass(frozen=True)
class Column:
    """One raw column (or channel) and its encoding as numbers.

    number, boolean, date: (x - offset) * factor, clipped smoothly if `clip`; with `flag`, one more output is
    1 where the value is missing; `fill` replaces a missing value. A date is the days since 1970 and the sine
    and cosine of each of its `cycles`, a time of day the hours and those of the day. category: one output for
    each of `categories`, then one for all `rare` ones, if there are any, then, with `flag`, one for missing.
    A category not in train is 0 in all of them.
    format: the spelling of numbers or dates (see `spelling`).
    """

    name: str
    kind: str
    offset: float = 0.0
    factor: float = 1.0
    fill: float = 0.0
    flag: bool = False
    categories: tuple[str, ...] = ()
    rare: tuple[str, ...] = ()
    cycles: tuple[str, ...] = ()
    clip: bool = False
    format: str = ""

    def outputs(self) -> tuple[str, ...]:
        """Return the names of the outputs."""
        names = [f"{self.name}={category}" for category in self.categories]
        names += [f"{self.name}=other"] if self.rare else []
        names += [self.name] if self.kind != "category" else []
        names += [f"{self.name} {wave} of {cycle}" for cycle in self.cycles for wave in ("sine", "cosine")]
        return (*names, f"{self.name} is missing") if self.flag else tuple(names)

    def encode(self, values: Values, out: np.ndarray, warnings: list[str]) -> None:
        """Write the outputs into `out` [outputs, N]; append warnings of new values to `warnings`."""
        if self.kind == "category":
            self._encode_category(as_text(values), out, warnings)
            return
        numbers = read_as(self.kind, self.name, values, self.format)
        missing = np.isnan(numbers)
        if missing.any():
            numbers = np.where(missing, self.fill, numbers)
            if not self.flag:
                warnings.append(
                    f"column {self.name!r}: {counted(missing.sum(), 'missing value')}, none in training; "
                    f"filled with {self.fill:g}"
                )
        scaled = (numbers - self.offset) * self.factor
        out[0] = smooth_clip(scaled) if self.clip else scaled
        for i, cycle in enumerate(self.cycles):
            angle = 2 * np.pi / CYCLES[cycle] * numbers
            out[1 + 2 * i], out[2 + 2 * i] = np.sin(angle), np.cos(angle)
        if self.flag:
            out[-1] = missing

    def _encode_category(self, text: Text, out: np.ndarray, warnings: list[str]) -> None:
        places = Known([*self.categories, *self.rare]).find(text)
        counts = text.counts()
        found = zip(text.values, counts, places, strict=True)
        unseen = {word: int(n) for word, n, place in found if n and place < 0}
        if unseen:
            rows = sum(unseen.values())
            warnings.append(
                f"column {self.name!r}: {counted(rows, 'row')} with a category that training has not seen "
                f"({phrase(unseen, 4)}); it is encoded as unknown (0 for every known category)"
            )
        where = np.minimum(np.array([*places, -1], np.int32), len(self.categories))[text.codes]
        out[:] = 0
        for i in range(len(self.categories) + bool(self.rare)):
            out[i] = where == i
        missing = text.codes < 0
        if self.flag:
            out[-1] = missing
        elif missing.any():
            warnings.append(
                f"column {self.name!r}: {counted(missing.sum(), 'missing value')}, none in training: "
                "encoded as unknown"
            )


@dataclass(frozen=True)
class Preprocessing:
    """The transformation of raw inputs into the network's inputs.

    columns: of a table, or the channels of an array. shape: of one example of an array, () for a table. kind,
    vocabulary, masked: of the form. span: for images, the lowest and the highest raw value. tokenizer: for
    texts. steps: for sequences from a long table, which has `columns`.
    """

    columns: tuple[Column, ...]
    shape: tuple[int, ...] = ()
    kind: str = "vector"
    vocabulary: tuple[str, ...] = ()
    masked: bool = False
    span: tuple[float, ...] = ()
    tokenizer: Tokenizer | None = None
    steps: StepColumns | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the network's inputs."""
        names = [name for column in self.columns for name in column.outputs()]
        return (*names, PRESENT) if self.steps is not None and self.masked else tuple(names)

    def form(self) -> InputSpec:
        """Return the form of an example as the network sees it; images are still raw."""
        if self.kind == "image":
            offset, factor = (tuple(getattr(c, name) for c in self.columns) for name in ("offset", "factor"))
            return InputSpec(
                self.kind, self.shape, scaling=Scaling(self.span[0], self.span[1], offset, factor)
            )
        if self.kind != "vector":
            return InputSpec(self.kind, self.shape, vocabulary=len(self.vocabulary), masked=self.masked)
        kinds = [column.kind for column in self.columns for _ in column.outputs()]
        plain = tuple(i for i, kind in enumerate(kinds) if kind not in ("category", "boolean"))
        flags = [i for i, name in enumerate(self.names) if name.endswith(" is missing")]
        numeric = tuple(i for i in plain if i not in flags) if len(self.shape) < 2 else ()
        return InputSpec("vector", self.shape or (len(kinds),), numeric=numeric)

    def to_json(self) -> dict[str, Plain]:
        """Return a JSON-able description, from which `from_json` makes the same preprocessing."""
        return {
            "version": VERSION,
            **{name: list(getattr(self, name)) for name in ("shape", "vocabulary", "span")},
            **{name: getattr(self, name) for name in ("kind", "masked")},
            "tokenizer": None if self.tokenizer is None else asdict(self.tokenizer),
            "steps": None if self.steps is None else _formatted(self.steps),
            "columns": [
                {k: list(v) if isinstance(v, tuple) else v for k, v in _formatted(column).items()}
                for column in self.columns
            ],
        }

    @classmethod
    def from_json(cls, source: Mapping[str, Plain]) -> Preprocessing:
        """Return the inverse of `to_json`. Raises DataError for an unknown version."""
        if source.get("version") != VERSION:
            raise DataError(
                f"preprocessing of version {source.get('version')}, but this slipstream reads {VERSION}"
            )
        columns = []
        for saved in source["columns"]:
            values: dict[str, Plain] = {k: tuple(v) if isinstance(v, list) else v for k, v in saved.items()}
            columns.append(Column(**values))
        plain: dict[str, Plain] = {name: source[name] for name in ("kind", "masked")}
        lists: dict[str, Plain] = {name: tuple(source[name]) for name in ("shape", "vocabulary", "span")}
        return cls(
            tuple(columns),
            **plain,
            **lists,
            # Older runs have neither.
            tokenizer=None if source.get("tokenizer") is None else Tokenizer(**source["tokenizer"]),
            steps=None if source.get("steps") is None else StepColumns(**source["steps"]),
        )

    def transform(
        self, data: DataLike, form: InputSpec | None = None, missing: Collection[str] = frozenset()
    ) -> tuple[np.ndarray, list[str]]:
        """Transform new raw data to float32 [N, ...]; return it with warnings about values not in train.

        form: of the network's inputs; a network that scales its inputs gets images from 0 to 1. missing:
        words
        that mean a missing value in a table.

        data: an array [N, ...], or for a table a DataFrame (polars or pandas) or a mapping of names to
        values; other columns are ignored. For sequences the same with a row for each step; they are returned
        in the order of their first rows. For texts a list of them. Raises DataError if a column is missing or
        not of its kind, or a number is not finite.
        """
        if self.tokenizer is not None:
            texts = Texts.of(texts_of(data, self.columns[0].name), self.tokenizer)
            return texts.encode(self.vocabulary, self.shape[0]), texts.warnings(self.vocabulary)
        if self.steps is not None:
            return self._sequences(self.raw_columns(data, missing), self.steps)
        if self.shape:
            array = np.asarray(data)
            if array.ndim == 2 and array.shape[1] == prod(self.shape):
                array = array.reshape(-1, *self.shape)
            if array.shape[1:] != self.shape:
                raise DataError(f"inputs of shape {array.shape[1:]}, but training had {self.shape}")
            check_finite("inputs", array)
            if form is not None and form.scaling is not None:
                low, high = self.span
                return np.ascontiguousarray((array - low) / (high - low), np.float32), []
            return self.scale(array), []
        encoded, warnings = self.encode(self.raw_columns(data, missing))
        return np.ascontiguousarray(encoded.T), warnings

    def raw_columns(self, data: DataLike, missing: Collection[str] = frozenset()) -> dict[str, Values]:
        """Return the columns that training used from a DataFrame or a mapping; others are ignored.

        missing: words that mean a missing value. Raises DataError if a column is absent.
        """
        names = {column.name: column.kind == "category" for column in self.columns}
        if self.steps is not None:
            names |= {self.steps.id: True, self.steps.time: False}
        columns = from_any(data, names, missing)
        absent = [name for name in names if name not in columns]
        if absent:
            raise DataError(f"the table lacks columns that training had: {phrase(absent)}")
        lengths = {len(values) for values in columns.values()}
        if len(lengths) > 1:
            raise DataError(f"columns of different lengths: {phrase(sorted(lengths))}")
        return columns

    def _sequences(self, columns: dict[str, Values], steps: StepColumns) -> tuple[np.ndarray, list[str]]:
        """Transform a long table into sequences."""
        refuse_missing(steps.id, columns[steps.id])
        order = Order.of(columns[steps.id], times_of(steps.time, columns[steps.time], steps.format), steps)
        if not self.masked and order.lengths.min() < steps.length:
            raise DataError(
                f"a sequence has {counted(order.lengths.min(), 'step')}, in training all had {steps.length}"
            )
        taken = {column.name: pick(columns[column.name], order.rows) for column in self.columns}
        taken = fill_forward(taken, order.lengths) if steps.forward else taken
        encoded, warnings = self.encode(taken)
        made = side_by_side(encoded, order.lengths, steps.length, self.masked)
        return made, [*order.warnings(steps), *warnings]

    def encode(self, columns: dict[str, Values]) -> tuple[np.ndarray, list[str]]:
        """Encode a table as float32 [outputs, N]. Removes the columns from `columns`.

        Each column is freed as soon as it is encoded.
        """
        count = len(next(iter(columns.values())))
        out = np.empty((sum(len(column.outputs()) for column in self.columns), count), np.float32)
        warnings: list[str] = []
        start = 0
        for column in self.columns:
            width = len(column.outputs())
            column.encode(columns.pop(column.name), out[start : start + width], warnings)
            start += width
        return out, warnings

    def scale(self, array: np.ndarray) -> np.ndarray:
        """Scale an array [N, ...] to float32, channel by channel."""
        offset = along_channels([c.offset for c in self.columns], array.ndim)
        factor = along_channels([c.factor for c in self.columns], array.ndim)
        out = np.empty(array.shape, np.float32)
        clip = any(c.clip for c in self.columns)
        for i in range(0, len(array), BLOCK):
            scaled = (array[i : i + BLOCK].astype(np.float64) - offset) * factor
            out[i : i + BLOCK] = smooth_clip(scaled) if clip else scaled
        return out


def _formatted(part: Column | StepColumns) -> dict[str, Plain]:
    """Return a mapping, without a format that is the default."""
    found = asdict(part)
    return found if part.format else {key: value for key, value in found.items() if key != "format"}


def smooth_clip(x: np.ndarray) -> np.ndarray:
    """x / sqrt(1 + (x / 3)^2): close to x near 0, and never beyond 3 (RealMLP, arXiv 2407.04491)."""
    return x / np.sqrt(1 + (x / CLIP) ** 2)


def read_as(kind: str, name: str, values: Values, format: str = "") -> np.ndarray:
    """Parse values as the numbers of their kind, float64 [N], NaN for missing. Raises DataError."""
    if kind == "boolean":
        return as_booleans(name, values)
    return {"number": as_numbers, "date": as_dates}[kind](name, values, format)


def channel_axis(ndim: int) -> int:
    """Return the axis whose entries are scaled separately: [N, C], [N, T, C], [N, C, H, W]."""
    return 2 if ndim == 3 else 1


def along_channels(values: list[float], ndim: int) -> np.ndarray:
    """Reshape values [C] to broadcast along the channels of an array with `ndim` axes."""
    shape = [1] * ndim
    shape[channel_axis(ndim)] = -1
    return np.array(values, np.float64).reshape(shape)
