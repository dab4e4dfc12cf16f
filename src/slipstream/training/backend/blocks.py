"""The updates of a large pack, one block of members after another.

Members are independent. A block therefore makes several updates in place before the next block follows, while
its parameters, moments and gradients stay in the processor's cache, or at least in memory that is allocated
once. A member's bytes are the same in any block. docs/performance.md lists the gains.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil

import torch
from torch import Tensor

from slipstream.core.compat import pytree
from slipstream.core.types import Numbers, Scalar, Tree
from slipstream.training.model_spec import State
from slipstream.training.pack import Pack
from slipstream.training.step import Batch, Examples, Step, StepOutput

# Bytes of a block's parameters. A compiled update reads and writes about eight times as much, which should
# fit in a cache; in eager mode every operation allocates such a vector, and larger ones are returned to the
# system after every operation (memory.py).
COMPILED, EAGER = 2**22, 2**25
FEWEST, MOST = 16, 256  # members per block: with fewer, call overhead dominates; more gain nothing
UPDATES, UPDATES_EAGER = 16, 8  # per block before the next one. A signal waits for them


def block_size(members: int, parameters: int, device: torch.device, *, compiled: bool) -> int:
    """Return the number of members per block: all if they fit, otherwise about equally many in each."""
    if device.type != "cpu":
        return members
    fitting = 1 << max(((COMPILED if compiled else EAGER) // (4 * parameters)).bit_length() - 1, 0)
    blocks = ceil(members / min(max(fitting, FEWEST), MOST))
    return ceil(members / blocks)


def in_place(step: Step) -> Callable[..., StepOutput]:
    """Wrap a vectorized step so that its new state overwrites the old one."""

    def update(
        state: State, data: Examples, batch: Batch, lr: Scalar, t: Scalar, numbers: Numbers
    ) -> StepOutput:
        new, seen = step(state, data, batch, lr, t, numbers)
        pytree.tree_map(lambda old, value: old.copy_(value), state, new)
        return seen

    return update


class Blocks:
    """Blocks of equal size along the axis of K members. Copies of the last member fill the last block."""

    def __init__(self, members: int, size: int) -> None:
        self.members, self.size, self.count = members, size, ceil(members / size)
        self.pack = Pack(size)

    def train(
        self,
        update: Callable[..., StepOutput],
        state: State,
        data: Examples,
        batches: Sequence[Batch],
        arguments: Sequence[tuple[Scalar, Scalar]],
        numbers: Numbers,
    ) -> tuple[State, tuple[StepOutput, ...], Tensor]:
        """Make one update of all members per batch.

        update: `in_place` of a step vectorized over a block. Returns the new state, the output of each
        update, and the parameters before the last one.
        """
        work = pytree.tree_map(self._filled, state)
        before = torch.empty_like(work.params)
        seen: list[StepOutput] = []
        for here in (slice(i * self.size, (i + 1) * self.size) for i in range(self.count)):
            of_block = [self._cut(here, each) for each in zip(batches, arguments, strict=True)]
            mine, own = self._cut(here, work), self._cut(here, numbers)
            for number, (batch, (lr, t)) in enumerate(of_block, start=1):
                if number == len(of_block):
                    before[here] = mine.params
                # The meta device only counts memory, and every block needs as much as the first one.
                again = before.is_meta and seen
                made = pytree.tree_map(torch.empty_like, seen[0]) if again else None
                seen.append(made or update(mine, data, batch, lr, t, own))
        joined = [self._joined(seen[i :: len(batches)]) for i in range(len(batches))]
        return pytree.tree_map(self._members, work), tuple(joined), self._members(before)

    def _filled(self, x: Tensor) -> Tensor:
        """Copy [K, ...], extended to fill all blocks."""
        if self.size * self.count == self.members:
            return x.clone(memory_format=torch.contiguous_format)
        more = self.size * self.count - self.members
        return torch.cat([x, x[-1:].expand(more, *x.shape[1:])])

    def _cut(self, here: slice, tree: Tree) -> Tree:
        """Return the slice of a tree that belongs to a block."""
        if self.count == 1:
            return tree

        def cut(x: Tensor) -> Tensor:
            part = x[here]
            if len(part) == self.size:
                return part
            return torch.cat([part, part[-1:].expand(self.size - len(part), *x.shape[1:])])

        return pytree.tree_map(cut, tree)

    def _joined(self, parts: Sequence[StepOutput]) -> StepOutput:
        """Join the outputs of all blocks."""
        if self.count == 1:
            return parts[0]
        return StepOutput(*(self._members(torch.cat(column)) for column in zip(*parts, strict=True)))

    def _members(self, x: Tensor) -> Tensor:
        return x[: self.members]
