"""What kind of column it is, from its values and its name."""

from __future__ import annotations

import re

import numpy as np

from slipstream.data.base import Text, Values
from slipstream.data.columns import is_missing, to_days, to_number

IDENTIFIER = re.compile(r"(^|[ _.-])(id|uuid|guid|key|index|nr|no|row|column 1)$|Id$|ID$", re.IGNORECASE)
SOME = 20  # rows from which a column without equal values is taken for an identifier


def kind_of_words(text: Text) -> str:
    """number, boolean, date or category. A column that is mostly numbers or dates is one, and its other
    words are errors when it is read."""
    counts = text.counts()
    words = [word.lower() for word, count in zip(text.values, counts, strict=True) if count]
    if any(set(words) <= pair for pair in ({"true", "false"}, {"yes", "no"}, {"y", "n"}, {"t", "f"})):
        return "boolean"
    for kind, reader in (("number", _numeric), ("date", to_days)):
        fits = np.array([reader(word) is not None for word in text.values], bool)
        if counts[fits].sum() > counts.sum() / 2:
            return kind
    return "category"


def _numeric(word: str) -> float | None:
    # A decimal comma counts, so that such a column is an error with a hint and not thousands of categories.
    return 0.0 if re.fullmatch(r"-?\d+,\d+", word) else to_number(word)


def looks_like_identifier(name: str, values: Values, kind: str) -> bool:
    """Whether a column names its rows: no two equal values in 20 rows or more, and for numbers also
    whole ones that count up, or a name like `id`; words may have one equal value in ten."""
    if len(values) < SOME or is_missing(values).any():
        return False
    if kind == "category":
        assert isinstance(values, Text)
        return len(values.values) > 0.9 * len(values)
    if kind != "number" or isinstance(values, Text) or (values % 1 != 0).any():
        return False
    counts_up = bool((np.diff(values) == 1).all())
    return counts_up or (bool(IDENTIFIER.search(name)) and len(np.unique(values)) == len(values))
