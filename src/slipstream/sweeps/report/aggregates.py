"""Statistics of a sweep's outcomes. Pure functions of plain values."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeGuard

import numpy as np

from slipstream.core.types import Plain
from slipstream.core.wording import counted
from slipstream.sweeps.plan.job import Outcome
from slipstream.sweeps.plan.space import Axis, Interval
from slipstream.sweeps.report.chance import chances

SOUND = ("finished", "stopped_early")  # statuses whose value is representative of the configuration
BROKEN = ("diverged", "failed")
REPEATS = ("seed", "data.fold", "data.folds")  # keys that differ between members of a trial
EDGE = 0.05  # fraction of an interval's length that counts as its end
FORESTS, TREES = 20, 25
TOLD = 0.05  # of the ranks' variance; 64 trials of pure noise reached at most 0.02 in 12
ROUNDING = 1e-12  # relative to the values; smaller differences count as 0
CHANCE = 0.05  # significance level
LEAST_TRIALS, TRIALS_A_KEY = 12, 6  # fewer trials are no evidence of importance


@dataclass(frozen=True)
class Group:
    """A trial: the members of one configuration.

    values: the swept values, without keys that differ between its members. mean, std: of the successful
    members' values (and of pruned ones if the trial was pruned), std with n - 1. std is None if n < 2, or if
    pruned members had different numbers of epochs, since values after 3 and 30 epochs are not comparable. n:
    the number of these members. Repeats of the same seed and fold count once.
    """

    trial: int
    values: Mapping[str, Plain]
    members: tuple[Outcome, ...]
    mean: float | None
    std: float | None
    n: int

    @property
    def whole(self) -> bool:
        """Return True if the mean is comparable with others: no member was pruned or failed."""
        return self.mean is not None and not any(m.status in (*BROKEN, "pruned") for m in self.members)

    @property
    def remark(self) -> str:
        """Describe the members that stopped early or are not part of the mean."""
        counts = {s: sum(m.status == s for m in self.members) for s in (m.status for m in self.members)}
        said = [
            status if count == len(self.members) else f"{count} of {len(self.members)} {status}"
            for status, count in counts.items()
            if status not in SOUND
        ]
        if mixes_budgets(self.members):
            epochs = [member.epochs for member in self.members if member.value is not None]
            said.append(f"{min(epochs)}-{max(epochs)} epochs")
        return ", ".join(said)


@dataclass(frozen=True)
class Importance:
    """A key's share in predicting the trials' order, mean and standard deviation over resamples.

    p: how often chance alone would give a key that does not matter as large a share, see `chances`; corrected
    for all keys.
    """

    key: str
    share: float
    std: float
    p: float

    @property
    def clear(self) -> bool:
        """Return True if it is significant at 5 %."""
        return self.p < CHANCE


def groups(outcomes: Sequence[Outcome], minimize: bool) -> list[Group]:
    """Return the sorted trials: complete ones, pruned ones, those with a failed member, and the rest."""
    trials: dict[int, list[Outcome]] = {}
    for outcome in outcomes:
        trials.setdefault(outcome.trial, []).append(outcome)
    made = [_group(trial, members) for trial, members in trials.items()]
    sign = 1 if minimize else -1

    def order(group: Group) -> tuple[int, float, int]:
        return _tier(group), math.inf if group.mean is None else sign * group.mean, group.trial

    return sorted(made, key=order)


def mixes_budgets(members: Sequence[Outcome]) -> bool:
    """Return True if a pruner gave members of a trial different numbers of epochs."""
    pruned = any(member.status == "pruned" for member in members)
    return pruned and len({member.epochs for member in members if member.value is not None}) > 1


def deviation(values: Sequence[float]) -> float | None:
    """Return the standard deviation with n - 1: None for fewer than two values, 0 if they are equal."""
    if len(values) < 2:
        return None
    found = float(np.std(values, ddof=1))
    return 0.0 if found <= ROUNDING * max(map(abs, values)) else found


def _group(trial: int, members: Sequence[Outcome]) -> Group:
    pruned = any(member.status == "pruned" for member in members)
    counted = (*SOUND, "pruned") if pruned else SOUND
    values = {pair_of(m): m.value for m in members if m.status in counted and m.value is not None}
    known = list(values.values())
    swept = {key: value for key, value in members[0].values.items() if key not in REPEATS}
    return Group(
        trial,
        swept,
        tuple(members),
        mean=float(np.mean(known)) if known else None,
        std=None if mixes_budgets(members) else deviation(known),
        n=len(known),
    )


def pair_of(member: Outcome) -> tuple[int, Hashable]:
    """Return the key that pairs members of different trials: the seed, the fold and the number of folds."""
    return member.seed, None if member.fold is None else (member.fold, member.values.get("data.folds"))


def _tier(group: Group) -> int:
    if group.whole:
        return 0
    if any(member.status in BROKEN for member in group.members):
        return 2
    return 1 if group.mean is not None else 3


def importance(found: Sequence[Group], minimize: bool) -> tuple[list[Importance], str]:
    """Return the importance of each swept key for the order of the trials, or none and the reason.

    Random forests learn the trials' ranks (diverged ones last, without failed and pruned ones) from resampled
    trials. A key's share is the loss of accuracy on out-of-bag trials when its values are permuted (Breiman,
    "Random forests", 2001), so interactions count. Its significance is tested separately, by permutations of
    its values (`chances`).
    """
    trials = [group for group in found if _tier(group) == 0 or _has_diverged(group)]
    keys = [key for key in _keys(trials) if len({repr(g.values.get(key)) for g in trials}) > 1]
    if len(keys) < 2:
        return [], ""
    needed = max(LEAST_TRIALS, TRIALS_A_KEY * len(keys))
    if len(trials) < needed:
        few = counted(len(trials), "trial is", "trials are")
        reason = f"{few} too few to tell which of {len(keys)} keys are important: about {needed} are needed"
        return [], reason
    order = np.array([math.inf if _has_diverged(g) else _signed(g, minimize) for g in trials])
    order = ranks(order) / (len(trials) - 1)
    shares, told = _shares(_columns(trials, keys), order)
    if told < TOLD:
        return [], f"{len(trials)} trials do not show which keys are important: their order looks random"
    ps = chances([[_told(group, key) for group in trials] for key in keys], order)
    made = [
        Importance(key, float(part.mean()), float(part.std(ddof=1)), p)
        for key, part, p in zip(keys, shares.T, ps, strict=True)
    ]
    return sorted(made, key=lambda entry: -entry.share), ""


def _has_diverged(group: Group) -> bool:
    statuses = {member.status for member in group.members}
    return "diverged" in statuses and "failed" not in statuses


def _signed(group: Group, minimize: bool) -> float:
    assert group.mean is not None
    return group.mean if minimize else -group.mean


def _told(group: Group, key: str) -> Plain:
    """Return a trial's value, or None only if the key does not apply."""
    value = group.values.get(key)
    return "null" if value is None and key in group.values else value


