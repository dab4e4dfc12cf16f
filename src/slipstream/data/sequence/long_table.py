"""Sequences stored as a long table: rows of steps, turned into one array per sequence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np

from slipstream.core.errors import DataError
from slipstream.core.types import DataLike, InputSpec
from slipstream.core.wording import counted
from slipstream.data.dataset import RawData, Settings
from slipstream.data.messages import cut_short
from slipstream.data.preprocessing import NONE, Encoded, EncodedSplits, Preprocessing, Table
from slipstream.data.quality import overlapping
from slipstream.data.tabular.columns import as_dates, as_numbers, as_text, is_missing, pick
from slipstream.data.tabular.encoding import Column, encode
from slipstream.data.tabular.frames import columns_of, is_table
from slipstream.data.tabular.table_preprocessing import fit_frame
from slipstream.data.tabular.type_inference import kind_of_words
from slipstream.data.tabular.values import Frame, Values

PRESENT = "is a step"  # the channel that distinguishes steps from padding


@dataclass(frozen=True)
class StepColumns:
    """The columns and limits for converting the rows of a long table to sequences.

    id, time: the columns with each step's sequence and time. length: T, the maximum number of steps. keep:
    keep the first or the last steps of longer sequences. forward: fill a missing value from the previous step
    if there is one. format: the format of times.
    """

    id: str
    time: str
    length: int
    keep: str
    forward: bool
    format: str = ""


@dataclass
class Order:
    """The kept rows of a long table, ordered by sequence and time.

    rows: int64 [M], row numbers. lengths: int64 [N]; sequences are ordered by their first rows. first: int64
    [N], the first row of each sequence in the table. cut_off: bool [N].
    """

    rows: np.ndarray
    lengths: np.ndarray
    first: np.ndarray
    cut_off: np.ndarray

    @classmethod
    def of(cls, ids: Values, times: np.ndarray, steps: StepColumns) -> Order:
        """Order the rows. Raises DataError if two rows of one sequence have the same time."""
        text = as_text(ids)
        _, first, codes = np.unique(text.codes, return_index=True, return_inverse=True)
        rank = np.argsort(np.argsort(first))  # numbered by first appearance
        owner = rank[codes]
        rows = np.lexsort((times, owner))
        same = (np.diff(owner[rows]) == 0) & (np.diff(times[rows]) == 0)
        if same.any():
            a, b = sorted(rows[int(np.argmax(same)) :][:2] + 1)
            raise DataError(
                f"rows {a} and {b} both have {steps.id}={text.values[text.codes[a - 1]]} and the same "
                f"{steps.time}; expected one row per step"
            )
        lengths = np.bincount(owner)
        place = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        kept = place < steps.length
        if steps.keep == "last":
            kept = place >= np.repeat(lengths - steps.length, lengths)
        return cls(rows[kept], np.minimum(lengths, steps.length), np.sort(first), lengths > steps.length)

    def warnings(self, steps: StepColumns) -> list[str]:
        """Return a sentence about the sequences that are longer than T, if any."""
        many, count = int(self.cut_off.sum()), len(self.cut_off)
        if not many:
            return []
        return [cut_short(many, count, "sequence", steps.length, "step", steps.keep)]


@dataclass
class Sequences:
    """N sequences, not yet encoded. frame: a row for each of the M steps, sequence after sequence.

    lengths: int64 [N], the number of steps of each.
    """

    frame: Frame
    lengths: np.ndarray
    steps: StepColumns

    def __len__(self) -> int:
        return len(self.lengths)

    def rows_of(self, rows: np.ndarray) -> np.ndarray:
        """Return the row numbers of some sequences in the frame."""
        wanted = np.zeros(len(self), bool)
        wanted[rows] = True
        return np.flatnonzero(np.repeat(wanted, self.lengths))


@dataclass(frozen=True)
class SequencePreprocessing(Preprocessing):
    """The encoding of a table's columns for each step, and the columns that define sequences.

    shape: [T, C]. masked: the last channel is 1 in every step and 0 in the padding.
    """

    shape: tuple[int, ...]
    masked: bool
    steps: StepColumns

    records: ClassVar[Mapping[str, type]] = {"columns": Column, "steps": StepColumns}

    @classmethod
    def fit(cls, raw: RawData, rows: np.ndarray, scaling: str) -> tuple[Self, list[str]]:
        """Fit the columns on the steps of the given sequences without padding. Fill gaps if configured."""
        sequences: Sequences = raw.inputs
        frame = sequences.frame
        if sequences.steps.forward:
            frame = replace(frame, columns=fill_forward(frame.columns, sequences.lengths))
        columns, warnings = fit_frame(frame, sequences.rows_of(rows), scaling)
        longest = int(sequences.lengths.max())
        masked = bool(sequences.lengths.min() < longest)
        channels = sum(len(column.outputs()) for column in columns) + masked
        return cls(columns, (longest, channels), masked, replace(sequences.steps, length=longest)), warnings

    def encode_splits(self, raw: RawData, rows: list[np.ndarray], how: str) -> EncodedSplits:
        """Encode all steps and arrange them as sequences float32 [N, T, C]. Fill gaps if configured."""
        columns = raw.inputs.frame.columns
        columns = fill_forward(columns, raw.inputs.lengths) if self.steps.forward else columns
        encoded, warnings = encode(self.columns, columns)
        made = side_by_side(encoded, raw.inputs.lengths, self.shape[0], self.masked)
        return [made[part] for part in rows], warnings + ([] if self.masked else overlapping(made, how))

    def transform(self, data: DataLike, settings: Settings = NONE) -> Encoded:
        """Transform a table with a row for each step. Sequences are in the order of their first rows.

        settings: `missing`, the words for a missing value.
        """
        steps = self.steps
        words = {steps.id: True, steps.time: False}
        words = {column.name: column.kind == "category" for column in self.columns} | words
        if not is_table(data):
            names = [steps.id, steps.time, *(column.name for column in self.columns)]
            raise DataError(
                f"found {type(data).__name__}, expected a polars or pandas DataFrame or a mapping of names "
                f"to values, with a row for each step: {', '.join(names)}"
            )
        columns = columns_of(data, words, settings)
        refuse_missing(steps.id, columns[steps.id])
        order = Order.of(columns[steps.id], times_of(steps.time, columns[steps.time], steps.format), steps)
        if not self.masked and order.lengths.min() < steps.length:
            raise DataError(
                f"found a sequence of {counted(order.lengths.min(), 'step')}, expected "
                f"{steps.length} as in training"
            )
        taken = {column.name: pick(columns[column.name], order.rows) for column in self.columns}
        taken = fill_forward(taken, order.lengths) if steps.forward else taken
        encoded, warnings = encode(self.columns, taken)
        made = side_by_side(encoded, order.lengths, steps.length, self.masked)
        return made, [*order.warnings(steps), *warnings]

    @property
    def spec(self) -> InputSpec:
        """The input spec: the steps of the longest sequence, and a mask if lengths differ."""
        return InputSpec("sequence", self.shape, masked=self.masked)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the channels."""
        return (*super().names, PRESENT) if self.masked else super().names

    @classmethod
    def table_of(cls, raw: RawData) -> Table:
        """Return the table of steps."""
        return raw.inputs.frame, raw.inputs.lengths


