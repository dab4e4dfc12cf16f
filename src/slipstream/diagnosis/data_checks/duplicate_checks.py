"""Checks for rows of validation and test that are also in train, exactly or nearly."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from slipstream.core.errors import DataError
from slipstream.core.lazy import torch
from slipstream.data.dataset import PARTS
from slipstream.data.loading import read
from slipstream.data.tabular.columns import as_text
from slipstream.diagnosis.data_checks.checked_data import CheckedData, Sample
from slipstream.diagnosis.data_checks.column_checks import is_serial
from slipstream.diagnosis.data_checks.finding import Finding, percent
from slipstream.diagnosis.data_checks.smoothers import distances

FEWEST = 10  # smallest number of rows of a split
SHARE = 0.05  # smallest share of a split's rows that equal training rows
MANY = 0.15  # smallest share that nearly equal training rows
MOST_COLUMNS = 64  # columns that are left out in turn
NEAR = 0.1  # distance of a near copy, relative to that of the nearest row at this density
REACH = 20  # neighbors from which the density is estimated
MOST_ROWS = 20_000  # of a split that is not a table

Pairs = np.ndarray  # int64 [P, 2]: a row of validation or test, and the training row that it repeats


def duplicates(checked: CheckedData) -> Iterator[Finding]:
    """Find rows of validation and test that repeat rows of train."""
    exact = _exact(checked)
    shares = {name: _share(exact, rows) for name, rows in zip(PARTS[1:], checked.parts[1:], strict=True)}
    name = max(shares, key=lambda name: shares[name])
    if shares[name] >= SHARE and len(exact) > 2:
        yield _finding(checked, name, shares[name], exact, "equal to")
        return
    near = _near(checked)
    shares = {n: _share(near, s.rows) for n, s in zip(PARTS[1:], checked.samples[1:], strict=True)}
    name = max(shares, key=lambda name: shares[name])
    if shares[name] >= MANY and len(near) > 4:
        yield _finding(checked, name, shares[name], near, "nearly equal to")


def _share(pairs: Pairs, rows: np.ndarray) -> float:
    """Return the share of rows that stand first in a pair, 0 if there are too few rows to judge."""
    return float(np.isin(rows, pairs[:, 0]).mean()) if len(rows) >= FEWEST else 0.0


def _finding(checked: CheckedData, name: str, share: float, pairs: Pairs, likeness: str) -> Finding:
    """Return the finding. likeness: "equal to" or "nearly equal to"."""
    group = _group(checked, pairs)
    evidence = (
        f"duplicates across parts: {percent(share)} of the {name} rows are {likeness} a training row, so "
        "scores on them reward memorization"
    )
    if group is not None:
        evidence += f"; both have the same {group!r}"
        remedy: tuple[str, ...] = (f"data.group_column={group}",)
        if group in (checked.setting("kinds") or {}):
            remedy = (*remedy, f"~data.kinds.{group}")
        return Finding(
            "duplicates across parts",
            evidence,
            0.95,
            remedy,
            f"keep rows with the same {group!r} in one split: data.group_column={group}",
        )
    return Finding(
        "duplicates across parts",
        evidence,
        0.9 if share >= MANY else 0.6,
        (),
        "remove the copies, or name the column that copies share in data.group_column",
    )


def _exact(checked: CheckedData) -> Pairs:
    """Return equal rows, none if chance explains them because columns have few distinct values.

    By chance, rows that differ in just one column would be about as frequent as equal ones.
    """
    hashed = _hashes(checked)
    if hashed is None:
        return np.empty((0, 2), np.int64)
    hashes, rows = hashed
    whole = hashes.sum(axis=1, dtype=np.uint64)
    sizes = np.cumsum([len(one) for one in rows])[:-1]
    codes = np.split(whole, sizes)
    pairs = [_equal(codes[i], codes[0], rows[i], rows[0]) for i in (1, 2)]
    found = np.concatenate(pairs)
    if not len(found):
        return found
    width = hashes.shape[1]
    left_out = np.linspace(0, width - 1, min(width, MOST_COLUMNS)).astype(int)
    close = set()
    for column in np.unique(left_out):
        parts = np.split(whole - hashes[:, column], sizes)
        close |= {int(rows[i][k]) for i in (1, 2) for k in np.flatnonzero(np.isin(parts[i], parts[0]))}
    close -= set(found[:, 0].tolist())
    return found if width > 1 and len(found) > 2 * len(close) else found[:0]


def _hashes(checked: CheckedData) -> tuple[np.ndarray, list[np.ndarray]] | None:
    """Return hashes of the values of train, validation and test, uint64 [rows, columns], and row numbers.

    None if there are no columns to compare, or the inputs stay in their file.
    """
    draw = np.random.default_rng(0)
    if checked.columns:
        values = [c.values for c in checked.columns if not is_serial(c.values)]
        rows = list(checked.parts)
        if not values:
            return None
        wide = np.stack([np.nan_to_num(v, nan=-1.5e300) for v in values], axis=1)[np.concatenate(rows)]
    else:
        splits = (checked.data.train, checked.data.validation, checked.data.test)
        rows = [part[:MOST_ROWS] for part in checked.parts]
        tensors = [s.inputs for s in splits if isinstance(s.inputs, torch.Tensor) and len(s)]
        if len(tensors) < sum(len(split) > 0 for split in splits):
            return None  # inputs that stay in their file
        flat = [one[:MOST_ROWS].reshape(min(len(one), MOST_ROWS), -1).numpy() for one in tensors]
        wide = np.concatenate(flat).astype(np.float64)
        if wide.shape[1] > 1024:  # a projection will do: single values matter only where columns are left out
            wide = wide @ draw.standard_normal((wide.shape[1], 256))
    bits = np.ascontiguousarray(wide + 0.0).view(np.uint64)
    mixed = (bits ^ (bits >> np.uint64(29))) * draw.integers(1, 1 << 62, wide.shape[1], np.uint64)
    return (mixed ^ (mixed >> np.uint64(32))) * np.uint64(0x9E3779B97F4A7C15), rows


def _equal(codes: np.ndarray, train: np.ndarray, rows: np.ndarray, train_rows: np.ndarray) -> Pairs:
    """Return the pairs of rows whose hashes [N] and [M] are equal."""
    known, first = np.unique(train, return_index=True)
    place = np.searchsorted(known, codes).clip(max=len(known) - 1)
    same = known[place] == codes
    return np.stack([rows[same], train_rows[first[place[same]]]], axis=1)


def _near(checked: CheckedData) -> Pairs:
    """Return sampled rows that lie much nearer to a training row than the density there explains.

    Nor may chance explain it: rows of which each column is shuffled are a third as often as near, at most.
    Where most columns are categories, rows of equal categories are always near.
    """
    train = checked.samples[0]
    none = np.empty((0, 2), np.int64)
    if len(train) < 3 * REACH or checked.data.form.kind == "tokens":
        return none
    found = [none]
    for part in checked.samples[1:]:
        if len(part) < FEWEST:
            continue
        known = _plain(checked, train)
        far = np.sqrt(distances(_plain(checked, part), known))
        close, dimension = _is_close(far)
        shuffled, _ = _is_close(np.sqrt(distances(_plain(checked, part, shuffled=True), known)))
        if dimension >= 2 and close.mean() > 3 * max(NEAR**dimension, shuffled.mean()):
            found.append(np.stack([part.rows[close], train.rows[far[close].argmin(axis=1)]], axis=1))
    return np.concatenate(found)


def _is_close(far: np.ndarray) -> tuple[np.ndarray, float]:
    """Return which rows are much nearer to a training row than their density explains, and its dimension.

    far: distances to the training rows [P, T]. An equal row is not close, but equal.
    """
    ordered = np.sort(far, axis=1)
    outer = ordered[:, REACH - 1 : 2 * REACH : REACH].clip(1e-12)
    growth = np.log(outer[:, 1] / outer[:, 0])
    dimension = np.log(2) / max(float(np.median(growth)), 1e-3)
    usual = outer[:, 0] * REACH ** (-1 / dimension)
    return (ordered[:, 0] < NEAR * usual) & (ordered[:, 0] > 0), dimension


def _plain(checked: CheckedData, sample: Sample, *, shuffled: bool = False) -> np.ndarray:
    """Return a sample's features without ranks, which would move near copies apart.

    shuffled: each column on its own.
    """
    draw = np.random.default_rng(0)
    used = [column for column in checked.columns if not is_serial(column.values)]
    if not used:
        return draw.permuted(sample.x, axis=0) if shuffled else sample.x
    return np.hstack(
        [column.plain(draw.permutation(sample.rows) if shuffled else sample.rows) for column in used]
    )


def _group(checked: CheckedData, pairs: Pairs) -> str | None:
    """Return the unused column of a table that is equal within pairs and has many values, or None."""
    names = list(checked.raw.left_out) if checked.raw is not None else []
    if checked.config.data.name != "table" or not names:
        return None
    wanted = {"inputs": names, "kinds": dict.fromkeys(names, "category")}
    try:
        frame = read({**checked.settings, **wanted}).inputs
    except DataError:
        return None
    for name in names:
        codes = as_text(frame.columns[name]).codes
        distinct = len(np.unique(codes))
        same = (codes[pairs[:, 0]] == codes[pairs[:, 1]]).mean()
        if same > 0.95 and 5 <= distinct < 0.9 * len(codes):
            return name
    return None
