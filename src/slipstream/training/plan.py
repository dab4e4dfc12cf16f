"""An epoch's plan, made once before its first step: who is in which batch, and each step's rate."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import torch
from torch import Tensor

from slipstream import random
from slipstream.packs import Pack
from slipstream.training.step import Batch


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
    """indices, weights: [S, (K,) A, B]; `weights` sum to 1 within a step, `counts` are the raw ones."""

    indices: Tensor
    weights: Tensor
    counts: Tensor

    def batches(self) -> list[Batch]:
        """One batch a step."""
        pairs = zip(self.indices.unbind(0), self.weights.unbind(0), strict=True)
        return [Batch(indices, weights) for indices, weights in pairs]


def plan_epoch(batching: Batching, keys: Tensor, example_weights: Tensor, epoch: int, pack: Pack) -> Plan:
    """The plan of one epoch for every member. keys: [(K,) 4], example_weights: [N]."""

    def one(key: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        n, device = batching.examples, key.device
        if batching.whole:
            order = torch.arange(n, device=device)
        else:
            order = random.permutation(random.at(key, epoch), n)
        shape = (batching.steps, batching.accumulate, batching.size)
        place = torch.arange(batching.steps * batching.accumulate * batching.size, device=device)
        indices = order[place % n]
        counts = example_weights[indices] * (place < n)
        counts = counts.view(shape)
        # All weights of a step may be zero (a column of the user's); its loss is zero then, not NaN.
        total = counts.sum(dim=(1, 2), keepdim=True).clamp_min(torch.finfo(counts.dtype).tiny)
        return indices.view(shape), counts / total, counts

    parts = pack.lift(one, 0)(keys)
    if not pack.alone:
        parts = [part.transpose(0, 1).contiguous() for part in parts]
    return Plan(*parts)
