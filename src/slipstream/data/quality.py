"""Checks for problems that make scores misleading. Each is reported once; no data are changed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from slipstream.core.types import DataLike, Target
from slipstream.core.wording import counted, typed
from slipstream.data.dataset import PARTS, RawData, Settings
from slipstream.data.messages import brief, phrase
from slipstream.data.preprocessing import Preprocessing, Table
from slipstream.data.tabular.encoding import Column

SAMPLE, FEW = 2000, 500  # training rows checked per column, and with more than MANY columns
MANY = 1000
FEWEST = 50  # the minimum of distinct rows for repeated rows to be evidence
LEAST = 50  # the minimum of training rows for a single column's accuracy to be evidence
ALONE = 0.99  # fraction of rows whose class one column predicts
RANKS = 0.9999  # rank correlation with a numeric target
OUTSIDE = 0.05  # fraction of rows outside the training range
FAR = 300  # distance from the median, in interquartile ranges
BLOCK = 1 << 20  # values hashed at a time


def doubts(
    inputs: Sequence[DataLike], targets: list[np.ndarray], target: Target, preprocessing: Preprocessing
) -> list[str]:
    """Return sentences about the splits.

    inputs: encoded, of train, validation and test; inputs that stay in their file are skipped. targets: of
    the three splits, in the units of the data.
    """
    found = outside(targets, target) if target.task == "regression" else []
    if not all(isinstance(part, np.ndarray) for part in inputs):
        return found
    found += repeated(inputs, targets)
    if inputs[0].ndim == 2 and preprocessing.spec.kind == "vector":
        found += telling(inputs[0], targets[0], target, preprocessing.columns)
    return found


def unlikely(raw: RawData, table: Table, settings: Settings, how: str, train: np.ndarray) -> list[str]:
    """Warn about rows sorted by a date, codes for missing values, and targets far from all others.

    table: from the kind's `table_of`. train: the rows of the training split.
    """
    found = far_targets(raw, train) if raw.target.task == "regression" else []
    frame, lengths = table
    if frame is None or lengths is not None:
        return found
    columns = {n: v for n, v in frame.columns.items() if isinstance(v, np.ndarray)}
    dates = [name for name, values in columns.items() if frame.kinds[name] == "date" and _in_order(values)]
    free = settings["split"] == "auto" and settings["folds"] is None and "time_column" in settings
    if dates and free and how in ("random", "stratified"):
        found.append(
            f"the rows are sorted by {brief(dates[0])}, but a {how} split trains on rows later than "
            "those that it tests on: to predict the future, set data.split=time "
            f"{typed('data.time_column', dates[0])}, otherwise data.split={how}"
        )
    numbers = {name: v for name, v in columns.items() if frame.kinds[name] == "number"}
    codes = {name: _missing_code(values[train]) for name, values in numbers.items()}
    there = {name: f"{code:g}" for name, code in codes.items() if code is not None}
    if there and "missing" in settings:
        words = dict.fromkeys([*settings["missing"], *there.values()])
        said = phrase([f"{word} in column {brief(name)}" for name, word in there.items()])
        found.append(
            f"{said} appears in several rows, far from all other values: if it means a missing value, set "
            + typed("data.missing", list(words))
        )
    return found


def _in_order(dates: np.ndarray) -> bool:
    """Return True if dates increase or decrease from row to row, and nearly all differ."""
    if len(dates) < LEAST or np.isnan(dates).any():
        return False
    steps = np.diff(dates)
    return bool((steps >= 0).all() or (steps <= 0).all()) and len(np.unique(dates)) > 0.9 * len(dates)


def _missing_code(values: np.ndarray) -> float | None:
    """Return a value that looks like a code for missing values, or None.

    It is the lowest or highest value, consists of nines (-999, 99), occurs several times, and is farther from
    the others than they are from each other.
    """
    present = values[~np.isnan(values)]
    if len(present) < LEAST:
        return None
    for code in (present.min(), present.max()):
        others = present[present != code]
        digits = f"{abs(code):.0f}"
        if (
            len(present) - len(others) < 2
            or len(others) < LEAST / 2
            or digits != len(digits) * "9"
            or code % 1
        ):
            continue
        gap = min(abs(others.min() - code), abs(others.max() - code))
        if len(digits) > 1 and gap > others.max() - others.min():
            return float(code)
    return None


def far_targets(raw: RawData, train: np.ndarray) -> list[str]:
    """Warn about a few training targets that are so far away that they dominate every scale."""
    found = []
    for i, name in enumerate(raw.target.names):
        values = raw.targets[train, i]
        low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
        away = np.abs(values - middle)
        far = np.flatnonzero(away > FAR * (high - low))
        if high > low and 0 < len(far) <= max(1, 0.01 * len(values)) and len(values) >= FEWEST:
            row = int(train[far[np.argmax(away[far])]])
            where = raw.where(row) if raw.where else f"row {row + 1}"
            lie = "lies" if len(far) == 1 else "lie"
            found.append(
                f"target {brief(name)}: {len(far)} of {counted(len(values), 'training row')} {lie} more than "
                f"{FAR} interquartile ranges from the median, such as {raw.targets[row, i]:g} ({where}): "
                "correct it or, if it is right, use loss=mae, which is less sensitive to outliers"
            )
    return found


def repeated(inputs: Sequence[np.ndarray], targets: list[np.ndarray]) -> list[str]:
    """Report rows of validation and test that are also in train with the same target.

    A table with only a few distinct, frequent rows is not reported.
    """
    codes = [_codes(x) ^ _codes(y) * np.uint64(3) for x, y in zip(inputs, targets, strict=True)]
    train = np.unique(codes[0])
    if len(train) < FEWEST:
        return []
    counts = {part: int(np.isin(code, train).sum()) for part, code in zip(PARTS[1:], codes[1:], strict=True)}
    sizes = dict(zip(PARTS, map(len, codes), strict=True))
    many = [part for part, count in counts.items() if count > max(1, 0.01 * sizes[part])]
    if not many:
        return []
    said = " and ".join(f"{counts[part]} of {counted(sizes[part], f'{part} row')}" for part in many)
    verb = "is" if sum(counts[part] for part in many) == 1 else "are"
    return [f"{said} {verb} also in the training split with the same target: scores on them are too good"]


def _codes(array: np.ndarray) -> np.ndarray:
    """Hash each row to uint64 [N]; equal rows have equal hashes."""
    if not len(array):
        return np.empty(0, np.uint64)
    flat = np.ascontiguousarray(array.reshape(len(array), -1))
    kind = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}[flat.dtype.itemsize]
    bits = flat.view(kind)
    draw = np.random.default_rng(0).integers(1, 1 << 63, bits.shape[1], np.uint64) * np.uint64(2)
    out = np.empty(len(bits), np.uint64)
    step = max(BLOCK // max(bits.shape[1], 1), 1)
    for start in range(0, len(bits), step):
        words = bits[start : start + step].astype(np.uint64)
        words ^= words >> np.uint64(7)
        words *= draw + np.uint64(1)
        words ^= words >> np.uint64(29)
        out[start : start + step] = words.sum(axis=1, dtype=np.uint64)
    return out


def outside(targets: list[np.ndarray], target: Target) -> list[str]:
    """Report many test rows with targets outside the training range."""
    train, test = targets[0], targets[2]
    found = []
    for i, name in enumerate(target.names):
        low, high = train[:, i].min(), train[:, i].max()
        count = int(((test[:, i] < low) | (test[:, i] > high)).sum())
        if count >= max(3, OUTSIDE * len(test)):
            verb = "lies" if count == 1 else "lie"
            found.append(
                f"target {brief(name)}: {count} of {counted(len(test), 'test row')} {verb} outside the "
                f"training range, {low:.6g} to {high:.6g}"
            )
    return found


def telling(inputs: np.ndarray, targets: np.ndarray, target: Target, columns: Sequence[Column]) -> list[str]:
    """Report columns that each predict the target alone."""
    if len(columns) < 2 or len(inputs) < LEAST or target.task == "multilabel":
        return []
    rows = np.linspace(0, len(inputs) - 1, min(len(inputs), FEW if len(columns) > MANY else SAMPLE)).astype(
        int
    )
    x, y = np.ascontiguousarray(inputs[rows].T), targets[rows]
    if target.task != "regression" and np.bincount(y).max() > 0.95 * len(y):
        return []  # always predicting the most frequent class is right as often
    found, start = [], 0
    for column in columns:
        width = len(column.outputs())
        values = _codes(x[start : start + width].T) if column.kind == "category" else x[start]
        start += width
        if target.task == "regression":
            if column.kind != "category" and any(_ranked(values, one) >= RANKS for one in y.T):
                found.append(column.name)
        elif _told(values, y, ordered=column.kind != "category") >= ALONE:
            found.append(column.name)
    if not found:
        return []
    what = phrase(map(brief, found))
    if len(found) == 1:
        return [f"column {what} determines the target by itself: if it is not known beforehand, remove it"]
    return [f"columns {what} each determine the target: remove those that are not known beforehand"]


def _ranked(x: np.ndarray, y: np.ndarray) -> float:
    """Return the absolute rank correlation, with tied values sharing a rank."""
    a, b = (np.unique(values, return_inverse=True)[1].astype(np.float64) for values in (x, y))
    if len(np.unique(a)) < LEAST / 2:
        return 0.0
    return abs(float(np.corrcoef(a, b)[0, 1])) if a.std() and b.std() else 0.0


def _told(values: np.ndarray, labels: np.ndarray, ordered: bool) -> float:
    """Return the fraction of rows whose class is the majority class of other rows with the same value.

    If values are ordered, a row with a unique value counts if both neighbors have its class.
    """
    distinct, codes = np.unique(values, return_inverse=True)
    classes = int(labels.max()) + 1
    if len(distinct) * classes > 50 * len(labels) or len(distinct) < 2:
        return 0.0
    counts = np.bincount(codes * classes + labels, minlength=len(distinct) * classes).reshape(-1, classes)
    others = counts[codes]
    places = np.arange(len(labels))
    others[places, labels] -= 1
    own = others[places, labels]
    right = (own > 0) & (own == others.max(axis=1))
    lone = others.sum(axis=1) == 0
    if ordered and lone.any():
        order = np.argsort(values, kind="stable")
        sorted_ = labels[order]
        same = sorted_[1:] == sorted_[:-1]
        both = np.concatenate([same[:1], same[1:] & same[:-1], same[-1:]])
        near = np.empty(len(labels), bool)
        near[order] = both
        right = np.where(lone, near, right)
    return float(right.mean())


def window_step(windows: np.ndarray) -> int | None:
    """Return the offset in steps between consecutive windows [N, T, ...]; None if they do not overlap."""
    if len(windows) < 20 or windows.shape[1] < 4:
        return None
    first = np.linspace(0, len(windows) - 2, min(len(windows) - 1, 64)).astype(np.int64)
    a, b = windows[first], windows[first + 1]
    for step in range(1, windows.shape[1] // 2 + 1):
        left, right = (part.reshape(len(first), -1) for part in (a[:, step:], b[:, :-step]))
        same = (left == right).all(axis=1)
        moving = (left != left[:, :1]).any(axis=1)
        if moving.mean() > 0.5 and same.mean() > 0.8:
            return step
    return None


def overlapping(windows: np.ndarray, how: str) -> list[str]:
    """Report overlapping windows with a random split. windows: [N, T, ...] in order."""
    step = window_step(windows) if how in ("random", "stratified") else None
    if step is None:
        return []
    steps = counted(step, "step")
    return [
        f"consecutive windows overlap (each starts {steps} after the previous one) and data.split={how} puts "
        "neighbors into different splits, so scores are too good: set data.split=time"
    ]
