"""The dense networks: the perceptron and the multi-layer perceptron."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from slipstream.core.registry import register, shared
from slipstream.core.types import Count, Natural, Plain
from slipstream.core.wording import counted
from slipstream.models.embedding import Embedding, embedding_problems

if TYPE_CHECKING:
    from torch import nn

    from slipstream.core.types import InputSpec
    from slipstream.models.layer_factory import LayerFactory

FLAT = ("vector", "sequence", "image")  # kinds that can be flattened to one row of numbers


@shared("model")
def initial_weights(*, weights: str | None, weights_skip: list[str]) -> None:
    """Settings that every model shares.

    weights: a safetensors file with the values to start from, or null for random ones. All parameters and
        running statistics must be in it, with their shapes; 16-bit values become float32.
    weights_skip: patterns of names, [head.*], that keep their random values; the file may have them or not.
    """


@register("model", hidden=False, takes=FLAT, dense=True)
def perceptron(form: InputSpec, outputs: int, parts: LayerFactory) -> nn.Module:
    """One dense layer: y = g(W x + b), with g the configured activation.

    form: of one example, which is flattened to D numbers. outputs: C. x [N, ...] -> y [N, C].
    The activation acts on the output: leave it at `identity` for a loss that takes logits.
    Source: Rosenblatt, "The perceptron", Psychological Review 65, 1958.
    """
    return parts.network([], parts.output(form.size, outputs, parts.activation))


def width_problems(settings: Mapping[str, Plain]) -> list[str]:
    """Return a message if a list of widths does not match the depth."""
    width, depth = settings["width"], settings["depth"]
    if isinstance(width, list) and len(width) != depth:
        found = f"model.width: {counted(len(width), 'width')} for {counted(depth, 'hidden layer')}"
        return [f"{found}, give one a layer or a single number for all"]
    return []


def widths_of(width: int | list[int], depth: int) -> list[int]:
    """Return the width of each hidden layer."""
    return list(width) if isinstance(width, list) else [width] * depth


def _problems(settings: Mapping[str, Plain]) -> list[str]:
    return width_problems(settings) + embedding_problems(settings)


@register("model", hidden=True, takes=FLAT, problems=_problems, dense=True)
def mlp(
    form: InputSpec,
    outputs: int,
    parts: LayerFactory,
    *,
    depth: Natural,
    width: Count | list[Count],
    residual: bool,
    embedding: Embedding,
    output_activation: str,
) -> nn.Module:
    """A multi-layer perceptron: depth times h = g(W h + b), then y = W h + b.

    depth: hidden layers; 0 gives a linear model. width: units of each hidden layer, or a list with
    one number per layer (its length must equal depth). residual: h = h + g(W h + b) in every hidden
    layer whose input is as wide as its output (He et al., arXiv 1512.03385); the others are unchanged.
    embedding: null, or the embedding of each numeric input (Gorishniy et al., arXiv 2203.05556):
    {bins: 48, size: 16}, relu of a linear map of its position among quantiles of the training split
    (their Q-LR), or {frequencies: 48, sigma: 0.01, size: 24}, relu of a linear map of sines and cosines
    (PLR; tune sigma). Omitted from the paper: bins from decision trees, and other layers than these two.
    output_activation: an activation without settings after the last layer; `identity` for a loss that
    takes logits. x [N, ...], flattened to D numbers -> y [N, C].
    """
    from slipstream.models.numeric import embed

    columns, widths = embed(form, parts, embedding), widths_of(width, depth)
    sizes = [form.size if columns is None else columns.wide, *widths]
    hidden = [
        parts.hidden(before, after, residual=residual and before == after)
        for before, after in zip(sizes, widths, strict=False)
    ]
    output = parts.output(sizes[-1], outputs, parts.plain_activation(output_activation))
    return parts.network(hidden, output, front={"embedding": columns})
