"""Your own table: CSV, TSV, gzip or Parquet. Column kinds and the task are inferred."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge

from slipstream.core.errors import DataError, nearest
from slipstream.core.registry import register
from slipstream.core.types import Plain, Word
from slipstream.core.wording import typed
from slipstream.data.dataset import RawData
from slipstream.data.identity import name_of, names_of, numbered, words_of
from slipstream.data.messages import naming
from slipstream.data.tabular.columns import as_text, join
from slipstream.data.tabular.spelling import DayFirst, described
from slipstream.data.tabular.table_file import File, ReadingRules, labels_among, where_in
from slipstream.data.tabular.values import Frame
from slipstream.data.targets import make_target

Kind = Literal["number", "boolean", "date", "category", "ignore"]
ENDINGS = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".txt.gz", ".parquet", ".pq")
PATHS = ("path", "validation_path", "test_path")
ROLES = ("group_column", "time_column", "split_column", "weight_column")


def table_problems(settings: Mapping[str, Plain]) -> list[str]:
    """Check the settings of a table as far as possible without reading it."""
    found = []
    if settings["path"] is None:
        found.append(f"data.path: is not set, expected a file ({', '.join(ENDINGS)})")
    if not names_of(settings["target"]):
        found.append("data.target: is not set, expected the name of the column to predict")
    found += path_problems(settings, PATHS)
    found += split_problems(settings, {"group_column": "group", "time_column": "time"})
    if settings["group_column"] is not None and settings["time_column"] is not None:
        found.append("data.time_column: data.group_column already keeps rows together; remove one of them")
    found += header_problems(settings, PATHS)
    if settings["separator"] is not None and (
        len(settings["separator"]) != 1 or settings["separator"] in '"\n\r'
    ):
        found.append(f"data.separator: found {settings['separator']!r}, expected one character, such as ';'")
    if settings["separator"] == settings["decimal"]:
        found.append(f"data.decimal: {settings['decimal']!r} is already data.separator")
    return found + use_problems(settings, ROLES)


def path_problems(settings: Mapping[str, Plain], keys: Iterable[str]) -> list[str]:
    """Check that the settings for the files of a table name existing files of a supported type."""
    found = []
    for key in keys:
        path = settings[key]
        if path is not None and not Path(path).is_file():
            found.append(no_file(key, path))
        elif path is not None and not path.lower().endswith(ENDINGS):
            found.append(f"data.{key}: found {path}, expected a name that ends in {', '.join(ENDINGS)}")
    return found


def split_problems(settings: Mapping[str, Plain], keys: Mapping[str, str], example: str = "row") -> list[str]:
    """Check that columns for splitting match data.split. keys: setting -> the split that uses it."""
    found = []
    if settings["split"] == "group" and settings["group_column"] is None:
        found.append(f"data.split: group needs data.group_column, the column with each {example}'s group")
    for key, how in keys.items():
        if settings[key] is not None and settings["split"] not in ("auto", how):
            found.append(f"data.{key}: is not used by data.split={settings['split']}; remove one of them")
    if settings["split_column"] is not None and any(map(settings.get, PATHS[1:])):
        found.append("data.split_column: files already define the splits; remove one of them")
    return found


def use_problems(settings: Mapping[str, Plain], roles: Iterable[str]) -> list[str]:
    """Check that every column has one use: target, one of the roles, or input."""
    found, uses = [], dict[str, str]()
    for key in ("target", *roles, "inputs"):
        for name in names_of(settings.get(key)):
            if name in uses:
                found.append(f"data.{key}: column {name!r} is already data.{uses[name]}")
            uses.setdefault(name, key)
    for name in map(name_of, settings.get("kinds", ())):
        if uses.get(name, "inputs") != "inputs":
            found.append(f"data.kinds.{name}: the column is data.{uses[name]}, not an input")
    return found


def no_file(key: str, path: str) -> str:
    """Return the sentence for a path that is not a file."""
    if Path(path).is_dir():
        return f"data.{key}: {path} is a folder, expected a file ({', '.join(ENDINGS)})"
    there: list[str] = []
    with suppress(OSError):
        there = [name for name in os.listdir(Path(path).parent) if name.endswith(ENDINGS)]
    near = nearest(Path(path).name, there)
    hint = near and f", did you mean {typed(f'data.{key}', str(Path(path).with_name(near)))}?"
    return f"data.{key}: {path} is not a file{hint or ''}"


def header_problems(settings: Mapping[str, Plain], keys: tuple[str, ...]) -> list[str]:
    """Check that data.header=false is used only for files that may have no header."""
    files = [settings[key] for key in keys if settings[key] is not None]
    named = (
        [] if settings["header"] else [path for path in files if path.lower().endswith((".parquet", ".pq"))]
    )
    return [f"data.header: {named[0]} always contains the column names; remove data.header"] if named else []


@register("data", problems=table_problems, splits=("group", "time"))
def table(
    *,
    path: str | None,
    target: Word | list[Word] | None,
    task: Literal["auto", "binary", "multiclass", "multilabel", "regression"],
    classes: list[Word] | None,
    inputs: list[Word] | None,
    kinds: dict[Word, Kind],
    missing: list[Word],
    missing_target: Literal["error", "drop"],
    impute: Literal["median", "mean", "most_frequent", "error"],
    max_categories: Annotated[int, Ge(2)],
    separator: str | None,
    header: bool,
    decimal: Literal[".", ","],
    day_first: DayFirst,
    group_column: Word | None,
    time_column: Word | None,
    split_column: Word | None,
    weight_column: Word | None,
    validation_path: str | None,
    test_path: str | None,
) -> RawData:
    """Your own table: CSV, TSV, gzip or Parquet. Needs its path and its target.

    path: the file; its extension determines the format. target: the column to predict, or a list of columns.
    task: `auto` infers it: strings or at most 20 distinct whole numbers are classes, several yes/no columns
        are multilabel, other numbers are regression. classes: the labels in order; the second of two is
        positive.
    inputs: the columns to use; null uses all columns without another role. kinds: column -> number, boolean,
        date, category or ignore, to correct the inference. Columns that look like identifiers are left out
        with a warning.
    missing: words that mean a missing value. missing_target: `error` raises an error for a row without a
        target; `drop` ignores it.
    impute: the value for a missing number; an additional input is 1 where it was missing. For categories,
        missing is a separate category. max_categories: the maximum of inputs per column; rarer categories
        share the last.
    separator: null detects it in the header. header: true if the first row contains the names; otherwise the
        columns are named 'column 1', 'column 2' and so on.
    decimal: the decimal mark; thousands separators and currency or percent signs are removed with a warning.
    day_first: true if dates such as 03/10/2020 begin with the day; `auto` infers it from the column, and
        otherwise reads the month first before a slash, with a warning. Times of day become hours.
    group_column, time_column: for split=group, split=time. split_column: contains train, validation or test.
    weight_column: the weight of each row in the loss and the metrics, >= 0.
    validation_path, test_path: files with the same columns for these splits.
    Raises DataError with file, row (counted from 1 below the header) and column.
    """
    assert path is not None
    assert target is not None
    uses = ColumnUses.of(
        *(target, task, classes, inputs, kinds, missing_target, impute, max_categories),
        (group_column, time_column, split_column, weight_column),
    )
    reading = ReadingRules(
        *(frozenset(missing), separator, decimal, uses.wanted, uses.as_words),
        *(labels_among(uses.targets, task), header, day_first),
    )
    paths = enumerate((path, validation_path, test_path))
    return raw_of([File.read(file, part, reading) for part, file in paths if file is not None], uses)


@dataclass(frozen=True)
class ColumnUses:
    """The uses of a table's columns, from its settings.

    roles: setting -> column. kinds: the configured ones. inputs: None for all columns without another use.
    """

    targets: list[str]
    task: str
    classes: list[str] | None
    inputs: list[str] | None
    kinds: dict[str, str]
    drop: bool
    impute: str
    max_categories: int
    roles: dict[str, str]

    @classmethod
    def of(
        cls,
        target: Word | list[Word],
        task: str,
        classes: list[Word] | None,
        inputs: list[Word] | None,
        kinds: Mapping[Word, str],
        missing_target: str,
        impute: str,
        max_categories: int,
        roles: Sequence[Word | None],
    ) -> ColumnUses:
        """Return the settings with normalized column names. roles: in the order of ROLES."""
        return cls(
            names_of(target),
            task,
            words_of(classes),
            None if inputs is None else names_of(inputs),
            {name_of(name): kind for name, kind in kinds.items()},
            missing_target == "drop",
            impute,
            max_categories,
            {key: name_of(name) for key, name in zip(ROLES, roles, strict=True) if name is not None},
        )

    def wanted(self, name: str) -> bool:
        """Return True for a column that is used."""
        used = name in self.targets or name in self.roles.values()
        listed = self.inputs is None or name in self.inputs
        return used or (listed and self.kinds.get(name) != "ignore")

    @property
    def as_words(self) -> frozenset[str]:
        """The columns whose values are always text."""
        words = {name for name, kind in self.kinds.items() if kind == "category"}
        words |= {name for key, name in self.roles.items() if key in ("group_column", "split_column")}
        return frozenset(words)


def raw_of(files: list[File], uses: ColumnUses) -> RawData:
    """Return the inputs, the targets and the columns of other roles in the files of a table."""
    first, targets, roles, labels = files[0], uses.targets, uses.roles, uses.classes
    first.check_names({"target": targets, "inputs": uses.inputs or [], "kinds": list(uses.kinds)})
    first.check_names({key: [name] for key, name in roles.items()})
    for file in files:
        file.read_targets(targets, uses.task, labels, drop=uses.drop)
    warnings = [warning for file in files for warning in file.warnings]
    taken, listed = {*targets, *roles.values()}, uses.inputs is not None
    kinds = input_kinds(first, taken, uses.kinds, listed, warnings)
    frame = frame_of(files, kinds, uses.impute, uses.max_categories)
    with naming(first.path):
        joined = [join([file.targets[name] for file in files]) for name in targets]
        y, meaning = make_target(targets, joined, uses.task, labels)
    role: dict[str, Plain] = {
        key: join([file.role(key, name) for file in files]) for key, name in roles.items()
    }
    parts = role.get("split_column", np.repeat([f.part for f in files], [f.rows for f in files]))
    used = {*kinds, *taken}
    return RawData(
        frame,
        tuple(kinds),
        y,
        meaning,
        weights=role.get("weight_column"),
        parts=parts.astype(np.int8),
        groups=numbered(as_text(role["group_column"])) if "group_column" in role else None,
        order=role.get("time_column"),
        sources=tuple(file.path for file in files),
        left_out=tuple(name for name in first.names if name not in used),
        warnings=[*warnings, *described(note for file in files for note in file.notes)],
        notes=[f"Separator {first.separator!r}."] if first.separator not in (None, ",") else [],
        where=where_in(files),
    )


def frame_of(files: list[File], kinds: dict[str, str], impute: str, max_categories: int) -> Frame:
    """Remove the input columns from all files and join them. The first file determines their formats."""
    first = files[0]
    formats = {name: first.format_of(kind, name, first.columns[name]) for name, kind in kinds.items()}
    columns = {n: join([file.take(n, kind, formats[n]) for file in files]) for n, kind in kinds.items()}
    return Frame(columns, kinds, impute, max_categories, formats)


def input_kinds(
    file: File, taken: set[str], asked: Mapping[str, str], listed: bool, warnings: list[str]
) -> dict[str, str]:
    """Return the input columns with their kinds. Append warnings about ignored columns to `warnings`."""
    kinds = {}
    for name in file.columns:
        if name in taken:
            continue
        kind, warning = file.kind(name, asked.get(name), listed)
        warnings += [warning] if warning else []
        if kind != "ignore":
            kinds[name] = kind
    if not kinds:
        reason = f" ({'; '.join(warnings)})" if warnings else ""
        raise DataError(f"{file.path}: no input columns remain{reason}, expected at least one")
    return kinds
