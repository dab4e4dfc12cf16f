"""Assignment of rows to train, validation and test. Row numbers are in ascending order."""

from __future__ import annotations

import numpy as np

from slipstream.core import random
from slipstream.core.errors import ConfigError, DataError
from slipstream.core.wording import counted
from slipstream.data.dataset import AUTO_SHARE, PARTS, RawData, Settings


def split_rows(raw: RawData, settings: Settings) -> tuple[str, list[np.ndarray]]:
    """Return the method and the int64 row numbers of train, validation and test.

    Splits assigned by the source are kept; the others are drawn from its training rows.
    Raises DataError if a requested split would have no rows.
    """
    how = method(raw, settings)
    count = len(raw)
    given = np.zeros(count, np.int8) if raw.parts is None else raw.parts
    shares = {part: share(part, bool((given == PARTS.index(part)).any()), settings) for part in PARTS[1:]}
    pool = np.flatnonzero(given == 0)
    # All draws use one random order, so that a larger fraction contains the rows of a smaller one.
    pool = pool[shuffled(len(pool), settings["split_seed"])]
    drawn = {}
    total = len(pool)
    for part in ("test", "validation"):
        if shares[part] == 0:
            drawn[part] = np.flatnonzero(given == PARTS.index(part))
            continue
        folds = settings["folds"] if part == "validation" else None
        if folds is not None:
            chosen = deal(how, raw, pool, folds, settings["split_seed"]) == settings["fold"]
        else:
            wanted = max(1, round(shares[part] * total))
            chosen = draw(how, raw, pool, wanted, settings["split_seed"])
        if not chosen.any() or chosen.all():
            raise DataError(too_few(part, how, total, raw))
        drawn[part], pool = pool[chosen], pool[~chosen]
    if len(pool) == 0:
        raise DataError("the training split has no rows: the split column, the files or the keys leave none")
    return how, [np.sort(pool), np.sort(drawn["validation"]), np.sort(drawn["test"])]


def method(raw: RawData, settings: Settings) -> str:
    """Return the method: `split`, with `auto` resolved by the data."""
    how = str(settings["split"])
    classes = raw.target.task in ("binary", "multiclass")
    if how == "auto":
        if raw.groups is not None:
            return "group"
        if raw.order is not None and raw.kind != "sequence":  # a sequence always has a time
            return "time"
        return "stratified" if classes else "random"
    if how == "stratified" and not classes:
        raise ConfigError(
            [f"data.split=stratified needs classes, but the task is {raw.target.task}: use data.split=random"]
        )
    return how


def share(part: str, given: bool, settings: Settings) -> float:
    """Return the fraction of rows to draw for a split; 0 for none or a split assigned by the source."""
    asked = settings[part]
    if given:
        if asked not in ("auto", 0) or (part == "validation" and settings["folds"] is not None):
            name = "folds" if asked == "auto" else part
            raise ConfigError(
                [
                    f"data.{name}={settings[name]}: the data already define the {part} split; "
                    f"remove data.{name}, or remove the {part} rows from the data"
                ]
            )
        return 0.0
    if part == "validation" and settings["folds"] is not None:
        return 1 / float(settings["folds"])
    return AUTO_SHARE if asked == "auto" else float(asked)


def shuffled(count: int, seed: int, number: int = 0) -> np.ndarray:
    """Return a random order of 0 ... count-1, int64."""
    return np.asarray(random.permutation(random.make_key(seed, random.SPLIT, number), count).numpy())


def draw(how: str, raw: RawData, rows: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Select about `count` of `rows` (in random order) as a boolean mask."""
    if how == "stratified":
        return draw_stratified(raw.targets[rows], count)
    if how == "group":
        return draw_groups(group_numbers(raw, rows, seed), count)
    if how == "time":
        return draw_latest(times(raw)[rows], count)
    return np.arange(len(rows)) < count


def draw_stratified(labels: np.ndarray, count: int) -> np.ndarray:
    """Select `count` rows in proportion to the classes (largest remainder), but never all rows of a class."""
    sizes = np.bincount(labels)
    exact = sizes * count / len(labels)
    take = np.floor(exact).astype(np.int64)
    spare = np.flatnonzero(take + 1 < sizes)
    by_remainder = spare[np.argsort(-(exact - take)[spare], kind="stable")]
    take[by_remainder[: count - take.sum()]] += 1
    return np.asarray(rank_within(labels) < take[labels])


def rank_within(labels: np.ndarray) -> np.ndarray:
    """Return, for each element, the number of equal elements before it."""
    order = np.argsort(labels, kind="stable")
    sizes = np.bincount(labels)
    starts = np.cumsum(sizes) - sizes
    rank = np.empty(len(labels), np.int64)
    rank[order] = np.arange(len(labels)) - starts[labels[order]]
    return rank


def group_numbers(raw: RawData, rows: np.ndarray, seed: int) -> np.ndarray:
    """Return the groups of the rows, numbered from 0 in random order."""
    assert raw.groups is not None
    present, codes = np.unique(raw.groups[rows], return_inverse=True)
    return shuffled(len(present), seed, 1)[codes]


def draw_groups(groups: np.ndarray, count: int) -> np.ndarray:
    """Select whole groups in the order of their numbers, with a total as near to `count` as possible."""
    totals = np.cumsum(np.bincount(groups))
    last = int(np.argmin(np.abs(totals - count)))
    return groups <= last


def times(raw: RawData) -> np.ndarray:
    """Return each row's time; its position in the data if there are no times."""
    return np.arange(len(raw)) if raw.order is None else raw.order


def draw_latest(times: np.ndarray, count: int) -> np.ndarray:
    """Select the latest rows, as near to `count` as possible without dividing rows of equal time."""
    moments, sizes = np.unique(times, return_counts=True)
    after = np.cumsum(sizes[::-1])[::-1]  # rows from each time on
    first = int(np.argmin(np.abs(after[1:] - count))) + 1 if len(moments) > 1 else 0
    return np.asarray(times >= moments[first])


def deal(how: str, raw: RawData, rows: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Assign a fold to each row (in random order), int64 in [0, folds)."""
    if how == "stratified":
        labels = raw.targets[rows]
        number = np.empty(len(rows), np.int64)
        number[np.argsort(labels, kind="stable")] = np.arange(len(rows))
        return number % folds
    if how == "group":
        groups = group_numbers(raw, rows, seed)
        result: np.ndarray = deal_groups(np.bincount(groups), folds)[groups]
        return result
    return np.arange(len(rows)) % folds


def deal_groups(sizes: np.ndarray, folds: int) -> np.ndarray:
    """Assign a fold to each group: the largest first, each to the fold with the fewest rows."""
    filled = np.zeros(folds, np.int64)
    fold = np.empty(len(sizes), np.int64)
    for group in np.argsort(-sizes, kind="stable"):
        fold[group] = np.argmin(filled)
        filled[fold[group]] += sizes[group]
    return fold


def too_few(part: str, how: str, total: int, raw: RawData) -> str:
    """Explain why a split would have no rows, or leave none."""
    what = counted(total, "row")
    if how == "group":
        assert raw.groups is not None
        what += f" in {counted(len(np.unique(raw.groups)), 'group')}"
    elif how == "time":
        what += f" at {counted(len(np.unique(times(raw))), 'time')}"
    are = "is" if total == 1 else "are"
    return (
        f"{what} {are} too few for a {part} split with data.split={how} that leaves rows to train on: "
        f"add rows, or disable the split with data.{part}=0"
    )
