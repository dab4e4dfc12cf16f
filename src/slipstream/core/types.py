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
# A name or a value out of the data. One that looks like a number or a truth value is none to Hydra and YAML.
Word = Annotated[str | int | float | bool, "text"]


@dataclass(frozen=True)
class Layout:
    """How the flat vector of P parameters is cut into named tensors.

    `penalized` says by position which tensors are weights (True), and which are biases or scales
    and shifts of a normalization (False), which penalties and decay leave alone. `lr_factors` multiply
    the updates of the tensors; empty where all are 1.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    penalized: tuple[bool, ...]
    lr_factors: tuple[float, ...] = ()

    @property
    def sizes(self) -> list[int]:
        return [prod(shape) for shape in self.shapes]

    @property
    def size(self) -> int:
        """P, the number of parameters."""
        return sum(self.sizes)

    def unflatten(self, flat: Tensor) -> dict[str, Tensor]:
        """Views of `flat` [P], by name, each in its own shape; of [E P], each with an axis E in front."""
        axes = () if len(flat) == self.size else (len(flat) // self.size,)
        parts = flat.view(*axes, self.size).split(self.sizes, dim=-1)
        return {n: part.view((*axes, *s)) for n, part, s in zip(self.names, parts, self.shapes, strict=True)}


class UpdateContext(NamedTuple):
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
class Scaling:
    """How raw images become inputs: (x - offset) * factor by channel, in the units of the file.

    low, high: the range of the raw values, 0 and 255 for bytes; augmentation sees it as 0 to 1.
    """

    low: float
    high: float
    offset: tuple[float, ...]
    factor: tuple[float, ...]

    @property
    def of_unit(self) -> tuple[list[float], list[float]]:
        """Offset and factor by channel for values that were brought to the range 0 to 1."""
        span = self.high - self.low
        return [(o - self.low) / span for o in self.offset], [f * span for f in self.factor]


@dataclass(frozen=True)
class InputSpec:
    """What one example looks like to a network.

    kind, shape: vector [D] | sequence [T, C] | tokens [T] | image [C, H, W].
    vocabulary: of tokens, the number of ids, of which 0 is padding and 1 stands for what is unknown.
    masked: of sequences, whether the last channel is 1 where there is a step and 0 where there is
        padding, which is at the end and 0 in all channels.
    numeric: of a vector, the places of plain numbers; the others are 0 or 1.
    scaling: where the network itself has to scale its inputs, else None.
    """

    kind: str
    shape: tuple[int, ...]
    vocabulary: int = 0
    masked: bool = False
    numeric: tuple[int, ...] = ()
    scaling: Scaling | None = None

    @property
    def size(self) -> int:
        """How many numbers an example has."""
        return prod(self.shape)


@dataclass(frozen=True)
class Target:
    """What is predicted.

    task: binary | multiclass | multilabel | regression.
    names: the target columns, one unless multilabel or multi-output regression.
    classes: the class labels in the order of their indices; empty for regression.
    label_kind: what labels are in the data, to be given back as such: text, number or boolean.
    offset, scale: regression targets were scaled; original = scaled * scale + offset, per column.
    """

    task: str
    names: tuple[str, ...] = ("target",)
    classes: tuple[str, ...] = ()
    offset: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()
    label_kind: str = "text"
