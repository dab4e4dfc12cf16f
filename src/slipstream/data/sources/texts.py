"""Your own texts: lines with a label, a table with a column of texts, or a folder for each class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from slipstream.core.errors import DataError
from slipstream.core.registry import register
from slipstream.core.types import Count, DataLike, Plain, Word
from slipstream.core.wording import counted, typed
from slipstream.data.dataset import RawData
from slipstream.data.identity import class_folders, encode_words, name_of, names_of, words_of
from slipstream.data.messages import Where, below, brief, naming, phrase
from slipstream.data.sources.table import ENDINGS as TABLES
from slipstream.data.sources.table import header_problems
from slipstream.data.tabular.columns import as_text, is_missing, join, pick
from slipstream.data.tabular.csv_records import BOM, not_utf8, open_bytes
from slipstream.data.tabular.spelling import described
from slipstream.data.tabular.table_file import PART_WORDS, File, ReadingRules, labels_among
from slipstream.data.tabular.values import Values
from slipstream.data.targets import make_target
from slipstream.data.text.vocabulary import Texts, Tokenizer

LINES = (".txt", ".txt.gz")
TABS = (".tsv", ".tsv.gz")
ENDINGS = tuple(end for end in TABLES if end not in LINES)
PATHS = ("path", "validation_path", "test_path")
LONGEST = 1 << 30  # bytes of a file of lines, or of a folder's files together
LABEL = "class"  # the target's name if no column has one


@dataclass
class Piece:
    """The texts of one file or folder, for one split. where: returns the location of a text by its number."""

    path: str
    texts: list[str]
    targets: list[Values]
    where: Where


def text_problems(settings: Mapping[str, Plain]) -> list[str]:
    """Check the settings of texts as far as possible without reading them."""
    found = []
    if settings["path"] is None:
        found.append(
            "data.path: is not set, expected a folder with a folder of .txt files for each class, a file of "
            f"lines label<TAB>text ({', '.join(LINES)}), or a table ({', '.join(ENDINGS)})"
        )
    columns = [key for key in ("text", "target") if settings[key] is not None]
    for key in PATHS:
        path = settings[key]
        if path is None:
            continue
        if not Path(path).exists():
            found.append(f"data.{key}: {path} does not exist")
        elif _is_table(path, columns):
            found += [
                f"data.{name}: is not set, expected the name of a column of {path}"
                for name in ("text", "target")
                if name not in columns
            ]
        elif Path(path).is_file() and not _is_lines(path):
            found.append(
                f"data.{key}: found {path}, expected a folder or a name that ends in "
                f"{', '.join((*LINES, *ENDINGS))}"
            )
        elif columns:
            found.append(f"data.{columns[0]}: names a column, but {path} is not a table; remove it")
    found += header_problems(settings, PATHS)
    if settings["text"] is not None and name_of(settings["text"]) in names_of(settings["target"]):
        found.append(f"data.target: column {settings['text']!r} is already data.text")
    return found


@register("data", problems=text_problems, form="tokens")
def text(
    *,
    path: str | None,
    text: Word | None,
    target: Word | list[Word] | None,
    task: Literal["auto", "binary", "multiclass", "multilabel", "regression"],
    classes: list[Word] | None,
    level: Literal["word", "character"],
    lower: bool,
    unicode: Literal["NFC", "NFKC"],
    max_length: Count,
    keep: Literal["first", "last"],
    min_count: Count,
    max_words: Count | None,
    empty: Literal["error", "drop"],
    missing_target: Literal["error", "drop"],
    separator: str | None,
    header: bool,
    validation_path: str | None,
    test_path: str | None,
) -> RawData:
    """Your own texts: lines label<TAB>text, a table with a column of texts, or a folder for each class.

    Inputs are token ids [N, T]: 0 is padding at the end, 1 is a token outside the vocabulary. The vocabulary
    comes from the training split and is stored in preprocessing.json. T is the length of the longest text, at
    most max_length.
    path: a folder whose folders are the classes, each with .txt files; a .txt file of lines (also .gz, or TSV
        without header); or a CSV, TSV or Parquet file, for which `text` and `target` name the columns. UTF-8.
    task, classes: as in data=table.
    level: `word` (runs of letters, digits and _, with apostrophes between them; any other visible character
        is a separate token) or `character` (code points; for scripts without spaces between words).
    lower: convert to lower case. unicode: the normal form, applied first.
    max_length: the maximum number of tokens per text. keep: whether longer texts keep the first or the last
        ones.
    min_count, max_words: words with fewer occurrences in train are unknown, and so are all but the max_words
        most frequent ones; null for no limit.
    empty, missing_target: `error` raises an error for a text without tokens or without a target; `drop`
        ignores it.
    separator, header: of a table, as in data=table.
    validation_path, test_path: the same for these splits. Raises DataError with file and line, row or file
        name.
    """
    labels = words_of(classes)
    assert path is not None
    names = names_of(target) or [LABEL]
    column = "text" if text is None else name_of(text)
    used, as_words = frozenset([column, *names]), frozenset([column])
    warnings: list[str] = []
    pieces, parts = [], []
    for part, place in enumerate((path, validation_path, test_path)):
        if place is not None:
            if _is_table(place, [name for name in (text, target) if name is not None]):
                words = labels_among(names, task)
                reading = ReadingRules(
                    frozenset([""]), separator, ".", used.__contains__, as_words, words, header
                )
                piece = _table(place, part, reading, column, names, task, labels, missing_target, warnings)
            else:
                piece = _folder(place) if Path(place).is_dir() else _lines(place)
            pieces.append(piece)
            parts.append(part)
    tokenizer = Tokenizer(level, lower, unicode, max_length, keep)
    cut = Texts.of(
        (words for piece in pieces for words in piece.texts), tokenizer, column, min_count, max_words
    )
    made = labelled(pieces, parts, cut, names, (task, labels), empty, missing_target)
    made.warnings[:0] = warnings
    return made


def labelled(
    pieces: list[Piece],
    parts: list[int],
    cut: Texts,
    names: list[str],
    meaning: tuple[str, list[str] | None],
    empty: str,
    missing_target: str,
) -> RawData:
    """Combine the tokenized texts of all pieces with their targets.

    parts: the split of each piece. meaning: the settings task and classes.
    """
    columns = [join([piece.targets[i] for piece in pieces]) for i in range(len(names))]
    blank = cut.lengths == 0
    unlabelled = np.any([is_missing(values) for values in columns], axis=0)
    warnings = _left_out(pieces, blank, f"no {cut.tokenizer.level}", "empty", empty)
    warnings += _left_out(pieces, unlabelled, "no label", "missing_target", missing_target)
    present = ~(blank | unlabelled)
    with naming(pieces[0].path):
        y, target = make_target(names, [pick(values, present) for values in columns], *meaning)
    cut, rows = cut.pick(present), np.flatnonzero(present)
    where = _where(pieces)
    return RawData(
        cut,
        (cut.column,),
        y,
        target,
        parts=np.repeat(parts, [len(piece.texts) for piece in pieces]).astype(np.int8)[present],
        sources=tuple(piece.path for piece in pieces if Path(piece.path).is_file()),
        warnings=[*warnings, *cut.warnings()],
        kind="tokens",
        where=lambda i: where(rows[i]),
    )


def _is_table(path: str, columns: Sequence[DataLike]) -> bool:
    """Return True if a file is a table. A file with tabs counts as lines unless a column is named."""
    tabs = path.lower().endswith(TABS) and not columns
    return path.lower().endswith(ENDINGS) and not tabs and Path(path).is_file()


def _is_lines(path: str) -> bool:
    """Return True if a file may contain lines, which a name without an extension allows."""
    return path.lower().endswith((*LINES, *TABS)) or not Path(path).suffix


def _table(
    path: str,
    part: int,
    reading: ReadingRules,
    column: str,
    targets: list[str],
    task: str,
    classes: list[str] | None,
    missing_target: str,
    warnings: list[str],
) -> Piece:
    """Return the columns of a table."""
    file = File.read(path, part, reading)
    file.check_names({"text": [column], "target": targets})
    file.read_targets(targets, task, classes, missing_target == "drop")
    warnings += [*file.warnings, *described(file.notes)]
    return piece_of(file, column, targets)


def piece_of(file: File, column: str, targets: list[str]) -> Piece:
    """Return a file's texts with their targets."""
    found = as_text(file.take(column, "category"))
    words = [*found.values, ""]  # the last one stands for a missing text
    rows, values = np.flatnonzero(file.keep) + 1, [file.targets[name] for name in targets]
    texts = [words[code] for code in found.codes]
    return Piece(file.path, texts, values, lambda i: f"{file.path}: row {rows[i]}")


