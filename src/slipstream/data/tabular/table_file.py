"""A file of a table, with columns that are read by kind or by role."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from slipstream.core.errors import DataError, did_you_mean, nearest
from slipstream.core.types import DataLike
from slipstream.core.wording import counted, typed
from slipstream.data.dataset import PARTS
from slipstream.data.identity import missing_words
from slipstream.data.messages import Where, below, brief, kind_setting, naming, phrase
from slipstream.data.tabular.columns import as_numbers, as_text, check_finite, is_missing, pick, read_as
from slipstream.data.tabular.csv_file import read_csv
from slipstream.data.tabular.parquet import read_parquet
from slipstream.data.tabular.spelling import DayFirst, Note, date_format, number_format
from slipstream.data.tabular.type_inference import (
    counts_rows,
    kind_of_words,
    looks_like_dates,
    looks_like_identifier,
    names_look_like_data,
)
from slipstream.data.tabular.values import Text, Values
from slipstream.data.targets import check_labels, may_be_labels

HEADLESS = "set data.header=false, which names them 'column 1', 'column 2' and so on"
PART_WORDS = {"train": 0, "training": 0, "validation": 1, "valid": 1, "val": 1, "dev": 1, "test": 2}


@dataclass(frozen=True)
class ReadingRules:
    """Rules for reading files.

    missing: words that mean a missing value. as_words: columns whose values are always text, never numbers.
    labels: columns that may contain labels.
    """

    missing: frozenset[DataLike]
    separator: str | None
    decimal: str
    wanted: Callable[[str], bool]
    as_words: frozenset[str]
    labels: frozenset[str] = frozenset()
    header: bool = True
    day_first: DayFirst = "auto"

    def __post_init__(self) -> None:
        object.__setattr__(self, "missing", missing_words(self.missing))


def where_in(files: Sequence[File]) -> Where:
    """Return a function that locates a row of the concatenated, filtered files in its own file."""
    paths, rows = [file.path for file in files], [np.flatnonzero(file.keep) + 1 for file in files]

    def of(place: int) -> Where:
        return lambda row: f"{paths[place]}: row {rows[place][row]}"

    return below([file.rows for file in files], [of(i) for i in range(len(files))])


def labels_among(targets: Iterable[str], task: str) -> frozenset[str]:
    """Return the target columns that may contain labels."""
    return frozenset(targets if task != "regression" else ())


@dataclass
class File:
    """The raw columns of one file, for one split. Errors name the file.

    names: of all columns, including unused ones. keep: the rows that have a target; messages refer to the row
    numbers before others are removed. headless: the first row may not be column names. how: the reading
    rules.
    """

    path: str
    part: int
    names: list[str]
    columns: dict[str, Values]
    kinds: dict[str, str]
    separator: str | None
    warnings: list[str]
    keep: np.ndarray
    targets: dict[str, Values]
    decimal: str = "."
    notes: list[Note] = field(default_factory=list)
    headless: str = ""
    how: ReadingRules | None = None

    @property
    def rows(self) -> int:
        """The number of rows kept."""
        return int(self.keep.sum())

    @classmethod
    def read(cls, path: str, part: int, how: ReadingRules) -> File:
        """Read a file in the format of its extension. Raises DataError."""
        separator: str | None = None
        kinds: dict[str, str] = {}
        if path.lower().endswith((".parquet", ".pq")):
            words = how.as_words | how.labels
            names, columns, kinds = read_parquet(path, how.missing, how.wanted, words)
        else:
            tabs = "\t" if how.separator is None and ".tsv" in path.lower()[-7:] else how.separator
            names, columns, separator = read_csv(
                *(path, tabs, how.decimal, how.missing, how.wanted, how.as_words, how.labels, how.header)
            )
        keep = np.ones(len(next(iter(columns.values()), ())), bool)
        made = cls(path, part, names, columns, kinds, separator, [], keep, {}, how.decimal, how=how)
        if separator is not None and how.header and names_look_like_data(columns):
            made.headless = (
                f"the first row of {path} looks like data ({phrase(names, 4)}): if it is not a header, "
                + HEADLESS
            )
            made.warnings.append(made.headless)
        return made

    def check_names(self, named: Mapping[str, list[str]]) -> None:
        """Raise DataError if a setting names a column that does not exist."""
        for key, names in named.items():
            for name in names:
                if name not in self.names:
                    hint = self.headless
                    sentences = any(other.count(" ") > 2 for other in self.names)  # of data=text
                    reads_header = self.separator and self.how and self.how.header
                    if not hint and reads_header and sentences and not nearest(name, self.names):
                        hint = f"if the first row is not a header, {HEADLESS}"
                    raise DataError(
                        f"{self.path}: data.{key} names {name!r}, which is not a column, "
                        f"{did_you_mean(name, self.names)}" + (hint and f"; {hint}")
                    )

    def read_targets(self, names: list[str], task: str, classes: list[str] | None, drop: bool | None) -> None:
        """Read the target columns. Drop rows without a target, or raise DataError for them.

        drop: None if no row may be dropped.
        """
        for name in names:
            values = self._pop(name)
            numeric = task == "regression" or (task == "auto" and classes is None and _mostly_numbers(values))
            with naming(self.path):
                if numeric or isinstance(values, np.ndarray):
                    format = self.format_of("number", name, values)
                    numbers = as_numbers(name, values, format)
                    if looks_like_identifier(name, numbers, "number"):
                        self.warnings.append(
                            f"target {name!r} looks like an identifier: is it the right column?"
                        )
                    if task == "regression" or not may_be_labels(values, format):
                        values = numbers
                if classes is not None:
                    check_labels(name, as_text(values), classes)
            self.targets[name] = values
        gone = np.any([is_missing(self.targets[name]) for name in names], axis=0)
        if not gone.any():
            return
        rows = np.flatnonzero(gone) + 1
        many = f"{len(rows):,} of {counted(len(gone), 'row')}"
        said = f"{self.path}: the target is missing in {many} (row {phrase(rows, 5)})"
        them, these, left = (
            ("it", "this row", "it is") if len(rows) == 1 else ("them", "these rows", "they are")
        )
        hint = self._said_to_be_missing(names, gone)
        if drop is None:
            raise DataError(f"{said}: correct {them}{hint}")
        if not drop:
            drop_them = f"drop {these} with data.missing_target=drop"
            raise DataError(f"{said}: correct {them}, or {drop_them}{hint}")
        if gone.all():
            raise DataError(f"{said}: no rows remain{hint}")
        self.warnings.append(f"{said}; {left} left out{hint}")
        self.keep = ~gone
        self.targets = {name: pick(values, self.keep) for name, values in self.targets.items()}

    def _said_to_be_missing(self, names: list[str], gone: np.ndarray) -> str:
        """Suggest a setting data.missing if targets contain words that mean missing but may be labels."""
        if self.how is None:  # not read from a text file, so data.missing does not apply
            return ""
        asked = frozenset(names)
        how = replace(self.how, missing=frozenset([""]), wanted=asked.__contains__, as_words=asked)
        columns = File.read(self.path, self.part, how).columns.values()
        texts = [as_text(pick(column, gone)) for column in columns]
        words = {w for text in texts for w, n in zip(text.values, text.counts(), strict=True) if n}
        found = sorted(words & self.how.missing)
        if not found:
            return ""
        others = sorted(self.how.missing - set(found))
        return (
            f"; data.missing treats {phrase(map(repr, found))} as missing: if it is a label, set "
            f"{typed('data.missing', others)}"
        )

    def kind(self, name: str, asked: str | None, listed: bool) -> tuple[str, str | None]:
        """Return a column's kind, given or inferred, with a warning if it is ignored or doubtful.

        listed: the user lists it as an input, so it is always used.
        """
        values = self.columns[name]
        if asked is not None:
            told = self.kinds.get(name)
            if isinstance(values, np.ndarray) and asked == "date" and told != "date":
                raise DataError(
                    f"{self.path}: {kind_setting(name, 'date')}, but the column contains numbers; "
                    f"write dates "
                    "as 2026-01-31, or remove this setting"
                )
            return asked, None
        if is_missing(values).all():
            return "ignore", f"column {name!r} has no values and is left out"
        if name in self.kinds:
            return self.kinds[name], None
        kind = kind_of_words(values) if isinstance(values, Text) else "number"
        with naming(self.path):
            if isinstance(values, np.ndarray):
                check_finite(f"column {name!r}", values, missing=True)
                if looks_like_dates(values):
                    self.notes.append(
                        ("dates without separators are read as numbers; write 2026-01-31", name)
                    )
        if listed:
            return kind, None
        if looks_like_identifier(name, values, kind):
            return "ignore", (
                f"column {name!r} looks like an identifier and is left out; "
                f"{kind_setting(name, kind)} includes it"
            )
        if counts_rows(values):
            return (
                kind,
                f"column {name!r} counts the rows; if it is uninformative, set "
                f"{kind_setting(name, 'ignore')}",
            )
        return kind, None

    def format_of(self, kind: str, name: str, values: Values) -> str:
        """Return the format of a column's numbers or dates (see `spelling`). Append notes to `notes`."""
        found: tuple[str, list[Note]] = ("", [])
        with naming(self.path):
            if kind == "number":
                plain = "" if self.decimal == "." else self.decimal
                found = number_format(name, values, self.decimal) if isinstance(values, Text) else (plain, [])
            elif kind == "date" and isinstance(values, Text):
                found = date_format(name, values, self.how.day_first if self.how else "auto")
        self.notes += found[1]
        return found[0]

    def take(self, name: str, kind: str, format: str = "") -> Values:
        """Remove a column and read it as its kind."""
        values = self._pop(name)
        with naming(self.path):
            read = as_text(values) if kind == "category" else read_as(kind, name, values, format)
        return read if self.keep.all() else pick(read, self.keep)

    def role(self, key: str, name: str) -> DataLike:
        """Return the values of a group, time, split or weight column. Raises DataError for missing values."""
        values = self._pop(name)
        with naming(f"{self.path}: data.{key}={name}"):
            self._forbid(is_missing(values), "the value is missing, expected one in every row")
            if key == "split_column":
                text = as_text(values)
                words = [*text.values, ""]  # the last one stands for a row without target and split
                values = np.array([PART_WORDS.get(word.lower(), -1) for word in words])[text.codes]
                found = words[text.codes[np.argmax(values < 0)]]
                self._forbid(values < 0, f"found {brief(found)}, expected {', '.join(PARTS)}")
            elif key == "time_column":
                kind = "number" if _mostly_numbers(values) else "date"
                values = read_as(kind, name, values, self.format_of(kind, name, values))
            elif key == "weight_column":
                values = as_numbers(name, values, self.format_of("number", name, values))
                self._forbid(values < 0, f"found {np.nanmin(values):g}, expected a weight >= 0")
        return pick(values, self.keep)

    def _forbid(self, wrong: np.ndarray, message: str) -> None:
        """Raise DataError for the first row with a target that is invalid."""
        wrong = wrong & self.keep
        if wrong.any():
            raise DataError(f"row {int(np.argmax(wrong)) + 1}: {message}")

    def _pop(self, name: str) -> Values:
        """Remove and return a column."""
        if name not in self.columns:
            raise DataError(f"{self.path}: has no column {name!r}, {did_you_mean(name, self.names)}")
        return self.columns.pop(name)


def _mostly_numbers(values: Values) -> bool:
    return isinstance(values, np.ndarray) or kind_of_words(values) == "number"
