"""Embeddings of numeric inputs: each column becomes a vector by its own layer.

All map x [N, n] to [N, n, size]. `Columns` applies one to the numeric columns and leaves the others,
which are 0 or 1, unchanged.
"""

from __future__ import annotations

from itertools import groupby
from math import pi
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from slipstream.core import random
from slipstream.core.errors import ConfigError
from slipstream.core.types import InputSpec

if TYPE_CHECKING:
    from slipstream.models.embedding import Embedding
    from slipstream.models.layer_factory import LayerFactory

HUGE = torch.finfo(torch.float32).max


class Columns(nn.Module):
    """x [N, D] -> [N, n size + others]: the embedded numeric columns, then the others.

    wide: the number of outputs. sections: the number of outputs per column, in order.
    """

    def __init__(self, form: InputSpec, embedding: nn.Module, size: int) -> None:
        super().__init__()
        numbers = numeric_places(form)
        others = sorted(set(range(form.size)) - set(numbers))
        self.numbers, self.others = _runs(numbers), _runs(others)
        self.embedding = embedding
        self.sections = [size] * len(numbers) + [1] * len(others)
        self.wide = sum(self.sections)

    def fit(self, x: Tensor) -> None:
        """Fit the embedding to the numeric inputs of all training rows."""
        if hasattr(self.embedding, "fit"):
            self.embedding.fit(_pick(x, self.numbers))  # type: ignore[operator]  # nn.Module types attributes as Tensor or Module

    def forward(self, x: Tensor) -> Tensor:
        embedded = self.embedding(_pick(x, self.numbers)).flatten(1)
        return torch.cat([embedded, _pick(x, self.others)], dim=1) if self.others else embedded


def numeric_places(form: InputSpec) -> list[int]:
    """Return the indices of numeric inputs in a flattened example.

    In images and sequences these are all but the mask channel.
    """
    if form.kind == "vector":
        return list(form.numeric)
    channels = form.shape[-1]
    return [i for i in range(form.size) if not (form.masked and i % channels == channels - 1)]


def _runs(places: list[int]) -> list[slice]:
    """Group indices into runs of consecutive ones, since slicing needs no index tensors."""
    runs = (list(run) for _, run in groupby(enumerate(places), lambda pair: pair[1] - pair[0]))
    return [slice(run[0][1], run[-1][1] + 1) for run in runs]


def _pick(x: Tensor, runs: list[slice]) -> Tensor:
    parts = [x[:, run] for run in runs]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def embed(
    form: InputSpec, parts: LayerFactory, embedding: Embedding, *, line: bool = False
) -> Columns | None:
    """Build the layer for the setting `embedding`, or None. line: piecewise linear plus a linear term.

    Raises ConfigError if no column is numeric.
    """
    if embedding is None:
        return None
    columns = len(numeric_places(form))
    if columns == 0:
        raise ConfigError(["model.embedding: no input column is a plain number; leave model.embedding=null"])
    size = int(embedding["size"])
    layer: nn.Module
    if "bins" in embedding:
        kind = PiecewiseLinearAndLine if line else PiecewiseLinear
        layer = kind(columns, int(embedding["bins"]), size, parts)
    else:
        layer = Periodic(columns, int(embedding["frequencies"]), embedding["sigma"], size, parts)
    return Columns(form, layer, size)


def own(values: Tensor, *, penalized: bool = True, lr_factor: float = 1.0) -> nn.Parameter:
    """Make a parameter that the initializer skips."""
    parameter = nn.Parameter(values)
    parameter.own_start = True  # type: ignore[attr-defined]  # our mark on a parameter
    parameter.penalized = penalized  # type: ignore[attr-defined]  # our mark on a parameter
    parameter.lr_factor = lr_factor  # type: ignore[attr-defined]  # our mark on a parameter
    return parameter


def uniform(key: Tensor, shape: tuple[int, ...], bound: float) -> Tensor:
    """Draw uniformly from -bound to bound."""
    return (2 * random.uniform(key, shape) - 1) * bound


class PiecewiseLinear(nn.Module):
    """relu(W e + b) of each column; e_t = (x - b_(t-1)) / (b_t - b_(t-1)), the position of x in bin t.

    e is 1 in bins below x and 0 in bins above; below the first edge and above the last it extrapolates
    linearly. The edges are quantiles of the training split; equal ones count once, and columns with fewer
    bins get zeros for the rest (Q-LR in arXiv 2203.05556).
    """

    def __init__(self, columns: int, bins: int, size: int, parts: LayerFactory) -> None:
        super().__init__()
        bound = bins**-0.5
        self.weight = own(uniform(parts.key(), (columns, bins, size), bound))
        self.bias = own(uniform(parts.key(), (columns, size), bound), penalized=False)
        self.slope: Tensor
        self.offset: Tensor
        self.low: Tensor
        self.high: Tensor
        for name in ("slope", "offset", "low", "high"):
            self.register_buffer(name, torch.zeros(columns, bins))

    def fit(self, x: Tensor) -> None:
        """Set the bin edges from all training rows x [N, n]."""
        bins = self.weight.shape[1]
        shares = torch.linspace(0, 1, bins + 1, dtype=torch.float64)
        for i, column in enumerate(x.T.double()):
            edges = _quantiles(column, shares).float().unique()
            rows = [getattr(self, name)[i] for name in ("slope", "offset", "low", "high")]
            for row, values in zip(rows, _bins(edges, bins), strict=True):
                row.copy_(values)

    def encode(self, x: Tensor) -> Tensor:
        """Return the encoding e [N, n, bins]."""
        e = torch.addcmul(self.offset, self.slope, x[..., None])
        return torch.minimum(torch.maximum(e, self.low), self.high)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(by_column(self.encode(x), self.weight) + self.bias)


