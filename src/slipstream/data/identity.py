"""Equality of values. Labels, categories, groups and ids are text and are never converted to a float."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Sequence
from decimal import Decimal
from typing import TypeVar

import numpy as np

from slipstream.core.errors import DataError
from slipstream.core.types import DataLike
from slipstream.data.tabular.spelling import NUMBER
from slipstream.data.tabular.values import Text

WITH_POINT = re.compile(r"([+-]?\d+)\.0*")  # whole numbers in a column with missing values
WHOLE = re.compile(r"[+-]?\d+")
PADDED = re.compile(r"[+-]?0\d+")  # a whole number with leading zeros
COUNT = re.compile(r"-?(0|[1-9]\d*)(\.\d*[1-9])?")  # as numbers are normally written: not 01 or 1.50
BOOLEANS = ("false", "true")


def nfc(word: str) -> str:
    """Normalize accented letters to one encoding (NFC), in names and values."""
    return unicodedata.normalize("NFC", word)


def word_of(value: DataLike) -> str:
    """Convert a setting's name or value, which Hydra or YAML may have parsed, back to text.

    >>> word_of(2020), word_of(True), word_of(1.5), word_of("a")
    ('2020', 'true', '1.5', 'a')
    """
    if isinstance(value, bool):
        return BOOLEANS[value]
    return nfc(spell(value) if isinstance(value, float) else str(value))


def words_of(values: Iterable[DataLike] | None) -> list[str] | None:
    """Return the values of a setting as text; None for null."""
    return None if values is None else [word_of(value) for value in values]


def name_of(column: DataLike) -> str:
    """Return a column's name in normal form (NFC) without surrounding whitespace."""
    return word_of(column).strip()


def names_of(columns: DataLike) -> list[str]:
    """Return the names in a setting that may have one column, several or none."""
    found = columns if isinstance(columns, list | tuple) else [] if columns is None else [columns]
    return [name_of(column) for column in found]


