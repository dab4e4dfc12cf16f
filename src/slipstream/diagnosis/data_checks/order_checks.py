"""Checks for rows that depend on their neighbors in the file, and for inputs that are cut off."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.stats import rankdata

from slipstream.core.registry import component
from slipstream.core.wording import counted
from slipstream.data.loading import read
from slipstream.data.quality import window_step
from slipstream.data.sequence.long_table import Sequences
from slipstream.data.text.vocabulary import Texts
from slipstream.diagnosis.data_checks.checked_data import MOST, CheckedData, projected, skill
from slipstream.diagnosis.data_checks.finding import Finding, percent
from slipstream.diagnosis.data_checks.smoothers import NEIGHBORS, distances, smoothers_of

FEWEST = 100  # smallest number of rows
BLOCKS = 10  # stretches of the file that are held out in turn
SORTED = 0.95  # rank correlation of targets and places in the file from which they are sorted
GAP = 0.2  # smallest difference in skill
CLEAR = 3.0  # the same, in standard errors
LOST = 0.2  # smallest share of tokens or steps that are cut off


def leakage_by_time(checked: CheckedData) -> Iterator[Finding]:
    """Find rows that their neighbors in the file predict, which a random split puts into train."""
    raw = checked.raw
    if checked.split_method not in ("random", "stratified") or raw is None or not raw.sources:
        return
    by_time = "time" in component("data", checked.config.data.name).traits.splits
    remedy = ("data.split=time",) if by_time else ()
    advice = "train on the earlier rows and test on the later ones: data.split=time"
    step = (
        window_step(raw.inputs) if isinstance(raw.inputs, np.ndarray) and raw.inputs.ndim in (2, 3) else None
    )
    if step is not None:
        yield Finding(
            "leakage by time",
            f"leakage by time: each window of {raw.inputs.shape[1]} steps begins {counted(step, 'step')} "
            f"after the previous one, so they overlap, and data.split={checked.split_method} puts neighbors "
            "into different splits",
            0.93,
            remedy,
            advice,
        )
        return
    if not checked.columns or len(raw) < FEWEST or checked.task == "multilabel":
        return
    rows = np.arange(min(len(raw), MOST)) + max(0, (len(raw) - MOST) // 2)
    x = projected(np.hstack([column.features(rows) for column in checked.columns]))
    y = checked.y_of(rows)
    order = np.arange(len(rows))
    if not checked.labelled and _is_sorted(y[:, 0]):
        return
    place = _within_class(y) if checked.labelled else order / len(rows)
    apart = np.floor(place * BLOCKS).clip(max=BLOCKS - 1)
    mixed = np.random.default_rng(0).permutation(apart)
    near, far = (_held_out(x, y, blocks) for blocks in (mixed, apart))
    scores = [skill(y, one, labelled=checked.labelled) for one in (near, far)]
    wrong = [_errors(y, one, labelled=checked.labelled) for one in (near, far)]
    paired = wrong[1] - wrong[0]
    clear = paired.mean() / max(paired.std() / np.sqrt(len(paired) / 5), 1e-12)  # neighbors err together
    if scores[0] - max(scores[1], 0) < GAP or clear < CLEAR:
        return
    yield Finding(
        "leakage by time",
        f"leakage by time: the rows are ordered and neighbors are alike; a nearest-neighbor model explains "
        f"{percent(scores[0])} of the target when rows are held out at random, as by "
        f"data.split={checked.split_method}, but {percent(max(scores[1], 0))} when contiguous blocks are",
        0.8 if scores[0] - max(scores[1], 0) > 0.3 else 0.55,
        remedy,
        advice,
    )


def _is_sorted(values: np.ndarray) -> bool:
    ranks = rankdata(values)
    return bool(abs(np.corrcoef(ranks, np.arange(len(ranks)))[0, 1]) > SORTED)


def _within_class(y: np.ndarray) -> np.ndarray:
    """Return the relative place of each row among those of its class, from 0 to 1, [N]."""
    out = np.zeros(len(y))
    labels = y.argmax(axis=1)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        out[rows] = np.arange(len(rows)) / len(rows)
    return out


def _held_out(x: np.ndarray, y: np.ndarray, blocks: np.ndarray) -> np.ndarray:
    """Return the mean target [N, K] of the nearest rows of other blocks; blocks: [N]."""
    far = distances(x, x)
    far[blocks[:, None] == blocks] = np.inf
    nearest = np.argpartition(far, NEIGHBORS, axis=1)[:, :NEIGHBORS]
    return np.asarray(y[nearest].mean(axis=1))


def _errors(y: np.ndarray, predicted: np.ndarray, *, labelled: bool) -> np.ndarray:
    """Return the error of each row [N]: 0 or 1 for classes, otherwise squared."""
    if labelled:
        return np.asarray(predicted.argmax(axis=1) != y.argmax(axis=1), float)
    return np.asarray(((predicted - y) ** 2).sum(axis=1))


def cut_off(checked: CheckedData) -> Iterator[Finding]:
    """Find texts and sequences whose maximum length cuts off what predicts the target."""
    most = checked.setting("max_length")
    raw = checked.raw
    if raw is None or most is None or not isinstance(raw.inputs, Texts | Sequences):
        return
    kept = _lengths(raw.inputs)
    if kept.max() < most:
        return
    whole = read({**checked.settings, "max_length": 1_000_000})
    lengths = _lengths(whole.inputs)
    lost = 1 - kept.sum() / lengths.sum()
    if lost < LOST:
        return
    rows = checked.samples[0].rows
    y = checked.samples[0].y
    before, after = (
        max(checked.score(y, one.predict(y)) for one in smoothers_of(_summary(source, rows)))
        for source in (raw.inputs, whole.inputs)
    )
    unit = "token" if isinstance(raw.inputs, Texts) else "step"
    harmful = after - before > 0.1
    yield Finding(
        "input cut off",
        f"input cut off: data.max_length={most} removes {percent(float(lost))} of all {unit}s; a quick model "
        f"explains {percent(max(before, 0))} of the target from the rest and {percent(max(after, 0))} from "
        "everything",
        0.92 if harmful else 0.35,
        (f"data.max_length={int(lengths.max())}",),
        f"keep more: the longest has {counted(int(lengths.max()), unit)}, and half have at most "
        f"{int(np.median(lengths))}",
    )


def _lengths(inputs: Texts | Sequences) -> np.ndarray:
    return inputs.lengths


def _summary(inputs: Texts | Sequences, rows: np.ndarray) -> np.ndarray:
    """Return features [rows, D] of whole texts (word counts) or sequences (statistics of each channel)."""
    starts = np.cumsum(inputs.lengths) - inputs.lengths
    if isinstance(inputs, Texts):
        words = np.argsort(-np.bincount(inputs.tokens), kind="stable")[:400]
        place = np.full(len(inputs.words), len(words))
        place[words] = np.arange(len(words))
        counts = [
            np.bincount(place[inputs.tokens[s : s + n]], minlength=len(words) + 1)[:-1]
            for s, n in zip(starts[rows], inputs.lengths[rows], strict=True)
        ]
        found = np.log1p(np.array(counts, np.float64))
    else:
        channels = [v for v in inputs.frame.columns.values() if isinstance(v, np.ndarray)]
        steps = (
            np.nan_to_num(np.stack(channels, axis=1))
            if channels
            else np.zeros((int(inputs.lengths.sum()), 1))
        )
        parts = [steps[s : s + n] for s, n in zip(starts[rows], inputs.lengths[rows], strict=True)]
        found = np.array(
            [np.concatenate([p.mean(0), p.std(0), p.max(0), p.min(0), p[0], p[-1]]) for p in parts]
        )
    deviation = found.std(axis=0)
    return np.asarray((found - found.mean(axis=0)) / np.where(deviation > 1e-9, deviation, 1.0))
