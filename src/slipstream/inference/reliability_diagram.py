"""Calibration: how often predictions with a given probability are right, and its reliability diagram."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from slipstream.core.drawing import INK, LINE, write
from slipstream.runs.diagnostics import BOTTOM, DIAGONAL, FONT, GAP, GRID, LEFT, POINT, SIDE, TOP

BINS = 10  # of equal width
TICK_SHARES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


class Calibration(NamedTuple):
    """Nonempty bins of predicted probabilities.

    predicted: the mean probability in each bin. right: the fraction of its predictions that are right.
    share: the fraction of all examples in the bin.
    """

    predicted: np.ndarray
    right: np.ndarray
    share: np.ndarray


def calibration(scores: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> Calibration:
    """Compare predicted probabilities with observed frequencies (DeGroot and Fienberg 1983).

    For two classes, this compares the probability of the second one. For more classes, it compares the
    largest probability of each example with the accuracy of that prediction (Guo et al. 2017).

    scores: probabilities [N, C].
    """
    if scores.shape[1] == 2:
        probability, came = scores[:, 1].astype(np.float64), targets == 1
    else:
        probability, came = scores.max(axis=1).astype(np.float64), scores.argmax(axis=1) == targets
    place = np.minimum((probability * BINS).astype(int), BINS - 1)
    total, sums, right = (
        np.bincount(place, w, minlength=BINS) for w in (weights, weights * probability, weights * came)
    )
    there = total > 0
    return Calibration(sums[there] / total[there], right[there] / total[there], total[there] / total.sum())


def calibration_picture(found: Calibration, what: str) -> Image.Image:
    """Plot the observed frequency against the predicted probability. Perfect calibration is the diagonal.

    The area of a disc is its bin's share of the examples. what: names the probability on the x axis.
    """
    made = Image.new("RGB", (LEFT + SIDE + 2 * GAP, TOP + SIDE + BOTTOM), "white")
    draw = ImageDraw.Draw(made)
    for value in TICK_SHARES:
        x, y = LEFT + SIDE * value, TOP + SIDE * (1 - value)
        draw.line((x, TOP, x, TOP + SIDE), fill=GRID, width=2)
        draw.line((LEFT, y, LEFT + SIDE, y), fill=GRID, width=2)
        write(draw, (x, TOP + SIDE + GAP), f"{value:g}", FONT - 2, anchor="mt")
        write(draw, (LEFT - GAP, y), f"{value:.0%}", FONT - 2, anchor="rm")
    draw.rectangle((LEFT, TOP, LEFT + SIDE, TOP + SIDE), outline=LINE)
    draw.line((LEFT, TOP + SIDE, LEFT + SIDE, TOP), fill=DIAGONAL, width=2)
    pairs = zip(found.predicted, found.right, strict=True)
    points = [(LEFT + SIDE * p, TOP + SIDE * (1 - r)) for p, r in pairs]
    draw.line(points, fill=POINT, width=3)
    for (x, y), share in zip(points, found.share, strict=True):
        reach = 4 + 24 * share**0.5
        draw.ellipse((x - reach, y - reach, x + reach, y + reach), fill=POINT)
    write(draw, (LEFT, GAP), "observed frequency", FONT, anchor="lt", fill=INK)
    write(
        draw, (LEFT + SIDE / 2, TOP + SIDE + BOTTOM - GAP), f"predicted probability {what}", FONT, anchor="mb"
    )
    return made
