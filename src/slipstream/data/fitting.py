"""Fitting on the training split: scales, categories, fill values for missing ones, a vocabulary."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from slipstream.core.errors import DataError
from slipstream.core.types import DataLike
from slipstream.core.wording import counted
from slipstream.data.identity import lookalikes
from slipstream.data.image.pixel_moments import is_pixels, moments_of
from slipstream.data.messages import brief, phrase
from slipstream.data.preprocessing import BLOCK, Column, Preprocessing, along_channels, channel_axis, read_as
from slipstream.data.sequence.long_table import Sequences, fill_forward
from slipstream.data.tabular.columns import as_text
from slipstream.data.tabular.spelling import CLOCK
from slipstream.data.tabular.values import Frame, Text
from slipstream.data.text.vocabulary import Texts


def fit_array(
    array: np.ndarray, names: tuple[str, ...], rows: np.ndarray, scaling: str, kind: str | None = None
) -> tuple[Preprocessing, list[str]]:
    """Fit the preprocessing of an array [N, ...] on the given rows; return it with warnings.

    kind: of the form, None if the number of axes determines it.
    """
    kind = kind or {2: "vector", 3: "sequence", 4: "image"}.get(array.ndim, "vector")
    if kind == "tokens":
        return Preprocessing((), array.shape[1:], kind), []
    axis = channel_axis(array.ndim)
    others = tuple(i for i in range(array.ndim) if i != axis)

    def blocks() -> Iterator[np.ndarray]:
        for i in range(0, len(rows), BLOCK):
            yield array[rows[i : i + BLOCK]].astype(np.float64)

    if is_pixels(array):
        low, high, mean, deviation = moments_of(array, rows)
    else:
        low = np.min([block.min(axis=others) for block in blocks()], axis=0)
        high = np.max([block.max(axis=others) for block in blocks()], axis=0)
        size = len(rows) * array[0].size // array.shape[axis]  # values per channel
        mean = np.sum([block.sum(axis=others) for block in blocks()], axis=0) / size
        centre = along_channels(mean, array.ndim)
        deviation = np.sqrt(np.sum([((b - centre) ** 2).sum(axis=others) for b in blocks()], axis=0) / size)
    span = (0.0, 255.0) if array.dtype == np.uint8 else (float(low.min()), float(high.max()))
    if scaling == "global":
        deviation = np.full_like(mean, np.sqrt(np.mean(deviation**2 + (mean - mean.mean()) ** 2)))
        mean = np.full_like(mean, mean.mean())
        low, high = np.full_like(mean, low.min()), np.full_like(mean, high.max())
    if scaling == "robust":
        if kind == "image":
            raise DataError(
                "data.scaling: robust is for tables and sequences, and inputs are images; expected standard, "
                "minmax, global or none"
            )
        channels = np.moveaxis(array[rows], axis, 0).reshape(len(low), -1)
        columns = [
            Column(n, "number", *robust_scale_of(v), clip=True) for n, v in zip(names, channels, strict=True)
        ]
        return Preprocessing(tuple(columns), array.shape[1:], kind), constant_warnings(columns)
    moments = zip(names, low, high, mean, deviation, strict=True)
    columns = [Column(name, "number", *scale_of(scaling, *moment)) for name, *moment in moments]
    span = span if span[1] > span[0] else (span[0], span[0] + 1)
    fitted = Preprocessing(tuple(columns), array.shape[1:], kind, span=span if kind == "image" else ())
    return fitted, constant_warnings(columns)


def fit_frame(frame: Frame, rows: np.ndarray, scaling: str) -> tuple[Preprocessing, list[str]]:
    """Fit the preprocessing of a table on the given rows; return it with warnings."""
    columns, warnings = [], []
    for name, kind in frame.kinds.items():
        values = frame.columns[name]
        if kind == "category":
            text = as_text(values)
            warnings += alike(name, text)
            columns.append(fit_category(name, text, rows, frame.max_categories))
        else:
            fitted = fit_number(name, kind, read_as(kind, name, values), rows, scaling, frame.impute)
            format = frame.formats.get(name, "")
            cycles = ("24 hours",) if format == CLOCK else fitted.cycles
            columns.append(replace(fitted, format=format, cycles=cycles))
    return Preprocessing(tuple(columns)), warnings + constant_warnings(columns)


def fit_sequences(sequences: Sequences, rows: np.ndarray, scaling: str) -> tuple[Preprocessing, list[str]]:
    """Fit the preprocessing of sequences on the steps of the given ones, without padding.

    Forward-fills the frame's gaps if so configured.
    """
    if sequences.steps.forward:
        sequences.frame.columns = fill_forward(sequences.frame.columns, sequences.lengths)
    fitted, warnings = fit_frame(sequences.frame, sequences.rows_of(rows), scaling)
    longest = int(sequences.lengths.max())
    masked = bool(sequences.lengths.min() < longest)
    made = replace(
        fitted,
        shape=(longest, len(fitted.names) + masked),
        kind="sequence",
        masked=masked,
        steps=replace(sequences.steps, length=longest),
    )
    return made, warnings


def fit_texts(texts: Texts, rows: np.ndarray) -> Preprocessing:
    """Fit the vocabulary on the given texts; return it with the tokenizer."""
    longest = int(texts.lengths.max())
    return Preprocessing(
        (Column(texts.column, "text"),),
        (longest,),
        "tokens",
        texts.vocabulary(rows),
        tokenizer=replace(texts.tokenizer, length=longest),
    )


def fit_category(name: str, text: Text, rows: np.ndarray, most: int) -> Column:
    """Fit the categories of the training rows; the most frequent `most` each get an output."""
    codes = text.codes[rows]
    counts = Text(codes, text.values).counts()
    seen = sorted(np.flatnonzero(counts), key=lambda i: (-counts[i], text.values[i]))
    names = [text.values[i] for i in seen]
    kept, rare = (names, []) if len(names) <= most else (names[: most - 1], names[most - 1 :])
    return Column(
        name, "category", categories=tuple(sorted(kept)), rare=tuple(rare), flag=bool((codes < 0).any())
    )


def alike(name: str, text: Text) -> list[str]:
    """Count the categories of a column that differ from another only in case or blanks."""
    counts = text.counts()
    there = np.flatnonzero(counts)
    found = [there[i] for group in lookalikes([text.values[i] for i in there]) for i in group]
    if not found:
        return []
    said = phrase([f"{brief(text.values[i])} ({counts[i]})" for i in found], 4)
    return [
        f"column {brief(name)}: {len(found)} of {len(there)} categories differ from another in upper and "
        f"lower case or blanks alone ({said}), each learned by itself: write them alike if they are one"
    ]


def fit_number(
    name: str, kind: str, numbers: np.ndarray, rows: np.ndarray, scaling: str, impute: str
) -> Column:
    """Fit the scale and the fill value of one numeric column on its training rows."""
    train = numbers[rows]
    present = train[~np.isnan(train)]
    if len(present) == 0:
        return Column(name, kind, 0.0, 0.0, flag=True)
    if impute == "error" and len(present) < len(train):
        row = int(rows[np.isnan(train)][0]) + 1
        raise DataError(
            f"column {name!r}, row {row}: the value is missing; fill it, or set data.impute to median, "
            "mean or most_frequent"
        )
    if impute == "most_frequent" or kind == "boolean":
        found, counts = np.unique(present, return_counts=True)
        fill = float(found[np.argmax(counts)])
    else:
        fill = float(np.mean(present) if impute == "mean" else np.median(present))
    cycles: tuple[str, ...] = ()
    if kind == "date":
        cycles = ("year", "week", "day") if (numbers[~np.isnan(numbers)] % 1).any() else ("year", "week")
    moments = (present.min(), present.max(), present.mean(), present.std())
    robust = scaling == "robust" and kind != "boolean"
    offset, factor = (
        robust_scale_of(present) if robust else scale_of("none" if kind == "boolean" else scaling, *moments)
    )
    if kind == "date" and scaling == "none":
        offset = fill  # days since 1970 are some 20,000: too large for any network, and an arbitrary unit
    return Column(name, kind, offset, factor, fill, len(present) < len(train), cycles=cycles, clip=robust)


def scale_of(
    scaling: str, low: DataLike, high: DataLike, mean: DataLike, deviation: DataLike
) -> tuple[float, float]:
    """Return the offset and factor of one column. A constant column is scaled to 0 (factor 0)."""
    if scaling == "none":
        return 0.0, 1.0
    # The deviation of equal values is at most the mean's rounding error.
    if deviation <= 1e-12 * max(abs(low), abs(high)):
        return float(mean), 0.0
    if scaling == "minmax":
        return float(low), float(1 / (high - low))
    return float(mean), float(1 / deviation)


def robust_scale_of(values: np.ndarray) -> tuple[float, float]:
    """Return the offset and factor of one column: the median, and 1 / the interquartile range.

    If that range is 0, the factor is 2 / the whole range.
    """
    low, first, median, third, high = np.quantile(values.astype(np.float64), (0, 0.25, 0.5, 0.75, 1))
    if high - low <= 1e-12 * max(abs(low), abs(high)):
        return float(median), 0.0
    return float(median), float(1 / (third - first) if third > first else 2 / (high - low))


def constant_warnings(columns: list[Column]) -> list[str]:
    """Return one sentence about all uninformative columns, those that are constant in train."""
    constant = [column.name for column in columns if column.factor == 0]
    constant += [c.name for c in columns if c.kind == "category" and len(c.outputs()) <= 1]
    if not constant:
        return []
    verb = "does" if len(constant) == 1 else "do"
    number = counted(len(constant), "input column")
    return [f"{number} {verb} not vary in the training part: {phrase(constant)}"]
