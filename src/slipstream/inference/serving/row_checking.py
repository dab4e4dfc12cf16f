"""Validation of rows: every value is parsed as its column's kind, or refused with its row and column."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from slipstream.core.errors import did_you_mean, nearest
from slipstream.core.types import DataLike, Plain
from slipstream.core.wording import counted
from slipstream.data.identity import BOOLEANS, Known, exact, missing_words, name_of, nfc
from slipstream.data.messages import brief, phrase
from slipstream.data.tabular.columns import LIMIT, to_boolean
from slipstream.data.tabular.spelling import CLOCK, days_of, number_reader
from slipstream.inference.ensemble import Ensemble
from slipstream.inference.serving.fields import Field, RunInputs, inputs_of
from slipstream.inference.serving.refusals import MOST, Problem, RequestError
from slipstream.inference.serving.row_reading import too_many, twice_in

ValueReader = Callable[[Plain], Plain]


@dataclass(frozen=True)
class RequestRows:
    """N checked examples, as `Preprocessing.transform` takes them.

    ids: the ids of sequences. joinable: True for columns, which can be concatenated with other requests'.
    """

    data: DataLike
    count: int
    ids: tuple[str, ...] = ()
    joinable: bool = False


class RowChecker:
    """Checks rows against a run's columns.

    inputs: the inputs that the run accepts. ignored: columns that may be present but are not used: targets.
    """

    def __init__(self, ensemble: Ensemble, most: int) -> None:
        self.inputs: RunInputs = inputs_of(ensemble)
        self.most = most
        settings = ensemble.first.data
        self.missing = missing_words(settings.get("missing", ()))
        self.ignored = {name_of(name) for name in ensemble.target.names}
        self.readers = [(field, self._reader(field)) for field in self.inputs.fields]
        self.names = {field.name for field in self.inputs.fields}

    def of_json(self, value: Plain) -> RequestRows:
        """Return the examples in parsed JSON: one row or a list of rows."""
        if self.inputs.layout in ("numbers", "images"):
            return self._numbers(value)
        rows = value if isinstance(value, list) else [value]
        one = rows and not any(isinstance(row, dict | list) for row in rows)
        if one and self.inputs.layout == "table" and isinstance(value, list):
            rows = [rows]
        if not rows:
            raise RequestError(422, f"the list is empty; expected {self._expected()}")
        return self.of_rows(rows, strict=True)

    def of_csv(self, rows: Sequence[Mapping[str, Plain]]) -> RequestRows:
        """Return the examples of a CSV file's rows, whose columns are those of its header."""
        if problems := self._absent([*map(name_of, rows[0])]):
            raise RequestError.of(problems)
        return self.of_rows(rows, strict=False)

    def _absent(self, names: Sequence[str]) -> list[Problem]:
        """Return what a header lacks."""
        unknown, problems = [name for name in names if name not in self.names | self.ignored], []
        for field in self.inputs.fields:
            if field.name not in names:
                near = nearest(field.name, unknown)
                hint = f"; the header has {near!r}: write {field.name!r}" if near else ""
                problems.append(Problem(None, field.name, f"is missing from the header of the CSV{hint}"))
        return problems

    def of_rows(self, rows: Sequence[Plain], strict: bool) -> RequestRows:
        """Return the examples of rows. strict: refuse columns that the run does not have."""
        if len(rows) > self.most:
            too_many(self.most)
        if self.inputs.layout == "texts":
            name = self.inputs.fields[0].name
            rows = [{name: row} if isinstance(row, str) else row for row in rows]
        problems: list[Problem] = []
        columns: dict[str, list[Plain]] = {field.name: [] for field in self.inputs.fields}
        for number, row in enumerate(rows, 1):
            self._read(number, row, columns, strict, problems)
            if len(problems) >= MOST:
                break
        if problems:
            raise RequestError.of(problems)
        if self.inputs.layout == "texts":
            return RequestRows(columns[self.inputs.fields[0].name], len(rows))
        if self.inputs.layout == "steps":
            return self._sequences(columns)
        return RequestRows(columns, len(rows), joinable=True)

    def _expected(self) -> str:
        layout, fields = self.inputs.layout, self.inputs.fields
        if layout == "texts":
            return f'a text, or {{"{fields[0].name}": a text}}, or a list of them'
        named = phrase([field.name for field in fields], 6)
        if layout == "steps":
            return f"a list of steps, each an object with {named}"
        return f"a row, which is an object with {named}, or a list of rows"

    def _read(
        self,
        number: int,
        row: Plain,
        columns: Mapping[str, list[Plain]],
        strict: bool,
        problems: list[Problem],
    ) -> None:
        """Append the values of one row to the columns, and its errors to the problems."""
        if isinstance(row, list) and len(row) == len(self.readers):
            row = dict(zip(columns, row, strict=True))
        if not isinstance(row, dict):
            length = f" of {counted(len(row), 'value')}" if isinstance(row, list) else ""
            found = f"found {_told(row)}{length}, expected {self._expected()}"
            problems.append(Problem(number, None, found))
            return
        if twice := twice_in(row):
            problems.append(Problem(number, twice, "appears twice in the row"))
            return
        if row.keys() != self.names:
            row = self._named(number, row, strict, problems)
        for field, read in self.readers:
            if field.name in row:
                try:
                    columns[field.name].append(read(row[field.name]))
                except ValueError as error:
                    problems.append(Problem(number, field.name, str(error)))

    def _named(
        self, number: int, row: Mapping[str, Plain], strict: bool, problems: list[Problem]
    ) -> dict[str, Plain]:
        """Return a row keyed by the names of training; report missing and unknown columns as problems."""
        named: dict[str, Plain] = {}
        for spelled, value in row.items():
            name = name_of(spelled)
            if name in named:
                problems.append(Problem(number, name, "appears twice in the row, in two spellings"))
            named[name] = value
        unknown = [name for name in named if name not in self.names and name not in self.ignored]
        for field in self.inputs.fields:
            if field.name not in named:
                near = nearest(field.name, unknown)
                hint = f"; the row has {near!r}: write {field.name!r}" if near else ""
                null = "; use null for a missing value" if field.optional and not near else ""
                problems.append(Problem(number, field.name, f"is missing{hint}{null}"))
        for name in unknown if strict else ():
            hint = did_you_mean(name, self.names)
            problems.append(Problem(number, name, f"not a column of training, {hint} Otherwise remove it"))
        return named

    def _sequences(self, columns: Mapping[str, list[Plain]]) -> RequestRows:
        """Return sequences in the order of their first steps."""
        name, time = (field.name for field in self.inputs.fields[:2])
        dates = [isinstance(value, str) for value in columns[time]]
        if any(dates) and not all(dates):
            row = dates.index(not dates[0])
            found = f"found {_told(columns[time][row])}, expected {'a date' if dates[0] else 'a number'}"
            raise RequestError.of([Problem(row + 1, time, f"{found} as in the rows before")])
        ids = tuple(dict.fromkeys(columns[name]))
        return RequestRows(dict(columns), len(ids), ids)

    def _numbers(self, value: Plain) -> RequestRows:
        """Return examples of nested lists of numbers."""
        shape, depth, inner = self.inputs.shape, 0, value
        while isinstance(inner, list):
            depth, inner = depth + 1, inner[0] if inner else None
        rows = [value] if depth == len(shape) else value
        axes = " x ".join(map(str, shape))
        if not isinstance(rows, list) or depth not in (len(shape), len(shape) + 1) or not rows:
            found = f"found {_told(value)}{f' of {depth} levels' if depth else ''}"
            raise RequestError(422, f"{found}, expected nested lists of numbers, {axes}, or a list of them")
        if len(rows) > self.most:
            too_many(self.most)
        flat: list[float] = []
        for number, row in enumerate(rows, 1):
            try:
                _flatten(row, shape, self.inputs.ids, flat, "")
            except ValueError as error:
                raise RequestError.of([Problem(number, None, str(error))]) from None
        array = np.array(flat, np.int64 if self.inputs.ids else np.float64)
        return RequestRows(array.reshape(len(rows), *shape), len(rows))

    def _reader(self, field: Field) -> ValueReader:
        if field.kind == "category":
            return _category(field, self.missing)
        if field.kind == "text":
            return _text
        if field.kind == "id":
            return _id
        if field.kind == "step time":
            return _step_time(field, self.missing)
        if field.kind == "date":
            return _date(field, self.missing)
        words = to_boolean if field.kind == "boolean" else number_reader(field.format)
        expected = {"boolean": "true or false", "time of day": "a time of day such as 14:30"}
        return _number(words, expected.get(field.kind, "a number"), field, self.missing)


