"""The records of a CSV file, plain or gzip, in blocks, and errors in them.

Parsers silently accept problems that a user must know about: short rows, an unclosed quote, a repeated name.
This module finds them before anything is parsed.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import IO

import numpy as np

from slipstream.core.errors import DataError
from slipstream.core.wording import counted, typed
from slipstream.data.identity import name_of

BLOCK = 1 << 20  # bytes scanned, and parsed, at a time
BOM = b"\xef\xbb\xbf"
LONGEST = 1 << 24  # maximum bytes of one record
SEPARATORS = (",", ";", "\t", "|")


@dataclass(frozen=True)
class CsvHeader:
    """The result of the first pass. size: bytes of the header record. plain: no quotes and no blank lines."""

    names: list[str]
    separator: str
    rows: int
    size: int
    plain: bool


def survey(path: str, separator: str | None, header: bool = True, wanted: Collection[str] = ()) -> CsvHeader:
    """Make the first pass over a file.

    header: True if the first row contains the column names. wanted: the columns of new examples, which may
    be the only one of the file.
    Raises DataError for a file that is not a table.
    """
    names: list[str] = []
    rows = size = 0
    plain = True
    below, first = (" (below the header)", "header") if header else ("", "first row")
    for block in raw_blocks(path):
        start = 0
        if not names:
            size = _header_size(path, block)
            if header:
                _check_bytes(path, block[:size], "the header")
            text = block[:size].decode("utf-8", errors="replace")
            separator = separator or max(SEPARATORS, key=_unquoted(text).count)
            names = _names(path, text, separator, header)
            if len(names) == 1 and names[0] not in wanted:
                _refuse_single(path, text, separator, names[0])
            start = size = size if header else 0
        body = block[start:]
        ends, fields, blank = shape(body, separator or ",")
        _check_bytes(
            path,
            body,
            lambda at: f"row {rows + int(np.searchsorted(ends, at)) + 1}{below}",  # noqa: B023
        )
        wrong = (fields != len(names)) & ~blank
        if wrong.any():
            at = int(np.argmax(wrong))
            row = rows + int((~blank[:at]).sum()) + 1
            more = " ..." if len(names) > 5 else ""
            raise DataError(
                f"{path}: row {row}{below} has {counted(fields[at], 'field')}, but the {first} has "
                f"{len(names)} ({', '.join(names[:5])}{more}), separated by {separator!r}: correct the row, "
                "quote a field that contains the separator, or set data.separator"
            )
        rows += int((~blank).sum())
        plain = plain and not blank.any() and b'"' not in body
        if len(body) and (len(ends) == 0 or ends[-1] + 1 < len(body)):
            raise DataError(f"{path}: the quote opened in row {rows + 1}{below} is never closed")
    if not names:
        raise DataError(f"{path}: the file is empty, expected a header and rows")
    if rows == 0:
        raise DataError(f"{path}: found no rows below the header ({', '.join(names[:5])})")
    return CsvHeader(names, separator or ",", rows, size, plain)


def _header_size(path: str, block: bytes) -> int:
    if block[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DataError(f"{path}: the file is UTF-16; save it as UTF-8")
    ends, _, blank = shape(block, ",")
    if blank.all():  # there is text, but no record with text ends
        raise DataError(f"{path}: the quote opened in the header is never closed")
    return int(ends[np.argmin(blank)]) + 1


def _unquoted(text: str) -> str:
    return "".join(text.split('"')[::2])


def _names(path: str, text: str, separator: str, header: bool) -> list[str]:
    """Return the column names, trimmed and in Unicode NFC. An empty name becomes the column's position."""
    try:
        fields = next(csv.reader(io.StringIO(text.strip("\r\n"), newline=""), delimiter=separator), [""])
    except csv.Error as error:
        raise DataError(f"{path}: the header cannot be read: {error}") from error
    names = [(name_of(field) if header else "") or f"column {i + 1}" for i, field in enumerate(fields)]
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        places = [i + 1 for i, name in enumerate(names) if name == twice[0]]
        raise DataError(
            f"{path}: the header has {twice[0]!r} more than once (columns {', '.join(map(str, places))}): "
            "give every column a unique name, or set data.header=false if the file has no header"
        )
    return names


def _refuse_single(path: str, text: str, separator: str, name: str) -> None:
    other = max(SEPARATORS, key=_unquoted(text).count)
    there = other in _unquoted(text)
    hint = f"; the header has {other!r}: set {typed('data.separator', other)}" if there else ""
    raise DataError(
        f"{path}: found only one column ({name!r}), separated by {separator!r}; expected a target and at "
        f"least one input{hint}"
    )


