"""What makes two values one: labels, categories, groups and ids are words, and never go through a float."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Sequence
from decimal import Decimal
from typing import Any

import numpy as np

from slipstream.core.errors import DataError
from slipstream.data.tabular.spelling import NUMBER
from slipstream.data.tabular.values import Text

WITH_POINT = re.compile(r"([+-]?\d+)\.0*")  # as programs write whole numbers among missing ones
WHOLE = re.compile(r"[+-]?\d+")
PADDED = re.compile(r"[+-]?0\d+")  # a whole number with zeros in front
COUNT = re.compile(r"-?(0|[1-9]\d*)(\.\d*[1-9])?")  # as one writes a number: 01 and 1.50 are none
BOOLEANS = ("false", "true")


def nfc(word: str) -> str:
    """One spelling of letters with marks, of names and of values."""
    return unicodedata.normalize("NFC", word)


def word_of(value: Any) -> str:
    """A name or a value of a setting as a word, which Hydra and YAML may have taken for something else.

    >>> word_of(2020), word_of(True), word_of(1.5), word_of("a")
    ('2020', 'true', '1.5', 'a')
    """
    if isinstance(value, bool):
        return BOOLEANS[value]
    return nfc(spell(value) if isinstance(value, float) else str(value))


def words_of(values: Iterable[Any] | None) -> list[str] | None:
    """The values of a setting as words; None for null."""
    return None if values is None else [word_of(value) for value in values]


def name_of(column: Any) -> str:
    """The name of a column: in one normal form, without blanks around it."""
    return word_of(column).strip()


def names_of(columns: Any) -> list[str]:
    """The names of a setting that takes one column, several or none."""
    found = columns if isinstance(columns, list | tuple) else [] if columns is None else [columns]
    return [name_of(column) for column in found]


def shown(path: str) -> str:
    """A path that can be printed, whatever bytes it has."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def class_folders(path: str, folders: Iterable[str]) -> dict[str, str]:
    """The class of each folder below `path`: its name as a label. Raises DataError for two of one class."""
    found: dict[str, str] = {}
    for name in folders:
        label = nfc(shown(name)).strip()
        if label in found:
            raise DataError(
                f"{shown(path)}: the folders {shown(found[label])!a} and {shown(name)!a} are both "
                f"class {label!r}, written in two ways; move the files of one into the other"
            )
        found[label] = name
    return found


def plain(word: str) -> str:
    """The word without the decimals that a whole number was given on its way.

    >>> plain("3.0"), plain("-0.0"), plain("03"), plain("3.10")
    ('3', '0', '03', '3.10')
    """
    whole = WITH_POINT.fullmatch(word)
    short = whole[1] if whole else word
    return "0" if short == "-0" else short


def lookalikes(words: Sequence[str]) -> list[list[int]]:
    """The places of words that differ in upper and lower case or blanks alone, together.

    >>> lookalikes(["Ulm", "Bonn", "ULM"])
    [[0, 2]]
    """
    groups: dict[str, list[int]] = {}
    for place, word in enumerate(words):
        groups.setdefault(" ".join(word.split()).casefold(), []).append(place)
    return [group for group in groups.values() if len(group) > 1]


def value_of(word: str) -> Decimal | None:
    """The exact number that a word spells, or None."""
    return Decimal(word) if NUMBER.fullmatch(word) else None


def spell(number: float) -> str:
    """A number as a word.

    >>> spell(3.0), spell(0.5)
    ('3', '0.5')
    """
    return str(int(number)) if float(number).is_integer() else repr(float(number))


def exact(number: Any) -> str:
    """A number that a float may not hold, as a word.

    >>> exact(9007199254740993), exact(Decimal("1.50"))
    ('9007199254740993', '1.5')
    """
    word = f"{number:f}" if isinstance(number, Decimal | float) else str(number)
    return plain(word.rstrip("0") if "." in word else word)


