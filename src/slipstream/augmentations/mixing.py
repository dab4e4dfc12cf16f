"""Mixing of examples and their targets within a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slipstream.augmentations.features import order
from slipstream.augmentations.pixels import rectangle
from slipstream.core.lazy import torch
from slipstream.core.registry import register
from slipstream.core.types import Positive, Probability, Scalar

if TYPE_CHECKING:
    from torch import Tensor

INTERVALS = 256


@register("augmentation", kind="mix", takes=("vector", "image"), draws=4)
def mixup(
    x: Tensor, y: Tensor, u: Tensor, *, alpha: Positive, probability: Probability
) -> tuple[Tensor, Tensor]:
    """Mixup: blends every example and its target with another example of the batch.

    x' = l x + (1 - l) x2, y' = l y + (1 - l) y2, l from Beta(alpha, alpha), drawn per example

    alpha: above 0; near 0 examples are hardly blended, at 1 all blends are equally likely.
    probability: that an example is blended. A random permutation of the batch gives its partner.
    Source: Zhang et al., "mixup: beyond empirical risk minimization", 2017.
    """
    share = torch.where(u[3] < probability, beta(u[0], u[1], alpha), 1)
    return blend(share, x, u[2]), blend(share, y, u[2])


@register("augmentation", kind="mix", takes=("image",), draws=6)
def cutmix(
    x: Tensor, y: Tensor, u: Tensor, *, alpha: Positive, probability: Probability
) -> tuple[Tensor, Tensor]:
    """CutMix: replaces a rectangle of every image by another image's and mixes targets by area.

    sides sqrt(1 - l) of the image's, l from Beta(alpha, alpha), around a random position;
    y' = m y + (1 - m) y2, m = the share of original pixels

    alpha: above 0; at 1 all areas are equally likely. probability: that an image is cut. A random
    permutation of the batch gives its partner.
    Source: Yun et al., "CutMix: regularization strategy to train strong classifiers with localizable
    features", 2019.
    """
    side = torch.where(u[5] < probability, 1 - beta(u[0], u[1], alpha), 0).sqrt()
    inside = rectangle(x, u[3] - 0.5, u[4] - 0.5, side, side)
    share = 1 - inside.to(torch.float32).mean((1, 2, 3))
    return torch.where(inside, x[order(u[2])], x), blend(share, y, u[2])


def blend(share: Tensor, values: Tensor, u: Tensor) -> Tensor:
    """Return share v + (1 - share) v2 of values [N, ...], v2 permuted by u [N]."""
    share = share.reshape(-1, *(1,) * (values.dim() - 1))
    return share * values + (1 - share) * values[order(u)]


def beta(u: Tensor, side: Tensor, alpha: Scalar) -> Tensor:
    """Draw Beta(alpha, alpha) [N] from uniform u and side [N] by inverting the distribution function.

    Rejection sampling would need a varying number of draws. The lesser of l and 1 - l is v^(1/b) / 2,
    b = min(alpha, 1), where v has the density v^((alpha - b) / b) (1 - v^(1/b) / 2)^(alpha - 1): bounded,
    smooth, and uniform for alpha = 1, so a few midpoints suffice. `side` chooses between l and 1 - l.
    """
    alpha = torch.ones_like(u[:1]) * alpha
    power = alpha.clamp(max=1)
    at = (torch.arange(INTERVALS, device=u.device) + 0.5) / INTERVALS
    lesser = torch.exp(torch.log(at) / power) / 2
    logarithm = (alpha - power) / power * torch.log(at) + (alpha - 1) * torch.log1p(-lesser)
    below = torch.exp(logarithm - logarithm.amax()).cumsum(0)
    below = torch.cat([torch.zeros_like(alpha), below / below[-1]])
    index = (below[1:-1] <= u[:, None]).sum(1)
    low, high = below[index], below[index + 1]
    v = (index + (u - low) / (high - low)) / INTERVALS
    least = torch.exp(torch.log(v.clamp(min=1e-30)) / power) / 2
    return torch.where(side < 0.5, least, 1 - least)