def shown(path: str) -> str:
    """Return a path in printable form, even if it contains invalid bytes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def class_folders(path: str, folders: Iterable[str]) -> dict[str, str]:
    """Return the class of each folder below `path`: its name as a label. Raises DataError for a duplicate."""
    found: dict[str, str] = {}
    for name in folders:
        label = nfc(shown(name)).strip()
        if label in found:
            raise DataError(
                f"{shown(path)}: the folders {shown(found[label])!a} and {shown(name)!a} are both "
                f"class {label!r}, in two spellings; move the files of one into the other"
            )
        found[label] = name
    return found


def plain(word: str) -> str:
    """Remove zero decimals from a whole number.

    >>> plain("3.0"), plain("-0.0"), plain("03"), plain("3.10")
    ('3', '0', '03', '3.10')
    """
    whole = WITH_POINT.fullmatch(word)
    short = whole[1] if whole else word
    return "0" if short == "-0" else short


def lookalikes(words: Sequence[str]) -> list[list[int]]:
    """Group the indices of words that differ only in case or whitespace.

    >>> lookalikes(["Ulm", "Bonn", "ULM"])
    [[0, 2]]
    """
    groups: dict[str, list[int]] = {}
    for place, word in enumerate(words):
        groups.setdefault(" ".join(word.split()).casefold(), []).append(place)
    return [group for group in groups.values() if len(group) > 1]


def value_of(word: str) -> Decimal | None:
    """Return the exact number that a word spells, or None."""
    return Decimal(word) if NUMBER.fullmatch(word) else None


def spell(number: float) -> str:
    """Spell a number as a word.

    >>> spell(3.0), spell(0.5)
    ('3', '0.5')
    """
    return str(int(number)) if float(number).is_integer() else repr(float(number))


def exact(number: object) -> str:
    """Spell a number that a float may not hold exactly.

    >>> exact(9007199254740993), exact(Decimal("1.50"))
    ('9007199254740993', '1.5')
    """
    word = f"{number:f}" if isinstance(number, Decimal | float) else str(number)
    return plain(word.rstrip("0") if "." in word else word)


class Words:
    """Distinct words, numbered in order of appearance; -1 for one that means a missing value."""

    def __init__(self, missing: Collection[str] = ()) -> None:
        self.place: dict[str, int] = {}
        self.missing = missing

    def code(self, word: str) -> int:
        """Return the number of a word, stripped of blanks; a new word gets a new number."""
        word = nfc(word.strip())
        if word in self.missing or plain(word) in self.missing:
            return -1
        return self.place.setdefault(word, len(self.place))

    def text(self, codes: DataLike, kind: str = "text") -> Text:
        """Return the column with these codes."""
        return Text(np.asarray(codes, np.int32), list(self.place), kind)


def missing_words(values: Iterable[DataLike]) -> frozenset[str]:
    """Return the words that mean a missing value in a setting; -999.0 is also -999."""
    words = frozenset(map(word_of, values))
    return words | frozenset(map(plain, words))


def encode_words(words: Iterable[DataLike], kind: str = "text", missing: Collection[str] = ()) -> Text:
    """Encode words (None for missing) as codes and distinct values, stripped of blanks."""
    found = Words(missing)
    return found.text([-1 if word is None else found.code(str(word)) for word in words], kind)


def by_value(words: Sequence[str]) -> bool:
    """Return True if words are equal by the numbers they spell.

    All of them are numbers, and none has two spellings, such as 01 and 1, or 3.1 and 3.10. 1.0 and 1 are
    one.
    """
    values = [value_of(word) for word in words]
    return None not in values and len(set(values)) == len(set(map(plain, words)))


def canonical(text: Text) -> Text:
    """Merge 1.0 and 1 into one word if all words of the column are numbers."""
    if not by_value(text.values):
        return text
    found = Words()
    codes = np.array([*(found.code(plain(word)) for word in text.values), -1], np.int32)
    return found.text(codes[text.codes], text.kind)


def merged(texts: Sequence[Text]) -> Text:
    """Concatenate several columns. A number of a numeric column becomes the word that spells it elsewhere."""
    words = [text for text in texts if text.kind not in ("number", "boolean")]
    known = list(dict.fromkeys(word for text in words for word in text.values))
    find = Known(known).find
    place = {word: i for i, word in enumerate(known)}
    codes = []
    for text in texts:
        spelled = zip(text.values, find(text), strict=True)
        new = [place.setdefault(word, len(place)) if i < 0 else i for word, i in spelled]
        codes.append(np.array([*new, -1], np.int32)[text.codes])
    kinds = {text.kind for text in texts}
    kind = kinds.pop() if len(kinds) == 1 else "text" if "text" in kinds else "untyped"
    return canonical(Text(np.concatenate(codes), list(place), kind))


def numbered(text: Text) -> np.ndarray:
    """Number the words, int64 [N], -1 for missing: by value if all are numbers, else alphabetically.

    So the order of the rows and the type of file do not matter.
    """
    values = [value_of(word) for word in text.values]
    keys: list[DataLike] = list(zip(values, text.values, strict=True)) if None not in values else text.values
    rank = np.full(len(keys) + 1, -1, np.int64)
    rank[sorted(range(len(keys)), key=keys.__getitem__)] = np.arange(len(keys))
    result: np.ndarray = rank[text.codes]
    return result


class Known:
    """The known words of a column, for matching the values of another column."""

    def __init__(self, words: Sequence[str]) -> None:
        self.exact = {word: i for i, word in enumerate(words)}
        self.plain = _unique(words, plain)
        self.booleans = _unique(words, lambda word: word.lower() if word.lower() in BOOLEANS else None)
        self.values = _unique(words, value_of) if by_value(words) else {}

    def find(self, text: Text) -> list[int]:
        """Return the index of each value of a column among the words, -1 for none."""
        return [self.place(word, text.kind) for word in text.values]

    def place(self, word: str, kind: str = "text") -> int:
        """Return the index of one word, or -1. In a numeric column, words match by value.

        For example, 1 matches 1.0, 01 or 1 if only one of the words has this value.
        """
        if word in self.exact:
            return self.exact[word]
        if plain(word) in self.plain:
            return self.plain[plain(word)]
        if word.lower() in self.booleans:
            return self.booleans[word.lower()]
        return self.values.get(value_of(word), -1) if kind == "number" else -1


K = TypeVar("K")


def _unique(words: Sequence[str], key: Callable[[str], K]) -> dict[K, int]:
    """Map each key that is not None to the index of its word, unless several words share it."""
    keys = [key(word) for word in words]
    seen: dict[K, int] = {}
    for found in keys:
        seen[found] = seen.get(found, 0) + 1
    return {found: i for i, found in enumerate(keys) if found is not None and seen[found] == 1}


def kind_of_labels(text: Text) -> str:
    """Return the original type of labels: text, number or boolean.

    In a text file, spelling decides: 0 and 1 are numbers, true and false are booleans, 01 is text.
    """
    if text.kind != "untyped":
        return text.kind
    values = text.values
    if values and all(COUNT.fullmatch(word) for word in values):
        return "number"
    return "boolean" if values and {word.lower() for word in values} <= set(BOOLEANS) else "text"


def labels(classes: Sequence[str], kind: str) -> np.ndarray:
    """Return class names [C] in their original type: text, numbers (int64 if they fit) or bool."""
    if kind == "boolean":
        return np.array([name.lower() == BOOLEANS[1] for name in classes])
    if kind != "number":
        return np.array(classes)
    values = [Decimal(name) for name in classes]
    if all(value == value.to_integral_value() for value in values):
        whole = [int(value) for value in values]
        return np.array(whole, np.int64 if all(abs(v) < 2**63 for v in whole) else object)
    floats = [float(value) for value in values]
    same = all(Decimal(repr(f)) == value for f, value in zip(floats, values, strict=True))
    return np.array(floats if same else values, np.float64 if same else object)
