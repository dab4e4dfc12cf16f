"""Geometry: maps every output pixel to its sampling position in the input image.

Coordinates are in pixels from the image's center. A matrix [N, 3, 3] maps output to input coordinates, so
an image transformed by A and then by B is sampled at A B p: the matrices of any number of augmentations
are multiplied, and one bilinear resampling follows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import pi
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt

from slipstream.core.lazy import torch
from slipstream.core.random import normal
from slipstream.core.registry import BoundComponent, register
from slipstream.core.traits import AugmentationTraits
from slipstream.core.types import NonNegative, Numbers, Probability, Scalar

if TYPE_CHECKING:
    from torch import Tensor

    from slipstream.core.random import Key

Fill = Literal["zeros", "border", "reflection"]
Size = tuple[int, int]
Degrees = Annotated[float, Ge(0), Le(180)]
Share = Annotated[float, Gt(0), Le(1)]
AtLeastOne = Annotated[float, Ge(1)]
BelowRight = Annotated[float, Ge(0), Lt(90)]
BelowThird = Annotated[float, Ge(0), Lt(1 / 3)]
BelowHalf = Annotated[float, Ge(0), Lt(0.5)]


def resample(
    x: Tensor,
    geometries: Sequence[BoundComponent[AugmentationTraits]],
    warps: Sequence[BoundComponent[AugmentationTraits]],
    u: Mapping[str, Tensor],
    keys: Mapping[str, Key],
    numbers: Numbers,
) -> Tensor:
    """Apply all geometries, then all warps, to images x [N, C, H, W] in one resampling.

    If there are only flips, pixels stay on the grid and the result is exact.
    """
    flips = [(g.name, g.part.traits.flip) for g in geometries if g.part.traits.flip is not None]
    if not warps and len(flips) == len(geometries):
        for name, axis in flips:
            turned = u[name][0] < numbers[name]["probability"]
            x = torch.where(turned[:, None, None, None], x.flip(axis), x)
        return x
    height, width = size = x.shape[-2], x.shape[-1]
    px = torch.arange(width, device=x.device).sub((width - 1) / 2).expand(len(x), height, width)
    py = torch.arange(height, device=x.device).sub((height - 1) / 2)[:, None].expand(len(x), height, width)
    for warp in reversed(warps):
        px, py = warp.function(px, py, u[warp.name], keys[warp.name], size, **numbers[warp.name])
    if geometries:
        matrices = [g.function(u[g.name], size, **numbers[g.name]) for g in geometries]
        whole = matrices[0]
        for matrix in matrices[1:]:
            whole = multiply(whole, matrix)
        px, py = project(whole, px, py, any(g.part.traits.warped for g in geometries))
    fill = next((f for f in map(fill_of, [*geometries, *warps]) if f), "zeros")
    where = torch.stack([px * (2 / width), py * (2 / height)], dim=-1)
    return torch.nn.functional.grid_sample(x, where, mode="bilinear", padding_mode=fill, align_corners=False)


def fill_of(choice: BoundComponent[AugmentationTraits]) -> str | None:
    """Return an augmentation's fill for samples outside the image; None if there are none."""
    result: str | None = choice.function.keywords.get("fill")
    return result


def multiply(a: Tensor, b: Tensor) -> Tensor:
    """Multiply matrices [N, 3, 3] as sums, which have the same bytes in every pack."""
    return (a[:, :, :, None] * b[:, None]).sum(2)


def project(matrix: Tensor, x: Tensor, y: Tensor, divide: bool) -> tuple[Tensor, Tensor]:
    """Transform points x, y [N, H, W] by matrices [N, 3, 3]. divide: projective, not affine."""
    m = matrix[:, :, :, None, None]
    px, py = (m[:, i, 0] * x + m[:, i, 1] * y + m[:, i, 2] for i in (0, 1))
    if not divide:
        return px, py
    depth = 1 / (m[:, 2, 0] * x + m[:, 2, 1] * y + m[:, 2, 2])
    return px * depth, py * depth


def matrix_of(like: Tensor, *entries: Scalar) -> Tensor:
    """Build matrices [N, 3, 3] from nine entries, each a number or a tensor [N]."""
    columns = [e if isinstance(e, torch.Tensor) and e.dim() else torch.zeros_like(like) + e for e in entries]
    return torch.stack(columns, dim=-1).reshape(len(like), 3, 3)


def symmetric(u: Tensor) -> Tensor:
    """Map numbers on [0, 1) to [-1, 1)."""
    return 2 * u - 1


def chance(u: Tensor, probability: Scalar) -> Tensor:
    """Return 1 with this probability, else 0: float [N]."""
    return (u < probability).to(torch.float32)


