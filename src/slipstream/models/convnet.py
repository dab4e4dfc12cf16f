"""Convolutional networks, for images and for sequences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from typing import TYPE_CHECKING, Literal

from slipstream.core.errors import ConfigError
from slipstream.core.registry import register
from slipstream.core.types import Count, Plain
from slipstream.core.wording import counted

if TYPE_CHECKING:
    from torch import nn

    from slipstream.core.types import InputSpec
    from slipstream.models.layer_factory import LayerFactory

BY_LAYER = ("channels", "kernel_size", "stride")  # settings that may be lists with one number per layer


def _problems(settings: Mapping[str, Plain]) -> list[str]:
    depth = settings["depth"]
    return [
        f"model.{name}: {counted(len(settings[name]), 'number')} for {counted(depth, 'convolution')} "
        "(model.depth), give one a layer or a single number for all"
        for name in BY_LAYER
        if isinstance(settings[name], list) and len(settings[name]) != depth
    ]


# Measured on images of 8x8 to 32x32 (scripts/bench_networks.py): compilation leaves convolutions as they are.
LEAVES = (0.7, 0.4)


@register(
    "model",
    hidden=True,
    takes=("image", "sequence", "tokens"),
    problems=_problems,
    compiled_leaves=LEAVES,
)
def convnet(
    form: InputSpec,
    outputs: int,
    parts: LayerFactory,
    *,
    depth: Count,
    channels: Count | list[Count],
    kernel_size: Count | list[Count],
    stride: Count | list[Count],
    pooling: Literal["max", "average", "none"],
    pool_size: Count,
    pool_every: Count,
    global_pooling: Literal["average", "max", "none"],
    head: list[Count],
    residual: bool,
    embedding: Count | None,
    output_activation: str,
) -> nn.Module:
    """A convolutional network: convolutions with pooling between them, then dense layers.

    h = pool(g(W * h + b)) depth times, zero-padded so that only stride and pooling reduce its size;
    then h = g(W h + b) for each dense layer of the head, and y = W h + b.

    depth: convolutions. channels, kernel_size (pixels or steps), stride (likewise): a number for all
    layers or a list with one per layer. pooling: the max or mean over non-overlapping windows of
    pool_size, after every pool_every-th convolution; incomplete windows are dropped.
    global_pooling: of every channel over all positions, before the dense layers; none: all values.
    head: widths of dense hidden layers, [] for none. residual: h = h + g(W * h + b) in every
    convolution that keeps channels and size. embedding: size of a token's learned vector, drawn from
    N(0, 1); null is min(channels, 1.6 V^0.56) for V ids, and required for data without tokens; padding
    tokens are zeros. output_activation: an activation without settings after the last layer.
    x [N, C, H, W], [N, T, C] or tokens [N, T] -> y [N, outputs].
    Raises ConfigError if pooling or stride leave nothing of an example.
    Source: LeCun et al., "Gradient-based learning applied to document recognition", 1998.
    """
    from slipstream.models import convolution as layers

    most = _by_layer(channels, depth)[0]
    hidden, (count, height, width) = layers.inputs(form, parts, _embedding(form, embedding, most))
    flat = form.kind != "image"  # one row: windows are one high
    plan = zip(*(_by_layer(value, depth) for value in (channels, kernel_size, stride)), strict=True)
    for number, (made, kernel, step) in enumerate(plan, start=1):
        same = residual and made == count and step == 1
        size = (1 if flat else kernel, kernel), (1 if flat else step, step)
        hidden.append(parts.block(layers.convolution(parts, count, *size), made, residual=same))
        count, height, width = made, -(-height // size[1][0]), -(-width // step)
        if pooling != "none" and number % pool_every == 0:
            window = (1 if flat else pool_size, pool_size)
            _require_room(form, number // pool_every, window, (height, width))
            hidden.append(layers.Pooling(pooling, window, packed=parts.members > 1))
            height, width = height // window[0], width // window[1]
    hidden.append(layers.flattening(global_pooling))
    sizes = [count * height * width if global_pooling == "none" else count, *head]
    hidden += [parts.hidden(before, after) for before, after in zip(sizes, head, strict=False)]
    output = parts.output(sizes[-1], outputs, parts.plain_activation(output_activation))
    return parts.network(hidden, output, flatten=False)


def _embedding(form: InputSpec, asked: int | None, most: int) -> int:
    """Return the size of a token's vector."""
    if form.kind == "tokens":
        return asked or min(most, ceil(1.6 * form.vocabulary**0.56))
    if asked is not None:
        raise ConfigError(
            [
                f"model.embedding: found {asked}, and the data are {form.kind} data, no tokens; set "
                "model.embedding=null"
            ]
        )
    return 0


