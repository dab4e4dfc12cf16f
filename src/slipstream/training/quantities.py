"""Quantities of layers, weights and updates: functions of one member's tensors."""

from __future__ import annotations

import torch
from torch import Tensor

ROWS = 256  # rows of a layer's outputs (examples, positions, steps) for statistics over pairs of units
UNITS = 256  # units of a layer, evenly spaced, for statistics over pairs of units
FLAT = 0.02  # share of a bounded activation's range; outputs this close to a bound are saturated
SAMPLE = 2048  # entries of a tensor for its histogram
SPREAD = 40503  # odd, so that a sample covers all columns of a weight
EPS = 1e-5  # as in batch normalization, so that features without variance do not matter
TINY = 1e-30


def by_unit(values: Tensor) -> Tensor:
    """Return a layer's values as [rows, units]: of [N, C, H, W] the channels, otherwise the last axis."""
    if values.dim() == 4:
        values = values.movedim(1, -1)
    return values.flatten(0, -2).float()


def norm_of(vector: Tensor) -> Tensor:
    """Return the two-norm, float64, because the squares of a vanishing gradient are 0 in float32."""
    norm: Tensor = torch.linalg.vector_norm(vector, dtype=torch.float64)
    return norm


def saturated(outputs: Tensor, bounds: tuple[float, float]) -> Tensor:
    """Return the share of outputs [...] within FLAT of a bound, relative to the range."""
    low, high = bounds
    margin = FLAT * (high - low)
    return ((outputs < low + margin) | (outputs > high - margin)).double().mean()


def rank(outputs: Tensor) -> Tensor:
    """Return the participation ratio of [R, F], as a share of the possible directions: 1 / F to 1.

    (sum of the covariance's eigenvalues)^2 / sum of their squares, the number of directions that the outputs
    use. 0 for constant outputs. Rows and units are thinned out to at most ROWS and UNITS.
    """
    thin = outputs[:: -(-outputs.shape[0] // ROWS), :: -(-outputs.shape[1] // UNITS)]
    centered = thin - thin.mean(0, dtype=torch.float64)  # exactly 0 for constant outputs
    # The fourth powers of small outputs are 0 in float32.
    centered = (centered / (centered.abs().amax() + TINY)).to(outputs.dtype)
    small = centered.t() @ centered if thin.shape[1] <= thin.shape[0] else centered @ centered.t()
    ratio: Tensor = small.diagonal().sum().square() / (small.square().sum() + TINY)
    return ratio / min(thin.shape)


def similarity(weight: Tensor) -> Tensor:
    """Return the largest absolute cosine of two rows of [F, D]; 0 for a single row. Rows are thinned out."""
    thin = weight[:: -(-len(weight) // UNITS)]
    unit = thin / (torch.linalg.vector_norm(thin, dim=1, keepdim=True) + TINY)
    cosines: Tensor = (unit @ unit.t()).abs()
    own = torch.eye(len(thin), dtype=torch.bool, device=weight.device)
    return cosines.masked_fill(own, 0.0).max()


def lost(weight: Tensor, before: Tensor, gradient: Tensor) -> Tensor:
    """Return the share of entries with a gradient that the update did not change.

    A change below half the last digit of a weight is rounded away. Weights that are exactly 0 are ignored,
    since a mask or a penalty may keep them there.
    """
    moved = (gradient != 0) & ((weight != 0) | (before != 0))
    return (moved & (weight == before)).double().sum() / moved.double().sum().clamp(min=1)


def statistics_gap(values: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """Return the distance of running statistics [F] from those of the values [R, F], 0 if they agree.

    The mean over features of the means' difference in standard deviations, plus that of the absolute
    logarithm of the ratio of standard deviations.
    """
    own_variance, own_mean = torch.var_mean(values, 0, unbiased=False)
    shift = (own_mean - mean).abs() / (variance + EPS).sqrt()
    stretch = 0.5 * ((own_variance + EPS) / (variance + EPS)).log().abs()
    return (shift + stretch).mean()


def course(objectives: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return slope, turns and late spread of the objectives [S] of successive updates.

    slope: the slope of the fitted line times S - 1, which is the change over all updates. turns: the share of
    changes whose sign differs from the previous one: 0 for a steady course, 2/3 for independent noise, 1 for
    a zigzag. late spread: the standard deviation in the last quarter. All are 0 for a single update.
    """
    count = len(objectives)
    zero = objectives.new_zeros(())
    late = objectives[count - max(count // 4, 1) :]
    if count < 2:
        return zero, zero, zero
    place = torch.linspace(-0.5, 0.5, count, device=objectives.device, dtype=objectives.dtype)
    slope = (place @ objectives) / place.square().sum()
    steps = objectives.diff()
    turns = (steps[1:] * steps[:-1] < 0).double().mean() if count > 2 else zero
    return slope, turns, late.std(unbiased=False)


def right_by_class(scores: Tensor, y: Tensor) -> list[Tensor]:
    """Return how well scores [N, C] predict the classes y [N], as 4 + C numbers.

    Accuracy, mean confidence, the lowest recall, the share of classes ever predicted, then the recall of each
    class, NaN for one without an example.
    """
    confidence, predicted = scores.max(-1)
    right = (predicted == y).double()
    classes = torch.arange(scores.shape[1], device=y.device)
    of_class = (y[:, None] == classes).double()
    recall = (of_class * right[:, None]).sum(0) / of_class.sum(0)
    lowest = torch.where(of_class.sum(0) > 0, recall, torch.ones_like(recall)).min()
    share = (predicted[:, None] == classes).any(0).double().mean()
    return [right.mean(), confidence.mean(), lowest, share, *recall]


def at_ends(gradient: Tensor) -> Tensor:
    """Return the squared norms [2] of gradients [T, N, C] at each example's first step, and at its last one.

    Padding has no gradient. If a cell forgets, the gradient reaches the last step, but not the first.
    """
    squares = gradient.double().square().sum(-1)
    step = torch.arange(len(squares), device=squares.device)[:, None]
    final = (step * (squares > 0)).amax(0)
    return torch.stack([squares[0].sum(), ((step == final) * squares).sum()])


def sample_places(count: int, device: torch.device) -> Tensor:
    """Return the indices of at most SAMPLE of `count` entries, spread over rows and columns alike."""
    if count <= SAMPLE:
        return torch.arange(count, device=device)
    i = torch.arange(SAMPLE, device=device)
    return i * count // SAMPLE + i * SPREAD % (count // SAMPLE)


def sample(values: Tensor) -> Tensor:
    """Return [SAMPLE] entries of a tensor for a histogram, or all of them and NaN."""
    chosen = values.flatten()[sample_places(values.numel(), values.device)]
    return torch.nn.functional.pad(chosen.float(), (0, SAMPLE - len(chosen)), value=torch.nan)
