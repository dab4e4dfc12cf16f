"""Augmentations of pixels: colors, blur, noise and patches of images [N, C, H, W] in the range 0 to 1."""

from __future__ import annotations

from math import pi
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Le

from slipstream.augmentations.geometry import AtLeastOne, chance, symmetric
from slipstream.core.errors import ConfigError
from slipstream.core.lazy import torch
from slipstream.core.random import normal, uniform
from slipstream.core.registry import register
from slipstream.core.types import InputSpec, NonNegative, Probability

if TYPE_CHECKING:
    from torch import Tensor

    from slipstream.core.random import Key

Patch = Literal["zeros", "mean", "noise"]
HalfTurn = Annotated[float, Ge(0), Le(0.5)]

# The color matrices of SVG's filters: the gray of a color, and hue rotation by a quarter turn.
GREY = (0.213, 0.715, 0.072)
QUARTER = ((-0.213, -0.715, 0.928), (0.143, 0.140, -0.283), (-0.787, 0.715, 0.072))


@register("augmentation", kind="values", takes=("image",), draws=4)
def color_jitter(
    x: Tensor,
    u: Tensor,
    key: Key,
    form: InputSpec,
    *,
    brightness: Probability,
    contrast: Probability,
    saturation: Probability,
    hue: HalfTurn,
) -> Tensor:
    """Color jitter: random changes of brightness, contrast, saturation and hue.

    in this order, b, c, s uniform on 1 -+ setting, a on -+ hue, m = mean gray of the image:
    x b;  m + c (x - m);  g + s (x - g), g = gray of the pixel;  hue rotated by the angle 2 pi a;
    then clipped to [0, 1]

    brightness, contrast, saturation: 0 to 1; 0 has no effect. hue: fraction of a turn, 0 to 0.5. Saturation
    and hue need three channels and do not affect a gray image. Raises ConfigError for other numbers of
    channels. Unlike the usual conversion to HSV, a matrix rotates hue about the gray axis, which preserves
    a pixel's gray, and all four changes are one matrix per image.
    Source: Filter Effects Module Level 1 (W3C), feColorMatrix; Howard, "Some improvements on deep
    convolutional neural network based image classification", 2013.
    """
    scale = symmetric(u)
    b, c, s = (1 + scale[i] * level for i, level in enumerate((brightness, contrast, saturation)))
    return recolor(x, b, c, s, scale[3] * hue).clamp(0, 1)


def recolor(x: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor, turn: Tensor) -> Tensor:
    """Apply factors [N], 1 for no change, and hue rotations [N], in turns, to images. Does not clip."""
    n, channels, height, width = x.shape
    if channels not in (1, 3):
        raise ConfigError(
            [f"augmentation: found images with {channels} channels, expected 1 (grayscale) or 3 (RGB)"]
        )
    scale, rest = brightness * contrast, brightness * (1 - contrast)
    if channels == 1:
        mean = x.flatten(1).mean(1)
        return x * per_image(scale) + per_image(rest * mean)
    grey = torch.tensor(GREY, device=x.device)
    mean = (x.flatten(2).mean(2) * grey).sum(1)
    eye, ones = torch.eye(3, device=x.device), grey.expand(3, 3)
    angle = 2 * pi * turn[:, None, None]
    hue = ones + torch.cos(angle) * (eye - ones) + torch.sin(angle) * torch.tensor(QUARTER, device=x.device)
    pale = saturation[:, None, None] * eye + (1 - saturation[:, None, None]) * ones
    # Saturation scales the chroma that hue rotates; gray is unaffected, which saves one product.
    matrix = (ones + (hue - ones) @ (pale - ones)) * scale[:, None, None]
    flat = matrix @ x.reshape(n, 3, height * width)
    return flat.reshape(n, 3, height, width) + per_image(rest * mean)


def per_image(vector: Tensor) -> Tensor:
    """Reshape a vector [N] to broadcast against images [N, C, H, W]."""
    return vector[:, None, None, None]


@register("augmentation", kind="values", takes=("image",), draws=2)
def blur(
    x: Tensor, u: Tensor, key: Key, form: InputSpec, *, sigma: NonNegative, probability: Probability
) -> Tensor:
    """Gaussian blur of a random width.

    weights exp(-d^2 / (2 s^2)) over the distance d, normalized to sum 1, s uniform on [0, sigma]

    sigma: pixels. probability: that an image is blurred. Weights outside the image are omitted, so a
    uniform image is unchanged.
    """
    width = u[0] * sigma * chance(u[1], probability)
    return smooth(x.shape[-2], width)[:, None] @ x @ smooth(x.shape[-1], width).mT[:, None]


