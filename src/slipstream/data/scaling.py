"""The scalings of `data.scaling`. Each is a function and a row in `SCALINGS`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

CLIP = 3.0  # the bound of a smooth clip
SAME = 1e-12  # relative to the largest value: the rounding error in the deviation of equal values


@dataclass(frozen=True)
class Statistics:
    """Statistics of the training values of one column or channel, for scalings.

    values: returns all values, float64, for scalings that need more than the moments.
    """

    low: float
    high: float
    mean: float
    deviation: float
    values: Callable[[], np.ndarray]

    @classmethod
    def of(cls, values: np.ndarray) -> Statistics:
        """Compute the statistics of values [N] with N >= 1."""
        return cls(values.min(), values.max(), values.mean(), values.std(), lambda: values)

    def negligible(self, spread: float) -> bool:
        """Return True if a deviation or range is only the rounding error of equal values."""
        return bool(spread <= SAME * max(abs(self.low), abs(self.high)))


@dataclass(frozen=True)
class ScalingRule:
    """A scaling: x -> (x - offset) * factor, followed by smooth clipping if `clip`.

    fit: returns offset and factor; the factor 0 scales a constant column to 0. pooled: use one offset and one
    factor for all channels, fitted to their joint statistics.
    """

    fit: Callable[[Statistics], tuple[float, float]]
    clip: bool = False
    pooled: bool = False


def standard(x: Statistics) -> tuple[float, float]:
    """Scale to mean 0 and standard deviation 1."""
    return x.mean, 0.0 if x.negligible(x.deviation) else 1 / x.deviation


def minmax(x: Statistics) -> tuple[float, float]:
    """Scale to [0, 1]."""
    return (x.mean, 0.0) if x.negligible(x.deviation) else (x.low, 1 / (x.high - x.low))


def robust(x: Statistics) -> tuple[float, float]:
    """Scale to median 0 and interquartile range 1. If that range is 0, scale the whole range to 2."""
    low, first, median, third, high = np.quantile(x.values().astype(np.float64), (0, 0.25, 0.5, 0.75, 1))
    if x.negligible(high - low):
        return median, 0.0
    return median, 1 / (third - first) if third > first else 2 / (high - low)


def unscaled(_: Statistics) -> tuple[float, float]:
    """Leave values unchanged."""
    return 0.0, 1.0


SCALINGS = {
    "standard": ScalingRule(standard),
    "minmax": ScalingRule(minmax),
    "robust": ScalingRule(robust, clip=True),
    "global": ScalingRule(standard, pooled=True),
    "none": ScalingRule(unscaled),
}
if TYPE_CHECKING:
    ScalingName = str
else:  # the schema reads the names from here
    ScalingName = Literal[tuple(SCALINGS)]


def smooth_clip(x: np.ndarray) -> np.ndarray:
    """Return x / sqrt(1 + (x / 3)^2), close to x near 0 and always in (-3, 3) (RealMLP, arXiv 2407.04491)."""
    return x / np.sqrt(1 + (x / CLIP) ** 2)
