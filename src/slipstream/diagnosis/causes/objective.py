"""Causes in the objective and the preparation of the data."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch import Tensor

from slipstream.diagnosis.evidence import Evidence
from slipstream.diagnosis.suspicion import Suspicion, suspect

UNLIKE = 10.0  # ratio of the columns' scales
ROWS = 2000  # that scales are taken from


def loss(run: Evidence) -> Iterator[Suspicion]:
    """A loss that is not the usual one of the task."""
    name = str(run.raw["loss"]["name"])
    usual = "cross entropy" if run.classes else "mean squared error"
    if name not in ("auto", "cross_entropy", "binary_cross_entropy") and not (
        name == "mse" and not run.classes
    ):
        score = 0.75 if run.classes and name in ("mse", "mae", "huber") else 0.35
        yield suspect("wrong loss", score, f"loss={name}, where {usual} is usual", "loss=auto")


def inputs(run: Evidence) -> Iterator[Suspicion]:
    """Inputs that reach the network unscaled."""
    if run.setting("data.scaling") != "none" or run.data.form.kind == "tokens":
        return
    values = run.data.train.inputs
    said, score = "data.scaling=none", 0.3
    if isinstance(values, Tensor) and values.ndim == 2:
        deviations = values[:ROWS].double().std(0)
        some = deviations[deviations > 0]
        low, high = (float(some.min()), float(some.max())) if len(some) else (1.0, 1.0)
        score = 0.85 if high / low > UNLIKE or high > UNLIKE or high < 1 / UNLIKE else 0.2
        said = f"without scaling the columns' deviations are {low:.3g} to {high:.3g}"
    yield suspect("inputs not scaled", score, said, "data.scaling=standard")


def target(run: Evidence) -> Iterator[Suspicion]:
    """A target of another size than 1."""
    if run.data.target.task != "regression" or run.setting("data.target_scaling") != "none":
        return
    values = run.data.train.targets.numpy().astype(np.float64)
    size = float(np.sqrt((values**2).mean()))
    unlike = size > UNLIKE or size < 1 / UNLIKE
    yield suspect(
        "target not scaled",
        0.85 if unlike else 0.25,
        f"the target's root mean square is {size:.3g}, and the network begins near 0",
        "data.target_scaling=auto",
    )


def imbalance(run: Evidence) -> Iterator[Suspicion]:
    """Classes that are rare, and never predicted."""
    if not run.classes or run.setting("data.class_weights") != "none":
        return
    shares = run.shares[run.shares > 0]
    rare = float(shares.min()) * len(shares)
    if rare < 0.5:
        balanced = run.scored("balanced_accuracy")
        low = balanced < 0.5 * (1 + 1 / len(shares))
        yield suspect(
            "class imbalance",
            0.75 if low else 0.2,
            f"the rarest class has {shares.min():.1%} of the rows; balanced accuracy is {balanced:.3g}",
            "data.class_weights=balanced",
            measure="balanced_accuracy",
        )


CAUSES = (loss, inputs, target, imbalance)