def _lines(path: str) -> Piece:
    """Read lines of a label, a tab and a text. Blank lines are skipped."""
    try:
        with open_bytes(path) as file:
            content = file.read(LONGEST + 1)
    except (OSError, EOFError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    lines = _decoded(path, content).split("\n")
    numbers = [i for i, line in enumerate(lines) if line.strip()]
    for i in numbers:
        if "\t" not in lines[i]:
            raise DataError(
                f"{path}: line {i + 1} has no tab: found {brief(lines[i])}, expected label<TAB>text; tables "
                f"with a header end in {', '.join(ENDINGS)}"
            )
    if not numbers:
        raise DataError(f"{path}: the file is empty, expected lines label<TAB>text")
    labels, _, texts = zip(*(lines[i].partition("\t") for i in numbers), strict=True)
    found = encode_words([label.strip() or None for label in labels], "untyped")
    return Piece(path, list(texts), [found], lambda i: f"{path}: line {numbers[i] + 1}")


def _folder(path: str) -> Piece:
    """Read a folder of .txt files for each class, in order of their names."""
    folders = sorted(entry for entry in Path(path).iterdir() if entry.is_dir() and entry.name[0] != ".")
    if not folders:
        raise DataError(f"{path}: has no folders, expected one for each class, with .txt files")
    _refuse_parts(path, folders)
    classes = class_folders(path, [folder.name for folder in folders])
    files = {label: sorted(Path(path, name).glob("*.txt")) for label, name in classes.items()}
    for label, found in files.items():
        if not found:
            raise DataError(
                f"{Path(path, classes[label])}: has no .txt files, expected the texts of class {label!r}"
            )
    texts, labels, size = [], [], 0
    for label, found in files.items():
        for file in found:
            try:
                content = file.read_bytes()
            except OSError as error:
                raise DataError(f"{file}: cannot be read: {error.strerror or error}") from error
            size += len(content)
            if size > LONGEST:
                raise DataError(f"{path}: the files have more than {LONGEST >> 30} GB")
            texts.append(_decoded(str(file), content))
            labels.append(label)
    names = [file for found in files.values() for file in found]
    return Piece(path, texts, [encode_words(labels)], lambda i: str(names[i]))


def _refuse_parts(path: str, folders: Sequence[Path]) -> None:
    """Raise DataError, with the fix, if the folders are splits that contain the classes' folders."""
    parts: dict[str, Path] = {}
    for folder in folders:
        part = PART_WORDS.get(folder.name.lower())
        if part is not None and any(entry.is_dir() for entry in folder.iterdir()):
            parts.setdefault(PATHS[part], folder)
    if parts:
        advice = " ".join(typed(f"data.{key}", parts[key]) for key in PATHS if key in parts)
        how = f"set {advice}" if "path" in parts else "set data.path to the folder of the training split"
        said = phrase(sorted(folder.name for folder in parts.values()))
        raise DataError(f"{path}: has folders of splits ({said}), expected a folder for each class; {how}")


def _decoded(path: str, content: bytes) -> str:
    """Decode text and normalize its line ends. Raises DataError with the line."""
    if len(content) > LONGEST:
        raise DataError(f"{path}: has more than {LONGEST >> 30} GB")
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DataError(f"{path}: the file is UTF-16; save it as UTF-8")
    content = content.removeprefix(BOM)
    if found := not_utf8(content):
        line = content.count(b"\n", 0, found[0]) + 1
        raise DataError(f"{path}: line {line} contains {found[1]}")
    return content.decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")


def _where(pieces: Sequence[Piece]) -> Where:
    return below([len(piece.texts) for piece in pieces], [piece.where for piece in pieces])


def _left_out(pieces: list[Piece], gone: np.ndarray, what: str, key: str, value: str) -> list[str]:
    """Return the warning about dropped texts. Raises DataError if that is not allowed, or if none remain."""
    if not gone.any():
        return []
    numbers = np.flatnonzero(gone)
    places = [_where(pieces)(i) for i in numbers[:3]]
    places += [""] * (len(numbers) - len(places))
    have, left = ("has", "it is") if len(numbers) == 1 else ("have", "they are")
    share = f"{len(numbers):,} of {counted(len(gone), 'text')}"
    if value == "error":
        raise DataError(
            f"{phrase(places, 3)}: the text has {what} ({share}): correct it, or drop such texts with "
            f"data.{key}=drop"
        )
    if gone.all():
        raise DataError(f"{pieces[0].path}: every text has {what}: none remain")
    return [f"{share} {have} {what}; {left} left out ({phrase(places, 3)})"]
