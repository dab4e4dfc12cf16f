"""Exact moments of byte images in one pass, from counts of the 256 values."""

from __future__ import annotations

from math import prod

import numpy as np

from slipstream.core.types import DataLike

BLOCK = 2**22  # bytes counted at a time


def is_pixels(array: DataLike) -> bool:
    """Return True for an array [N, C, H, W] of bytes."""
    return bool(array.dtype == np.uint8 and array.ndim == 4)


def moments_of(array: DataLike, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the minimum, maximum, mean and deviation of each channel [C] over some rows.

    array: [N, C, H, W] of bytes, in memory or Stored.
    """
    counts = np.zeros((array.shape[1], 256), np.int64)
    step = max(BLOCK // prod(array.shape[1:]), 1)
    for first in range(0, len(rows), step):
        block = array[rows[first : first + step]]
        for channel, count in enumerate(counts):
            count += np.bincount(block[:, channel].ravel(), minlength=256)
    values, total = np.arange(256.0), counts[0].sum()
    mean = counts @ values / total
    deviation = np.sqrt((counts * (values - mean[:, None]) ** 2).sum(axis=1) / total)
    low, high = (counts > 0).argmax(axis=1), 255 - (counts > 0)[:, ::-1].argmax(axis=1)
    return low.astype(np.float64), high.astype(np.float64), mean, deviation