class PiecewiseLinearAndLine(PiecewiseLinear):
    """w x + b + W e of each column, without relu; W starts at zero, so it is initially linear.

    Source: the embeddings used to evaluate TabM (arXiv 2410.24210).
    """

    def __init__(self, columns: int, bins: int, size: int, parts: LayerFactory) -> None:
        super().__init__(columns, bins, size, parts)
        self.weight = own(torch.zeros(columns, bins, size))
        self.line = own(uniform(parts.key(), (columns, size), size**-0.5))
        self.bias = own(uniform(parts.key(), (columns, size), size**-0.5), penalized=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.addcmul(self.bias, self.line, x[..., None]) + by_column(self.encode(x), self.weight)


class Periodic(nn.Module):
    """relu(W [sin v, cos v] + b) with v = 2 pi c x, of each column (PLR in arXiv 2203.05556).

    c [n, frequencies] is learned and starts as N(0, sigma^2).
    """

    def __init__(self, columns: int, frequencies: int, sigma: float, size: int, parts: LayerFactory) -> None:
        super().__init__()
        bound = (2 * frequencies) ** -0.5
        self.frequency = own(random.normal(parts.key(), (columns, frequencies)) * sigma, penalized=False)
        self.weight = own(uniform(parts.key(), (columns, 2 * frequencies, size), bound))
        self.bias = own(uniform(parts.key(), (columns, size), bound), penalized=False)

    def forward(self, x: Tensor) -> Tensor:
        v = 2 * pi * self.frequency * x[..., None]
        waves = torch.cat([torch.sin(v), torch.cos(v)], dim=-1)
        return torch.relu(by_column(waves, self.weight) + self.bias)


class PeriodicWithBias(nn.Module):
    """[x, W cos(2 pi c x + d) + b] of each column: PBLD of RealMLP (arXiv 2407.04491).

    c starts as N(0, sigma^2), d uniform from -pi to pi. All have `lr_factor` times the learning rate.
    """

    def __init__(
        self, columns: int, frequencies: int, sigma: float, size: int, parts: LayerFactory, lr_factor: float
    ) -> None:
        super().__init__()
        bound = frequencies**-0.5
        first = random.normal(parts.key(), (columns, frequencies)) * sigma
        phase = uniform(parts.key(), (columns, frequencies), pi)
        weight = uniform(parts.key(), (columns, frequencies, size - 1), bound)
        bias = uniform(parts.key(), (columns, size - 1), bound)
        self.frequency, self.phase = own(first, lr_factor=lr_factor), own(phase, lr_factor=lr_factor)
        self.weight, self.bias = own(weight, lr_factor=lr_factor), own(bias, lr_factor=lr_factor)

    def forward(self, x: Tensor) -> Tensor:
        waves = torch.cos(torch.addcmul(self.phase, 2 * pi * self.frequency, x[..., None]))
        return torch.cat([x[..., None], by_column(waves, self.weight) + self.bias], dim=-1)


def by_column(x: Tensor, weight: Tensor) -> Tensor:
    """Multiply each column by its own matrix: x [N, n, A], weight [n, A, B] -> [N, n, B]."""
    return torch.bmm(x.transpose(0, 1), weight).transpose(0, 1)


def _quantiles(column: Tensor, shares: Tensor) -> Tensor:
    """Return linearly interpolated quantiles, as numpy's; torch's are limited to 16 million numbers."""
    ordered = column.sort().values
    place = shares * (len(column) - 1)
    below = place.long()
    above = (below + 1).clamp(max=len(column) - 1)
    return torch.lerp(ordered[below], ordered[above], place - below)


def _bins(edges: Tensor, bins: int) -> list[Tensor]:
    """Return slope, offset, minimum and maximum [bins] of the encoding for increasing edges.

    Missing bins are zeros, placed before the last bin.
    """
    slope, offset, low, high = torch.zeros(4, bins, dtype=edges.dtype)
    count = len(edges) - 1
    if count > 0:
        at = [*range(count - 1), bins - 1]
        slope[at] = 1 / edges.diff()
        offset[at] = -edges[:-1] / edges.diff()
        high[at] = 1
        low[at[0]], high[at[-1]] = -HUGE, HUGE
    return [slope, offset, low, high]
