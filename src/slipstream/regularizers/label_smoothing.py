"""Smoothed targets (`targets`), in training only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slipstream.core.lazy import torch
from slipstream.core.registry import register
from slipstream.core.types import Fraction

if TYPE_CHECKING:
    from torch import Tensor


@register("regularizer", place="targets")
def label_smoothing(targets: Tensor, classes: int, *, amount: Fraction) -> Tensor:
    """Label smoothing: part of every target is spread evenly over all classes.

    (1 - amount) target + amount / classes; in training only

    amount: fraction. targets: class indices [N], or distributions [N, classes]. Returns float
    distributions [N, classes].
    Source: Szegedy et al., "Rethinking the Inception architecture", 2016.
    """
    if targets.dim() == 1:
        targets = (targets[:, None] == torch.arange(classes, device=targets.device)).to(torch.float32)
    return targets * (1 - amount) + amount / classes
