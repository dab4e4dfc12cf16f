"""RealMLP: an MLP for tables, with defaults tuned on many data sets."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge

from slipstream.core.errors import ConfigError
from slipstream.core.registry import register
from slipstream.core.types import Count, Positive
from slipstream.models.mlp import FLAT, width_problems, widths_of

if TYPE_CHECKING:
    from torch import nn

    from slipstream.core.types import InputSpec
    from slipstream.models.layer_factory import LayerFactory, Make

# Factors on the learning rate, as in the paper.
SCALE, BIAS, ACTIVATION, EMBEDDING = 6.0, 0.1, 0.1, 0.1


@register("model", hidden=True, takes=FLAT, problems=width_problems, own_start=True, dense=True)
def realmlp(
    form: InputSpec,
    outputs: int,
    parts: LayerFactory,
    *,
    depth: Count,
    width: Count | list[Count],
    frequencies: Count,
    sigma: Positive,
    embedding_size: Annotated[int, Ge(2)],
) -> nn.Module:
    """RealMLP-TD's network: an MLP with periodic embeddings, a scaling layer and data-driven initial values.

    Each numeric input x becomes [x, W cos(2 pi c x + d) + b], `embedding_size` numbers (PBLD), with
    `frequencies` waves and c from N(0, sigma^2); columns of 0 and 1 are unchanged. Then each input times a
    learned factor, then depth times z = W h / sqrt(D) + b and h = z + a (f(z) - z) with a learned share a
    per unit, then a last W h / sqrt(D) + b. Every unit starts with standard deviation 1 over the training
    split, and its bias at minus a random mixture of 5 of its outputs there. Learning rates are multiplied
    by 6 for the factors, by 0.1 for biases, shares and embeddings. Only biases are exempt from penalties.

    depth: hidden layers. width: units of each, or a list. x [N, ...] -> y [N, C]. Raises ConfigError
    if the activation joins features; refuses any initializer but auto.

    `experiment=realmlp` (classes) and `experiment=realmlp_regression` are the recipe: 3 layers of 256,
    selu or mish, robust scaling with smooth clipping, dropout 0.15, label smoothing 0.1, AdamW with
    beta2 0.95 and decay 0.02, 256 epochs in batches of 256 rows, coslog4, lr 0.04 or 0.2, best epoch by
    validation. Differences from the paper: dropout is constant, and decay scales only with lr (there both
    follow a cosine in the second half); categories are always 0 and 1 (there scaled like numbers, and
    embedded beyond 9); outputs are not clipped to the targets' range; the best epoch has the lowest loss
    (there the lowest error); an incomplete last batch is used.
    Source: Holzmueller, Grinsztajn, Steinwart, "Better by default", arXiv 2407.04491.
    """
    from slipstream.models.numeric import Columns, PeriodicWithBias, numeric_places
    from slipstream.models.tabular_layers import Parametric, Scale, ScaledLinear

    if parts.width_factor != 1:
        raise ConfigError(
            ["activation: model=realmlp bends each unit by itself, and this one joins several; take mish"]
        )
    places, columns, size = numeric_places(form), None, form.size
    if places:
        waves = PeriodicWithBias(len(places), frequencies, sigma, embedding_size, parts, EMBEDDING)
        columns = Columns(form, waves, embedding_size)
        size = columns.wide
    sizes = [size, *widths_of(width, depth)]

    def dense(features: int) -> Make:
        return lambda outputs, bias: ScaledLinear(features, outputs, parts, bias=bias, bias_factor=BIAS)

    def bent(features: int) -> Callable[[], nn.Module]:
        return lambda: Parametric(parts.activation(), features, ACTIVATION)

    hidden = [parts.block(dense(before), after, activation=bent(after)) for before, after in pairwise(sizes)]
    output = parts.output(sizes[-1], outputs, parts.plain_activation("identity"), dense(sizes[-1]))
    return parts.network(hidden, output, front={"embedding": columns, "scale": Scale(size, SCALE)})
