"""Augmentations of tables and sequences: features [N, D], steps [N, T, C] and tokens [N, T]."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from slipstream.core.lazy import torch
from slipstream.core.random import normal, uniform
from slipstream.core.registry import register
from slipstream.core.types import InputSpec, NonNegative, Probability

if TYPE_CHECKING:
    from torch import Tensor

    from slipstream.core.random import Key


@register("augmentation", kind="values", takes=("vector",), draws=0)
def feature_noise(x: Tensor, u: Tensor, key: Key, form: InputSpec, *, std: NonNegative) -> Tensor:
    """Noise on the numeric columns of a table; categorical columns are unchanged.

    x + std N(0, 1)

    std: in units of the scaled inputs, at least 0.
    """
    numeric = torch.zeros(x.shape[1], device=x.device)
    numeric = numeric.index_fill(0, torch.tensor(form.numeric, dtype=torch.int64, device=x.device), 1)
    return x + normal(key, x.shape) * (numeric * std)


@register("augmentation", kind="values", takes=("vector",), draws=1)
def feature_dropout(
    x: Tensor,
    u: Tensor,
    key: Key,
    form: InputSpec,
    *,
    probability: Probability,
    replace: Literal["zeros", "swap"],
) -> Tensor:
    """Feature dropout: hides individual features, independently.

    zeros: x' = 0, the mean of a scaled feature;  swap: the feature of another example of the batch

    probability: that a feature is hidden. The others are not scaled up: zero is the mean.
    Source: swap noise is Jahrer's, "1st place with representation learning" (Porto Seguro), 2017.
    """
    other = x[order(u[0])] if replace == "swap" else torch.zeros_like(x)
    return torch.where(uniform(key, x.shape) < probability, other, x)


def order(u: Tensor) -> Tensor:
    """Return a random permutation of the batch from u [N]."""
    return torch.argsort(u, stable=True)


def lengths(x: Tensor, form: InputSpec) -> Tensor:
    """Return the number of steps of each sequence or text: int64 [N]."""
    if form.kind == "tokens":
        return (x != 0).sum(1)
    if form.masked:
        return (x[:, :, -1] > 0).sum(1)
    return torch.full_like(x[:, 0, 0], x.shape[1], dtype=torch.int64)


@register("augmentation", kind="values", takes=("sequence",), draws=1)
def time_shift(x: Tensor, u: Tensor, key: Key, form: InputSpec, *, fraction: Probability) -> Tensor:
    """Time shift: moves a sequence earlier or later by whole steps; its length is unchanged.

    x'(t) = x(t - s), s = whole steps, uniform within -+ fraction of the length; the values of the first and
    the last step extend beyond them

    fraction: of the sequence's own length. Padding is unchanged.
    """
    length = lengths(x, form)
    shift = ((2 * u[0] - 1) * fraction * length).round().to(torch.int64)
    at = torch.arange(x.shape[1], device=x.device)
    source = (at - shift[:, None]).clamp(min=0).minimum(length[:, None] - 1).clamp(min=0)
    source = torch.where(at < length[:, None], source, at)
    return torch.take_along_dim(x, source[:, :, None], dim=1)


@register("augmentation", kind="values", takes=("sequence", "tokens"), draws=2)
def time_masking(x: Tensor, u: Tensor, key: Key, form: InputSpec, *, fraction: Probability) -> Tensor:
    """Time masking: hides a run of consecutive steps.

    their values become 0, their tokens 1 (unknown); the number is uniform on [0, fraction of the length]

    fraction: of the sequence's own length. Hidden steps count as present: the padding mask is unchanged.
    Source: Park et al., "SpecAugment", 2019.
    """
    length = lengths(x, form)
    hidden = (u[0] * fraction * (length + 1)).floor().minimum(length)
    first = (u[1] * (length - hidden + 1)).floor()
    at = torch.arange(x.shape[1], device=x.device)
    inside = (at >= first[:, None]) & (at < (first + hidden)[:, None])
    if form.kind == "tokens":
        return torch.where(inside, 1, x)
    values = x[:, :, :-1] if form.masked else x
    values = torch.where(inside[:, :, None], 0, values)
    return torch.cat([values, x[:, :, -1:]], dim=2) if form.masked else values
