"""Splitting texts into words or characters, and the vocabulary that maps them to ids.

Id 0 is padding at the end, and 1 is a token that is not in the vocabulary. The other ids are tokens sorted by
their frequency in the training split.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

import numpy as np

from slipstream.core.errors import DataError, did_you_mean
from slipstream.core.types import DataLike, InputSpec
from slipstream.core.wording import counted
from slipstream.data.dataset import PARTS, RawData, Settings
from slipstream.data.messages import cut_short
from slipstream.data.preprocessing import NONE, Encoded, EncodedSplits, Preprocessing
from slipstream.data.tabular.encoding import Column
from slipstream.data.tabular.frames import is_table

# No token looks like these, since a word has no < and a character has length one.
SPECIAL = ("<padding>", "<unknown>")
PADDING, UNKNOWN = range(2)


@dataclass(frozen=True)
class Tokenizer:
    """The rules for converting a text to a row of ids.

    level: `word` (a run of letters, digits and _, including apostrophes between them; every other visible
        character is a separate token) or `character` (a code point, including spaces). lower: convert to
        lower case.
    unicode: the normal form, NFC or NFKC. length: T, the maximum number of tokens. keep: the first or the
        last tokens of longer texts.
    """

    level: str
    lower: bool
    unicode: Literal["NFC", "NFKC"]
    length: int
    keep: str

    def cut(self, text: str) -> list[str]:
        """Split a text into all its tokens.

        >>> Tokenizer("word", True, "NFC", 9, "first").cut("It's 3.50 Euro, no more!")
        ["it's", '3', '.', '50', 'euro', ',', 'no', 'more', '!']
        """
        text = unicodedata.normalize(self.unicode, text.strip())
        text = text.lower() if self.lower else text
        return list(text) if self.level == "character" else _words(_marks(text)).findall(text)


def _marks(text: str) -> str:
    """Return the combining marks in a text in order. `re` does not count them as parts of a word."""
    if text.isascii():
        return ""
    return "".join(sorted(c for c in set(text) if unicodedata.category(c)[0] == "M"))


@functools.cache
def _words(marks: str) -> re.Pattern[str]:
    letter = rf"[\w{re.escape(marks)}]"
    return re.compile(rf"{letter}+(?:['’]{letter}+)*|[^\s\w]")


@dataclass
class Texts:
    """N texts, split into tokens but not yet converted to ids.

    tokens: int32, the tokens of all texts in turn, as indices into `words`, the distinct ones. lengths: int64
    [N], at most tokenizer.length. cut_off: bool [N], True if tokens were removed. column: the input's name.
    min_count, max_words: of the vocabulary, see `vocabulary`.
    """

    tokens: np.ndarray
    lengths: np.ndarray
    cut_off: np.ndarray
    words: list[str]
    tokenizer: Tokenizer
    column: str
    min_count: int
    max_words: int | None

    @classmethod
    def of(
        cls,
        texts: Iterable[str],
        tokenizer: Tokenizer,
        column: str = "text",
        min_count: int = 1,
        max_words: int | None = None,
    ) -> Texts:
        """Split texts into tokens, keeping at most the tokenizer's length."""
        place: dict[str, int] = {}
        tokens, lengths, cut_off = array("i"), [], []
        for text in texts:
            found = tokenizer.cut(text)
            cut_off.append(len(found) > tokenizer.length)
            if cut_off[-1]:
                found = found[: tokenizer.length] if tokenizer.keep == "first" else found[-tokenizer.length :]
            lengths.append(len(found))
            tokens.extend([place.setdefault(token, len(place)) for token in found])
        codes = np.frombuffer(tokens, np.int32) if tokens else np.empty(0, np.int32)
        return cls(
            codes,
            np.array(lengths, np.int64),
            np.array(cut_off, bool),
            list(place),
            tokenizer,
            column,
            min_count,
            max_words,
        )

    def __len__(self) -> int:
        return len(self.lengths)

    def pick(self, keep: np.ndarray) -> Texts:
        """Return the texts that the mask [N] selects."""
        tokens = self.tokens[np.repeat(keep, self.lengths)]
        return replace(self, tokens=tokens, lengths=self.lengths[keep], cut_off=self.cut_off[keep])

    def counts(self, rows: np.ndarray) -> np.ndarray:
        """Count the occurrences of each of `words` in some rows, int64."""
        wanted = np.zeros(len(self), bool)
        wanted[rows] = True
        return np.bincount(self.tokens[np.repeat(wanted, self.lengths)], minlength=len(self.words))

    def vocabulary(self, rows: np.ndarray) -> tuple[str, ...]:
        """Return the words by id: the two special ones, followed by the words of the given rows.

        Words with fewer than `min_count` occurrences are ignored. At most `max_words` are kept, sorted by
        descending frequency and then alphabetically.
        """
        counts, least = self.counts(rows), self.min_count
        kept = sorted(np.flatnonzero(counts >= least), key=lambda i: (-counts[i], self.words[i]))
        if not kept:
            raise DataError(
                f"no {self.tokenizer.level} occurs at least {counted(least, 'time')} in the training split; "
                "lower data.min_count"
            )
        return (*SPECIAL, *(self.words[i] for i in kept[: self.max_words]))

    def known(self, vocabulary: tuple[str, ...]) -> np.ndarray:
        """Return the id of each of `words`, int64."""
        place = {word: i for i, word in enumerate(vocabulary)}
        return np.array([place.get(word, UNKNOWN) for word in self.words], np.int64)

    def encode(self, vocabulary: tuple[str, ...], length: int) -> np.ndarray:
        """Return ids [N, length], padded at the end: int16 if the vocabulary fits, otherwise int32.

        A text without tokens becomes one unknown token, so that no example is only padding.
        """
        out = np.zeros((len(self), length), np.int16 if len(vocabulary) <= 32767 else np.int32)
        present = np.arange(length) < self.lengths[:, None]
        out[present] = self.known(vocabulary)[self.tokens]
        out[self.lengths == 0, 0] = UNKNOWN
        return out

    def warnings(self, vocabulary: tuple[str, ...] | None = None) -> list[str]:
        """Return sentences about texts longer than the tokenizer's length.

        With a vocabulary, also about texts without known tokens and about unknown tokens.
        """
        length, level = self.tokenizer.length, self.tokenizer.level
        many = int(self.cut_off.sum())
        said = [cut_short(many, len(self), "text", length, level, self.tokenizer.keep)]
        said = said if many else []
        if vocabulary is None:
            return said
        unknown = int((self.known(vocabulary)[self.tokens] == UNKNOWN).sum())
        blank = int((self.lengths == 0).sum())
        said += [f"{counted(blank, 'text')} without any {level}, treated as unknown"] if blank else []
        are = "is" if unknown == 1 else "are"
        words = f"{unknown:,} of {counted(len(self.tokens), level)}"
        return said + ([f"{words} {are} not in the vocabulary, treated as unknown"] if unknown else [])

    def describe(self, vocabulary: tuple[str, ...], rows: Mapping[str, np.ndarray]) -> str:
        """Describe a fitted vocabulary in a sentence: its size, unknown tokens and the share of padding.

        rows: the splits' row numbers by name.
        """
        ids, longest = self.known(vocabulary), int(self.lengths.max())
        said = [f"{counted(len(vocabulary) - len(SPECIAL), self.tokenizer.level)} in the vocabulary"]
        for part, numbers in rows.items():
            if len(numbers):
                counts = self.counts(numbers)
                said.append(f"{part} {counts[ids == UNKNOWN].sum() / counts.sum():.1%} unknown")
        return (
            f"Tokens: {', '.join(said)}; {1 - self.lengths.mean() / longest:.0%} of all "
            f"positions are padding."
        )


