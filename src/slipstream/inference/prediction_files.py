"""Predictions for whole files, block by block: tables, folders of images, lines of text, sequences.

Memory use does not depend on the number of rows, except for sequences, whose rows may be anywhere in a file.
"""

from __future__ import annotations

import itertools
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from io import TextIOWrapper
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, TYPE_CHECKING

import numpy as np

from slipstream.core import folders
from slipstream.core.errors import DataError, UserError, did_you_mean
from slipstream.core.storage import writing
from slipstream.core.types import DataLike, Plain
from slipstream.data.identity import missing_words, name_of
from slipstream.data.messages import predicting
from slipstream.data.tabular.csv_file import Parser
from slipstream.data.tabular.csv_records import not_utf8, open_bytes, records, survey
from slipstream.inference.ensemble import Ensemble

if TYPE_CHECKING:
    import polars

TABLES = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".txt.gz", ".parquet", ".pq")
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
NO_LINES = tuple(ending for ending in TABLES if not ending.startswith(".txt"))
WRITTEN = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
ROWS, IMAGES, LINES = 65_536, 256, 4_096  # examples predicted at a time
ALL, NO_COLUMNS = "all", "none"

Block = tuple["polars.DataFrame", DataLike]  # columns to keep, and the examples


def predict_file(
    ensemble: Ensemble,
    source: str,
    output: str,
    keep: str = ALL,
    progress: Callable[[int], None] | None = None,
) -> int:
    """Write a prediction for every example of a file or folder.

    Args:
        ensemble: the trained networks.
        source: a table, a folder of images, a text file with one text per line, or `-` for a CSV table or
            text lines on standard input.
        output: a .csv, .tsv, .jsonl or .parquet file, or `-` for CSV on standard output.
        keep: the columns of a table to write next to the predictions: `all`, `none`, or names separated by
            commas.
        progress: called after every block with the number of examples so far.

    Returns:
        The number of examples.

    Raises:
        DataError: the file does not match the run's data.
        UserError: the file cannot be read, or the output cannot be written.
    """
    kind = ensemble.first.preprocessing.spec.kind
    with ExitStack() as stack:
        path = stack.enter_context(_spooled()) if source == "-" else Path(source)
        if not path.exists():
            raise UserError(f"{source}: no such file or folder")
        if output != "-" and Path(output).resolve() == path.resolve():
            raise UserError(f"{output}: is the input file; choose another file for the predictions")
        blocks = _blocks(ensemble, path, kind, keep)
        write = stack.enter_context(_writer(output))
        done = 0
        for kept, examples in blocks:
            with predicting("standard input" if source == "-" else source, done):
                frame = prediction_columns(ensemble, examples)
            write(kept.hstack(_without_clash(frame, kept.columns)) if kept.columns else frame)
            done += len(frame)
            if progress is not None:
                progress(done)
    return done


def _blocks(ensemble: Ensemble, path: Path, kind: str, keep: str) -> Iterator[Block]:
    """Return the examples of a file in blocks, each with the columns to keep."""
    if kind == "image":
        return _images(path)
    if kind == "tokens":
        return _texts(ensemble, path, keep)
    if path.is_dir():
        raise UserError(
            f"{path}: is a folder; this run expects a table file: {', '.join(TABLES[:3])} or .parquet"
        )
    if kind == "sequence" and ensemble.first.preprocessing.columns:
        return _sequences(ensemble, path)
    if not ensemble.first.preprocessing.columns or path.suffix in (".npy", ".npz"):
        raise UserError(
            f"{path}: arrays are predicted in Python: slipstream.load({str(ensemble.path)!r}).predict(array)"
        )
    return _table(ensemble, path, keep)


def _table(ensemble: Ensemble, path: Path, keep: str) -> Iterator[Block]:
    import polars as pl

    columns = ensemble.first.preprocessing.columns
    wanted = [column.name for column in columns]
    settings = ensemble.first.data
    if path.suffix in (".parquet", ".pq"):
        scanned = pl.scan_parquet(path)
        _require(path, scanned.collect_schema().names(), wanted)
        for start in range(0, scanned.select(pl.len()).collect().item(), ROWS):
            frame = scanned.slice(start, ROWS).collect()
            yield _kept(path, frame, keep), frame
        return
    plain = [c.name for c in columns if c.kind == "number" and c.format in ("", ".")]
    decimal = settings.get("decimal", ".")
    absent = sorted(missing_words(settings.get("missing", ())))
    for words in _words(ensemble, path, wanted):
        yield (
            _kept(path, words, keep),
            words.select(wanted).with_columns(_numbers(words, plain, absent, decimal)),
        )


