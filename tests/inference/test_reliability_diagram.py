"""Calibration against scikit-learn, and its picture."""

from __future__ import annotations

import numpy as np
from sklearn.calibration import calibration_curve

from slipstream.inference.reliability_diagram import calibration, calibration_picture


def test_two_classes_are_compared_as_scikit_learn_does():
    """The probability of the last class in ten bins; rows of weight 2 count twice."""
    draw = np.random.default_rng(0)
    p = draw.random(500)
    y = (draw.random(500) < p**1.5).astype(int)
    scores = np.stack([1 - p, p], 1)
    found = calibration(scores, y, np.ones(500))
    right, predicted = calibration_curve(y, p, n_bins=10)
    np.testing.assert_allclose(found.right, right)
    np.testing.assert_allclose(found.predicted, predicted)
    assert abs(found.share.sum() - 1) < 1e-12
    weights = draw.integers(0, 3, 500)
    weighted = calibration(scores, y, weights)
    repeated = calibration(scores.repeat(weights, 0), y.repeat(weights), np.ones(weights.sum()))
    for one, other in zip(weighted, repeated, strict=True):
        np.testing.assert_allclose(one, other)


def test_of_more_classes_the_largest_probability_counts():
    scores = np.array([[0.71, 0.19, 0.1], [0.73, 0.19, 0.08], [0.1, 0.45, 0.45]], np.float32)
    found = calibration(scores, np.array([0, 1, 1]), np.ones(3))
    np.testing.assert_allclose(found.predicted, [0.45, 0.72], rtol=1e-6)
    np.testing.assert_allclose(found.right, [1, 0.5])


def test_the_picture_has_a_point_for_each_bin():
    found = calibration(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 1]), np.ones(2))
    picture = np.asarray(calibration_picture(found, "of yes"))
    assert (picture == (31, 119, 180)).all(-1).sum() > 500
