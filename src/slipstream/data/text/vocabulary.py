"""Texts cut into words or characters, and the vocabulary that numbers them.

Ids: 0 is padding, which stands at the end, 1 a token that is not in the vocabulary, the others tokens by
how often the training part has them.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from slipstream.core.errors import DataError, did_you_mean
from slipstream.core.wording import counted
from slipstream.data.messages import cut_short
from slipstream.data.tabular.frames import is_table

# No token is spelled like these: a word has no <, a character is alone.
SPECIAL = ("<padding>", "<unknown>")
PADDING, UNKNOWN = range(2)


@dataclass(frozen=True)
class Tokenizer:
    """How a text becomes a row of ids.

    level: `word` (letters, digits and _ in a row, an apostrophe between them included; every other visible
    sign is a token of its own) or `character` (a code point; blanks count). lower: in small letters.
    unicode: the normal form, NFC or NFKC. length: T, tokens at most. keep: which of more, first or last.
    """

    level: str
    lower: bool
    unicode: Literal["NFC", "NFKC"]
    length: int
    keep: str

    def cut(self, text: str) -> list[str]:
        """The tokens of a text, however many.

        >>> Tokenizer("word", True, "NFC", 9, "first").cut("It's 3.50 Euro, no more!")
        ["it's", '3', '.', '50', 'euro', ',', 'no', 'more', '!']
        """
        text = unicodedata.normalize(self.unicode, text.strip())
        text = text.lower() if self.lower else text
        return list(text) if self.level == "character" else _words(_marks(text)).findall(text)


def _marks(text: str) -> str:
    """The combining marks in a text, in order: `re` takes them for no part of a word."""
    if text.isascii():
        return ""
    return "".join(sorted(c for c in set(text) if unicodedata.category(c)[0] == "M"))


@functools.cache
def _words(marks: str) -> re.Pattern[str]:
    letter = rf"[\w{re.escape(marks)}]"
    return re.compile(rf"{letter}+(?:['’]{letter}+)*|[^\s\w]")


@dataclass
class Texts:
    """N texts, cut but not numbered.

    tokens: int32, all tokens one text after the other, as places in `words`, the distinct ones.
    lengths: int64 [N], at most tokenizer.length. cut_off: bool [N], whether tokens were left out.
    column: the input's name. min_count, max_words: of the vocabulary, see `vocabulary`.
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
        """Texts cut into tokens, of which the tokenizer's length are kept."""
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
        """The texts that the mask [N] keeps."""
        tokens = self.tokens[np.repeat(keep, self.lengths)]
        return replace(self, tokens=tokens, lengths=self.lengths[keep], cut_off=self.cut_off[keep])

    def counts(self, rows: np.ndarray) -> np.ndarray:
        """How often each of `words` stands in some rows, int64."""
        wanted = np.zeros(len(self), bool)
        wanted[rows] = True
        return np.bincount(self.tokens[np.repeat(wanted, self.lengths)], minlength=len(self.words))

    def vocabulary(self, rows: np.ndarray) -> tuple[str, ...]:
        """The words by id: the two special ones, then those that the given rows have at least `min_count`
        times, at most `max_words` of them, the most frequent first, equal ones by the alphabet."""
        counts, least = self.counts(rows), self.min_count
        kept = sorted(np.flatnonzero(counts >= least), key=lambda i: (-counts[i], self.words[i]))
        if not kept:
            raise DataError(
                f"no {self.tokenizer.level} stands in the training part at least {counted(least, 'time')}; "
                "lower data.min_count"
            )
        return (*SPECIAL, *(self.words[i] for i in kept[: self.max_words]))

    def known(self, vocabulary: tuple[str, ...]) -> np.ndarray:
        """The id of each of `words`, int64."""
        place = {word: i for i, word in enumerate(vocabulary)}
        return np.array([place.get(word, UNKNOWN) for word in self.words], np.int64)

    def encode(self, vocabulary: tuple[str, ...], length: int) -> np.ndarray:
        """Ids [N, length], padded at the end: int16 where that holds the vocabulary, else int32.

        A text without any token is one that is not known: an example is never all padding.
        """
        out = np.zeros((len(self), length), np.int16 if len(vocabulary) <= 32767 else np.int32)
        present = np.arange(length) < self.lengths[:, None]
        out[present] = self.known(vocabulary)[self.tokens]
        out[self.lengths == 0, 0] = UNKNOWN
        return out

    def warnings(self, vocabulary: tuple[str, ...] | None = None) -> list[str]:
        """Sentences about texts that are longer than the tokenizer's length, and, with a vocabulary, about
        those without any token and about what it does not know."""
        length, level = self.tokenizer.length, self.tokenizer.level
        many = int(self.cut_off.sum())
        said = [cut_short(many, len(self), "text", length, level, self.tokenizer.keep)]
        said = said if many else []
        if vocabulary is None:
            return said
        unknown = int((self.known(vocabulary)[self.tokens] == UNKNOWN).sum())
        blank = int((self.lengths == 0).sum())
        said += [f"{counted(blank, 'text')} without any {level}: taken as unknown"] if blank else []
        are = "is" if unknown == 1 else "are"
        words = f"{unknown:,} of {counted(len(self.tokens), level)}"
        return said + ([f"{words} {are} not in the vocabulary: taken as unknown"] if unknown else [])

    def describe(self, vocabulary: tuple[str, ...], rows: Mapping[str, np.ndarray]) -> str:
        """A sentence about a fitted vocabulary: its size, what it does not know, how much is padding.

        rows: the parts' row numbers by name.
        """
        ids, longest = self.known(vocabulary), int(self.lengths.max())
        said = [f"{counted(len(vocabulary) - len(SPECIAL), self.tokenizer.level)} in the vocabulary"]
        for part, numbers in rows.items():
            if len(numbers):
                counts = self.counts(numbers)
                said.append(f"{part} {counts[ids == UNKNOWN].sum() / counts.sum():.1%} unknown")
        return (
            f"Tokens: {', '.join(said)}; {1 - self.lengths.mean() / longest:.0%} of all places are padding."
        )


def texts_of(data: Any, column: str) -> list[str]:
    """New texts: a list or array of words, or the column of that name of a table. Raises DataError."""
    if is_table(data):
        names = list(data) if isinstance(data, Mapping) else list(data.columns)
        if column not in names:
            raise DataError(f"the table lacks the column of texts, {column!r}, {did_you_mean(column, names)}")
        data = data[column]
    if isinstance(data, str):
        raise DataError("found one text, expected a list of texts; put it in brackets")
    found = ["" if text is None else text for text in data]
    for i, text in enumerate(found):
        if not isinstance(text, str):
            raise DataError(f"text {i + 1}: found {type(text).__name__}, expected words")
    if not found:
        raise DataError("found no texts, expected at least one")
    return found
