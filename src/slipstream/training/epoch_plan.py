"""An epoch's plan, made once before its first step: who is in which batch, and each step's rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import torch
from torch import Tensor

from slipstream.core import random
from slipstream.training.pack import Pack
from slipstream.training.step import Batch

BLOCK = 2**17  # indices planned at once, at most (one epoch at least): a megabyte


@dataclass(frozen=True)
class Batching:
    """How n examples are cut into batches.

    An update takes `accumulate` micro-batches of `size` examples; an epoch has `steps` updates. The
    last one is filled up with the first examples of the epoch's order at weight zero: losses and
    metrics count every example once, shapes never change, and batch statistics see a full batch.
    """

    examples: int
    size: int
    accumulate: int

    @classmethod
    def of(cls, examples: int, batch_size: int | str, accumulate: int) -> Batching:
        """batch_size is `full` or a number; a batch holds at most all examples."""
        size = examples if batch_size == "full" else min(int(batch_size), examples)
        return cls(examples, size, accumulate)

    @property
    def steps(self) -> int:
        """Updates in an epoch."""
        return ceil(self.examples / (self.size * self.accumulate))

    @property
    def whole(self) -> bool:
        """Whether one update sees everything, so that the order does not matter."""
        return self.size >= self.examples


@dataclass(frozen=True)
class EpochPlan:
    """One epoch: a batch a step, and of all steps together the indices, and what rows count in metrics, 0 for
    fillers: [(K,) S * A * B]."""

    batches: list[Batch]
    indices: Tensor
    counts: Tensor


class Planner:
    """Plans epochs, many at once where they are small.

    keys: [(K,) 4]. of_rows: what examples weigh in updates and count in metrics, [N] each. offsets: where
    each member's examples begin among all, for members that train on different folds of the data. A call
    of Philox costs some hundred operations whatever its size, so the orders of a block of epochs are drawn
    together, and once for members that share a seed; each is the same in any block. last: no member trains
    for more epochs, and none is drawn beyond.
    """

    def __init__(
        self,
        batching: Batching,
        keys: Tensor,
        of_rows: tuple[Tensor, Tensor],
        pack: Pack,
        offsets: Sequence[int] | None = None,
        last: int | None = None,
    ) -> None:
        self.batching, self.pack, self.last = batching, pack, last
        self.weights, self.counts = of_rows
        self.keys = keys.view(pack.size, 4)
        offsets = [0] * pack.size if offsets is None else offsets
        self._whose = list(zip(map(tuple, self.keys.tolist()), offsets, strict=True))
        self._first, self._block, self._drawn = list[int](), 0, tuple[Tensor, ...]()
        self._place = torch.zeros(0)

    def __call__(self, epochs: int | Sequence[int | None]) -> EpochPlan:
        """The plan of one epoch: the same for all members, or of each its own, None where it has stopped."""
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
        """Draw a block of epochs that begins with each member's first."""
        wanted = list(zip(self._whose, first, strict=True))
        distinct = {each: place for place, each in enumerate(dict.fromkeys(wanted))}
        device = self.keys.device
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
        """indices, weights, counts, each [U, E, S, A * B], for keys [U, 4], epochs [U, E] and offsets [U]."""
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
        # All weights of a step may be zero (a column of the user's); its loss is zero then, not NaN.
        total = weights.sum(dim=-1, keepdim=True).clamp_min(torch.finfo(weights.dtype).tiny)
        return indices, weights / total, counts

    def _cut(self, indices: Tensor, weights: Tensor, counts: Tensor) -> EpochPlan:
        """One epoch's [(K,) S, A * B] cut into batches of micro-batches."""
        a, b, s = self.batching.accumulate, self.batching.size, self.batching.steps
        micro = [part.split(b, dim=-1) for part in (indices, weights)]
        # Every micro-batch is contiguous: [(K,) S, B] -> S times [(K,) B].
        parts = [[piece.movedim(-2, 0).contiguous().unbind(0) for piece in pieces] for pieces in micro]
        batches = [
            Batch(*(tuple(parts[kind][i][step] for i in range(a)) for kind in (0, 1))) for step in range(s)
        ]
        return EpochPlan(batches, indices.flatten(-2), counts.flatten(-2))