def _by_layer(value: int | list[int], depth: int) -> Sequence[int]:
    return value if isinstance(value, list) else [value] * depth


def _require_room(form: InputSpec, number: int, window: tuple[int, int], size: tuple[int, int]) -> None:
    """Raise ConfigError if a window is larger than the remaining plane."""
    if window[0] <= size[0] and window[1] <= size[1]:
        return
    what = " x ".join(map(str, form.shape))
    left = f"{size[0]} x {size[1]}" if form.kind == "image" else counted(size[1], "step")
    raise ConfigError(
        [
            f"model.pooling: an example is {what}, and pooling number {number} finds {left}, less than its "
            f"window of model.pool_size={window[1]}; pool less often (model.pool_every), in smaller windows, "
            "after fewer convolutions (model.depth), or pooling=none"
        ]
    )


@register(
    "model",
    hidden=True,
    takes=("image",),
    branches=True,
    grows=True,
    compiles="alone",  # in a compiled pack of 16, sums round differently than in one of 2
    compiled_leaves=LEAVES,
)
def resnet(
    form: InputSpec,
    outputs: int,
    parts: LayerFactory,
    *,
    blocks: Count,
    stages: Count,
    channels: Count,
    pre_activation: bool,
    output_activation: str,
) -> nn.Module:
    """A residual network for small images, such as CIFAR's: 6 * blocks + 2 layers in three stages.

    A convolution of 3x3; then in each stage `blocks` blocks h = g(h + W2 * g(W1 * h)), with
    pre_activation h = h + W2 * g(W1 * g(h)); each stage but the first halves height and width and
    doubles the channels, and its first shortcut takes every second pixel and zeros for the new channels
    (option A); then the mean of every channel and a dense layer. Normalizations with position=before
    follow a convolution (with pre_activation they precede the nonlinearity), the others follow the
    nonlinearity; noise (dropout) is between the two convolutions, drop_path acts on whole branches.
    Choose `regularizer=batch_norm`, as `experiment=resnet` does: without a normalization the values grow
    from block to block.

    blocks: per stage; 3 gives ResNet-20. stages: 3 in the paper. channels: of the first stage, 16 in the
    paper. Activations that join features (maxout, glu) are refused: they change the number of channels.
    x [N, C, H, W] -> y [N, outputs]. Raises ConfigError if the image is too small for the stages.
    Source: He et al., arXiv 1512.03385, section 4.2; pre-activation: He et al., arXiv 1603.05027.
    """
    from slipstream.models import convolution as layers
    from slipstream.models import residual

    _require_stages(form, stages)
    if parts.width_factor > 1:
        found = f"activation: makes one feature of {parts.width_factor}, blocks of model=resnet keep their"
        raise ConfigError([f"{found} channels; take an activation that does"])
    hidden, (count, _, _) = layers.inputs(form, parts, 0)
    hidden.append(residual.first(parts, count, channels, pre_activation=pre_activation))
    count = channels
    for stage in range(stages):
        for number in range(blocks):
            made, stride = channels * 2**stage, 2 if stage and not number else 1
            hidden.append(residual.block(parts, count, made, stride, pre_activation=pre_activation))
            count = made
    hidden += [residual.nonlinear(parts, count)] if pre_activation else []
    hidden.append(layers.flattening("average"))
    output = parts.output(count, outputs, parts.plain_activation(output_activation))
    return parts.network(hidden, output, flatten=False)


def _require_stages(form: InputSpec, stages: int) -> None:
    """Raise ConfigError if the stages would halve an image below one pixel."""
    height, width = form.shape[1:]
    smallest = 2 ** (stages - 1)
    if min(height, width) < smallest:
        raise ConfigError(
            [
                f"model.stages: {stages} stages halve an image {counted(stages - 1, 'time')}, so it needs "
                f"{smallest} pixels a side; found {height} x {width}; lower model.stages"
            ]
        )