def _words(ensemble: Ensemble, path: Path, wanted: Sequence[str]) -> Iterator[polars.DataFrame]:
    """Yield the rows of a CSV file in blocks, as text, read with the settings of the run's data."""
    settings = ensemble.first.data
    header = survey(str(path), settings.get("separator"), settings.get("header", True), wanted)
    _require(path, header.names, wanted)
    parser, row = Parser(str(path), header, settings.get("decimal", "."), frozenset()), 0
    for block, count in _larger(records(str(path), header)):
        yield parser.words(block, count, row)
        row += count


def _rows(ensemble: Ensemble, path: Path, wanted: Sequence[str]) -> polars.DataFrame:
    """Return all rows of a table."""
    import polars as pl

    if path.suffix not in (".parquet", ".pq"):
        return pl.concat(_words(ensemble, path, wanted))
    frame = pl.read_parquet(path)
    _require(path, frame.columns, wanted)
    return frame


def _larger(blocks: Iterable[tuple[bytes, int]]) -> Iterator[tuple[bytes, int]]:
    """Join blocks until they have ROWS rows, because every block costs some hundred calls."""
    joined: list[bytes] = []
    rows = 0
    for block, count in blocks:
        joined.append(block)
        rows += count
        if rows >= ROWS:
            yield b"".join(joined), rows
            joined, rows = [], 0
    if joined:
        yield b"".join(joined), rows


def _numbers(
    words: polars.DataFrame, names: Sequence[str], absent: Sequence[str], decimal: str
) -> list[polars.Series]:
    """Return the columns whose values are all plain numbers, as numbers. Others are parsed value by value."""
    import polars as pl

    if decimal != ".":
        return []
    clean = pl.col(names).str.strip_chars()
    given = words.select(pl.when(clean.is_in(absent)).then(None).otherwise(clean).name.keep())
    numbers = given.select(pl.all().cast(pl.Float64, strict=False))
    return [column for column in numbers if column.null_count() == given[column.name].null_count()]


def _require(path: Path, found: Sequence[str], wanted: Sequence[str]) -> None:
    names = {name_of(name) for name in found}
    absent = [name for name in wanted if name_of(name) not in names]
    if absent:
        hint = did_you_mean(absent[0], list(found))
        more = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
        raise DataError(f"{path}: lacks the column {absent[0]!r}{more}, which the run was trained on; {hint}")


def _kept(path: Path, frame: polars.DataFrame, keep: str) -> polars.DataFrame:
    if keep == ALL:
        return frame
    names = [] if keep == NO_COLUMNS else keep.split(",")
    for name in names:
        if name not in frame.columns:
            raise UserError(f"--keep {name}: {path} has no such column, {did_you_mean(name, frame.columns)}")
    return frame.select(names)


def _sequences(ensemble: Ensemble, path: Path) -> Iterator[Block]:
    """Return all sequences at once, because the rows of one may be anywhere in the file."""
    import polars as pl

    steps = ensemble.first.preprocessing.to_json()["steps"]
    frame = _rows(ensemble, path, [steps["id"], steps["time"]])
    yield frame.select(pl.col(steps["id"]).unique(maintain_order=True)), frame


def _images(path: Path) -> Iterator[Block]:
    import polars as pl

    files = [path]
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.suffix.lower() in PICTURES and p.is_file())
        if not files:
            raise DataError(f"{path}: contains no images; expected files such as {', '.join(PICTURES[:3])}")
    for start in range(0, len(files), IMAGES):
        some = files[start : start + IMAGES]
        names = [str(p.relative_to(path)) if path.is_dir() else p.name for p in some]
        yield pl.DataFrame({"file": names}), [str(p) for p in some]


def _texts(ensemble: Ensemble, path: Path, keep: str) -> Iterator[Block]:
    """Return the texts of a table's column, or the lines of a file."""
    import polars as pl

    column = ensemble.first.data.get("text")
    if column is not None and path.name.lower().endswith(NO_LINES):
        for part in _rows(ensemble, path, [column]).iter_slices(LINES):
            yield _kept(path, part, keep), part[column].fill_null("").to_list()
        return
    with open_bytes(str(path)) as opened, TextIOWrapper(opened, "utf-8", "surrogateescape") as file:
        for start in itertools.count(0, LINES):
            lines = [line.rstrip("\r\n") for line in itertools.islice(file, LINES)]
            if not lines:
                return
            for number, line in enumerate(lines, start + 1):
                if found := not_utf8(line.encode("utf-8", "surrogateescape")):
                    raise DataError(f"{path}: line {number} holds {found[1]}")
            yield pl.DataFrame({"text": lines}), lines


