"""Words that every module shares: the axes, the kinds of numbers, and the flat vector's layout.

Axes, always in this order: K member of a pack, N example of a batch, T time, C channel or class,
H and W height and width, P parameter. Components are written for one member and never see K.

A setting annotated as a float is a *number*: members of one pack may differ in it, so inside the
step it may arrive as a tensor without axes, and code never branches on its value. Every other
setting is *structure*: it is a plain Python value and shapes the computation.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from annotated_types import Ge, Gt, Le, Lt

if TYPE_CHECKING:
    from torch import Tensor

Real = float
Positive = Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0)]
Probability = Annotated[float, Ge(0), Le(1)]
Fraction = Annotated[float, Ge(0), Lt(1)]  # a rate that may not reach 1: a dropout rate, a decay
Count = Annotated[int, Ge(1)]
Natural = Annotated[int, Ge(0)]


@dataclass(frozen=True)
class Layout:
    """How the flat vector of P parameters is cut into named tensors.

    `penalized` says by position which tensors are weights (True), and which are biases or scales
    and shifts of a normalization (False), which penalties and decay leave alone.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    penalized: tuple[bool, ...]

    @property
    def sizes(self) -> list[int]:
        return [prod(shape) for shape in self.shapes]

    @property
    def size(self) -> int:
        """P, the number of parameters."""
        return sum(self.sizes)

    def unflatten(self, flat: Tensor) -> dict[str, Tensor]:
        """Views of `flat` [P], by name, each in its own shape."""
        parts = flat.split(self.sizes)
        return {n: part.view(s) for n, part, s in zip(self.names, parts, self.shapes, strict=True)}


class At(NamedTuple):
    """Where an update happens: all that a rule may know besides the gradient and its own state.

    t: the number of this update, from 1: an int for one run alone that is not compiled, else a float
        tensor without axes.
    params: the flat parameters [P] before the update.
    layout: how they are cut into tensors, for the rules that treat matrices as matrices.
    """

    t: Any
    params: Tensor
    layout: Layout


@dataclass(frozen=True)
class Target:
    """What is predicted.

    task: binary | multiclass | multilabel | regression.
    names: the target columns, one unless multilabel or multi-output regression.
    classes: the class labels in the order of their indices; empty for regression.
    offset, scale: regression targets were scaled; original = scaled * scale + offset, per column.
    """

    task: str
    names: tuple[str, ...] = ("target",)
    classes: tuple[str, ...] = ()
    offset: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()
