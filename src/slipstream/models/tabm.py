"""TabM: an ensemble of MLPs that share most of their weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge

from slipstream.core.registry import register
from slipstream.core.types import Count, Plain
from slipstream.models.embedding import Embedding, embedding_problems
from slipstream.models.mlp import FLAT, width_problems, widths_of

if TYPE_CHECKING:
    from torch import Tensor, nn

    from slipstream.core.types import InputSpec
    from slipstream.models.layer_factory import LayerFactory, Make
    from slipstream.models.numeric import Columns


def _problems(settings: Mapping[str, Plain]) -> list[str]:
    return width_problems(settings) + embedding_problems(settings)


@register("model", hidden=True, takes=FLAT, problems=_problems)
def tabm(
    form: InputSpec,
    outputs: int,
    parts: LayerFactory,
    *,
    kind: Literal["tabm", "mini", "packed"],
    ensemble: Annotated[int, Ge(2)],
    depth: Count,
    width: Count | list[Count],
    embedding: Embedding,
    output_activation: str,
) -> nn.Module:
    """TabM: an ensemble of MLPs that share most of their weights and train together.

    kind: tabm, where each dense layer is s_e (W (r_e h)) + b_e with one W and, for member e, vectors r,
    s, b; mini, where W and b are shared and only the inputs are multiplied by r_e; packed, where nothing
    is shared. Each member has its own last layer. The r of the inputs start as random signs, or with an
    embedding as normal numbers, equal for all numbers of a column; all other r and s start at 1. The loss
    is the mean of the members' losses, the prediction the mean of their probabilities or values.

    ensemble: E members. depth, width: hidden layers and their units, as in mlp. embedding: as in mlp, but
    {bins: ..., size: ...} is w x + b + W e without relu, and W starts at zero, as in the paper.
    output_activation: as in mlp. x [N, ...], flattened to D numbers -> y [N, E, C].
    Edge: members share a normalization, over all their rows; lsuv and spectral_norm treat packed weights
    of all members as one matrix.

    `experiment=tabm` is the recipe: 3 layers of 512, relu, dropout 0.1, AdamW, lr 0.002, decay 0.0003.
    Differences from the paper: `initializer` and its `bias` set weights and biases (in the paper uniform
    up to 1/sqrt(D)); r and s do not decay (there they do); numbers are standardized (there mapped to
    normal quantiles); all members see the same batch (one of the paper's variants).
    Source: Gorishniy, Kotelnikov, Babenko, "TabM", arXiv 2410.24210.
    """
    from slipstream.models.numeric import embed
    from slipstream.models.tabular_layers import BatchEnsemble, ByMember, Multiply, Separate

    columns, widths = embed(form, parts, embedding, line=True), widths_of(width, depth)
    sizes = [form.size if columns is None else columns.wide, *widths]

    def separate(features: int) -> Make:
        return lambda outputs, bias: Separate(features, outputs, ensemble, bias=bias)

    def layer(number: int) -> Make:
        features = sizes[number]
        if kind == "packed":
            return separate(features)
        if kind == "mini":
            return parts.linear(features)
        return lambda outputs, bias: BatchEnsemble(features, outputs, ensemble, inputs=number > 0, bias=bias)

    factors = None if kind == "packed" else _first_factors(parts, form, ensemble, columns)
    hidden = [parts.block(layer(number), width) for number, width in enumerate(widths)]
    output = parts.output(sizes[-1], outputs, parts.plain_activation(output_activation), separate(sizes[-1]))
    output.add_module("members", ByMember(ensemble))
    return parts.network(hidden, output, front={"embedding": columns, "members": Multiply(ensemble, factors)})


def _first_factors(parts: LayerFactory, form: InputSpec, ensemble: int, columns: Columns | None) -> Tensor:
    """Return the initial r [E, D]: random signs, or normal and equal within an embedded column."""
    from slipstream.core import random
    from slipstream.core.lazy import torch

    if columns is None:
        return torch.where(random.uniform(parts.key(), (ensemble, form.size)) < 0.5, -1.0, 1.0)
    drawn = random.normal(parts.key(), (ensemble, len(columns.sections)))
    return torch.cat([drawn[:, i : i + 1].expand(-1, size) for i, size in enumerate(columns.sections)], dim=1)