def times_of(name: str, values: Values, format: str = "") -> np.ndarray:
    """Return times as numbers float64 [M], dates as days since 1970. Raises DataError for missing ones."""
    times = {"number": as_numbers, "date": as_dates}[kind_of_times(values)](name, values, format)
    refuse_missing(name, times)
    return times


def kind_of_times(values: Values) -> str:
    """Return the kind of a time column: number or date."""
    return "number" if isinstance(values, np.ndarray) or kind_of_words(values) == "number" else "date"


def refuse_missing(name: str, values: Values) -> None:
    """Raise DataError for the first row without a value."""
    gone = is_missing(values)
    if gone.any():
        raise DataError(
            f"column {name!r}, row {int(np.argmax(gone)) + 1}: the value is missing, but every row needs one"
        )


def fill_forward(columns: Mapping[str, Values], lengths: np.ndarray) -> dict[str, Values]:
    """Fill each missing value with the last value before it in the same sequence. columns: by step."""
    starts = np.repeat(np.cumsum(lengths) - lengths, lengths)
    filled = {}
    for name, values in columns.items():
        here = np.arange(len(starts))
        last = np.maximum.accumulate(np.where(is_missing(values), -1, here))
        filled[name] = pick(values, np.where(last >= starts, last, here))
    return filled


def side_by_side(encoded: np.ndarray, lengths: np.ndarray, length: int, masked: bool) -> np.ndarray:
    """Arrange steps [C, M] as sequences float32 [N, length, C], padded with zeros at the end.

    masked: add a channel that is 1 in every step and 0 in the padding.
    """
    out = np.zeros((len(lengths), length, len(encoded) + masked), np.float32)
    present = np.arange(length) < lengths[:, None]
    for channel, values in enumerate(encoded):
        out[present, channel] = values
    if masked:
        out[present, -1] = 1
    return out
