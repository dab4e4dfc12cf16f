"""Layers of convolutional networks, on planes [N, C, H, W]; a sequence is an image one row high.

On a CPU convolution and pooling are fastest with channels last in memory, so `Planes` puts examples in that
order once; all other operations preserve the order. vmap turns a pack's convolutions into one grouped
convolution. Compiled, that is fast for tiny images. In eager mode it is slower than calling the members'
convolutions in turn (at 16 channels or more on 8x8 pixels), and the members' channels end up side by side,
where the rounding of sums depends on their number.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce

import torch
from torch import Tensor, nn
from torch.nn import functional

from slipstream.core import random
from slipstream.core.types import AutogradContext, InputSpec, Tree
from slipstream.models.layer_factory import LayerFactory, Make

Size = tuple[int, int]  # vertical, horizontal
Arguments = tuple[Tree, ...]
FEW = 300  # pixels of a plane up to which a matrix product is faster for one channel


class Planes(nn.Module):
    """Examples of any kind as planes: [N, C, H, W], or [N, T, C] -> [N, C, 1, T]."""

    def __init__(self, form: InputSpec) -> None:
        super().__init__()
        self.image = form.kind == "image"

    def forward(self, x: Tensor) -> Tensor:
        return channels_last(x) if self.image else x.transpose(1, 2).unsqueeze(2)


class TokenEmbedding(nn.Module):
    """A learned vector per id: tokens [N, T] -> [N, T, features]; padding is zeros.

    Initial values are standard normal, as in torch.nn.Embedding.
    """

    def __init__(self, vocabulary: int, features: int, key: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(random.normal(key, (vocabulary, features)))
        self.weight.own_start = True  # type: ignore[attr-defined]  # our mark on a parameter

    def forward(self, ids: Tensor) -> Tensor:
        ids = ids.long()
        return functional.embedding(ids, self.weight) * (ids != 0).unsqueeze(-1)


class Convolution(nn.Module):
    """y[o] = sum over channels c of W[o, c] * x[c] + b[o], zero-padded: [N, C, H, W] -> [N, O, H, W].

    Padding is `same`: H becomes H / stride, rounded up. An even kernel extends one pixel further right.
    """

    def __init__(
        self, channels: int, outputs: int, kernel: Size, stride: Size, *, bias: bool, packed: bool
    ) -> None:
        super().__init__()
        device = torch.get_default_device()
        self.weight = nn.Parameter(torch.empty(outputs, channels, *kernel, device=device))
        self.bias = nn.Parameter(torch.empty(outputs, device=device)) if bias else None
        self.stride, self.packed = stride, packed
        left, right = [(size - 1) // 2 for size in kernel], [size // 2 for size in kernel]
        self.padding = left[0], left[1]
        self.further = None if left == right else (left[1], right[1], left[0], right[0])

    def forward(self, x: Tensor) -> Tensor:
        weight: Tensor = self.weight
        bias, padding = self.bias, self.padding
        if self.further:
            x, padding = functional.pad(x, self.further), (0, 0)
        if weight.shape[1] == 1:  # only the weight's strides make the output's channels last
            weight = channels_last(weight)
        if x.device.type == "cpu" and not torch.compiler.is_compiling():
            if weight.shape[1] == 1 and self.stride == (1, 1) and x.shape[2] * x.shape[3] <= FEW:
                return as_product(x, weight, bias, padding)
            if self.packed:
                return one_by_one(x, weight, bias, self.stride, padding)
        y = functional.conv2d(x, weight, bias, self.stride, padding)
        # For members side by side, a compiler's order of summation would depend on their number.
        return channels_last(y) if self.packed and torch.compiler.is_compiling() else y


class Pooling(nn.Module):
    """The max or mean of non-overlapping windows; incomplete windows are dropped."""

    def __init__(self, kind: str, window: Size, *, packed: bool) -> None:
        super().__init__()
        self.largest, self.window, self.packed = kind == "max", window, packed

    def forward(self, x: Tensor) -> Tensor:
        if not self.largest:
            return functional.avg_pool2d(x, self.window)
        if not (self.packed and torch.compiler.is_compiling()):
            return functional.max_pool2d(x, self.window)
        # Slices, which the compiler fuses with neighboring operations: halves the time of a pack's step.
        across, down = self.window[1], self.window[0]
        right, bottom = (x.shape[-axis] // size * size for axis, size in ((1, across), (2, down)))
        x = reduce(torch.maximum, [x[..., i:right:across] for i in range(across)])
        return reduce(torch.maximum, [x[..., i:bottom:down, :] for i in range(down)])


class GlobalPooling(nn.Module):
    """The max or mean of every channel: [N, C, H, W] -> [N, C]."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.largest = kind == "max"

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(2)
        return x.amax(2) if self.largest else x.mean(2)


def convolution(parts: LayerFactory, channels: int, kernel: Size, stride: Size = (1, 1)) -> Make:
    """Return a builder of convolutions from `channels` channels, for `LayerFactory.block`."""
    packed = parts.members > 1
    return lambda outputs, bias: Convolution(channels, outputs, kernel, stride, bias=bias, packed=packed)


def flattening(pooling: str) -> nn.Module:
    """Build the layer from planes to rows: `average` or `max` of every channel, or all values (`none`)."""
    return nn.Flatten() if pooling == "none" else GlobalPooling(pooling)


