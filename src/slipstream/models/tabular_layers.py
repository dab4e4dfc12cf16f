"""Layers of RealMLP and TabM.

In TabM the ensemble's members are rows of the batch, [N E, features], so the layers between the dense
ones are those of an MLP, and only layers that differ by member know about E.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from slipstream.core import random
from slipstream.models.layer_factory import LayerFactory
from slipstream.models.numeric import own

SIMPLEX = 5  # outputs that are mixed into an initial bias


class ScaledLinear(nn.Module):
    """y = W x / sqrt(D) + b with W of unit size: the neural tangent parametrization.

    `fit` gives every output a standard deviation of one over the training split, and places the bend of the
    following activation inside the data: b is minus a random mixture of 5 of the outputs.
    """

    def __init__(
        self, features: int, outputs: int, parts: LayerFactory, *, bias: bool, bias_factor: float
    ) -> None:
        super().__init__()
        self.weight = own(random.normal(parts.key(), (outputs, features)))
        self.mixture = parts.key()
        self.bias = own(torch.zeros(outputs), penalized=False, lr_factor=bias_factor) if bias else None

    def fit(self, x: Tensor) -> None:
        """Set the initial values from the inputs [N, D] that reach the layer."""
        y = nn.functional.linear(x, self.weight) * self.weight.shape[1] ** -0.5
        deviation = y.std(0, correction=0)
        deviation = torch.where(deviation > 0, deviation, 1)
        self.weight.copy_(self.weight / deviation[:, None])
        if self.bias is not None:
            outputs = len(self.weight)
            chosen, shares = random.uniform(self.mixture, (2, outputs, SIMPLEX))
            shares = -torch.log(1 - shares)
            mixed = (y / deviation).T.gather(1, (chosen * len(y)).long()) * shares
            self.bias.copy_(-mixed.sum(1) / shares.sum(1))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x * x.shape[1] ** -0.5, self.weight, self.bias)


class Scale(nn.Module):
    """Each input times a learned factor: soft feature selection, with `lr_factor` times the learning rate."""

    def __init__(self, features: int, lr_factor: float) -> None:
        super().__init__()
        self.factor = own(torch.ones(features), lr_factor=lr_factor)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


class Parametric(nn.Module):
    """x + a (f(x) - x) with a learned `a` per unit, initially 1: interpolates between the identity and f."""

    def __init__(self, activation: nn.Module, features: int, lr_factor: float) -> None:
        super().__init__()
        self.name, self.activation = activation.name, activation
        self.share = own(torch.ones(features), lr_factor=lr_factor)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = x + self.share * (self.activation(x) - x)
        return result


class Multiply(nn.Module):
    """One copy of every row per member, times the member's factors: [N, D] -> [N E, D].

    factors: the initial values [E, D]; None for no factors.
    """

    def __init__(self, members: int, factors: Tensor | None) -> None:
        super().__init__()
        self.members = members
        self.factors = None if factors is None else nn.Parameter(factors.flatten())

    def forward(self, x: Tensor) -> Tensor:
        rows = x[:, None].expand(-1, self.members, -1)
        if self.factors is not None:
            rows = rows * self.factors.view(self.members, -1)
        return rows.flatten(0, 1)


class BatchEnsemble(nn.Module):
    """y = s_e (W (r_e x)) + b_e for member e: a shared weight, and vectors r, s, b per member.

    inputs: include r; the first layer's r is in the `Multiply` before it. x [N E, D] ->
    [N E, H]. Source: Wen, Tran, Ba, "BatchEnsemble", arXiv 2002.06715.
    """

    def __init__(self, features: int, outputs: int, members: int, *, inputs: bool, bias: bool) -> None:
        super().__init__()
        self.members = members
        self.weight = nn.Parameter(torch.empty(outputs, features))
        self.r = nn.Parameter(torch.ones(members * features)) if inputs else None
        self.s = nn.Parameter(torch.ones(members * outputs))
        self.bias = nn.Parameter(torch.empty(members * outputs)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        e = self.members
        if self.r is not None:
            x = (x.view(-1, e, x.shape[-1]) * self.r.view(e, -1)).flatten(0, 1)
        y = nn.functional.linear(x, self.weight)
        y = y.view(-1, e, y.shape[-1]) * self.s.view(e, -1)
        return (y if self.bias is None else y + self.bias.view(e, -1)).flatten(0, 1)


class Separate(nn.Module):
    """A dense layer per member: x [N E, D] -> [N E, H]."""

    def __init__(self, features: int, outputs: int, members: int, *, bias: bool) -> None:
        super().__init__()
        self.members = members
        self.weight = nn.Parameter(torch.empty(members * outputs, features))
        self.weight.blocks = members  # type: ignore[attr-defined]  # our mark on a parameter
        self.bias = nn.Parameter(torch.empty(members * outputs)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        e = self.members
        rows = x.view(-1, e, x.shape[-1]).transpose(0, 1)
        made = torch.bmm(rows, self.weight.view(e, -1, x.shape[-1]).transpose(1, 2))
        if self.bias is not None:
            made = made + self.bias.view(e, 1, -1)
        return made.transpose(0, 1).flatten(0, 1)


class ByMember(nn.Module):
    """The inverse of `Multiply`'s reshaping: [N E, C] -> [N, E, C]."""

    def __init__(self, members: int) -> None:
        super().__init__()
        self.members = members

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = x.unflatten(0, (-1, self.members))
        return result
