"""Parsing of a request's body into rows: JSON, CSV and lines of text, with the place of each error."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import NoReturn

from slipstream.core.types import Plain
from slipstream.core.wording import counted
from slipstream.data.identity import name_of
from slipstream.data.messages import brief
from slipstream.data.tabular.csv_records import SEPARATORS
from slipstream.inference.serving.refusals import RequestError


class _Twice(dict[str, Plain]):
    """A JSON object that has a key twice, which is ambiguous."""


def json_of(body: bytes) -> Plain:
    """Parse JSON. Raises RequestError, with line and column, for anything else.

    NaN and Infinity, which JSON does not allow, become numbers, so that the row check reports their place.
    """
    if not body.strip():
        raise RequestError(400, "the body is empty; expected JSON: a row, or a list of rows")
    try:
        return json.loads(text_of(body), object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        found = brief(error.doc[error.pos : error.pos + 20]) if error.pos < len(error.doc) else "the end"
        raise RequestError(400, f"the body is not valid JSON: {place}: {error.msg}, found {found}") from None
    except RecursionError:
        raise RequestError(400, "the JSON is nested too deeply; expected a row, or a list of rows") from None
    except ValueError as error:  # an integer with more digits than Python parses
        raise RequestError(400, f"the body cannot be read: {str(error).partition(':')[0]}") from None


def _object(pairs: Sequence[tuple[str, Plain]]) -> dict[str, Plain]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        return _Twice({"name": next(name for name in names if names.count(name) > 1)})
    return made


def twice_in(row: Plain) -> str | None:
    """Return the name that a JSON object has twice, or None."""
    return row["name"] if isinstance(row, _Twice) else None


def text_of(body: bytes) -> str:
    """Decode UTF-8, with or without a byte order mark. Raises RequestError with the position."""
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        found = f"byte 0x{body[error.start]:02x} at position {error.start + 1}"
        raise RequestError(400, f"the body is not UTF-8 text: {found}") from None


def csv_rows(body: bytes, settings: Mapping[str, Plain], most: int) -> list[dict[str, Plain]]:
    """Return the rows of a CSV file by column name; an empty field is None.

    settings: the run's, of which `separator` and `header` are used. most: the largest number of rows.
    """
    text = text_of(body)
    if "\0" in text:
        raise RequestError(400, "the CSV contains a zero byte; save it as UTF-8 text")
    head = next((line for line in text.splitlines() if line.strip()), "")
    separator = settings.get("separator") or max(SEPARATORS, key=head.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    names: list[str] | None = None
    rows: list[dict[str, Plain]] = []
    try:
        for record in reader:
            if not record:
                continue
            if names is None:
                named = settings.get("header", True)
                names = _names(record) if named else [f"column {i + 1}" for i in range(len(record))]
                if named:
                    continue
            if len(record) != len(names):
                raise RequestError(
                    422,
                    f"row {len(rows) + 1} of the CSV has {counted(len(record), 'field')}, but the header has "
                    f"{len(names)}, separated by {separator!r}; quote fields that contain the separator",
                )
            rows.append({name: field or None for name, field in zip(names, record, strict=True)})
            if len(rows) > most:
                too_many(most)
    except csv.Error as error:
        raise RequestError(400, f"the CSV cannot be read: line {reader.line_num}: {error}") from None
    if not rows:
        raise RequestError(422, "the CSV has no rows; expected a header and rows below it")
    return rows


def _names(record: Iterable[str]) -> list[str]:
    names = [name_of(field) for field in record]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise RequestError(422, f"the header of the CSV has {twice!r} more than once")
    return names


def lines_of(body: bytes, most: int) -> list[str]:
    """Return the lines of a text, one for each example."""
    lines = text_of(body).split("\n")
    lines = [line.rstrip("\r") for line in (lines[:-1] if lines[-1] == "" else lines)]
    if not lines:
        raise RequestError(422, "the body is empty; expected one text per line")
    if len(lines) > most:
        too_many(most)
    return lines


def too_many(most: int) -> NoReturn:
    """Raise RequestError for more rows than one request may have."""
    raise RequestError(
        413,
        f"more than {counted(most, 'row')} in one request; split it, start the server with a larger "
        "--max-rows, or predict the file: slipstream predict RUN FILE -o OUT",
    )
