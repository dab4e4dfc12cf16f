"""Types and terms that every module shares: axes, numbers and structure, the flat vector's layout.

Axes, always in this order: K members of a pack, N examples of a batch, T time steps, C channels or classes,
H height, W width, P parameters. Components are written for one member and never see K.

A setting annotated as a float is a *number* (a traced hyperparameter). Members of one pack may have different
values, so inside the step it may be a scalar tensor, and code never branches on its value. Every other
setting is *structure* (a static hyperparameter): a plain Python value that shapes the computation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeAlias

from annotated_types import Ge, Gt, Le, Lt

if TYPE_CHECKING:
    from torch import Tensor

Real = float
Positive = Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0)]
Probability = Annotated[float, Ge(0), Le(1)]
Fraction = Annotated[float, Ge(0), Lt(1)]  # a rate below 1: a dropout rate, a decay
Count = Annotated[int, Ge(1)]
Natural = Annotated[int, Ge(0)]
# A name or a value from the data. If it looks like a number or a boolean, Hydra and YAML parse it as one.
Word = Annotated[str | int | float | bool, "text"]

# A value from YAML or JSON: a setting, or an entry of a run's file. Any: only the schema knows its type.
Plain: TypeAlias = Any
# The annotation of an argument: a class, Annotated[...], a union.
Annotation: TypeAlias = object
# A table, column or array of another library. Any: it is recognized by its methods, since pandas, pyarrow
# and jax are not imported for a type check.
DataLike: TypeAlias = Any
# Tensors in nested tuples, dicts and lists. Any: no type covers named tuples of them.
Tree: TypeAlias = Any
# A function that is vectorized, compiled or called. Any: components have all kinds of signatures.
Function: TypeAlias = Callable[..., Any]
# The ctx and info that torch passes to an autograd function. Any: a function stores attributes there.
AutogradContext: TypeAlias = Any
# A number inside the step: a float in a single run, a scalar tensor in a pack.
Scalar: TypeAlias = "float | Tensor"
# The numbers of the chosen components, by component and setting, and random keys under "keys".
# Any: Scalar or random.Key, passed to components unchanged.
Numbers: TypeAlias = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Layout:
    """The layout of the flat vector of P parameters: names and shapes of its tensors, in order.

    `penalized` is True for weights and False for biases and the scales and shifts of normalization,
    which penalties and decay skip. `lr_factors` multiply the updates of the tensors; empty if all are 1.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    penalized: tuple[bool, ...]
    lr_factors: tuple[float, ...] = ()

    @property
    def sizes(self) -> list[int]:
        """The number of parameters of each tensor."""
        return [prod(shape) for shape in self.shapes]

    @property
    def size(self) -> int:
        """The number of parameters, P."""
        return sum(self.sizes)

    def unflatten(self, flat: Tensor) -> dict[str, Tensor]:
        """Return views of `flat` [P] by name, each in its shape; `flat` [E * P] adds a leading axis E."""
        axes = () if len(flat) == self.size else (len(flat) // self.size,)
        parts = flat.view(*axes, self.size).split(self.sizes, dim=-1)
        return {n: part.view((*axes, *s)) for n, part, s in zip(self.names, parts, self.shapes, strict=True)}


class UpdateContext(NamedTuple):
    """The context of an update: everything that a rule may use besides the gradient and its own state.

    t: the number of this update, from 1. It is an int for a single run that is not compiled, and otherwise a
        scalar float tensor.
    params: the flat parameters [P] before the update.
    layout: their tensors, for rules that treat matrices as matrices.
    """

    t: Scalar
    params: Tensor
    layout: Layout


@dataclass(frozen=True)
class Scaling:
    """The scaling of raw images: (x - offset) * factor per channel, in the units of the file.

    low, high: the range of the raw values, 0 and 255 for bytes; augmentation maps it to [0, 1].
    """

    low: float
    high: float
    offset: tuple[float, ...]
    factor: tuple[float, ...]

    @property
    def of_unit(self) -> tuple[list[float], list[float]]:
        """Return offset and factor per channel for values already rescaled to [0, 1]."""
        span = self.high - self.low
        return [(o - self.low) / span for o in self.offset], [f * span for f in self.factor]


@dataclass(frozen=True)
class InputSpec:
    """The shape and meaning of one example as the network's input.

    kind, shape: vector [D] | sequence [T, C] | tokens [T] | image [C, H, W].
    vocabulary: for tokens, the number of ids; 0 is padding and 1 the unknown token.
    masked: for sequences, True if the last channel is a mask: 1 at a step, 0 at padding. Padding is at
        the end and 0 in all channels.
    numeric: for a vector, the indices of numeric inputs; the others are 0 or 1.
    scaling: the scaling that the network applies to its inputs, or None.
    """

    kind: str
    shape: tuple[int, ...]
    vocabulary: int = 0
    masked: bool = False
    numeric: tuple[int, ...] = ()
    scaling: Scaling | None = None

    @property
    def size(self) -> int:
        """The number of values in an example."""
        return prod(self.shape)


@dataclass(frozen=True)
class Target:
    """The prediction target.

    task: binary | multiclass | multilabel | regression.
    names: the target columns, one unless multilabel or multi-output regression.
    classes: the class labels in the order of their indices; empty for regression.
    label_kind: the type of the labels in the data, which predictions return: text, number or boolean.
    offset, scale: regression targets were scaled; original = scaled * scale + offset, per column.
    """

    task: str
    names: tuple[str, ...] = ("target",)
    classes: tuple[str, ...] = ()
    offset: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()
    label_kind: str = "text"