def smooth(length: int, sigma: Tensor) -> Tensor:
    """Return blurring matrices [N, length, length] of the widths sigma [N]."""
    at = torch.arange(length, device=sigma.device)
    power = ((at[:, None] - at) ** 2) / (2 * sigma * sigma + 1e-6)[:, None, None]
    # Tiny weights become 0: products of denormal numbers take ten times as long.
    weights = torch.where(power < 30, torch.exp(-power), 0)
    return weights / weights.sum(2, keepdim=True)


@register("augmentation", kind="values", takes=("image",), draws=1)
def pixel_noise(x: Tensor, u: Tensor, key: Key, form: InputSpec, *, std: NonNegative) -> Tensor:
    """Noise on the pixels, at a random strength per image.

    x + s N(0, 1), s uniform on [0, std]; then clipped to [0, 1]

    std: relative to the pixel range 0 to 1, at least 0. The regularizer gaussian_noise has one fixed
    strength and acts on scaled inputs.
    """
    return (x + normal(key, x.shape) * per_image(u[0] * std)).clamp(0, 1)


@register("augmentation", kind="values", takes=("image",), draws=5)
def erasing(
    x: Tensor,
    u: Tensor,
    key: Key,
    form: InputSpec,
    *,
    largest: Probability,
    ratio: AtLeastOne,
    fill: Patch,
    probability: Probability,
) -> Tensor:
    """Random erasing: overwrites a rectangle of random size and shape inside the image.

    share of the area uniform on [0, largest], aspect ratio log-uniform on [1 / ratio, ratio]

    largest: fraction of the area. ratio: at least 1; sides are clipped to the image's. fill: zeros, the
    image's mean per channel, or noise uniform on [0, 1). probability: that an image is erased.
    Source: Zhong et al., "Random erasing data augmentation", 2017.
    """
    area = u[0] * largest
    stretch = torch.exp(symmetric(u[1]) * torch.log(torch.ones_like(area) * ratio) / 2)
    across, down = (area.sqrt() * stretch).clamp(max=1), (area.sqrt() / stretch).clamp(max=1)
    left, top = (1 - across) * symmetric(u[2]) / 2, (1 - down) * symmetric(u[3]) / 2
    inside = rectangle(x, left, top, across, down) & per_image(u[4] < probability)
    return torch.where(inside, patch(x, key, fill), x)


@register("augmentation", kind="values", takes=("image",), draws=3)
def cutout(
    x: Tensor,
    u: Tensor,
    key: Key,
    form: InputSpec,
    *,
    fraction: Probability,
    fill: Patch,
    probability: Probability,
) -> Tensor:
    """Cutout: overwrites a square around a random pixel, clipped at the border.

    fraction: the square's side, as a fraction of the image's sides. fill: zeros, the image's mean per
    channel, or noise uniform on [0, 1). probability: that an image is cut.
    Source: DeVries and Taylor, "Improved regularization of convolutional neural networks with cutout", 2017.
    """
    side = torch.zeros_like(u[0]) + fraction
    inside = rectangle(x, u[0] - 0.5, u[1] - 0.5, side, side) & per_image(u[2] < probability)
    return torch.where(inside, patch(x, key, fill), x)


def rectangle(like: Tensor, left: Tensor, top: Tensor, across: Tensor, down: Tensor) -> Tensor:
    """Return a mask of the pixels inside rectangles [N]: bool [N, 1, H, W].

    Sizes and the centers' offsets from the image's center are fractions of the image's sides.
    """
    height, width = like.shape[-2:]
    x = (torch.arange(width, device=like.device) + 0.5) / width - 0.5
    y = (torch.arange(height, device=like.device) + 0.5) / height - 0.5
    columns = (x - left[:, None]).abs() < across[:, None] / 2
    rows = (y - top[:, None]).abs() < down[:, None] / 2
    return (rows[:, :, None] & columns[:, None, :])[:, None]


def patch(x: Tensor, key: Key, fill: Patch) -> Tensor | float:
    """Return the values that overwrite a part of an image."""
    if fill == "noise":
        return uniform(key, x.shape)
    return x.mean((2, 3), keepdim=True) if fill == "mean" else torch.zeros_like(x)
