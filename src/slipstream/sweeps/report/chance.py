"""Significance of a swept key: how often chance alone looks as strong. Pure functions of plain arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

DRAWS = 160  # per key: the smallest p is 1.25 % after the correction
MOST_TRIALS = 100  # trials considered: more are slower, not more certain
ALIKE = 0.1  # similarity of the ends of a key's range
TINY = 1e-12  # smaller than the deviation of anything that varies
PENALTIES = np.geomspace(1e-4, 10, 11)  # of the regression on the other keys, relative to the mean eigenvalue


def chances(keys: Sequence[Sequence[object]], order: np.ndarray) -> list[float]:
    """Return for each key the corrected p: how often chance alone gives it as large a share in the order.

    keys: the trials' values of every key, None where it does not apply. order: the trials' ranks. The effect
    of all other keys on the order, alone and in pairs, is removed by kernel ridge regression, its penalty
    chosen by leave-one-out. Two statistics measure how similar the residual r is for trials that are similar
    in the key: r' K r with the key's kernel (the score test of Liu, Lin and Ghosh, 2007), and the largest of
    r' (K * L) r over the other keys' kernels L, in standard deviations, for a key that matters only together
    with another. p is the share of permutations, including the observed one, with a statistic as large. In a
    grid, the key's values are permuted among the trials that are equal in all other keys, otherwise among all
    that have the key. The noise is arbitrary, but values must not depend on earlier results, as they do in
    searchers that learn. p is corrected by Bonferroni for two tests and all keys.
    """
    draw = np.random.default_rng(0)
    kept = np.sort(draw.permutation(len(order))[:MOST_TRIALS])
    keys = [[values[i] for i in kept] for values in keys]
    kernels, order = [_kernel(values) for values in keys], order[kept]
    made = []
    for k, kernel in enumerate(kernels):
        (has,) = np.nonzero([value is not None for value in keys[k]])
        others = [kernel for j, kernel in enumerate(kernels) if j != k]
        rest, own = _rest(others, order)[has], kernel[np.ix_(has, has)]
        alone = np.outer(rest, rest).ravel()
        along = [alone * other[np.ix_(has, has)].ravel() for other in others]
        blocks = _blocks(keys, k, has)
        drawn = [np.arange(len(has)), *(_permuted(blocks, draw) for _ in range(DRAWS * len(keys) - 1))]
        weighed = np.stack([alone, *along], axis=1)
        found = np.array([own[np.ix_(at, at)].ravel() @ weighed for at in drawn])
        found = (found - found.mean(axis=0)) / (found.std(axis=0) + TINY)
        tests = [found[:, 0], found[:, 1:].max(axis=1)] if others else [found[:, 0]]
        p = min(float((one >= one[0] - 1e-9).mean()) for one in tests)  # equal up to rounding counts as large
        made.append(min(1.0, len(tests) * len(keys) * p))
    return made


def _blocks(keys: Sequence[Sequence[object]], k: int, has: np.ndarray) -> np.ndarray:
    """Number the trials that have key k: its values are permuted among those with equal numbers."""
    others = [[values[i] for i in has] for j, values in enumerate(keys) if j != k]
    # A key that applies to some trials alone can reveal the value of key k.
    equal = [repr(row) for row in zip(*(values for values in others if None not in values), strict=True)]
    _, blocks, sizes = np.unique(equal or [""] * len(has), return_inverse=True, return_counts=True)
    return blocks if (sizes[blocks] > 1).mean() > 0.5 else np.zeros(len(has), int)


def _permuted(blocks: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """Return a permutation within blocks."""
    drawn = np.empty(len(blocks), int)
    drawn[np.argsort(blocks, kind="stable")] = np.lexsort((draw.random(len(blocks)), blocks))
    return drawn


def _kernel(values: Sequence[object]) -> np.ndarray:
    """Return the trials' similarity in a key [n, n]: mean 0 over those that have it, 1 for themselves."""
    has = np.array([value is not None for value in values])
    known = [value for value in values if value is not None]
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in known):
        different, places = np.unique(np.array(known, float), return_inverse=True)
        at = places / max(len(different) - 1, 1)
        alike = ALIKE ** np.abs(at[:, None] - at)
    else:
        texts = np.array([repr(value) for value in known])
        alike = (texts[:, None] == texts).astype(float)
    alike = alike - alike.mean(axis=0) - alike.mean(axis=1)[:, None] + alike.mean()
    alike /= np.trace(alike) / len(values) or 1.0
    made = np.zeros((len(values), len(values)))
    made[np.ix_(has, has)] = alike
    return made


def _rest(kernels: Sequence[np.ndarray], order: np.ndarray) -> np.ndarray:
    """Return the residual of an order given the keys of these kernels, alone and in pairs."""
    y: np.ndarray = order - order.mean()
    if not kernels:
        return y
    total = sum(kernels)
    pairs = (total**2 - sum(kernel**2 for kernel in kernels)) / 2
    sizes, axes = np.linalg.eigh(total + pairs / max(len(kernels) - 1, 1))
    sizes, along = np.maximum(sizes, 0), axes.T @ y
    best, found = np.inf, y
    for penalty in PENALTIES * sizes.mean():
        rest: np.ndarray = axes @ (along * penalty / (sizes + penalty))
        left_out = rest / np.maximum(axes**2 @ (penalty / (sizes + penalty)), 1e-12)
        error = float((left_out**2).sum())
        if error < best:
            best, found = error, rest
    return found
