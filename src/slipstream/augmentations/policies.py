"""Policies: a random operation from a list for every image, at a random strength.

An operation that was not drawn for an image gets a parameter that has no effect, so all operations run for
all images: one matrix for geometry, one for colors, and three operations on pixels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge, Le

from slipstream.augmentations.geometry import Fill, Size, matrix_of, multiply, rotate
from slipstream.augmentations.pixels import per_image, recolor
from slipstream.core.lazy import torch
from slipstream.core.registry import register
from slipstream.core.types import Probability, Scalar

if TYPE_CHECKING:
    from torch import Tensor

OPERATIONS = (
    *("identity", "rotate", "shear_x", "shear_y", "translate_x", "translate_y"),
    *("brightness", "contrast", "color", "sharpness", "solarize", "posterize", "auto_contrast"),
)
DEGREES, SHEAR, SHIFT, FACTOR = 135.0, 0.99, 0.5, 0.99  # at full strength
MOST = 4


def matrix_for(operation: Tensor, strength: Tensor, size: Size) -> Tensor:
    """Return the matrices [N, 3, 3] of the drawn operations [N] with signed strengths [N]."""

    def of(name: str) -> Tensor:
        return torch.where(operation == OPERATIONS.index(name), strength, 0)

    turned = rotate(of("rotate") * DEGREES)
    moved = matrix_of(
        strength,
        *(1, of("shear_x") * SHEAR, of("translate_x") * (SHIFT * size[1])),
        *(of("shear_y") * SHEAR, 1, of("translate_y") * (SHIFT * size[0])),
        *(0, 0, 1),
    )
    return multiply(turned, moved)


def recolored(x: Tensor, operation: Tensor, strength: Tensor) -> Tensor:
    """Apply the drawn operations [N] with signed strengths [N] to the pixels of images [N, C, H, W]."""

    def of(name: str) -> Tensor:
        return torch.where(operation == OPERATIONS.index(name), strength, 0)

    b, c, s = (1 + FACTOR * of(name) for name in ("brightness", "contrast", "color"))
    x = recolor(x, b, c, s, torch.zeros_like(b)).clamp(0, 1)
    x = (x + per_image(FACTOR * of("sharpness")) * (x - softened(x))).clamp(0, 1)
    x = torch.where(x > per_image(1 - of("solarize").abs()), 1 - x, x)
    # 8 bits at strength 0, 2 at full strength; byte levels are rounded down as in Pillow.
    bits = 8 - (of("posterize").abs() * 6).round()
    step = torch.exp2(8 - bits)
    coarse = (x * 255 / per_image(step)).floor() * per_image(step) / 255
    x = torch.where(per_image(bits < 8), coarse, x)
    low, high = x.flatten(2).amin(2)[..., None, None], x.flatten(2).amax(2)[..., None, None]
    wide = (x - low) / torch.where(high > low, high - low, 1)
    even = per_image(operation == OPERATIONS.index("auto_contrast")) & (high > low)
    return torch.where(even, wide, x)


def softened(x: Tensor) -> Tensor:
    """Apply Pillow's SMOOTH filter: a 3 x 3 mean with weight 5 for the center; the border is unchanged."""
    rows = x[..., :-2, :] + x[..., 1:-1, :] + x[..., 2:, :]
    inner = (rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:] + 4 * x[..., 1:-1, 1:-1]) / 13
    middle = torch.cat([x[..., 1:-1, :1], inner, x[..., 1:-1, -1:]], dim=-1)
    return torch.cat([x[..., :1, :], middle, x[..., -1:, :]], dim=-2)


def drawn(u: Tensor, strength: Scalar) -> tuple[Tensor, Tensor]:
    """Return the operation [N] and signed strength [N] from u [3, N]: operation, strength, sign."""
    return (u[0] * len(OPERATIONS)).floor(), strength * u[1] * torch.where(u[2] < 0.5, -1.0, 1.0)


def trivial_pixels(x: Tensor, u: Tensor, *, strength: Probability, fill: Fill) -> Tensor:
    """Apply the pixel operations of `trivial_augment`."""
    return recolored(x, *drawn(u, strength))


@register("augmentation", kind="geometry", takes=("image",), draws=3, values=trivial_pixels)
def trivial_augment(u: Tensor, size: Size, *, strength: Probability, fill: Fill) -> Tensor:
    """TrivialAugment: one uniformly drawn operation for every image, at a uniformly drawn strength.

    one of 13: identity; rotation up to 135 degrees, shearing in x or y up to 0.99, translation in x or y up
    to half a side; brightness, contrast, color, sharpness by factors 1 -+ 0.99; solarize, posterize down to
    2 bits, auto contrast. Strength uniform on [0, strength], either sign

    strength: fraction of the ranges above. fill: pixels from outside the image: zeros, the nearest border
    pixels, or a reflection. Departs from the paper: no equalize; translation by half a side instead of 32
    pixels; continuous strengths; auto contrast has no strength and acts at strength 0 too. Operations that
    are not geometric act after all geometry.
    Source: Müller and Hutter, "TrivialAugment: tuning-free yet state-of-the-art data augmentation",
    arXiv 2103.10158, the wide space.
    """
    return matrix_for(*drawn(u, strength), size)


def rand_draws(u: Tensor, operations: int, strength: Scalar) -> list[tuple[Tensor, Tensor]]:
    """Return operations and signed strengths from u [2 MOST, N]."""
    which, signs = u[:operations], torch.where(u[MOST : MOST + operations] < 0.5, -1.0, 1.0)
    return [((w * len(OPERATIONS)).floor(), s * strength) for w, s in zip(which, signs, strict=True)]


def rand_pixels(
    x: Tensor, u: Tensor, *, operations: Annotated[int, Ge(1), Le(4)], strength: Probability, fill: Fill
) -> Tensor:
    """Apply the pixel operations of `rand_augment`."""
    for operation, signed in rand_draws(u, operations, strength):
        x = recolored(x, operation, signed)
    return x


@register("augmentation", kind="geometry", takes=("image",), draws=2 * MOST, values=rand_pixels)
def rand_augment(
    u: Tensor,
    size: Size,
    *,
    operations: Annotated[int, Ge(1), Le(4)],
    strength: Probability,
    fill: Fill,
) -> Tensor:
    """RandAugment: a few uniformly drawn operations for every image, all at one strength.

    operations of `trivial_augment`, either sign

    operations: the number per image, 1 to 4. strength: fraction of the ranges of `trivial_augment`. fill:
    pixels from outside the image: zeros, the nearest border pixels, or a reflection. Departs from the
    paper: the ranges are those of TrivialAugment, and geometric operations come first.
    Source: Cubuk et al., "RandAugment: practical automated data augmentation with a reduced search space",
    2019.
    """
    first, *others = (matrix_for(*one, size) for one in rand_draws(u, operations, strength))
    for matrix in others:
        first = multiply(first, matrix)
    return first
