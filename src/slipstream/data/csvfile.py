"""CSV and TSV, plain or gzip, in blocks: the file is never in memory as a whole.

Two passes. The first counts the rows and finds what parsers pass over in silence (short rows, a
quote that never closes, bytes that are not UTF-8). The second parses block after block into
columns that already have their final size.
"""

from __future__ import annotations

import csv
import gzip
import io
import unicodedata
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any

import numpy as np

from slipstream.data.base import Text, Values
from slipstream.data.columns import own_memory
from slipstream.errors import DataError

BLOCK = 1 << 20  # bytes that are parsed at a time
BOM = b"\xef\xbb\xbf"
LONGEST = 1 << 26  # bytes of one record at most
SEPARATORS = (",", ";", "\t", "|")


@dataclass(frozen=True)
class Header:
    """What the first pass knows. size: bytes of the header record."""

    names: list[str]
    separator: str
    rows: int
    size: int


def read_csv(
    path: str,
    separator: str | None,
    decimal: str,
    missing: frozenset[str],
    wanted: Callable[[str], bool],
    as_words: frozenset[str],
) -> tuple[list[str], dict[str, Values], str]:
    """All names, the wanted columns by name, and the separator.

    as_words: columns that are not read as numbers.

    Raises DataError with the row, counted from 1 below the header, for anything that is no table.
    """
    header = survey(path, separator)
    import polars as pl

    names = header.names
    number: dict[str, bool] = {}
    numbers: dict[str, np.ndarray] = {}
    words: dict[str, Words] = {}
    row = 0
    for block in records(path, header):
        if not number:
            frame = parse(block, header, decimal, missing, {})
            number = {n: n not in as_words and wanted(n) and _all_numbers(frame[n], decimal) for n in names}
            for name in filter(wanted, names):
                if number[name]:
                    numbers[name] = own_memory(header.rows)
                else:
                    words[name] = Words(header.rows, missing)
        try:
            frame = parse(block, header, decimal, missing, number)
        except pl.exceptions.PolarsError:
            frame = _parse_slowly(block, header, decimal, missing, number, path, row)
        for name, column in numbers.items():
            column[row : row + len(frame)] = frame[name].fill_null(float("nan")).to_numpy()
        for name, column_of_words in words.items():
            column_of_words.put(row, frame[name])
        row += len(frame)
    columns = {n: numbers[n] if n in numbers else words[n].text() for n in names if wanted(n)}
    return names, columns, header.separator


class Words:
    """A column of words while it is read, block after block."""

    def __init__(self, rows: int, missing: frozenset[str]) -> None:
        self.codes = np.full(rows, -1, np.int32)
        self.place: dict[str, int] = {}
        self.missing = missing

    def put(self, row: int, series: Any) -> None:
        """Store a block's words from `row` on."""
        import polars as pl

        series = series.str.strip_chars()
        distinct = series.unique().drop_nulls()
        codes = [
            -1 if word in self.missing else self.place.setdefault(word, len(self.place)) for word in distinct
        ]
        found = series.replace_strict(distinct, codes, default=-1, return_dtype=pl.Int32)
        self.codes[row : row + len(series)] = found.to_numpy()

    def text(self) -> Text:
        return Text(self.codes, list(self.place))


def parse(
    block: bytes, header: Header, decimal: str, missing: frozenset[str], number: dict[str, bool]
) -> Any:
    """A block as a polars DataFrame: float64 for the columns marked as numbers, words for the others."""
    import polars as pl

    return pl.read_csv(
        block,
        has_header=False,
        separator=header.separator,
        schema={n: pl.Float64 if number.get(n) else pl.String for n in header.names},
        null_values=sorted(missing),
        decimal_comma=decimal == ",",
    )


def _cast(series: Any, decimal: str) -> Any:
    import polars as pl

    plain = series.str.strip_chars()
    if decimal == ",":
        plain = plain.str.replace(",", ".", literal=True)
    return plain.cast(pl.Float64, strict=False)


def _all_numbers(series: Any, decimal: str) -> bool:
    return series.null_count() < len(series) and _cast(series, decimal).null_count() == series.null_count()


def _parse_slowly(
    block: bytes,
    header: Header,
    decimal: str,
    missing: frozenset[str],
    number: dict[str, bool],
    path: str,
    start: int,
) -> Any:
    """The block by way of words: takes blanks around numbers, and says where a word stands among numbers."""
    frame = parse(block, header, decimal, missing, {})
    numeric = [name for name, is_number in number.items() if is_number]
    for name in numeric:
        plain = frame[name].str.strip_chars()
        plain = plain.set(plain.is_in(sorted(missing)).fill_null(False), None)
        cast = _cast(plain, decimal)
        wrong = (cast.is_null() & plain.is_not_null()).to_numpy()
        if wrong.any():
            row = int(np.argmax(wrong))
            raise DataError(
                f"{path}: column {name!r}, row {start + row + 1}: found {plain[row]!r}, expected a "
                "number as in the rows before. Mend it, add it to data.missing if it means a "
                f"missing value, or set data.kinds.{name}=category"
            )
        frame = frame.with_columns(cast.alias(name))
    return frame


