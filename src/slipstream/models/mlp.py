"""The dense networks: the perceptron and the multi-layer perceptron."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from slipstream.registry import register
from slipstream.types import Count, Natural

if TYPE_CHECKING:
    from torch import nn

    from slipstream.models.layers import Parts
    from slipstream.types import Form

FLAT = ("vector", "sequence", "image")  # what can be laid out as one row of numbers


@register("model", hidden=False, takes=FLAT)
def perceptron(form: Form, outputs: int, parts: Parts) -> nn.Module:
    """One dense layer: y = g(W x + b), with g the configured activation.

    form: of one example, which is flattened to D numbers. outputs: C. x [N, ...] -> y [N, C].
    The activation is the output's: leave it at `identity` in front of a loss that takes logits.
    Source: Rosenblatt, "The perceptron", Psychological Review 65, 1958.
    """
    return parts.network([], parts.output(form.size, outputs, parts.activation))


def _problems(settings: Mapping[str, Any]) -> list[str]:
    width, depth = settings["width"], settings["depth"]
    if isinstance(width, list) and len(width) != depth:
        found = f"model.width: {len(width)} widths for {depth} hidden layers"
        return [f"{found}, give one a layer or a single number for all"]
    return []


@register("model", hidden=True, takes=FLAT, problems=_problems)
def mlp(
    form: Form,
    outputs: int,
    parts: Parts,
    *,
    depth: Natural,
    width: Count | list[Count],
    residual: bool,
    output_activation: str,
) -> nn.Module:
    """A multi-layer perceptron: depth times h = g(W h + b), then y = W h + b.

    depth: hidden layers, 0 gives a linear model. width: units of each hidden layer, or a list with
    one number a layer (its length must equal depth). residual: h = h + g(W h + b) in every hidden
    layer whose input is as wide as its output (He et al., arXiv 1512.03385); the others stay plain.
    output_activation: an activation without settings behind the last layer; `identity` in front of
    a loss that takes logits. x [N, ...], flattened to D numbers -> y [N, C].
    """
    widths = list(width) if isinstance(width, list) else [width] * depth
    sizes = [form.size, *widths]
    hidden = [
        parts.hidden(before, after, residual=residual and before == after)
        for before, after in zip(sizes, widths, strict=False)
    ]
    return parts.network(hidden, parts.output(sizes[-1], outputs, parts.plain_activation(output_activation)))
