"""The encoding of a table's columns as numbers: scales, categories, fill values for missing ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from slipstream.core.wording import counted
from slipstream.data.identity import Known
from slipstream.data.messages import phrase
from slipstream.data.scaling import SCALINGS, Statistics, smooth_clip
from slipstream.data.tabular.columns import as_text, read_as
from slipstream.data.tabular.values import Text, Values

# Periods of the cycles of a date (in days) or a time of day (in hours), encoded in addition to the number.
CYCLES = {"year": 365.2425, "week": 7.0, "day": 1.0, "24 hours": 24.0}


@dataclass(frozen=True)
class Column:
    """One raw column (or channel) and its encoding as numbers.

    number, boolean, date: (x - offset) * factor, clipped smoothly if `clip`. `fill` replaces a missing value,
        and with `flag` an additional output is 1 for a missing value. A date is encoded as the days since
        1970 and as sine and cosine of each of its `cycles`, a time of day as hours and as sine and cosine of
        the day.
    category: one output for each of `categories`, one for all `rare` ones if there are any, and with `flag`
        one for missing. All of them are 0 for a category that is not in the training split.
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

    @classmethod
    def scaled(cls, name: str, kind: str, scaling: str, statistics: Statistics) -> Column:
        """Fit the scale of a numeric column."""
        rule = SCALINGS[scaling]
        offset, factor = rule.fit(statistics)
        return cls(name, kind, float(offset), float(factor), clip=rule.clip)

    def outputs(self) -> tuple[str, ...]:
        """Return the names of the outputs."""
        names = [f"{self.name}={category}" for category in self.categories]
        names += [f"{self.name}=other"] if self.rare else []
        names += [self.name] if self.kind != "category" else []
        names += [f"{self.name} {wave} of {cycle}" for cycle in self.cycles for wave in ("sine", "cosine")]
        return (*names, f"{self.name} is missing") if self.flag else tuple(names)

    def encode(self, values: Values, out: np.ndarray, warnings: list[str]) -> None:
        """Write the outputs into `out` [outputs, N]. Append warnings about new values to `warnings`."""
        if self.kind == "category":
            self._encode_category(as_text(values), out, warnings)
            return
        numbers = read_as(self.kind, self.name, values, self.format)
        missing = np.isnan(numbers)
        if missing.any():
            numbers = np.where(missing, self.fill, numbers)
            if not self.flag:
                warnings.append(
                    f"column {self.name!r}: {counted(missing.sum(), 'missing value')}, but "
                    "none in training; "
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
                f"column {self.name!r}: {counted(rows, 'row')} with a category that is not in the "
                f"training split "
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
                f"column {self.name!r}: {counted(missing.sum(), 'missing value')}, but none in training: "
                "encoded as unknown"
            )


def encode(columns: Sequence[Column], values: dict[str, Values]) -> tuple[np.ndarray, list[str]]:
    """Encode a table as float32 [outputs, N] and return it with warnings. Removes the columns from `values`.

    Each column is freed as soon as it is encoded.
    """
    count = len(next(iter(values.values())))
    out = np.empty((sum(len(column.outputs()) for column in columns), count), np.float32)
    warnings: list[str] = []
    start = 0
    for column in columns:
        width = len(column.outputs())
        column.encode(values.pop(column.name), out[start : start + width], warnings)
        start += width
    return out, warnings


def numeric_of(columns: Sequence[Column]) -> tuple[int, ...]:
    """Return the indices of the numeric outputs. The others are 0 or 1."""
    named = [(name, column.kind) for column in columns for name in column.outputs()]
    plain = [kind not in ("category", "boolean") and not name.endswith(" is missing") for name, kind in named]
    return tuple(np.flatnonzero(plain).tolist())


def constant_warnings(columns: Sequence[Column]) -> list[str]:
    """Return one sentence about all columns that are constant in the training split."""
    constant = [column.name for column in columns if column.factor == 0]
    constant += [c.name for c in columns if c.kind == "category" and len(c.outputs()) <= 1]
    if not constant:
        return []
    verb = "does" if len(constant) == 1 else "do"
    number = counted(len(constant), "input column")
    return [f"{number} {verb} not vary in the training split: {phrase(constant)}"]
