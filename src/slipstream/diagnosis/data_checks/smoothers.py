"""Quick models in closed form, with leave-one-out predictions for many targets at once.

A linear smoother predicts H y. Without row i, it would predict (H y - h y)_i / (1 - h_i), where h is the
diagonal of H. Predictions of the true targets and of any number of permuted ones cost one matrix product.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from scipy.special import ndtri
from scipy.stats import rankdata

RIDGES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)  # penalties, relative to the mean eigenvalue
NEIGHBORS = 5
REACH = 0.5  # width of the kernel, relative to the median distance


def normal_scores(values: np.ndarray) -> np.ndarray:
    """Return values [N] mapped by rank to a standard normal distribution, and NaN to 0.

    The result depends neither on outliers nor on units.
    """
    there = ~np.isnan(values)
    out = np.zeros(len(values))
    if there.sum() > 1:
        out[there] = ndtri((rankdata(values[there]) - 0.5) / there.sum())
        out[there] -= out[there].mean()
    return out


def one_hot(labels: np.ndarray, classes: int) -> np.ndarray:
    """Return labels [N] as float64 [N, classes] of 0 and 1."""
    return np.asarray(np.eye(classes)[labels])


class Smoother(ABC):
    """Linear smoothers of one kind, one for each penalty, of which each target takes the best.

    x: the training rows, [N, D], of standard deviation about 1.
    """

    name: ClassVar[str]  # in words

    @abstractmethod
    def leave_one_out(self, y: np.ndarray) -> list[np.ndarray]:
        """Return the leave-one-out predictions [N, K] of targets [N, K] for each penalty."""

    @abstractmethod
    def predict_new(self, y: np.ndarray, new: np.ndarray) -> np.ndarray:
        """Return predictions [M, K] for new rows [M, D] with the penalty that is best for `y` [N, K]."""

    def predict(self, y: np.ndarray) -> np.ndarray:
        """Return the leave-one-out predictions [N, K] with the penalty whose squared error is smallest."""
        found = self.leave_one_out(y)
        return found[_best(y, found)]

    def predict_each(self, ys: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return `predict` of several targets [N, K], each with its own penalty."""
        wide = self.leave_one_out(np.concatenate(ys, axis=1))
        result, start = [], 0
        for y in ys:
            cut = [one[:, start : start + y.shape[1]] for one in wide]
            result.append(cut[_best(y, cut)])
            start += y.shape[1]
        return result


def _best(y: np.ndarray, predictions: Sequence[np.ndarray]) -> int:
    return int(np.argmin([float(((y - one) ** 2).sum()) for one in predictions]))


@dataclass(frozen=True)
class Spectrum:
    """Ridge regression with an intercept, in the eigenvectors of the centered Gram matrix.

    vectors: [N, R]. values: the eigenvalues, [R].
    """

    vectors: np.ndarray
    values: np.ndarray

    def penalties(self) -> list[float]:
        """Return the penalties in units of the eigenvalues."""
        mean = float(self.values.sum()) / len(self.vectors)
        return [ridge * (mean or 1.0) for ridge in RIDGES]

    def leave_one_out(self, y: np.ndarray) -> list[np.ndarray]:
        """Return the leave-one-out predictions [N, K] for each penalty."""
        mean = y.mean(axis=0)
        inside = self.vectors.T @ (y - mean)
        found = []
        for ridge in self.penalties():
            shrink = self.values / (self.values + ridge)
            own = np.minimum((self.vectors**2) @ shrink + 1 / len(y), 0.999)[:, None]
            found.append((self.vectors @ (shrink[:, None] * inside) + mean - own * y) / (1 - own))
        return found

    def dual(self, y: np.ndarray) -> np.ndarray:
        """Return the dual coefficients [N, K]: the fit is Gram @ coefficients + mean of y."""
        ridge = self.penalties()[_best(y, self.leave_one_out(y))]
        centered = y - y.mean(axis=0)
        return np.asarray(self.vectors @ ((self.vectors.T @ centered) / (self.values + ridge)[:, None]))


class LinearSmoother(Smoother):
    """Ridge regression."""

    name = "a linear model"

    def __init__(self, x: np.ndarray) -> None:
        self.middle = x.mean(axis=0)
        self.x = x - self.middle
        left, values, _ = np.linalg.svd(self.x, full_matrices=False)
        self.spectrum = Spectrum(left, values**2)

    def leave_one_out(self, y: np.ndarray) -> list[np.ndarray]:
        return self.spectrum.leave_one_out(y)

    def predict_new(self, y: np.ndarray, new: np.ndarray) -> np.ndarray:
        weights = self.x.T @ self.spectrum.dual(y)
        return np.asarray((new - self.middle) @ weights + y.mean(axis=0))


class KernelSmoother(Smoother):
    """Ridge regression with a Gaussian kernel."""

    name = "a kernel model"

    def __init__(self, x: np.ndarray, far: np.ndarray) -> None:
        self.x = x
        middle = float(np.median(far))
        self.width = 2 * REACH**2 * (middle or 1.0)
        gram = np.exp(-far / self.width)
        self.shift, self.mean = gram.mean(axis=0), float(gram.mean())
        self.gram = gram - self.shift - self.shift[:, None] + self.mean

    @cached_property
    def spectrum(self) -> Spectrum:
        """The eigenvectors of the centered kernel matrix."""
        values, vectors = np.linalg.eigh(self.gram)
        return Spectrum(vectors, np.maximum(values, 0))

    def leave_one_out(self, y: np.ndarray) -> list[np.ndarray]:
        return self.spectrum.leave_one_out(y)

    def predict_new(self, y: np.ndarray, new: np.ndarray) -> np.ndarray:
        across = np.exp(-distances(new, self.x) / self.width)
        centered = across - self.shift - across.mean(axis=1, keepdims=True) + self.mean
        return np.asarray(centered @ self.spectrum.dual(y) + y.mean(axis=0))


class NeighborSmoother(Smoother):
    """The mean of the nearest rows."""

    name = "nearest neighbors"

    def __init__(self, x: np.ndarray, far: np.ndarray) -> None:
        self.x, self.count = x, min(NEIGHBORS, len(x) - 1)
        others = far.copy()
        np.fill_diagonal(others, np.inf)
        self.nearest = np.argpartition(others, self.count - 1, axis=1)[:, : self.count]

    def leave_one_out(self, y: np.ndarray) -> list[np.ndarray]:
        return [y[self.nearest].mean(axis=1)]

    def predict_new(self, y: np.ndarray, new: np.ndarray) -> np.ndarray:
        far = distances(new, self.x)
        return np.asarray(y[np.argpartition(far, self.count - 1, axis=1)[:, : self.count]].mean(axis=1))


def smoothers_of(x: np.ndarray) -> list[Smoother]:
    """Return the three smoothers on rows x [N, D], N >= 2."""
    far = distances(x, x)
    return [LinearSmoother(x), KernelSmoother(x, far), NeighborSmoother(x, far)]


def nearest_of(values: np.ndarray) -> NeighborSmoother:
    """Return the nearest-neighbor smoother of one column [N]; missing values become the median."""
    middle, spread = np.nanmedian(values), np.nanstd(values)
    x = (np.where(np.isnan(values), middle, values) - middle)[:, None] / (spread or 1.0)
    return NeighborSmoother(x, distances(x, x))


def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the squared Euclidean distances [N, M] of rows [N, D] and [M, D]."""
    found = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T
    return np.asarray(np.maximum(found, 0))
