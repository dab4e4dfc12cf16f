"""Estimators that follow scikit-learn's API: `SlipstreamClassifier` and `SlipstreamRegressor`."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data

from slipstream.core.types import DataLike
from slipstream.data.identity import labels, word_of
from slipstream.inference.estimator_base import SlipstreamEstimator, checked_weights
from slipstream.runs.prediction import Model

LABEL_KINDS = {"b": "boolean", "i": "number", "u": "number", "f": "number"}  # by numpy's dtype.kind


class SlipstreamClassifier(ClassifierMixin, SlipstreamEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A neural network classifier that follows scikit-learn's API.

    Args:
        width, depth: the units per hidden layer and the number of hidden layers; None for models without
            them.
        model, activation, optimizer, regularizer: options as on the command line; regularizer is a list.
        lr: the learning rate, > 0; None takes the optimizer's default.
        batch_size: the number of rows per update, "full", or "auto" for min(200, number of rows).
        max_epochs: the largest number of passes over the rows.
        validation: the fraction of rows held out, in [0, 1), whose loss decides when to stop and which epoch
            is best; 0 trains on all rows to the last epoch.
        settings: further settings as on the command line, such as ["scheduler=cosine"].
        random_state: a seed; None draws a different one in each fit.

    Example:
        >>> import slipstream
        >>> from sklearn.datasets import load_iris
        >>> from sklearn.model_selection import cross_val_score
        >>> X, y = load_iris(return_X_y=True)
        >>> scores = cross_val_score(slipstream.SlipstreamClassifier(random_state=0), X, y, cv=3)
        >>> bool(scores.mean() > 0.9)
        True
    """

    def fit(self, X: DataLike, y: DataLike, sample_weight: DataLike = None) -> Self:
        """Train the network.

        Args:
            X: inputs [N, C].
            y: labels [N].
            sample_weight: weights [N], >= 0; None gives every row the weight 1.

        Returns:
            The estimator itself.

        Raises:
            ValueError: the inputs, labels or weights are unsuitable, or no epoch had finite weights.
        """
        x, y = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        weights = checked_weights(sample_weight, x)
        self.classes_, codes = np.unique(y, return_inverse=True)
        there = codes if weights is None else codes[weights > 0]
        if len(np.unique(there)) < 2:
            said = "1 class" if weights is None else "1 class with positive sample_weight"
            raise ValueError(f"{type(self).__name__}: found {said}, expected at least 2 classes")
        kind = LABEL_KINDS.get(self.classes_.dtype.kind, "text")
        classes = [word_of(label) for label in self.classes_.tolist()]
        task = "binary" if len(classes) == 2 else "multiclass"
        self._train(x, codes, weights, {"task": task, "classes": classes, "label_kind": kind})
        return self

    def predict_proba(self, X: DataLike) -> np.ndarray:
        """Predict the probability of each class.

        Args:
            X: inputs [N, C].

        Returns:
            Probabilities [N, classes] in the order of `classes_`.

        Raises:
            ValueError: the loss gives no probabilities, or the inputs are unsuitable.
        """
        scores = self._scores(X)
        if not self._network.probabilistic:
            raise ValueError(f"loss={self._network.program.loss.name} gives no probabilities; use predict")
        return scores

    def predict(self, X: DataLike) -> np.ndarray:
        """Predict the most probable labels.

        Args:
            X: inputs [N, C].

        Returns:
            Labels [N].
        """
        scores = self._scores(X)
        found: np.ndarray = self.classes_[scores.argmax(axis=1)]
        return found

    def _restore(self, network: Model) -> None:
        self.classes_ = labels(network.target.classes, network.target.label_kind)


class SlipstreamRegressor(RegressorMixin, SlipstreamEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A neural network for regression, with one or several targets, that follows scikit-learn's API.

    Args:
        width, depth, model, activation, optimizer, regularizer: as in `SlipstreamClassifier`.
        lr, batch_size, max_epochs, validation, settings, random_state: as in `SlipstreamClassifier`.

    Example:
        >>> import slipstream
        >>> X, y = [[k / 10] for k in range(100)], [3 * k for k in range(100)]
        >>> network = slipstream.SlipstreamRegressor(width=16, random_state=0).fit(X, y)
        >>> network.score(X, y) > 0.9
        True
    """

    def fit(self, X: DataLike, y: DataLike, sample_weight: DataLike = None) -> Self:
        """Train the network.

        Args:
            X: inputs [N, C].
            y: target values [N] or [N, D].
            sample_weight: weights [N], >= 0; None gives every row the weight 1.

        Returns:
            The estimator itself.

        Raises:
            ValueError: the inputs, targets or weights are unsuitable, or no epoch had finite weights.
        """
        x, y = validate_data(self, X, y, dtype=np.float64, multi_output=True, y_numeric=True)
        weights = checked_weights(sample_weight, x)
        self._single = np.ndim(y) == 1
        self._train(x, np.asarray(y, np.float64), weights, {"task": "regression", "classes": []})
        return self

    def predict(self, X: DataLike) -> np.ndarray:
        """Predict values.

        Args:
            X: inputs [N, C].

        Returns:
            Values [N], or [N, D] for several targets.
        """
        values = self._scores(X)
        return values[:, 0] if self._single else values

    def _restore(self, network: Model) -> None:
        self._single = len(network.target.names) == 1

    def __sklearn_tags__(self) -> Any:  # scikit-learn's record of tags
        """Return scikit-learn's tags, which allow several targets."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
