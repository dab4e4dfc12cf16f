"""Arrays: vectors [N, C], sequences [N, T, C], tokens [N, T]. Scaling by channel, also for images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Self

import numpy as np

from slipstream.core.errors import DataError
from slipstream.core.types import DataLike, InputSpec
from slipstream.core.wording import axes
from slipstream.data.dataset import RawData, Settings
from slipstream.data.image.pixel_moments import is_pixels, moments_of
from slipstream.data.image.stored import Stored
from slipstream.data.preprocessing import NONE, Encoded, EncodedSplits, Preprocessing
from slipstream.data.quality import overlapping
from slipstream.data.scaling import SCALINGS, Statistics, smooth_clip
from slipstream.data.tabular.columns import as_numbers, check_finite
from slipstream.data.tabular.encoding import Column, constant_warnings, numeric_of
from slipstream.data.tabular.frames import array_of, columns_of, is_table

BLOCK = 4096  # rows scaled at a time in float64


@dataclass(frozen=True)
class ArrayPreprocessing(Preprocessing):
    """Numbers scaled by channel, or unchanged token ids.

    shape: of one example. kind, vocabulary, masked: from the source.
    """

    shape: tuple[int, ...]
    kind: str
    vocabulary: tuple[str, ...] = ()
    masked: bool = False

    @classmethod
    def fit(cls, raw: RawData, rows: np.ndarray, scaling: str) -> tuple[Self, list[str]]:
        """Fit the scale of every channel."""
        shape, kind = raw.inputs.shape[1:], kind_of(raw)
        columns = () if kind == "tokens" else fit_channels(raw.inputs, raw.input_names, rows, scaling)[0]
        return cls(columns, shape, kind, raw.vocabulary, raw.masked), constant_warnings(columns)

    def encode_splits(self, raw: RawData, rows: list[np.ndarray], how: str) -> EncodedSplits:
        """Scale the rows of each split to float32."""
        windows = raw.inputs.ndim in (2, 3) and self.kind != "tokens"
        warnings = overlapping(raw.inputs, how) if windows else []
        return [self._scaled(raw.inputs[part]) for part in rows], warnings

    def transform(self, data: DataLike, settings: Settings = NONE) -> Encoded:
        """Transform an array [N, ...], flat or not; for vectors also a table with the columns' names."""
        if is_table(data):
            if len(self.shape) > 1 or not self.columns:
                raise DataError(f"expected an array {axes(self.shape)}, found the columns of a table")
            columns = columns_of(data, {column.name: False for column in self.columns}, settings)
            data = np.stack([as_numbers(name, values) for name, values in columns.items()], axis=1)
        array = array_of(data)
        flat = array.ndim == 2 and array.shape[1] == prod(self.shape)
        if flat or (array.ndim == 1 and self.shape == (1,)):
            array = array.reshape(-1, *self.shape)
        if array.shape[1:] != self.shape:
            one = "; a single example is x[None]" if array.shape == self.shape else ""
            raise DataError(
                f"found inputs of shape {array.shape}, expected {axes(self.shape)} as in training{one}"
            )
        check_finite("inputs", array)
        return self._scaled(array), []

    @property
    def spec(self) -> InputSpec:
        """The input spec with the unchanged shape."""
        numeric = numeric_of(self.columns) if self.kind == "vector" and len(self.shape) < 2 else ()
        return InputSpec(self.kind, self.shape, len(self.vocabulary), self.masked, numeric)

    def _scaled(self, array: np.ndarray) -> np.ndarray:
        """Scale an array [N, ...] to float32, channel by channel; token ids stay unchanged."""
        return scale_channels(self.columns, array) if self.columns else array


def kind_of(raw: RawData) -> str:
    """Return the kind of an array, from the source or the number of axes; "" for other inputs."""
    if not isinstance(raw.inputs, np.ndarray | Stored):
        return ""
    return raw.kind or {3: "sequence", 4: "image"}.get(raw.inputs.ndim, "vector")


def fit_channels(
    array: DataLike, names: tuple[str, ...], rows: np.ndarray, scaling: str
) -> tuple[tuple[Column, ...], tuple[float, float]]:
    """Fit the scale of every channel of an array [N, ...] or Stored, and the range of all values."""
    axis = channel_axis(array.ndim)
    others = tuple(i for i in range(array.ndim) if i != axis)

    def blocks() -> Iterator[np.ndarray]:
        for i in range(0, len(rows), BLOCK):
            yield array[rows[i : i + BLOCK]].astype(np.float64)

    def channel(number: int) -> np.ndarray:
        return np.asarray(array.take(number, axis)[rows]).ravel()

    if is_pixels(array):
        low, high, mean, deviation = moments_of(array, rows)
    else:
        low = np.min([block.min(axis=others) for block in blocks()], axis=0)
        high = np.max([block.max(axis=others) for block in blocks()], axis=0)
        size = len(rows) * array[0].size // array.shape[axis]  # values per channel
        mean = np.sum([block.sum(axis=others) for block in blocks()], axis=0) / size
        center = along_channels(mean, array.ndim)
        deviation = np.sqrt(np.sum([((b - center) ** 2).sum(axis=others) for b in blocks()], axis=0) / size)
    span = float(low.min()), float(high.max())
    if SCALINGS[scaling].pooled:
        deviation = np.full_like(mean, np.sqrt(np.mean(deviation**2 + (mean - mean.mean()) ** 2)))
        mean = np.full_like(mean, mean.mean())
        low, high = np.full_like(mean, low.min()), np.full_like(mean, high.max())
    values = [partial(channel, number) for number in range(len(names))]
    statistics = map(Statistics, low, high, mean, deviation, values)
    named = zip(names, statistics, strict=True)
    return tuple(Column.scaled(name, "number", scaling, of) for name, of in named), span


def scale_channels(columns: tuple[Column, ...], array: np.ndarray) -> np.ndarray:
    """Scale an array [N, ...] to float32, channel by channel."""
    offset = along_channels([c.offset for c in columns], array.ndim)
    factor = along_channels([c.factor for c in columns], array.ndim)
    out = np.empty(array.shape, np.float32)
    clip = any(c.clip for c in columns)
    for i in range(0, len(array), BLOCK):
        scaled = (array[i : i + BLOCK].astype(np.float64) - offset) * factor
        out[i : i + BLOCK] = smooth_clip(scaled) if clip else scaled
    return out


def channel_axis(ndim: int) -> int:
    """Return the axis whose entries are scaled separately: [N, C], [N, T, C], [N, C, H, W]."""
    return 2 if ndim == 3 else 1


def along_channels(values: DataLike, ndim: int) -> np.ndarray:
    """Reshape values [C] to broadcast along the channels of an array with `ndim` axes."""
    shape = [1] * ndim
    shape[channel_axis(ndim)] = -1
    return np.array(values, np.float64).reshape(shape)