class Words:
    """Words that get a number each, in the order in which they come; -1 where one means a missing value."""

    def __init__(self, missing: Collection[str] = ()) -> None:
        self.place: dict[str, int] = {}
        self.missing = missing

    def code(self, word: str) -> int:
        """The number of a word without blanks around it, a new one where it was not seen before."""
        word = nfc(word.strip())
        if word in self.missing or plain(word) in self.missing:
            return -1
        return self.place.setdefault(word, len(self.place))

    def text(self, codes: Any, kind: str = "text") -> Text:
        """The column with these codes."""
        return Text(np.asarray(codes, np.int32), list(self.place), kind)


def missing_words(values: Iterable[Any]) -> frozenset[str]:
    """The words that mean a missing value, of a setting; -999.0 is -999 too."""
    words = frozenset(map(word_of, values))
    return words | frozenset(map(plain, words))


def encode_words(words: Iterable[Any], kind: str = "text", missing: Collection[str] = ()) -> Text:
    """Words (None where missing) as codes and distinct values, without blanks around them."""
    found = Words(missing)
    return found.text([-1 if word is None else found.code(str(word)) for word in words], kind)


def by_value(words: Sequence[str]) -> bool:
    """Whether words stand for the numbers that they spell: all of them are numbers, and none is there in
    two spellings, such as 01 and 1, or 3.1 and 3.10. 1.0 and 1 are one."""
    values = [value_of(word) for word in words]
    return None not in values and len(set(values)) == len(set(map(plain, words)))


def canonical(text: Text) -> Text:
    """The column with 1.0 and 1 as one word, where its words are numbers throughout."""
    if not by_value(text.values):
        return text
    found = Words()
    codes = np.array([*(found.code(plain(word)) for word in text.values), -1], np.int32)
    return found.text(codes[text.codes], text.kind)


def merged(texts: Sequence[Text]) -> Text:
    """Several columns below each other. A number of a numeric column is the word that spells it elsewhere."""
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
    """A number for each word, int64 [N], -1 where missing: by their values where all are numbers, else by
    the alphabet, so that the order of the rows and the kind of file do not matter."""
    values = [value_of(word) for word in text.values]
    keys: list[Any] = list(zip(values, text.values, strict=True)) if None not in values else text.values
    rank = np.full(len(keys) + 1, -1, np.int64)
    rank[sorted(range(len(keys)), key=keys.__getitem__)] = np.arange(len(keys))
    return rank[text.codes]


class Known:
    """The words that a column may have, and which of them another column's values are."""

    def __init__(self, words: Sequence[str]) -> None:
        self.exact = {word: i for i, word in enumerate(words)}
        self.plain = _unique(words, plain)
        self.booleans = _unique(words, lambda word: word.lower() if word.lower() in BOOLEANS else None)
        self.values = _unique(words, value_of) if by_value(words) else {}

    def find(self, text: Text) -> list[int]:
        """The place of each of the values of a column among the words, -1 for none."""
        return [self.place(word, text.kind) for word in text.values]

    def place(self, word: str, kind: str = "text") -> int:
        """The place of one word, -1 for none. Of a numeric column it is a number, however it is spelled:
        1 is the only one of the words that has this value, 1.0, 01 or 1."""
        if word in self.exact:
            return self.exact[word]
        if plain(word) in self.plain:
            return self.plain[plain(word)]
        if word.lower() in self.booleans:
            return self.booleans[word.lower()]
        return self.values.get(value_of(word), -1) if kind == "number" else -1


def _unique(words: Sequence[str], key: Callable[[str], Any]) -> dict[Any, int]:
    """The places of the words by a key that is not None, where no other word has it."""
    keys = [key(word) for word in words]
    seen: dict[Any, int] = {}
    for found in keys:
        seen[found] = seen.get(found, 0) + 1
    return {found: i for i, found in enumerate(keys) if found is not None and seen[found] == 1}


def kind_of_labels(text: Text) -> str:
    """What labels were before they became words: text, number or boolean.

    A file of text tells by its words alone: 0 and 1 are numbers, true and false booleans, 01 is a text.
    """
    if text.kind != "untyped":
        return text.kind
    values = text.values
    if values and all(COUNT.fullmatch(word) for word in values):
        return "number"
    return "boolean" if values and {word.lower() for word in values} <= set(BOOLEANS) else "text"


def labels(classes: Sequence[str], kind: str) -> np.ndarray:
    """Class names [C] as what they were in the data: texts, numbers (int64 where that holds them) or bool."""
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
