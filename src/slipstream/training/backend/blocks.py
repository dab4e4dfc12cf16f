"""The updates of a large pack, block after block of its members.

Members know nothing of each other. So a block of them makes many updates, each written over the
state it began with, while parameters, moments and gradients stay in the processor's cache, or at
least in memory that is fetched once; then it is the next block's turn. A member's bytes are the
same in any block. What it gives stands in docs/performance.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil
from typing import Any

import torch
from torch import Tensor

from slipstream.core.compat import pytree
from slipstream.core.types import Numbers, Scalar
from slipstream.training.model_spec import State
from slipstream.training.pack import Pack
from slipstream.training.step import Batch, Examples, Step, StepOutput

# Bytes of a block's parameters. A compiled update reads and writes some eight times as much, which a cache
# should hold; of an eager one every operation makes such a vector, and larger ones are handed back to
# the system after every operation (training/memory.py).
COMPILED, EAGER = 2**22, 2**25
FEWEST, MOST = 16, 256  # members of a block: fewer wait for the calls, more gain nothing
UPDATES, UPDATES_EAGER = 16, 8  # of a block before the next one's turn. A signal waits so long


def block_size(members: int, parameters: int, device: torch.device, *, compiled: bool) -> int:
    """Members of a block: all that fit, or where they are more, about as many in every block."""
    if device.type != "cpu":
        return members
    fitting = 1 << max(((COMPILED if compiled else EAGER) // (4 * parameters)).bit_length() - 1, 0)
    blocks = ceil(members / min(max(fitting, FEWEST), MOST))
    return ceil(members / blocks)


def in_place(step: Step) -> Callable[..., StepOutput]:
    """The lifted step, with its new state written over the old one."""

    def update(
        state: State, data: Examples, batch: Batch, lr: Scalar, t: Scalar, numbers: Numbers
    ) -> StepOutput:
        new, seen = step(state, data, batch, lr, t, numbers)
        pytree.tree_map(lambda old, value: old.copy_(value), state, new)
        return seen

    return update


class Blocks:
    """Cuts what has an axis of K members into blocks of one size, the last filled up with the last member."""

    def __init__(self, members: int, size: int) -> None:
        self.members, self.size, self.count = members, size, ceil(members / size)
        self.pack = Pack(size)

    def train(
        self,
        update: Callable[..., StepOutput],
        state: State,
        data: Examples,
        batches: Sequence[Batch],
        arguments: Sequence[tuple[Any, Any]],
        numbers: Numbers,
    ) -> tuple[State, tuple[StepOutput, ...], Tensor]:
        """Updates of all members, as many as there are batches: the new state, what each update leaves,
        and the parameters before the last. update: `in_place` of a step lifted to a block."""
        work = pytree.tree_map(self._filled, state)
        before = torch.empty_like(work.params)
        seen = []
        for here in (slice(i * self.size, (i + 1) * self.size) for i in range(self.count)):
            of_block = [self._cut(here, each) for each in zip(batches, arguments, strict=True)]
            mine, own = self._cut(here, work), self._cut(here, numbers)
            for number, (batch, (lr, t)) in enumerate(of_block, start=1):
                if number == len(of_block):
                    before[here] = mine.params
                seen.append(update(mine, data, batch, lr, t, own))
        joined = [self._joined(seen[i :: len(batches)]) for i in range(len(batches))]
        return pytree.tree_map(self._members, work), tuple(joined), self._members(before)

    def _filled(self, x: Tensor) -> Tensor:
        """A copy of [K, ...] with room for all blocks."""
        if self.size * self.count == self.members:
            return x.clone(memory_format=torch.contiguous_format)
        more = self.size * self.count - self.members
        return torch.cat([x, x[-1:].expand(more, *x.shape[1:])])

    def _cut(self, here: slice, tree: Any) -> Any:
        """A block's part of a tree."""
        if self.count == 1:
            return tree

        def cut(x: Tensor) -> Tensor:
            part = x[here]
            if len(part) == self.size:
                return part
            return torch.cat([part, part[-1:].expand(self.size - len(part), *x.shape[1:])])

        return pytree.tree_map(cut, tree)

    def _joined(self, parts: Sequence[StepOutput]) -> StepOutput:
        """What an update of every block has left, as of all members."""
        if self.count == 1:
            return parts[0]
        return StepOutput(*(self._members(torch.cat(column)) for column in zip(*parts, strict=True)))

    def _members(self, x: Tensor) -> Tensor:
        return x[: self.members]
