"""The pack axis, along which members that train together are stacked.

A function written for one member is vectorized over K members. Trees of tensors are stacked along a new first
axis and split again. A single member is not vectorized: its tensors have no pack axis, and its step is the
plain function.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from slipstream.core.compat import pytree
from slipstream.core.registry import LISTS, component
from slipstream.core.types import Function, Plain, Tree

if TYPE_CHECKING:
    from slipstream.config.run_config import Config

# Groups that act per member on the host between steps, and never affect the computation of a step.
HOST_GROUPS = ("scheduler", "early_stopping", "logger")
OWN_KEYS = ("seed", "name", "resume", "experiment")

T = TypeVar("T")  # a tree of tensors


class Pack:
    """K stacked members, or a single one."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.single = size == 1

    def vmap(self, function: Function, *in_dims: int | None) -> Function:
        """Vectorize `function` over members. in_dims: 0 for an argument with a pack axis, otherwise None."""
        return function if self.single else torch.vmap(function, in_dims=in_dims)

    def stack(self, trees: Sequence[T]) -> T:
        """Stack one tree per member to one tree with a pack axis."""
        if self.single:
            return trees[0]
        stacked: T = pytree.tree_map(lambda *leaves: torch.stack(leaves), *trees)
        return stacked

    def member(self, tree: T, k: int) -> T:
        """Return the tree of member k."""
        own: T = tree if self.single else pytree.tree_map(lambda leaf: leaf[k], tree)
        return own

    def where(self, chosen: Sequence[bool], new: T, old: T) -> T:
        """Combine trees member by member: `new` if chosen, otherwise `old`."""
        if self.single:
            return new if chosen[0] else old

        def pick(a: Tensor, b: Tensor) -> Tensor:
            mask = torch.tensor(chosen, device=a.device).view(-1, *[1] * (a.ndim - 1))
            return torch.where(mask, a, b)

        picked: T = pytree.tree_map(pick, new, old)
        return picked

    def put(self, tree: T, places: Sequence[int], trees: Sequence[T]) -> T:
        """Return the tree with other members' trees at some places."""
        if self.single:
            changed: T = pytree.tree_map(lambda leaf, new: new.to(leaf.device), tree, trees[-1])
            return changed
        at = torch.tensor(places)

        def put(leaf: Tensor, *new: Tensor) -> Tensor:
            return leaf.index_copy(0, at.to(leaf.device), torch.stack(new).to(leaf.device))

        changed = pytree.tree_map(put, tree, *trees)
        return changed

    def select(self, tree: T, places: Sequence[int]) -> T:
        """Return the tree of some members, as a separate pack."""
        if self.single:
            return tree
        chosen: T = pytree.tree_map(lambda leaf: leaf[torch.tensor(places, device=leaf.device)], tree)
        return chosen

    def numbers(self, members: Sequence[Tree], device: torch.device, *, tensors: bool) -> Tree:
        """Stack trees of floats to float32 tensors [K]; for a single member keep floats unless `tensors`."""
        if self.single and not tensors:
            return members[0]

        def stack(*values: float) -> Tensor:
            made = torch.tensor(values, dtype=torch.float32, device=device)
            return made[0] if self.single else made

        return pytree.tree_map(stack, *members)

    def rows(self, values: Tensor) -> list[Plain]:
        """Return a tensor with a pack axis as a list with one entry per member. Waits for the device."""
        return [values.tolist()] if self.single else values.tolist()


def signature(config: Config) -> str:
    """Return the structure that all members of a pack must have in common, as text.

    Numbers, seeds, folds of the data, schedules, early stopping (except its metric) and logging may
    differ.
    """
    shape: dict[str, Plain] = {"measured": config.early_stopping.settings["metric"]}
    for key, value in config.raw.items():
        if key in OWN_KEYS or key in HOST_GROUPS:
            continue
        if key in LISTS:
            shape[key] = {name: _structure(key, name, settings) for name, settings in value.items()}
        elif key == "data":
            shape[key] = {name: v for name, v in value.items() if name != "fold"}
        elif key in ("activation", "initializer", "loss", "optimizer", "model"):
            shape[key] = _structure(key, value["name"], value)
        else:
            shape[key] = value
    return json.dumps(shape, sort_keys=True)


def _structure(group: str, name: str, settings: Mapping[str, Plain]) -> dict[str, Plain]:
    """Return the settings of an option that must be equal for all members."""
    numbers = component(group, name).numbers
    return {key: value for key, value in settings.items() if key not in numbers}