def _check_bytes(path: str, body: bytes, where: str | Callable[[int], str]) -> None:
    """Raise DataError for bytes that are not UTF-8. where: their location, or a function of the position."""
    if found := not_utf8(body):
        position, problem = found
        raise DataError(f"{path}: {where if isinstance(where, str) else where(position)} holds {problem}")


def not_utf8(content: bytes) -> tuple[int, str] | None:
    """Return the position of the first byte that is not UTF-8, with an explanation, or None.

    >>> not_utf8("größe".encode("cp1252"))[1][:75]
    "byte 0xf6, which is not UTF-8 (the file is probably Latin-1: 'größe'): save"
    """
    position = content.find(b"\0")
    if position >= 0:
        return position, "a zero byte: save the file as UTF-8 text"
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        position = error.start
    else:
        return None
    around = content[max(position - 20, 0) : position + 20].decode("cp1252", errors="replace")
    word = next((w for w in re.findall(r"\w+", around) if not w.isascii()), around)
    said = f"byte 0x{content[position]:02x}, which is not UTF-8 (the file is probably Latin-1: {word!r})"
    return position, f"{said}: save it as UTF-8, for example with iconv -f WINDOWS-1252 -t UTF-8"


def shape(block: bytes, separator: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return, for each record, its end in the block, its number of fields, and whether it is blank."""
    data = np.frombuffer(block, np.uint8)
    ends, marks = np.flatnonzero(data == 10), np.flatnonzero(data == ord(separator))
    quotes = np.flatnonzero(data == 34)
    if len(quotes):  # a separator or line end after an odd number of quotes is inside a field
        ends = ends[np.searchsorted(quotes, ends) % 2 == 0]
        marks = marks[np.searchsorted(quotes, marks) % 2 == 0]
    fields = np.diff(np.searchsorted(marks, ends), prepend=0) + 1
    lengths = np.diff(ends, prepend=-1) - 1
    blank = (lengths == 0) | ((lengths == 1) & (data[ends - 1] == 13)) if len(ends) else lengths == 0
    return ends, fields, blank


def records(path: str, header: CsvHeader) -> Iterator[tuple[bytes, int]]:
    """Yield the blocks without the header and blank lines, each with its number of records."""
    start = header.size
    for block in raw_blocks(path):
        body, start = block[start:], 0
        if header.plain:  # several times faster
            if body:
                yield body, body.count(b"\n")
            continue
        ends, _, blank = shape(body, header.separator)
        if blank.any():
            body = b"".join(record for record, gone in zip(cut(body, ends), blank, strict=True) if not gone)
        if body:
            yield body, int((~blank).sum())


def cut(block: bytes, ends: np.ndarray) -> list[bytes]:
    """Split a block into records."""
    starts = [0, *(ends[:-1] + 1)]
    return [block[a : b + 1] for a, b in zip(starts, ends, strict=True)]


def raw_blocks(path: str) -> Iterator[bytes]:
    """Yield the bytes of the file in blocks of whole records, without a byte order mark.

    A single carriage return as line end, as on old Macs, becomes a line feed.
    """
    rest = b""
    try:
        with open_bytes(path) as file:
            rest = file.read(BLOCK).removeprefix(BOM)
            returns = b"\r" in rest and b"\n" not in rest
            rest, chunk = b"", rest
            while chunk:
                rest += chunk.replace(b"\r", b"\n") if returns else chunk
                chunk = file.read(BLOCK)
                if size := _whole(rest):
                    block, rest = rest[:size], rest[size:]
                    # Without any text there can be no header.
                    if not block.isspace():
                        yield block
                elif len(rest) > LONGEST:
                    raise DataError(
                        f"{path}: a record is longer than {LONGEST >> 20} MB; is a quote not closed?"
                    )
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    if rest.strip():
        yield rest + b"\n"


def _whole(block: bytes) -> int:
    """Return the number of bytes in whole records."""
    if b'"' not in block:
        return block.rfind(b"\n") + 1
    ends, _, _ = shape(block, ",")
    return int(ends[-1]) + 1 if len(ends) else 0


def open_bytes(path: str) -> IO[bytes]:
    """Open the file for reading, and decompress it if it starts like gzip."""
    with open(path, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if packed else open(path, "rb")  # type: ignore[return-value]  # a GzipFile reads as IO[bytes] does