@register("augmentation", kind="geometry", takes=("image",), draws=1, flip=-1)
def horizontal_flip(u: Tensor, size: Size, *, probability: Probability) -> Tensor:
    """Horizontal flip: swaps left and right.

    x' = -x with probability p

    probability: that an image is flipped. Exact: no pixel changes its value, unless other geometric
    augmentations resample the image.
    """
    sign = 1 - 2 * chance(u[0], probability)
    return matrix_of(sign, sign, 0, 0, 0, 1, 0, 0, 0, 1)


@register("augmentation", kind="geometry", takes=("image",), draws=1, flip=-2)
def vertical_flip(u: Tensor, size: Size, *, probability: Probability) -> Tensor:
    """Vertical flip: swaps top and bottom.

    y' = -y with probability p

    probability: that an image is flipped. Exact: no pixel changes its value, unless other geometric
    augmentations resample the image.
    """
    sign = 1 - 2 * chance(u[0], probability)
    return matrix_of(sign, 1, 0, 0, 0, sign, 0, 0, 0, 1)


@register("augmentation", kind="geometry", takes=("image",), draws=5)
def crop(u: Tensor, size: Size, *, smallest: Share, ratio: AtLeastOne, probability: Probability) -> Tensor:
    """Random resized crop: scales a random rectangle of the image to full size.

    share of the area uniform on [smallest, 1], aspect ratio relative to the image's log-uniform on
    [1 / ratio, ratio]; sides are clipped to the image's

    smallest: fraction of the area, above 0. ratio: at least 1; 1 keeps the proportions. probability: that
    an image is cropped. Nothing outside the image is sampled.
    Source: Szegedy et al., "Going deeper with convolutions", 2015.
    """
    height, width = size
    on = chance(u[4], probability)
    area = 1 - on * (1 - smallest) * u[0]
    # By exp and log, whose kernels give the same bytes at every position in a pack.
    stretch = torch.exp(on * symmetric(u[1]) * torch.log(torch.ones_like(on) * ratio) / 2)
    across, down = (area.sqrt() * stretch).clamp(max=1), (area.sqrt() / stretch).clamp(max=1)
    # Between the centers of the outer pixels: half a pixel further out the fill would bleed in.
    left = (1 - across) * symmetric(u[2]) * ((width - 1) / 2)
    top = (1 - down) * symmetric(u[3]) * ((height - 1) / 2)
    return matrix_of(on, across, 0, left, 0, down, top, 0, 0, 1)


@register("augmentation", kind="geometry", takes=("image",), draws=2)
def translation(u: Tensor, size: Size, *, fraction: Probability, fill: Fill) -> Tensor:
    """Translation: shifts the image, as padding and then random cropping do.

    x' = x + W a, y' = y + H b, a and b uniform on [-fraction, fraction]

    fraction: of the image's sides. fill: pixels from outside the image: zeros, the nearest border pixels, or
    a reflection. Shifts are not whole pixels: the image is resampled.
    """
    shift = symmetric(u) * fraction
    return matrix_of(shift[0], 1, 0, shift[0] * size[1], 0, 1, shift[1] * size[0], 0, 0, 1)


@register("augmentation", kind="geometry", takes=("image",), draws=1)
def rotation(u: Tensor, size: Size, *, degrees: Degrees, fill: Fill) -> Tensor:
    """Rotation about the image's center.

    angle uniform on [-degrees, degrees]

    degrees: 0 to 180. fill: pixels from outside the image: zeros, the nearest border pixels, or a
    reflection.
    """
    return rotate(symmetric(u[0]) * degrees)


def rotate(degrees: Tensor) -> Tensor:
    """Return the matrices [N, 3, 3] of rotations by angles [N]."""
    angle = degrees * (pi / 180)
    cos, sin = torch.cos(angle), torch.sin(angle)
    return matrix_of(angle, cos, -sin, 0, sin, cos, 0, 0, 0, 1)


@register("augmentation", kind="geometry", takes=("image",), draws=2)
def stretching(u: Tensor, size: Size, *, factor: AtLeastOne, fill: Fill) -> Tensor:
    """Stretching: scales width and height about the center by independent factors.

    x' = x / a, y' = y / b, a and b log-uniform on [1 / factor, factor]

    factor: at least 1; 1.2 makes a side up to a fifth longer. fill: pixels from outside the image where a
    side shrinks: zeros, the nearest border pixels, or a reflection.
    """
    scale = torch.exp(symmetric(u) * torch.log(torch.ones_like(u[0]) * factor))
    return matrix_of(u[0], scale[0], 0, 0, 0, scale[1], 0, 0, 0, 1)