def _keys(found: Sequence[Group]) -> list[str]:
    return list(dict.fromkeys(key for group in found for key in group.values))


def ranks(values: np.ndarray) -> np.ndarray:
    """Return ranks from 0. Equal values share a rank."""
    different, place = np.unique(values, return_inverse=True)
    counts = np.bincount(place, minlength=len(different))
    return (np.cumsum(counts) - (counts + 1) / 2)[place]


def _columns(trials: Sequence[Group], keys: Sequence[str]) -> list[np.ndarray]:
    """Return the tree features [trials, columns] of each key: a number, or one column per value."""
    made = []
    for key in keys:
        values = [group.values.get(key) for group in trials]
        known = [group.values[key] for group in trials if key in group.values]
        if all(is_number(value) for value in known):
            below = min(known) - 1.0  # if the key does not apply
            made.append(np.array([[below if value is None else float(value)] for value in values]))
        else:
            texts = [repr(value) for value in values]
            made.append(np.array([[text == one for one in sorted(set(texts))] for text in texts], float))
    return made


def _shares(columns: Sequence[np.ndarray], target: np.ndarray) -> tuple[np.ndarray, float]:
    """Return every key's share in every resample [forests, keys], and the explained variance."""
    from sklearn.ensemble import RandomForestRegressor

    rows, owners = np.hstack(columns), np.cumsum([0, *(part.shape[1] for part in columns)])
    draw, n = np.random.default_rng(0), len(target)
    shares, told = [], []
    for number in range(FORESTS):
        drawn = draw.integers(n, size=n)
        left = np.setdiff1d(np.arange(n), drawn)
        forest = RandomForestRegressor(TREES, min_samples_leaf=2, random_state=number, max_features=0.7)
        forest.fit(rows[drawn], target[drawn])
        # Make one call for all, because most of a prediction's cost is the call.
        permuted = np.repeat(rows[left][None], len(columns) + 1, axis=0)
        for k in range(len(columns)):
            part = slice(owners[k], owners[k + 1])
            permuted[k + 1][:, part] = permuted[k + 1][draw.permutation(len(left))][:, part]
        guesses = forest.predict(permuted.reshape(-1, rows.shape[1])).reshape(len(columns) + 1, -1)
        errors = ((guesses - target[left]) ** 2).mean(axis=1)
        rise = np.maximum(errors[1:] - errors[0], 0)
        shares.append(rise / (rise.sum() or 1.0))
        told.append(1 - errors[0] / (target[left].var() or 1.0))
    return np.array(shares), float(np.mean(told))


