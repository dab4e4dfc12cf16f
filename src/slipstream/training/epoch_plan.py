"""The plan of an epoch, which is made before its first step: the examples and weights of each batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import torch
from torch import Tensor

from slipstream.core import random
from slipstream.training.pack import Pack
from slipstream.training.step import Batch

BLOCK = 2**17  # most indices planned at once (at least one epoch): a megabyte


@dataclass(frozen=True)
class Batching:
    """The division of n examples into batches.

    An update takes `accumulate` micro-batches of `size` examples; an epoch has `steps` updates. The last one
    is padded with the first examples of the epoch's order at weight zero. Losses and metrics therefore count
    every example once, shapes never change, and batch statistics see a full batch.
    """

    examples: int
    size: int
    accumulate: int

    @classmethod
    def of(cls, examples: int, batch_size: int | str, accumulate: int) -> Batching:
        """Return the batching for a batch size: `full` or a number, at most the number of examples."""
        size = examples if batch_size == "full" else min(int(batch_size), examples)
        return cls(examples, size, accumulate)

    @property
    def steps(self) -> int:
        """The number of updates in an epoch."""
        return ceil(self.examples / (self.size * self.accumulate))

    @property
    def whole(self) -> bool:
        """True if one update sees all examples, so the order does not matter."""
        return self.size >= self.examples


@dataclass(frozen=True)
class EpochPlan:
    """One epoch: a batch per step, and the indices and metric weights of all rows, [(K,) S * A * B].

    The weights (counts) are 0 for rows that pad the last batch.
    """

    batches: list[Batch]
    indices: Tensor
    counts: Tensor


class Planner:
    """Plans epochs, many at a time if they are small.

    keys: the words of each member's key. of_rows: the examples' weights in updates and in metrics, [N]
    each. offsets: the start of each member's examples among all, for members that train on different
    folds. A call to Philox takes about a hundred operations regardless of its size, so the orders of a
    block of epochs are drawn together, and once for members that share a seed; an order is the same in any
    block. last: the largest number of epochs of any member, beyond which none are drawn.
    """

    def __init__(
        self,
        batching: Batching,
        keys: Sequence[tuple[int, ...]],
        of_rows: tuple[Tensor, Tensor],
        pack: Pack,
        offsets: Sequence[int] | None = None,
        last: int | None = None,
    ) -> None:
        self.batching, self.pack, self.last = batching, pack, last
        self.weights, self.counts = of_rows
        offsets = [0] * pack.size if offsets is None else offsets
        self._whose = list(zip(keys, offsets, strict=True))
        self._first, self._block, self._drawn = list[int](), 0, tuple[Tensor, ...]()
        self._place = torch.zeros(0)

    def __call__(self, epochs: int | Sequence[int | None]) -> EpochPlan:
        """Return the plan of one epoch: one for all members, or one per member, None for stopped ones."""
        if isinstance(epochs, int):
            epochs = [epochs] * self.pack.size
        later = {
            epoch - first for epoch, first in zip(epochs, self._first, strict=False) if epoch is not None
        }
        age = later.pop() if len(later) == 1 else -1
        if later or not 0 <= age < self._block:
            self._draw([epoch or 0 for epoch in epochs])
            age = 0
        parts = (part[age] for part in self._drawn)
        if self.pack.single:
            return self._cut(*(part[0] for part in parts))
        return self._cut(*(part.index_select(0, self._place) for part in parts))

    def _draw(self, first: list[int]) -> None:
        """Draw a block of epochs that starts with each member's first."""
        wanted = list(zip(self._whose, first, strict=True))
        distinct = {each: place for place, each in enumerate(dict.fromkeys(wanted))}
        device = self.weights.device
        self._first = first
        self._block = max(BLOCK // (self.batching.examples * len(distinct)), 1)
        if self.last is not None:
            self._block = max(min(self._block, self.last - min(first)), 1)
        self._place = torch.tensor([distinct[each] for each in wanted], device=device)
        keys = torch.tensor([key for (key, _), _ in distinct], device=device)
        offsets = torch.tensor([offset for (_, offset), _ in distinct], device=device)
        starts = torch.tensor([epoch for _, epoch in distinct], device=device)
        epochs = starts[:, None] + torch.arange(self._block, device=device)
        parts = self._orders(keys, epochs, offsets)
        self._drawn = tuple(part.transpose(0, 1).contiguous() for part in parts)  # [U, E, ...] -> [E, U, ...]

    def _orders(self, keys: Tensor, epochs: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return indices, weights, counts [U, E, S, A * B] for keys [U, 4], epochs [U, E], offsets [U]."""
        n, steps = self.batching.examples, self.batching.steps
        rows = self.batching.accumulate * self.batching.size
        if self.batching.whole:
            orders = torch.arange(n, device=keys.device).expand(*epochs.shape, n)
        else:
            orders = random.permutations(keys, epochs, n)
        place = torch.arange(steps * rows, device=keys.device)
        indices = orders[..., place % n].view(*epochs.shape, steps, rows) + offsets[:, None, None, None]
        real = (place < n).view(steps, rows)
        weights = self.weights.index_select(0, indices.flatten()).view(indices.shape) * real
        counts = weights
        if self.counts is not self.weights:
            counts = self.counts.index_select(0, indices.flatten()).view(indices.shape) * real
        # If all weights of a step are zero (from the user's column), its loss is zero instead of NaN.
        total = weights.sum(dim=-1, keepdim=True).clamp_min(torch.finfo(weights.dtype).tiny)
        return indices, weights / total, counts

    def _cut(self, indices: Tensor, weights: Tensor, counts: Tensor) -> EpochPlan:
        """Split one epoch's [(K,) S, A * B] into batches of micro-batches."""
        a, b, s = self.batching.accumulate, self.batching.size, self.batching.steps
        micro = [part.split(b, dim=-1) for part in (indices, weights)]
        # Every micro-batch is contiguous: [(K,) S, B] -> S times [(K,) B].
        parts = [[piece.movedim(-2, 0).contiguous().unbind(0) for piece in pieces] for pieces in micro]
        batches = [
            Batch(*(tuple(parts[kind][i][step] for i in range(a)) for kind in (0, 1))) for step in range(s)
        ]
        return EpochPlan(batches, indices.flatten(-2), counts.flatten(-2))
