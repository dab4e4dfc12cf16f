"""CSV and TSV files, plain or gzip, parsed block by block, so that the whole file is never in memory.

A first pass (see `records`) counts the rows, so that the columns are allocated at their final size.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain

import numpy as np

from slipstream.core.errors import DataError
from slipstream.core.types import DataLike
from slipstream.data.identity import Words
from slipstream.data.messages import brief, cures
from slipstream.data.tabular.columns import blank, own_memory
from slipstream.data.tabular.csv_records import CsvHeader, cut, records, shape, survey
from slipstream.data.tabular.spelling import number_of
from slipstream.data.tabular.values import Text, Values

AHEAD = 2  # blocks parsed while another one is stored


def read_csv(
    path: str,
    separator: str | None,
    decimal: str,
    missing: frozenset[str],
    wanted: Callable[[str], bool],
    as_words: frozenset[str],
    labels: frozenset[str],
    named: bool = True,
) -> tuple[list[str], dict[str, Values], str]:
    """Return all names, the wanted columns by name, and the separator.

    as_words: columns that are not read as numbers. labels: columns that may be labels, which are read as
    numbers only if their first values have fractions. named: True if the first row contains the names. Raises
    DataError with the row, counted from 1 below the header, for anything that is not a table.
    """
    header = survey(path, separator, named)
    try:
        return _read_csv(path, header, decimal, missing, wanted, as_words, labels)
    except _Respelled as found:  # first plain numbers, later signs or thousands separators
        return read_csv(path, separator, decimal, missing, wanted, as_words | found.columns, labels, named)


def _read_csv(
    path: str,
    header: CsvHeader,
    decimal: str,
    missing: frozenset[str],
    wanted: Callable[[str], bool],
    as_words: frozenset[str],
    labels: frozenset[str],
) -> tuple[list[str], dict[str, Values], str]:
    parser = Parser(path, header, decimal, missing)
    numbers: dict[str, np.ndarray] = {}
    words: dict[str, WordColumn] = {}
    row, blocks = 0, records(path, header)
    if first := next(blocks, None):  # decides which columns are read as numbers
        frame = parser.words(*first, row)
        for name in filter(wanted, header.names):
            least = parser.fractions if name in labels else parser.all_numbers
            if name not in as_words and least(frame[name]):
                numbers[name] = own_memory(header.rows)
            else:
                words[name] = WordColumn(header.rows, missing)
        blocks = chain([first], blocks)
    for block, count, found in parser.ahead(blocks, numbers):
        frame = parser.numbers_from_words(block, count, row, numbers) if found is None else found
        if row + count > header.rows:
            break
        # All columns in one call: one call per column took as long as reading the file.
        filled = frame.select(*numbers).fill_null(float("nan")) if numbers else frame
        for name, column in numbers.items():
            column[row : row + count] = blank(filled[name].to_numpy(writable=True), missing)
        put_words(words, row, frame)
        row += count
    if row != header.rows:
        raise DataError(f"{path}: the file changed during reading; start again when it is complete")
    columns = {n: numbers[n] if n in numbers else words[n].text() for n in filter(wanted, header.names)}
    return header.names, columns, header.separator


class _Respelled(Exception):
    """Some columns contain numbers in another spelling than the first ones."""

    def __init__(self, columns: frozenset[str]) -> None:
        self.columns = columns


@dataclass(frozen=True)
class Parser:
    """A parser of one file's blocks into polars DataFrames."""

    path: str
    header: CsvHeader
    decimal: str
    missing: frozenset[str]

    def parse(self, block: bytes, count: int, numeric: Collection[str]) -> DataLike:
        """Parse a block of `count` records: float64 for the numeric columns, words for the others.

        Return None if polars cannot parse it, or finds a different number of records.
        """
        import polars as pl

        if numeric and self.decimal == ",":  # polars would also accept a decimal point
            return None
        try:
            frame = pl.read_csv(
                block,
                has_header=False,
                separator=self.header.separator,
                schema={n: pl.Float64 if n in numeric else pl.String for n in self.header.names},
                null_values=sorted(self.missing),
            )
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
            return None
        return frame if len(frame) == count else None

    def ahead(
        self, blocks: Iterable[tuple[bytes, int]], numeric: Collection[str]
    ) -> Iterator[tuple[bytes, int, DataLike]]:
        """Yield the blocks with their `parse` results, in order, parsing AHEAD of them in advance."""
        waiting: deque[tuple[bytes, int, Future[DataLike]]] = deque()
        with ThreadPoolExecutor(AHEAD) as pool:
            for block, count in blocks:
                waiting.append((block, count, pool.submit(self.parse, block, count, numeric)))
                if len(waiting) > AHEAD:
                    block, count, found = waiting.popleft()
                    yield block, count, found.result()
            for block, count, found in waiting:
                yield block, count, found.result()

    def words(self, block: bytes, count: int, start: int) -> DataLike:
        """Parse a block with all columns as words. Raises DataError with the row that cannot be read."""
        frame = self.parse(block, count, ())
        if frame is not None:
            return frame
        found = cut(block, shape(block, self.header.separator)[0])
        low, high = 0, len(found)  # the first invalid record is in [low, high)
        while high - low > 1:
            middle = (low + high) // 2
            readable = self.parse(b"".join(found[low:middle]), middle - low, ()) is not None
            low, high = (middle, high) if readable else (low, middle)
        below = " (below the header)" if self.header.size else ""
        record = brief(found[low].decode(errors="replace"))
        raise DataError(
            f"{self.path}: row {start + low + 1}{below} cannot be read: {record}; "
            "a field that contains a quote must be quoted, with the inner quotes doubled"
        )

    def numbers_from_words(self, block: bytes, count: int, start: int, numeric: Collection[str]) -> DataLike:
        """Parse a block via text, to accept spaces around numbers and to locate text among them."""
        frame = self.words(block, count, start)
        respelled = set()
        for name in numeric:
            plain = frame[name].str.strip_chars()
            plain = plain.set(plain.is_in(sorted(self.missing)).fill_null(False), None)
            numbers = self.cast(plain)
            wrong = (numbers.is_null() & plain.is_not_null()).to_numpy()
            if wrong.any():
                if all(number_of(word, self.decimal) is not None for word in plain.filter(wrong).unique()):
                    respelled.add(name)
                    continue
                row = int(np.argmax(wrong))
                raise DataError(
                    f"{self.path}: column {name!r}, row {start + row + 1}: found {brief(plain[row])}, "
                    f"expected a number as in earlier rows. {cures(name, many=False, found=[plain[row]])}"
                )
            frame = frame.with_columns(numbers.alias(name))
        if respelled:
            raise _Respelled(frozenset(respelled))
        return frame

    def cast(self, words: DataLike) -> DataLike:
        """Cast words to float64, null for a word that is not a number."""
        import polars as pl

        plain = words.str.strip_chars()
        if self.decimal == ",":
            # With a decimal comma, a point is no decimal mark and a comma before three digits is ambiguous.
            other = plain.str.contains(r"\.|^[+-]?[1-9]\d{0,2},\d{3}$")
            plain = plain.set(other.fill_null(False), "no").str.replace(",", ".", literal=True)
        return plain.cast(pl.Float64, strict=False)

    def all_numbers(self, words: DataLike) -> bool:
        """Return True if there are values and all of them are plain numbers."""
        if words.null_count() == len(words) or self.cast(words).null_count() != words.null_count():
            return False
        # 1.101 next to 900 may mean thousands, so the whole column decides.
        points = words.str.contains(".", literal=True)
        groups = words.str.contains(r"^\s*[+-]?[1-9]\d{0,2}\.\d{3}\s*$")
        return not (points.any() and not points.all() and points.equals(groups))

    def fractions(self, words: DataLike) -> bool:
        """Return True if all values are numbers and some of them are not whole."""
        return self.all_numbers(words) and bool((self.cast(words) % 1 != 0).any())


class WordColumn:
    """A text column that is read block by block: codes, and the words that they index."""

    def __init__(self, rows: int, missing: frozenset[str]) -> None:
        self.codes = np.full(rows, -1, np.int32)
        self.words = Words(missing)

    def text(self) -> Text:
        """Return the finished column."""
        return self.words.text(self.codes, "untyped")


def put_words(columns: dict[str, WordColumn], row: int, frame: DataLike) -> None:
    """Store the words of a block, starting at `row`, with one call for all columns."""
    import polars as pl

    if not columns:
        return
    plain = frame.select(pl.col(*columns).str.strip_chars())
    found = plain.select(pl.all().drop_nulls().unique(maintain_order=True).implode())
    coded = []
    for name, column in columns.items():
        distinct = found[name][0]
        codes = [column.words.code(word) for word in distinct]
        coded.append(pl.col(name).replace_strict(distinct, codes, default=-1, return_dtype=pl.Int32))
    made = plain.select(coded)
    for name, column in columns.items():
        column.codes[row : row + len(made)] = made[name].to_numpy()
