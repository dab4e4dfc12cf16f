"""Inference of a column's kind from its values and its name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise

import numpy as np

from slipstream.data.tabular.columns import is_missing
from slipstream.data.tabular.spelling import hours_of, is_date, is_season, number_of
from slipstream.data.tabular.values import Text, Values

IDENTIFIER = re.compile(r"(^|[ _.-])(id|uuid|guid|key|index|nr|no|row|column 1)$|Id$|ID$", re.IGNORECASE)
SOME = 20  # the minimum number of rows for a column of distinct values to count as an identifier


def kind_of_words(text: Text) -> str:
    """Infer the kind: number (including hours), boolean, date or category.

    A column that is mostly numbers or dates has that kind. Reading it then raises errors for its other words.
    """
    counts = text.counts()
    words = [word.lower() for word, count in zip(text.values, counts, strict=True) if count]
    if any(set(words) <= pair for pair in ({"true", "false"}, {"yes", "no"}, {"y", "n"}, {"t", "f"})):
        return "boolean"
    for kind, fits in (("number", _numeric), ("date", is_date)):
        found = np.array([fits(word) for word in text.values], bool)
        if counts[found].sum() > counts.sum() / 2:
            seasons = kind == "date" and all(map(is_season, text.values))
            return "category" if seasons else kind
    return "category"


def _numeric(word: str) -> bool:
    # Either decimal mark counts, so that the wrong one gives an error with a hint instead of a category.
    return any(found is not None for found in (number_of(word), number_of(word, ","), hours_of(word)))


def looks_like_identifier(name: str, values: Values, kind: str) -> bool:
    """Return True if a column identifies its rows, judged from 20 values or more.

    Its values are distinct whole numbers under a name like `id`, or words with at most one duplicate in ten.
    Missing values are ignored.
    """
    there = ~is_missing(values)
    count = int(there.sum())
    if count < SOME:
        return False
    if isinstance(values, Text):
        return kind == "category" and int(np.count_nonzero(values.counts())) > 0.9 * count
    found = values[there]
    named = IDENTIFIER.search(name)
    return bool(named and (found % 1 == 0).all() and len(np.unique(found)) == count)


def counts_rows(values: Values) -> bool:
    """Return True if a column of at least 20 rows increases by one per row, except for gaps."""
    if isinstance(values, Text):
        return False
    rows = np.flatnonzero(~np.isnan(values))
    return len(rows) >= SOME and bool((np.diff(values[rows] - rows) == 0).all())


def looks_like_dates(numbers: np.ndarray) -> bool:
    """Return True if all numbers of at least 20 rows are dates without separators, such as 20260131."""
    found = numbers[~np.isnan(numbers)]
    if len(found) < SOME or (found % 1 != 0).any() or found.min() < 19000101 or found.max() > 21001231:
        return False
    month, day = found // 100 % 100, found % 100
    return bool(((month >= 1) & (month <= 12) & (day >= 1) & (day <= 31)).all())


def names_look_like_data(columns: Mapping[str, Values]) -> bool:
    """Return True if most column names look like values.

    These are numbers above numbers (unless they increase, as years do), and words that also occur in the
    column.
    """
    numbers = [
        float(name)
        for name, values in columns.items()
        if isinstance(values, np.ndarray) and re.fullmatch(r"-?\d+(\.\d+)?", name)
    ]
    rising = len(numbers) > 1 and all(a < b for a, b in pairwise(numbers))
    words = sum(isinstance(values, Text) and name in values.values for name, values in columns.items())
    return (0 if rising else len(numbers)) + words > max(1, len(columns) / 2)
