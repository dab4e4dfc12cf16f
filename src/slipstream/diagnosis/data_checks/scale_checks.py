"""Checks of the scale of inputs and targets, with which a network may train poorly."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from slipstream.core.registry import component
from slipstream.diagnosis.data_checks.checked_data import CheckedData
from slipstream.diagnosis.data_checks.finding import Finding, columns

LARGE = 20.0  # root mean square of an input that is too large
SPREAD = 300.0  # ratio of the standard deviations of two inputs that is too large
SMALL = 1e-3  # root mean square of an input that is too small
TARGET = 8.0  # mean or standard deviation of a target that is too large
TINY = 0.02  # standard deviation of a target that is too small


def inputs_not_scaled(checked: CheckedData) -> Iterator[Finding]:
    """Find unscaled columns of very different scales."""
    if checked.setting("scaling") != "none" or checked.data.form.kind not in ("vector", "sequence"):
        return
    x = np.asarray(checked.data.train.inputs, np.float64)
    x = x.reshape(-1, x.shape[-1])
    names = [*checked.data.input_names][: x.shape[1]]
    names += [f"input {i + 1}" for i in range(len(names), x.shape[1])]
    sizes, deviations = np.sqrt((x**2).mean(axis=0)), x.std(axis=0)
    varying = deviations > 0
    if not varying.any():
        return
    large, small = int(np.argmax(sizes)), int(np.argmin(np.where(varying, deviations, np.inf)))
    ratio = float(deviations.max() / deviations[small])
    if sizes[large] < LARGE and (ratio < SPREAD or sizes[large] < 3) and sizes[large] > SMALL:
        return
    strong = sizes[large] > 2 * LARGE or sizes[large] < SMALL
    yield Finding(
        "inputs not scaled",
        f"inputs not scaled: {columns([names[large]])} has a root mean square of {sizes[large]:.3g} and "
        f"{columns([names[small]])} a standard deviation of {deviations[small]:.3g}, and data.scaling=none "
        "leaves them unscaled",
        0.9 if strong else 0.6,
        ("data.scaling=standard",),
        "scale every column to a standard deviation of 1: data.scaling=standard",
    )


def target_not_scaled(checked: CheckedData) -> Iterator[Finding]:
    """Find unscaled targets with a large mean, or with a standard deviation far from 1."""
    loss = component("loss", checked.config.loss.name) if checked.config.loss.name != "auto" else None
    counts = loss is not None and loss.traits.unscaled
    if checked.task != "regression" or checked.setting("target_scaling") != "none" or counts:
        return
    y = np.asarray(checked.data.train.targets, np.float64)
    mean, deviation = y.mean(axis=0), y.std(axis=0)
    worst = int(np.argmax(np.maximum(np.abs(mean), deviation)))
    size = float(max(abs(mean[worst]), deviation[worst]))
    if deviation[worst] > TINY and size < TARGET:
        return
    yield Finding(
        "target not scaled",
        f"target not scaled: {checked.data.target.names[worst]!r} has mean {mean[worst]:.3g} and standard "
        f"deviation {deviation[worst]:.3g}, and data.target_scaling=none leaves it unscaled; outputs begin "
        "near 0, and losses expect a standard deviation of 1",
        0.92 if size > 2 * TARGET else 0.6,
        ("data.target_scaling=auto",),
        "scale the target to mean 0 and deviation 1: data.target_scaling=auto; metrics keep its units",
    )