def _told(value: Plain) -> str:
    """Name a value of JSON for a message."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return brief(value) if isinstance(value, str) else brief(value)[1:-1]


def _null(field: Field) -> str:
    return " (null for a missing value)" if field.optional else ""


def _number(
    words: Callable[[str], float | None], expected: str, field: Field, missing: Collection[str]
) -> ValueReader:
    """Return a reader of numbers, booleans or times of day; text is parsed as in training."""
    boolean, clock = field.kind == "boolean", field.format == CLOCK

    def read(value: Plain) -> float | None:
        if value is None and field.optional:
            return None
        found: float | None = None
        if isinstance(value, str):
            word = nfc(value.strip())
            if field.optional and (not word or word in missing):
                return None
            found = words(word)
        elif isinstance(value, bool):
            found = float(value) if boolean else None
        elif isinstance(value, int | float) and abs(value) <= LIMIT:
            found = float(value) if not boolean or value in (0, 1) else None
            found = None if clock and not 0 <= value <= 24 else found
        if found is None or not abs(found) <= LIMIT:
            raise ValueError(f"found {_told(value)}, expected {expected}{_null(field)}")
        return found

    return read


def _date(field: Field, missing: Collection[str]) -> ValueReader:
    def read(value: Plain) -> str | None:
        if value is None:
            return None
        word = nfc(value.strip()) if isinstance(value, str) else ""
        if isinstance(value, str) and (not word or word in missing):
            return None
        if days_of(word, field.format) is None:
            example = {"d": " or 31/01/2026", "m": " or 01/31/2026"}.get(field.format, "")
            raise ValueError(f"found {_told(value)}, expected a date like 2026-01-31{example}{_null(field)}")
        return word

    return read


def _category(field: Field, missing: Collection[str]) -> ValueReader:
    """Return a reader of categories. A number matches by its value, as in a numeric column."""
    known = Known(field.categories)

    def read(value: Plain) -> str | None:
        if isinstance(value, str):
            word = nfc(value.strip())
            return None if not word or word in missing else word
        if isinstance(value, bool):
            return BOOLEANS[value]
        if isinstance(value, int | float) and math.isfinite(value):
            word = exact(value)
            place = known.place(word, "number")
            return None if word in missing else word if place < 0 else field.categories[place]
        if value is None:
            return None
        raise ValueError(f"found {_told(value)}, expected a category{_null(field)}")

    return read


def _text(value: Plain) -> str:
    if not isinstance(value, str):
        raise ValueError(f"found {_told(value)}, expected a text")
    return value


def _id(value: Plain) -> str:
    if isinstance(value, str) and value.strip():
        return nfc(value.strip())
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return exact(value)
    raise ValueError(f"found {_told(value)}, expected the name or number of a sequence")


def _step_time(field: Field, missing: Collection[str]) -> ValueReader:
    number, date = _number(number_reader(""), "", field, missing), _date(field, missing)

    def read(value: Plain) -> Plain:
        for reader in (number, date):
            try:
                found = reader(value)
            except ValueError:
                continue
            if found is not None:
                return found
        raise ValueError(f"found {_told(value)}, expected the number or date of a step")

    return read


def _flatten(value: Plain, shape: Sequence[int], ids: int, out: list[float], where: str) -> None:
    """Append the numbers of nested lists. Raises ValueError with the position of the first mismatch."""
    if not shape:
        good = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LIMIT
        if ids:
            good = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < ids
        if not good:
            expected = f"an id from 0 to {ids - 1:,}" if ids else "a number"
            raise ValueError(f"{where.strip() or 'value'}: found {_told(value)}, expected {expected}")
        out.append(value)
        return
    if not isinstance(value, list) or len(value) != shape[0]:
        length = f" of {counted(len(value), 'value')}" if isinstance(value, list) else ""
        found = f"found {_told(value)}{length}, expected a list of {shape[0]:,}"
        raise ValueError(f"{where.strip()}: {found}" if where else found)
    for i, one in enumerate(value):
        _flatten(one, shape[1:], ids, out, f"{where}[{i}]")