def inputs(
    form: InputSpec, parts: LayerFactory, embedding: int
) -> tuple[list[nn.Module], tuple[int, int, int]]:
    """Build the layers that turn examples into planes; return them with channels, height and width.

    embedding: the size of a token's vector, for tokens.
    """
    layers: list[nn.Module] = []
    shape = form.shape
    if form.kind == "tokens":
        layers, shape = [TokenEmbedding(form.vocabulary, embedding, parts.key())], (*shape, embedding)
    planes = shape if form.kind == "image" else (shape[1], 1, shape[0])
    return [*layers, Planes(form)], planes  # type: ignore[return-value]  # planes are three numbers


def channels_last(x: Tensor) -> Tensor:
    """Return the tensor [N, C, H, W] laid out in memory as [N, H, W, C]; under vmap, as [K, N, H, W, C]."""
    if x.shape[1] == 1:  # nothing to move, but only these strides mark channels as last
        return x.reshape(x.shape[0], *x.shape[2:], 1).permute(0, 3, 1, 2)
    return x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)


def as_product(x: Tensor, weight: Tensor, bias: Tensor | None, padding: Size) -> Tensor:
    """Compute `conv2d` of one channel as a product [pixels, kernel] @ [kernel, outputs], once per pack."""
    outputs, _, down, across = weight.shape
    x = functional.pad(x[:, 0], (padding[1], padding[1], padding[0], padding[0]))
    n, height, width = len(x), x.shape[1] - down + 1, x.shape[2] - across + 1
    shifted = [x[:, i : i + height, j : j + width] for i in range(down) for j in range(across)]
    pixels, kernel = torch.stack(shifted).view(down * across, -1).t(), weight.reshape(outputs, -1).t()
    y = pixels @ kernel if bias is None else torch.addmm(bias, pixels, kernel)
    return y.view(n, height, width, outputs).permute(0, 3, 1, 2)


def one_by_one(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Size, padding: Size) -> Tensor:
    """Compute `conv2d`, which vmap calls per member. Can be differentiated once."""
    if torch.is_autocast_enabled(x.device.type):
        kind = torch.get_autocast_dtype(x.device.type)
        x, weight, bias = x.to(kind), weight.to(kind), None if bias is None else bias.to(kind)
    y: Tensor = _Convolution.apply(x, weight, bias, stride, padding)  # type: ignore[no-untyped-call]  # torch has no annotation
    return y


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Size, padding: Size) -> Tensor:
        return functional.conv2d(x, weight, bias, stride, padding)

    @staticmethod
    def setup_context(ctx: AutogradContext, inputs: Arguments, output: Tensor) -> None:
        x, weight, bias, ctx.stride, ctx.padding = inputs
        ctx.wanted = [ctx.needs_input_grad[0], True, bias is not None]
        ctx.save_for_backward(x, weight)

    @staticmethod
    def backward(ctx: AutogradContext, gradient: Tensor) -> tuple[Tensor | None, ...]:
        made = _Backward.apply(gradient, *ctx.saved_tensors, ctx.stride, ctx.padding, ctx.wanted)  # type: ignore[no-untyped-call]  # torch has no annotation
        kept = iter(made)
        return (*(next(kept) if wanted else None for wanted in ctx.wanted), None, None)

    @staticmethod
    def vmap(info: AutogradContext, axes: tuple[int | None, ...], *inputs: Tree) -> tuple[Tensor, int]:
        return _stack([_Convolution.forward(*own) for own in _members(info.batch_size, axes, inputs)]), 0


class _Backward(torch.autograd.Function):
    """The requested gradients of x, weight and bias."""

    @staticmethod
    def forward(
        gradient: Tensor, x: Tensor, weight: Tensor, stride: Size, padding: Size, wanted: list[bool]
    ) -> tuple[Tensor, ...]:
        made = torch.ops.aten.convolution_backward(
            gradient, x, weight, weight.shape[:1], stride, padding, (1, 1), False, (0, 0), 1, wanted
        )
        return tuple(one for one, want in zip(made, wanted, strict=True) if want)

    @staticmethod
    def setup_context(ctx: AutogradContext, inputs: Arguments, output: tuple[Tensor, ...]) -> None:
        pass

    @staticmethod
    def vmap(
        info: AutogradContext, axes: tuple[int | None, ...], *inputs: Tree
    ) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        made = zip(*(_Backward.forward(*own) for own in _members(info.batch_size, axes, inputs)), strict=True)
        stacked = tuple(_stack(parts) for parts in made)
        return stacked, (0,) * len(stacked)


def _members(size: int, axes: tuple[int | None, ...], inputs: Arguments) -> Iterator[Arguments]:
    """Yield the arguments of each member."""
    parts = zip(axes, inputs, strict=True)
    return zip(*(x.unbind(axis) if isinstance(axis, int) else [x] * size for axis, x in parts), strict=True)


def _stack(parts: tuple[Tensor, ...] | list[Tensor]) -> Tensor:
    """Stack the parts, keeping channels last."""
    if parts[0].dim() < 4:
        return torch.stack(parts)
    return torch.stack([part.permute(0, 2, 3, 1) for part in parts]).permute(0, 1, 4, 2, 3)
