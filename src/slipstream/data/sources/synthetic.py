"""Synthetic data: small problems that each demonstrate one property."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import numpy as np
from annotated_types import Ge, Le

from slipstream.core import random
from slipstream.core.registry import register
from slipstream.core.types import Count, Natural, NonNegative, Plain, Positive, Target
from slipstream.data.dataset import RawData

PLANE = ("x1", "x2")
Rows = Annotated[int, Ge(10)]


@register("data", task="binary")
def xor(*, rows: Rows, noise: NonNegative, seed: Natural) -> RawData:
    """Four corners of a square with opposite corners in the same class, which are not linearly separable.

    x = corner + noise * normal, corner in {0, 1}^2, class = corner_1 xor corner_2. Inputs [N, 2].
    rows: number of rows. noise: standard deviation around a corner. seed: of the noise.
    Source: M. Minsky, S. Papert, "Perceptrons" (1969).
    """
    index = np.arange(rows)
    corners = np.stack([index % 2, index // 2 % 2], axis=1)
    return _plane(corners, corners[:, 0] ^ corners[:, 1], noise, seed, ("same", "different"))


@register("data", task="binary")
def two_moons(*, rows: Rows, noise: NonNegative, seed: Natural) -> RawData:
    """Two interleaving half circles.

    (cos a, sin a) and (1 - cos a, 1/2 - sin a), a evenly spaced from 0 to pi, plus noise * normal. Inputs [N,
    2].
    rows: number of rows. noise: standard deviation. seed: of the noise.
    Source: scikit-learn's `make_moons`.
    """
    upper, label, share = _halves(rows)
    angle = np.pi * share
    x = np.where(upper, np.cos(angle), 1 - np.cos(angle))
    y = np.where(upper, np.sin(angle), 0.5 - np.sin(angle))
    return _plane(np.stack([x, y], axis=1), label, noise, seed, ("upper", "lower"))


@register("data", task="binary")
def circles(
    *, rows: Rows, noise: NonNegative, inner: Annotated[float, Ge(0.05), Le(0.95)], seed: Natural
) -> RawData:
    """A circle inside a circle.

    r (cos a, sin a), a evenly spaced from 0 to 2 pi, r = 1 or `inner`, plus noise * normal. Inputs [N, 2].
    rows: number of rows. noise: standard deviation. inner: radius of the inner circle. seed: of the noise.
    Source: scikit-learn's `make_circles`.
    """
    outer, label, share = _halves(rows, closed=True)
    angle, radius = 2 * np.pi * share, np.where(outer, 1.0, inner)
    points = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return _plane(points, label, noise, seed, ("outer", "inner"))


@register("data")
def spirals(
    *, rows: Rows, arms: Annotated[int, Ge(2), Le(20)], turns: Positive, noise: NonNegative, seed: Natural
) -> RawData:
    """Interleaved spiral arms, one class each.

    r = t, a = 2 pi (turns t + arm / arms), t evenly spaced from 0.1 to 1, plus noise * normal. Inputs [N, 2].
    rows: number of rows. arms: number of classes. turns: of each arm. noise: standard deviation.
    seed: of the noise.
    Source: K. Lang, M. Witbrock, "Learning to tell two spirals apart" (1988).
    """
    index = np.arange(rows)
    arm, step = index % arms, index // arms
    radius = 0.1 + 0.9 * step / step.max() if step.max() else np.ones(rows)
    angle = 2 * np.pi * (turns * radius + arm / arms)
    points = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return _plane(points, arm, noise, seed, tuple(f"arm_{i}" for i in range(arms)))


@register("data", task="regression")
def sine(*, rows: Rows, periods: Positive, noise: NonNegative, seed: Natural) -> RawData:
    """A sine of one input, which a network with one hidden layer can approximate.

    y = sin(2 pi periods x) + noise * normal, x uniform on [0, 1). Inputs [N, 1], targets [N, 1].
    rows: number of rows. periods: waves over the interval. noise: standard deviation of y.
    seed: of x and the noise.
    Source: G. Cybenko, "Approximation by superpositions of a sigmoidal function" (1989).
    """
    x = random.uniform(random.make_key(seed, random.DATA, 0), (rows, 1)).numpy().astype(np.float64)
    y = np.sin(2 * np.pi * periods * x) + noise * _normal(seed, 1, (rows, 1))
    return RawData(x, ("x",), y, Target("regression", ("y",)))


def linear_problems(settings: Mapping[str, Plain]) -> list[str]:
    """Check that there are no more informative inputs than inputs."""
    inputs, informative = settings["inputs"], settings["informative"]
    if informative <= inputs:
        return []
    return [f"data.informative: found {informative}, expected at most data.inputs={inputs}"]


@register("data", task="regression", problems=linear_problems)
def linear(*, rows: Rows, inputs: Count, informative: Count, noise: NonNegative, seed: Natural) -> RawData:
    """A weighted sum of some inputs, which linear regression recovers and a sparse penalty selects.

    y = sum of w_i x_i over the first `informative` inputs + noise * normal; x and w standard normal.
    Inputs [N, inputs], targets [N, 1].
    rows: number of rows. inputs: number of inputs. informative: how many of them matter, at most `inputs`.
    noise: standard deviation of y. seed: of x, w and the noise.
    """
    x = _normal(seed, 0, (rows, inputs))
    weights = _normal(seed, 1, (inputs, 1)) * (np.arange(inputs) < informative)[:, None]
    y = x @ weights + noise * _normal(seed, 2, (rows, 1))
    return RawData(x, tuple(f"x{i + 1}" for i in range(inputs)), y, Target("regression", ("y",)))


@register("data", task="binary")
def parity(*, bits: Annotated[int, Ge(4), Le(16)]) -> RawData:
    """Every bit string of one length, classified by the parity of its ones: no single bit is informative.

    Inputs [2^bits, bits] of 0 and 1. bits: length of a string, 4 to 16. There is no noise and no repeated
    row, so test rows never occur in training.
    """
    words = np.arange(2**bits)[:, None] >> np.arange(bits) & 1
    target = Target("binary", ("parity",), ("even", "odd"))
    names = tuple(f"bit_{i}" for i in range(bits))
    return RawData(words.astype(np.float64), names, (words.sum(axis=1) % 2).astype(np.int64), target)


def _halves(rows: int, closed: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a mask of the first class, the labels, and each row's position in its half, from 0 to 1.

    closed: exclude 1, which equals 0 as on a circle.
    """
    label = (np.arange(rows) >= (rows + 1) // 2).astype(np.int64)
    sizes = np.bincount(label)
    share = np.concatenate([np.linspace(0, 1, size, endpoint=not closed) for size in sizes])
    return label == 0, label, share


def _plane(
    points: np.ndarray, labels: np.ndarray, noise: float, seed: int, classes: tuple[str, ...]
) -> RawData:
    """Return noisy points of the plane, and their classes."""
    target = Target("binary" if len(classes) == 2 else "multiclass", ("class",), classes)
    return RawData(points + noise * _normal(seed, 0, points.shape), PLANE, labels.astype(np.int64), target)


def _normal(seed: int, number: int, shape: tuple[int, ...]) -> np.ndarray:
    """Return standard normal numbers, float64."""
    return np.asarray(random.normal(random.make_key(seed, random.DATA, number), shape).double().numpy())
