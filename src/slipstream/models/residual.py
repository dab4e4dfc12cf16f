"""Residual blocks of convolutions (He et al., arXiv 1512.03385 and 1603.05027)."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, pad

from slipstream.models.convolution import convolution
from slipstream.models.layer_factory import LayerFactory, Make

THREE = (3, 3)


class Shortcut(nn.Module):
    """h -> rest(shortcut(h) + branch(h)), with a shortcut without parameters.

    If the branch shrinks planes or adds channels, the shortcut takes every `stride`-th pixel and zeros for
    the new channels (option A of the paper).
    """

    def __init__(self, branch: nn.Module, rest: nn.Module, stride: int, more: int) -> None:
        super().__init__()
        self.branch, self.rest = branch, rest
        self.stride, self.more = stride, more

    def forward(self, x: Tensor) -> Tensor:
        y = self.branch(x)
        if self.stride > 1:  # a slice's gradient would not preserve the memory order of the axes
            x = avg_pool2d(x, 1, self.stride)
        if self.more:
            x = pad(x, (0, 0, 0, 0, 0, self.more))
        result: Tensor = self.rest(x + y)
        return result


def first(parts: LayerFactory, count: int, channels: int, *, pre_activation: bool) -> nn.Module:
    """Build the layer before all blocks; with pre_activation the first block has its nonlinearity."""
    make = convolution(parts, count, THREE)
    return _plain(parts, make, channels) if pre_activation else parts.block(make, channels)


def block(parts: LayerFactory, count: int, channels: int, stride: int, *, pre_activation: bool) -> nn.Module:
    """Build two convolutions with a shortcut around them, from `count` to `channels` channels."""
    one, two = convolution(parts, count, THREE, (stride, stride)), convolution(parts, channels, THREE)
    if pre_activation:
        branch = [nonlinear(parts, count), _plain(parts, one, channels)]
        branch += [nonlinear(parts, channels), _plain(parts, two, channels)]
        rest: nn.Module = nn.Identity()
    else:
        branch = [parts.block(one, channels), _plain(parts, two, channels)]
        branch += parts.norms("before", channels).values()
        rest = nn.Sequential(OrderedDict(_activated(parts, channels)))
    branch += parts.noises("branch").values()
    return Shortcut(nn.Sequential(*branch), rest, stride, channels - count)


def nonlinear(parts: LayerFactory, channels: int) -> nn.Module:
    """Build a normalization and a nonlinearity, which precede a convolution with pre_activation."""
    return nn.Sequential(OrderedDict(parts.norms("before", channels) | _activated(parts, channels)))


def _activated(parts: LayerFactory, channels: int) -> dict[str, nn.Module]:
    layers = {"activation": parts.activation()} | parts.norms("after", channels)
    return layers | parts.activities() | parts.noises("hidden")


def _plain(parts: LayerFactory, make: Make, channels: int) -> nn.Module:
    return parts.weighted(make(channels, not parts.has_batch_norm("before")))
