"""Checks of the targets: no relation to the inputs, wrong labels, a class that is too rare."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from slipstream.core.wording import counted
from slipstream.data.messages import brief
from slipstream.diagnosis.data_checks.checked_data import CheckedData
from slipstream.diagnosis.data_checks.finding import Finding, percent
from slipstream.diagnosis.data_checks.smoothers import smoothers_of

PERMUTATIONS = 100
CHANCE = 0.01  # probability of such a correlation with permuted targets, below which there is a signal
OBVIOUS = 0.5  # skill that permuted targets never reach
WEAK = 0.3  # largest correlation of a signal that may go unnoticed
FEWEST = 30  # smallest number of rows
RARE = 0.15  # largest share of a rare class, if there are two
CLEAN = 3.5  # standard errors by which agreement with another split exceeds that within train
GIVEN = 3.0  # the same for splits that came with the data, whose labels may be cleaner


def no_signal(checked: CheckedData) -> Iterator[Finding]:
    """Check whether quick models predict the targets no better than permuted ones."""
    sample = checked.samples[0]
    known = max(checked.score(sample.y, one) for one in checked.predictions)
    if len(sample) < FEWEST or known > (OBVIOUS if len(sample) < 100 else OBVIOUS / 2):
        return
    parts = [one for one in checked.samples if len(one)]
    x, y = np.concatenate([one.x for one in parts]), np.concatenate([one.y for one in parts])
    draws = np.random.default_rng(0)
    targets = [y, *(y[draws.permutation(len(y))] for _ in range(PERMUTATIONS))]
    best, extreme = -np.inf, 1.0
    for smoother in smoothers_of(x):
        predicted = smoother.predict_each(targets)
        found, *others = (correlation(y, one) for y, one in zip(targets, predicted, strict=True))
        # Neighbors that disagree more often than by chance, as for parity, are a signal too.
        away = np.abs(np.array(others) - np.median(others)) >= abs(found - np.median(others))
        extreme = min(extreme, float(away.mean()))
        best = max(best, found + 2 * float(np.std(others)))
    if extreme < CHANCE or best > 1.3 * WEAK:
        return
    plain = checked.data.form.kind == "vector"
    yield Finding(
        "no signal",
        f"no signal: quick models of {counted(len(x), 'row')} predict the target no better than a shuffled "
        f"one (they explain {percent(max(known, 0))} of it; {percent(extreme)} of the shuffled targets are "
        "as predictable)",
        0.9 if plain and best < WEAK else 0.45,
        (),
        "check that the inputs and the target of each row belong together, for instance that no column of "
        "the file was sorted by itself, and that the inputs can carry information about the target",
    )


def correlation(y: np.ndarray, predicted: np.ndarray) -> float:
    """Return the correlation of targets [N, K] and predictions [N, K], the mean over the K columns."""
    a, b = y - y.mean(axis=0), predicted - predicted.mean(axis=0)
    norms = np.linalg.norm(a, axis=0) * np.linalg.norm(b, axis=0)
    return float(((a * b).sum(axis=0) / np.where(norms > 0, norms, np.inf)).mean())


def label_noise(checked: CheckedData) -> Iterator[Finding]:
    """Find wrong labels: another split agrees with models of train far more than train does itself."""
    train = checked.samples[0]
    if not checked.labelled or len(train) < FEWEST:
        return
    agrees = [_right(train.y, one) for one in checked.predictions]
    for name, part in (("validation", checked.samples[1]), ("test", checked.samples[2])):
        if len(part) < FEWEST / 2:
            continue
        new = checked.predicted_new(part)
        best = max(range(len(new)), key=lambda i: _right(part.y, new[i]) + agrees[i])
        there, here = _right(part.y, new[best]), agrees[best]
        pooled = (there * len(part) + here * len(train)) / (len(part) + len(train))
        error = np.sqrt(max(pooled * (1 - pooled), 1e-3) * (1 / len(part) + 1 / len(train)))
        if there - here > max((CLEAN if checked.split_method else GIVEN) * error, 0.1):
            yield Finding(
                "label noise",
                f"label noise: a quick model of the training rows agrees with {percent(there)} of the {name} "
                f"labels, but with only {percent(here)} of held-out training labels, so about "
                f"{percent(min(0.5, there - here))} of the training labels are wrong",
                0.93,
                (),
                "check the training labels, above all where similar rows have other labels; until then, "
                "regularizer=[label_smoothing] and early stopping limit the harm",
            )
            return
    yield from _plateau(checked)


def _plateau(checked: CheckedData) -> Iterator[Finding]:
    """Find labels that are wrong as often far from the class boundary as near it."""
    train = checked.samples[0]
    predicted = max(checked.predictions, key=lambda one: _right(train.y, one))
    right = predicted.argmax(axis=1) == train.y.argmax(axis=1)
    ordered = np.sort(predicted, axis=1)
    margin = ordered[:, -1] - ordered[:, -2]
    far = margin >= np.median(margin)
    everywhere, away = 1 - right.mean(), 1 - right[far].mean()
    base = 1 - train.y.mean(axis=0).max()
    error = np.sqrt(max(away * (1 - away), 1e-3) / far.sum())
    if len(train) < 200 or away - 2 * error < 0.08 or away < 0.75 * everywhere or everywhere > 0.6 * base:
        return
    yield Finding(
        "label noise",
        f"label noise: {percent(everywhere)} of the training labels contradict a quick model of the other "
        f"rows, and nearly as many ({percent(away)}) of those farthest from the class boundary",
        0.6 if away > 0.85 * everywhere else 0.45,
        (),
        "check the labels of rows whose neighbors all have another label",
    )


def _right(y: np.ndarray, predicted: np.ndarray) -> float:
    """Return the accuracy of class scores [N, K] for one-hot targets [N, K]."""
    return float((predicted.argmax(axis=1) == y.argmax(axis=1)).mean())


def imbalance(checked: CheckedData) -> Iterator[Finding]:
    """Find a class so rare that a plain quick model ignores it, but one with class weights does not."""
    train = checked.samples[0]
    if not checked.labelled or checked.setting("class_weights") != "none" or len(train) < FEWEST:
        return
    labels = checked.targets[checked.parts[0]]
    shares = np.bincount(labels, minlength=len(checked.classes)) / len(labels)
    present = np.flatnonzero(shares)
    rarest = int(present[np.argmin(shares[present])])
    if shares[rarest] * len(present) > 2 * RARE or len(present) < 2:
        return
    own, count = train.y.argmax(axis=1), np.maximum(train.y.sum(axis=0), 1)
    if count[rarest] < 5:
        return
    plain = [one.argmax(axis=1) for one in checked.predictions]
    weighed = [(one / shares.clip(1e-9)).argmax(axis=1) for one in checked.predictions]
    before, after = (max(_balanced(own, one) for one in guesses) for guesses in (plain, weighed))
    found = max(float((one == rarest)[own == rarest].mean()) for one in plain)
    watched = str(checked.config.early_stopping.settings.get("metric", "")).partition("/")[2]
    harmful = found < 0.5 and after - before > 0.08
    yield Finding(
        "class imbalance",
        f"class imbalance: {brief(checked.classes[rarest])} has {percent(float(shares[rarest]))} of the "
        f"training rows, and a quick model finds {percent(found)} of them; with equally weighted classes, "
        f"its balanced accuracy is {percent(after)} instead of {percent(before)}",
        (0.85 if watched in ("accuracy", "loss", "") else 0.7) if harmful else 0.3,
        ("data.class_weights=balanced",),
        "weight the classes equally (data.class_weights=balanced), and monitor a metric that does so too, "
        "such as val/balanced_accuracy",
    )


def _balanced(labels: np.ndarray, predicted: np.ndarray) -> float:
    """Return the mean recall of the classes."""
    return float(np.mean([(predicted == k)[labels == k].mean() for k in np.unique(labels)]))
