"""The recurrent network, for sequences and text."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import TYPE_CHECKING, Literal

from slipstream.core.errors import ConfigError
from slipstream.core.registry import register
from slipstream.core.types import Count, Plain, Real
from slipstream.core.wording import counted

if TYPE_CHECKING:
    from torch import nn

    from slipstream.core.types import InputSpec
    from slipstream.models.layer_factory import LayerFactory


def _problems(settings: Mapping[str, Plain]) -> list[str]:
    found, width, depth = [], settings["width"], settings["depth"]
    if isinstance(width, list) and len(width) != depth:
        some = f"model.width: {counted(len(width), 'width')} for {counted(depth, 'recurrent layer')}"
        found.append(f"{some}, give one a layer or a single number for all")
    if settings["forget_bias"] is not None and settings["cell"] != "lstm":
        some = f"model.forget_bias: found {settings['forget_bias']:g}, and cell={settings['cell']}"
        found.append(f"{some} has no forget gate; set model.forget_bias=null, or model.cell=lstm")
    return found


@register("model", hidden=True, takes=("sequence", "tokens"), compiles=False, problems=_problems)
def rnn(
    form: InputSpec,
    outputs: int,
    parts: LayerFactory,
    *,
    cell: Literal["simple", "lstm", "gru"],
    depth: Count,
    width: Count | list[Count],
    bidirectional: bool,
    pooling: Literal["last", "mean", "max"],
    head: list[Count],
    embedding: Count | None,
    recurrent_initializer: Literal["orthogonal", "identity", "configured"],
    forget_bias: Real | None,
    output_activation: str,
) -> nn.Module:
    """A recurrent network: recurrent layers, pooling of their states to one vector, dense layers.

    simple: h_t = g(W x_t + U h_(t-1) + b)  (Elman 1990)
    lstm: i, f, o = sigmoid, j = g of W x_t + U h_(t-1) + b; c_t = f c_(t-1) + i j; h_t = o g(c_t)
        (Hochreiter and Schmidhuber 1997; Gers et al. 2000)
    gru: r, u = sigmoid(W x_t + U h_(t-1) + b); n = g(W x_t + b + r (U h_(t-1) + b'));
        h_t = (1 - u) n + u h_(t-1)  (Cho et al. 2014, with the reset gate placed as in torch)

    g is the configured activation, by default tanh for this option; gates are sigmoids. With an activation
    that joins features (maxout, glu) the lstm's outer g stays tanh. A gate has one bias where torch.nn has
    two; gru's candidate has both.
    cell: of all layers. depth: recurrent layers. width: units of a layer in each direction, or a list with
    one number per layer. bidirectional: a second cell runs over each example from its end, and the states
    are concatenated. pooling: last (each direction's own last step), mean or max over the steps.
    head: widths of dense hidden layers after the pooling. embedding: size of a token's learned vector,
    drawn from N(0, 1); null is min(width, 1.6 V^0.56) for V ids, and required for data without tokens.
    recurrent_initializer: initial values of each gate's U: orthogonal, identity (IRNN of Le et al.,
    arXiv 1504.00941, with relu), or configured: by `initializer`, which always sets each gate's W.
    forget_bias: added to the lstm's forget gate; null is 1 (Jozefowicz et al. 2015). output_activation: an
    activation without settings after the last layer.
    x [N, T, C], or ids [N, T] -> y [N, outputs]. Padding never affects an example's output.

    Normalizations act at each step over its channels: before, on W x_t + b of all gates; after, on h_t.
    Noise on hidden layers acts on the states between layers and on the pooled ones; noise that drops
    channels drops them at every step. spectral_norm treats all gates' W, and U, as one matrix each.
    Raises ConfigError for batch_norm if lengths differ: padding would enter its statistics.
    It is not compiled: time loops have their own backward passes.
    """
    from slipstream.models import recurrent as layers

    _require_fitting(form, parts, embedding)
    widths = list(width) if isinstance(width, list) else [width] * depth
    if form.kind == "tokens":
        size = embedding or min(widths[0], ceil(1.6 * form.vocabulary**0.56))
        reader: layers.RunEmbedding | layers.RunSteps = layers.RunEmbedding(parts, size)
    else:
        reader = layers.RunSteps(parts)
    bias = 1.0 if forget_bias is None else forget_bias
    hidden: list[nn.Module] = []
    features = reader.features
    for number, wide in enumerate(widths, 1):
        directions = [
            layers.Direction(parts, cell, features, wide, first=recurrent_initializer, forget_bias=bias)
            for _ in range(1 + bidirectional)
        ]
        layer = layers.Recurrent(parts, directions, last=number == depth)
        hidden.append(layer)
        features = layer.features
    hidden.append(layers.Pool(pooling))
    hidden += parts.noises("hidden").values()
    for wide in head:
        hidden.append(parts.hidden(features, wide))
        features = wide
    last = parts.output(features, outputs, parts.plain_activation(output_activation))
    return layers.network(reader, hidden, last)


def _require_fitting(form: InputSpec, parts: LayerFactory, embedding: int | None) -> None:
    found = []
    if embedding is not None and form.kind != "tokens":
        some = f"model.embedding: found {embedding}, and the data are no tokens but {form.kind} data"
        found.append(f"{some}, which have none; set model.embedding=null")
    varied = form.kind == "tokens" or form.masked
    if varied and (parts.has_batch_norm("before") or parts.has_batch_norm("after")):
        some = "regularizer.batch_norm: sequences differ in length, and padding would enter the statistics"
        found.append(f"{some}; use layer_norm")
    if found:
        raise ConfigError(found)
