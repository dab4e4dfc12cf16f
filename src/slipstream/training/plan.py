"""An epoch's plan, made once before its first step: who is in which batch, and each step's rate."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import torch
from torch import Tensor

from slipstream import random
from slipstream.packs import Pack
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
class Plan:
    """One epoch: a batch a step, and of all steps together the indices and raw weights [(K,) S * A * B]."""

    batches: list[Batch]
    indices: Tensor
    counts: Tensor


class Planner:
    """Plans epochs, many at once where they are small.

    keys: [(K,) 4]. example_weights: [N]. A call of Philox costs some hundred operations whatever
    its size, so the orders of a block of epochs are drawn together; each is the same in any block.
    """

    def __init__(self, batching: Batching, keys: Tensor, example_weights: Tensor, pack: Pack) -> None:
        self.batching, self.keys, self.weights, self.pack = batching, keys, example_weights, pack
        self._block = max(BLOCK // (batching.examples * pack.size), 1)
        self._first, self._drawn = -1, tuple[Tensor, ...]()

    def __call__(self, epoch: int) -> Plan:
        """The plan of one epoch."""
        first = epoch - epoch % self._block
        if first != self._first:
            self._first, self._drawn = first, self._draw(first)
        return self._cut(*(part[epoch - first] for part in self._drawn))

    def _draw(self, first: int) -> tuple[Tensor, ...]:
        epochs = torch.arange(first, first + self._block, device=self.keys.device)
        parts = self.pack.lift(self._orders, 0, None)(self.keys, epochs)
        if self.pack.alone:
            return parts
        return tuple(part.transpose(0, 1).contiguous() for part in parts)  # [K, E, ...] -> [E, K, ...]

    def _orders(self, key: Tensor, epochs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """indices, weights, counts, each [E, S, A * B], for one member."""
        n, steps = self.batching.examples, self.batching.steps
        rows = self.batching.accumulate * self.batching.size
        if self.batching.whole:
            orders = torch.arange(n, device=key.device).expand(len(epochs), n)
        else:
            orders = random.permutations(key, epochs, n)
        place = torch.arange(steps * rows, device=key.device)
        indices = orders[:, place % n].view(-1, steps, rows)
        counts = self.weights[indices] * (place < n).view(steps, rows)
        # All weights of a step may be zero (a column of the user's); its loss is zero then, not NaN.
        total = counts.sum(dim=-1, keepdim=True).clamp_min(torch.finfo(counts.dtype).tiny)
        return indices, counts / total, counts

    def _cut(self, indices: Tensor, weights: Tensor, counts: Tensor) -> Plan:
        """One epoch's [(K,) S, A * B] cut into batches of micro-batches."""
        a, b, s = self.batching.accumulate, self.batching.size, self.batching.steps
        micro = [part.split(b, dim=-1) for part in (indices, weights)]
        # Every micro-batch is contiguous: [(K,) S, B] -> S times [(K,) B].
        parts = [[piece.movedim(-2, 0).contiguous().unbind(0) for piece in pieces] for pieces in micro]
        batches = [
            Batch(*(tuple(parts[kind][i][step] for i in range(a)) for kind in (0, 1))) for step in range(s)
        ]
        return Plan(batches, indices.flatten(-2), counts.flatten(-2))