def survey(path: str, separator: str | None) -> Header:
    """The first pass over the file. Raises DataError where it is no table."""
    names: list[str] = []
    rows = size = 0
    for block in raw_blocks(path):
        start = 0
        if not names:
            size = _header_size(path, block)
            text = block[:size].decode("utf-8", errors="replace")
            separator = separator or max(SEPARATORS, key=_unquoted(text).count)
            names = _names(path, text, separator)
            start = size
        body = block[start:]
        ends, fields, blank = shape(body, separator or ",")
        _check_bytes(path, body, ends, rows)
        wrong = (fields != len(names)) & ~blank
        if wrong.any():
            at = int(np.argmax(wrong))
            row = rows + int((~blank[:at]).sum()) + 1
            more = " ..." if len(names) > 5 else ""
            raise DataError(
                f"{path}: row {row} (below the header) has {fields[at]} fields, but the header has "
                f"{len(names)} ({', '.join(names[:5])}{more}), separated by {separator!r}: mend the row, "
                "put a field that contains the separator in quotes, or set data.separator"
            )
        rows += int((~blank).sum())
    if not names:
        raise DataError(f"{path}: the file is empty; expected a header and rows")
    if rows == 0:
        raise DataError(f"{path}: no rows below the header ({', '.join(names[:5])}); expected at least 3")
    return Header(names, separator or ",", rows, size)


def _header_size(path: str, block: bytes) -> int:
    if block[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DataError(f"{path}: the file is UTF-16; save it as UTF-8")
    ends, _, blank = shape(block, ",")
    return int(ends[np.argmin(blank)]) + 1


def _unquoted(text: str) -> str:
    return "".join(text.split('"')[::2])


def _names(path: str, text: str, separator: str) -> list[str]:
    """The column names: trimmed and in one Unicode form (NFC); an empty one is named by its place."""
    fields = next(csv.reader(io.StringIO(text.strip("\r\n"), newline=""), delimiter=separator))
    names = [unicodedata.normalize("NFC", field.strip()) for field in fields]
    names = [name or f"column {i + 1}" for i, name in enumerate(names)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        places = [i + 1 for i, name in enumerate(names) if name == twice[0]]
        raise DataError(
            f"{path}: the header has {twice[0]!r} more than once (columns {', '.join(map(str, places))}): "
            "give every column its own name"
        )
    other = max(SEPARATORS, key=_unquoted(text).count)
    if len(names) == 1:
        hint = f"; the header has {other!r}: set data.separator" if other in _unquoted(text) else ""
        raise DataError(
            f"{path}: one column only ({names[0]!r}), separated by {separator!r}; expected a target and at "
            f"least one input{hint}"
        )
    return names


def _check_bytes(path: str, body: bytes, ends: np.ndarray, rows: int) -> None:
    position = body.find(b"\0")
    problem = "a zero byte"
    if position < 0:
        try:
            body.decode("utf-8")
            return
        except UnicodeDecodeError as error:
            position, problem = error.start, f"byte 0x{body[error.start]:02x}, which is not UTF-8"
    row = rows + int(np.searchsorted(ends, position)) + 1
    raise DataError(f"{path}: row {row} (below the header) holds {problem}: save the file as UTF-8 text")


def shape(block: bytes, separator: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where each record of the block ends, how many fields it has, and whether it is blank."""
    data = np.frombuffer(block, np.uint8)
    ends, marks = np.flatnonzero(data == 10), np.flatnonzero(data == ord(separator))
    quotes = np.flatnonzero(data == 34)
    if len(quotes):  # a separator or line end after an odd number of quotes belongs to a field
        ends = ends[np.searchsorted(quotes, ends) % 2 == 0]
        marks = marks[np.searchsorted(quotes, marks) % 2 == 0]
    fields = np.diff(np.searchsorted(marks, ends), prepend=0) + 1
    lengths = np.diff(ends, prepend=-1) - 1
    blank = (lengths == 0) | ((lengths == 1) & (data[ends - 1] == 13)) if len(ends) else lengths == 0
    return ends, fields, blank


def records(path: str, header: Header) -> Iterator[bytes]:
    """The blocks without the header and without blank lines."""
    start = header.size
    for block in raw_blocks(path):
        body, start = block[start:], 0
        ends, _, blank = shape(body, header.separator)
        if blank.any():
            starts = np.concatenate([[0], ends[:-1] + 1])
            body = b"".join(body[a : b + 1] for a, b in zip(starts[~blank], ends[~blank], strict=True))
        if body:
            yield body


def raw_blocks(path: str) -> Iterator[bytes]:
    """The file's bytes, each block a number of whole records, without a byte order mark."""
    rest = b""
    try:
        with open_bytes(path) as file:
            rest = file.read(len(BOM)).removeprefix(BOM)
            while chunk := file.read(BLOCK):
                rest += chunk
                ends, _, _ = shape(rest, ",")
                if len(ends):
                    cut = int(ends[-1]) + 1
                    # Without any word in it there is no header to be found in it either.
                    if rest[:cut].strip():
                        yield rest[:cut]
                        rest = rest[cut:]
                elif len(rest) > LONGEST:
                    raise DataError(
                        f"{path}: a record is longer than {LONGEST >> 20} MB; is a quote left open?"
                    )
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    if rest.strip():
        if rest.count(b'"') % 2:
            raise DataError(f"{path}: a quote is opened and never closed before the end of the file")
        yield rest + b"\n"


def open_bytes(path: str) -> IO[bytes]:
    """The file for reading, unpacked where it starts as gzip does."""
    with open(path, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if packed else open(path, "rb")  # type: ignore[return-value]