@dataclass(frozen=True)
class TextPreprocessing(Preprocessing):
    """A tokenizer and a vocabulary. The only column is the column of texts.

    shape: [T]. vocabulary: the tokens by id.
    """

    shape: tuple[int, ...]
    vocabulary: tuple[str, ...]
    tokenizer: Tokenizer

    records: ClassVar[Mapping[str, type]] = {"columns": Column, "tokenizer": Tokenizer}

    @classmethod
    def fit(cls, raw: RawData, rows: np.ndarray, scaling: str) -> tuple[Self, list[str]]:
        """Fit the vocabulary on the given texts."""
        texts: Texts = raw.inputs
        longest = int(texts.lengths.max())
        tokenizer = replace(texts.tokenizer, length=longest)
        return cls((Column(texts.column, "text"),), (longest,), texts.vocabulary(rows), tokenizer), []

    def encode_splits(self, raw: RawData, rows: list[np.ndarray], how: str) -> EncodedSplits:
        """Convert all tokens to ids, and describe the vocabulary in the notes."""
        raw.notes.append(raw.inputs.describe(self.vocabulary, dict(zip(PARTS, rows, strict=False))))
        ids = raw.inputs.encode(self.vocabulary, self.shape[0])
        return [ids[part] for part in rows], []

    def transform(self, data: DataLike, settings: Settings = NONE) -> Encoded:
        """Transform a list of texts, or a table with a column of texts."""
        texts = Texts.of(texts_of(data, self.columns[0].name), self.tokenizer)
        return texts.encode(self.vocabulary, self.shape[0]), texts.warnings(self.vocabulary)

    @property
    def spec(self) -> InputSpec:
        """The input spec, with the length of the longest text."""
        return InputSpec("tokens", self.shape, vocabulary=len(self.vocabulary))

    def __str__(self) -> str:
        return "text data: texts"


def texts_of(data: DataLike, column: str) -> list[str]:
    """Return new texts from a list, an array, or a column of a table. Raises DataError if there are none."""
    if is_table(data):
        names = list(data) if isinstance(data, Mapping) else list(data.columns)
        if column not in names:
            raise DataError(f"the table has no text column {column!r}, {did_you_mean(column, names)}")
        data = data[column]
    if isinstance(data, str):
        raise DataError("found one string, expected a list of texts; put it in brackets")
    found = ["" if text is None else text for text in data]
    for i, text in enumerate(found):
        if not isinstance(text, str):
            raise DataError(f"text {i + 1}: found {type(text).__name__}, expected a string")
    if not found:
        raise DataError("found no texts, expected at least one")
    return found