@register("augmentation", kind="geometry", takes=("image",), draws=2)
def shearing(u: Tensor, size: Size, *, degrees: BelowRight, fill: Fill) -> Tensor:
    """Shearing: shifts rows against each other, and columns.

    x' = x + tan(a) y, y' = y + tan(b) x, a and b uniform on [-degrees, degrees]

    degrees: in [0, 90). fill: pixels from outside the image: zeros, the nearest border pixels, or a
    reflection.
    """
    slope = torch.tan(symmetric(u) * (degrees * (pi / 180)))
    return matrix_of(u[0], 1, slope[0], 0, slope[1], 1, 0, 0, 0, 1)


@register("augmentation", kind="geometry", takes=("image",), draws=8, warped=True)
def perspective(u: Tensor, size: Size, *, strength: BelowHalf, fill: Fill) -> Tensor:
    """Perspective: a change of viewpoint; the four corners move independently.

    corner x' = x + W a, y' = y + H b, a and b uniform on [-strength, strength]; the projective map of the
    image onto these four corners

    strength: fraction of the sides, below 0.5. fill: pixels from outside the image: zeros, the nearest
    border pixels, or a reflection.
    Source: Heckbert, "Fundamentals of texture mapping and image warping", 1989, section 2.2.3.
    """
    height, width = size
    moved = symmetric(u) * strength
    x0, x1, x2, x3 = (width * (moved[i] + at) for i, at in enumerate((-0.5, 0.5, 0.5, -0.5)))
    y0, y1, y2, y3 = (height * (moved[4 + i] + at) for i, at in enumerate((-0.5, -0.5, 0.5, 0.5)))
    ax, ay, bx, by = x1 - x2, y1 - y2, x3 - x2, y3 - y2
    sx, sy = x0 - x1 + x2 - x3, y0 - y1 + y2 - y3
    area = ax * by - bx * ay
    g, h = (sx * by - bx * sy) / area, (ax * sy - sx * ay) / area
    a, b, c = x1 - x0 + g * x1, x3 - x0 + h * x3, x0
    d, e, f = y1 - y0 + g * y1, y3 - y0 + h * y3, y0
    # So far from the unit square; rescale to the image around its center.
    g, h, a, b, d, e = g / width, h / height, a / width, b / height, d / width, e / height
    right, low = width / 2, height / 2
    return matrix_of(
        g,
        *(a, b, a * right + b * low + c),
        *(d, e, d * right + e * low + f),
        *(g, h, g * right + h * low + 1),
    )


@register("augmentation", kind="warp", takes=("image",), draws=1)
def lens_distortion(
    x: Tensor, y: Tensor, u: Tensor, key: Key, size: Size, *, strength: BelowThird, fill: Fill
) -> tuple[Tensor, Tensor]:
    """Lens distortion: bends straight lines outwards (barrel) or inwards (pincushion).

    x' = x (1 + k r^2), y' = y (1 + k r^2), r = 1 in the corners, k uniform on [-strength, strength]

    strength: below 1/3, beyond which the image would fold onto itself. fill: pixels from outside the image:
    zeros, the nearest border pixels, or a reflection. k above 0 is a barrel.
    Source: Brown, "Decentering distortion of lenses", 1966, its first radial term.
    """
    height, width = size
    k = symmetric(u[0]) * strength * (4 / (height * height + width * width))
    scale = 1 + k[:, None, None] * (x * x + y * y)
    return x * scale, y * scale


@register("augmentation", kind="warp", takes=("image",), draws=0)
def elastic(
    x: Tensor,
    y: Tensor,
    u: Tensor,
    key: Key,
    size: Size,
    *,
    strength: NonNegative,
    cells: Annotated[int, Ge(1), Le(64)],
    fill: Fill,
) -> tuple[Tensor, Tensor]:
    """Elastic deformation: a smooth random displacement field, as of a rubber sheet.

    x' = x + W a(x, y), y' = y + H b(x, y); a and b are cubic B-splines over cells x cells cells whose
    coefficients are normal with standard deviation `strength`

    strength: fraction of the sides. cells: per side, 1 to 64; more give finer ripples. fill: pixels from
    outside the image: zeros, the nearest border pixels, or a reflection.
    Source: Ronneberger, Fischer and Brox, "U-Net", 2015; Simard, Steinkraus and Platt, "Best practices for
    convolutional neural networks", 2003.
    """
    height, width = size
    field = normal(key, (len(x), 2, cells + 3, cells + 3)) * strength
    moved = splines(height, cells, field) @ field @ splines(width, cells, field).T
    return x + moved[:, 0] * width, y + moved[:, 1] * height


def splines(length: int, cells: int, like: Tensor) -> Tensor:
    """Evaluate cubic B-splines over evenly spaced cells at every pixel of a side: [length, cells + 3]."""
    at = (torch.arange(length, device=like.device) + 0.5) * (cells / length)
    away = (at[:, None] + 1 - torch.arange(cells + 3, device=like.device)).abs()
    near, far = (2 - away).clamp(min=0), (1 - away).clamp(min=0)
    return (near * near * near - 4 * far * far * far) / 6