def is_number(value: Plain) -> TypeGuard[int | float]:
    """Return True for a number that is not a bool."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def edges(axes: Sequence[Axis], found: Sequence[Group], ties: Sequence[Group]) -> list[str]:
    """Return advice if the best trial has a value at the end of a range.

    ties: trials that are equally good. The advice mentions those inside the range.
    """
    if not found or not found[0].whole:
        return []
    return [text for axis in axes if (text := _edge(axis, found[0], ties))]


def _edge(axis: Axis, best: Group, ties: Sequence[Group]) -> str:
    value = best.values.get(axis.key)
    if axis.key in REPEATS or not is_number(value):
        return ""
    side = _side(axis, value)
    if not side or _cannot_widen(side, value):
        return ""
    inside = [g.values[axis.key] for g in ties if is_number(g.values.get(axis.key))]
    inside = [other for other in inside if not _side(axis, other)]
    tried, towards = ("largest", "upwards") if side > 0 else ("smallest", "downwards")
    text = f"the best {axis.key}, {value:g}, is the {tried} tried: widen it {towards}"
    return f"{text} (though {inside[0]:g} is as good)" if inside else text


def _side(axis: Axis, value: float) -> int:
    """Return 1 at the upper end of an axis, -1 at the lower end, and 0 between them or without a range."""
    if isinstance(axis, Interval):
        low, high, at = axis.low, axis.high, value
        if axis.log:
            low, high, at = math.log(low), math.log(high), math.log(value)
        place = (at - low) / ((high - low) or 1.0)
        return int(place >= 1 - EDGE) - int(place <= EDGE)
    numbers = sorted({number for number in axis.values if is_number(number)})
    if len(numbers) < 3:  # one of two values is always at an end
        return 0
    return int(value == numbers[-1]) - int(value == numbers[0])


def _cannot_widen(side: int, value: float) -> bool:
    """Return True if a range cannot be widened, since no setting accepts values below 0 or counts below 1."""
    return side < 0 and (value <= 0 or (isinstance(value, int) and value <= 1))