def prediction_columns(ensemble: Ensemble, examples: DataLike) -> polars.DataFrame:
    """Return the predictions for some examples as columns.

    Classification gives `prediction` and the probability (or score) of each class. Multilabel tasks give, for
    each label, a boolean and its probability. Regression gives `prediction`, or `predicted NAME` for several
    targets.
    """
    import polars as pl

    scores, target = ensemble.scores(examples), ensemble.target
    if target.task == "regression":
        if scores.shape[1] == 1:
            return pl.DataFrame({"prediction": scores[:, 0]})
        return pl.DataFrame({f"predicted {name}": scores[:, i] for i, name in enumerate(target.names)})
    kind = "probability" if all(model.probabilistic for model in ensemble.models) else "score"
    made: dict[str, Plain] = {}
    if target.task == "multilabel":
        made |= {f"predicted {name}": scores[:, i] > 0.5 for i, name in enumerate(target.classes)}
    else:
        made["prediction"] = np.array(target.classes, object)[scores.argmax(axis=1)].astype(str)
    made |= {f"{kind} {name}": scores[:, i] for i, name in enumerate(target.classes)}
    return pl.DataFrame(made)


def _without_clash(frame: polars.DataFrame, taken: Sequence[str]) -> polars.DataFrame:
    """Rename prediction columns whose names the file already has."""
    names: dict[str, str] = {}
    for name in frame.columns:
        new = name
        while new in taken:
            new += "_"
        names[name] = new
    return frame.rename(names)


@contextmanager
def _spooled() -> Iterator[Path]:
    """Write standard input to a temporary file, because a first pass checks the columns."""
    with NamedTemporaryFile(suffix=".csv", delete=False) as file:
        path = Path(file.name)
        try:
            shutil.copyfileobj(sys.stdin.buffer, file, 1 << 20)
        except OSError as error:
            raise UserError(f"standard input: cannot be read ({error.strerror or error})") from error
    try:
        yield path
    finally:
        folders.remove(path)


@contextmanager
def _writer(output: str) -> Iterator[Callable[[polars.DataFrame], None]]:
    """Write frames to standard output, or to a file that appears complete or not at all."""
    if output == "-":
        begun = [False]

        def put(frame: polars.DataFrame) -> None:
            sys.stdout.write(frame.write_csv(include_header=not begun[0]))
            begun[0] = True

        yield put
        return
    path = Path(output)
    if path.suffix not in WRITTEN:
        raise UserError(f"-o {output}: expected a file name that ends in {', '.join(WRITTEN)}")
    if path.exists():
        raise UserError(f"{output}: already exists; choose another file")
    with writing(path):
        folders.mkdir(path.parent)
    made = folders.temporary(path)
    try:
        with writing(path):
            if path.suffix == ".parquet":
                yield from _parquet(made)
            else:
                with folders.opened(made, "xb") as file:
                    yield _text_writer(file, path.suffix)
            folders.rename(made, path)
    finally:
        folders.remove(made)


def _text_writer(file: IO[bytes], suffix: str) -> Callable[[polars.DataFrame], None]:
    begun = [False]

    def put(frame: polars.DataFrame) -> None:
        if suffix in (".jsonl", ".ndjson"):
            frame.write_ndjson(file)
        else:
            frame.write_csv(file, include_header=not begun[0], separator="\t" if suffix == ".tsv" else ",")
        begun[0] = True

    return put


def _parquet(made: Path) -> Iterator[Callable[[polars.DataFrame], None]]:
    """Write blocks to temporary files, and join them in one pass that holds one block at a time."""
    import polars as pl

    parts: list[Path] = []

    def put(frame: polars.DataFrame) -> None:
        parts.append(made.with_name(f"{made.name}.{len(parts)}"))
        frame.write_parquet(parts[-1])

    try:
        yield put
        if parts:
            pl.scan_parquet(parts).sink_parquet(made)
    finally:
        for part in parts:
            folders.remove(part)
