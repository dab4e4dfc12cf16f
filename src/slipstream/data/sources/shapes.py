"""Drawn shapes: small images that require recognizing shape at any position."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import numpy as np
from annotated_types import Ge, Gt, Le

from slipstream.core import random
from slipstream.core.registry import register
from slipstream.core.types import Fraction, Natural, NonNegative, Probability, Target
from slipstream.data.dataset import RawData

BLOCK = 1024  # images drawn at a time; a block's random numbers depend on no other block
AREA = 1.1  # of every shape; all shapes fit into the unit circle up to 1.12
Distance = Callable[[np.ndarray, np.ndarray], np.ndarray]


@register("data", form="image")
def shapes(
    *,
    rows: Annotated[int, Ge(10)],
    classes: Annotated[int, Ge(2), Le(8)],
    size: Annotated[int, Ge(8), Le(512)],
    radius: Annotated[float, Gt(0), Le(1)],
    scale: Fraction,
    shift: Probability,
    rotation: Annotated[float, Ge(0), Le(180)],
    noise: NonNegative,
    colour: bool,
    seed: Natural,
) -> RawData:
    """Drawn shapes: circle, square, triangle, cross, ... anywhere in a small image.

    Inputs uint8 [N, 1 or 3, size, size]; the class of row i is i mod classes. All shapes have the same area,
    so brightness is uninformative. Edges are smooth (pixel coverage by signed distance). A row does not
    depend on the number of rows.
    classes: the number of classes, in the order circle, square, triangle, cross, ring, star, bar, half
        circle.
    size: pixels per side. radius: of the circle around a shape, as a fraction of half the image.
    scale: the radius varies by up to this fraction in both directions, but the shape stays within the image.
    shift: how far the center moves, as a fraction of the distance for which the shape stays within the image.
    rotation: largest angle in degrees, in both directions. noise: standard deviation; black is 0, white 1.
    colour: shape (bright) and background (dark) have random colors, instead of 0.8 on 0.2. seed: of all
        random numbers.
    """
    labels = np.arange(rows) % classes
    channels = 3 if colour else 1
    images = np.empty((rows, channels, size, size), np.uint8)
    for number, start in enumerate(range(0, rows, BLOCK)):
        drawn = _uniform(seed, 0, number, (BLOCK, 4))
        extent = np.minimum(radius * (1 + scale * (2 * drawn[:, 0] - 1)), 1)
        centre = shift * (1 - extent)[:, None] * (2 * drawn[:, 1:3] - 1)
        angle = np.radians(rotation) * (2 * drawn[:, 3] - 1)
        covered = np.empty((BLOCK, 1, size, size), np.float32)
        place = (start + np.arange(BLOCK)) % classes
        for kind, distance in enumerate(list(SHAPES.values())[:classes]):
            of = place == kind
            covered[of, 0] = _coverage(distance, extent[of], centre[of], angle[of], size)
        hues = _uniform(seed, 1, number, (BLOCK, 2, 3, 1, 1)) if colour else np.full((1, 2, 1, 1, 1), 0.5)
        ground, bright = 0.4 * hues[:, 0], 0.6 + 0.4 * hues[:, 1]
        values = ground + (bright - ground) * covered
        if noise > 0:
            key = random.make_key(seed, random.DATA, 2, number)
            values += noise * random.normal(key, values.shape).numpy()
        count = min(BLOCK, rows - start)
        images[start : start + count] = np.rint(255 * np.clip(values[:count], 0, 1))
    target = Target("binary" if classes == 2 else "multiclass", ("shape",), tuple(SHAPES)[:classes])
    names = ("red", "green", "blue") if colour else ("brightness",)
    return RawData(images, names, labels.astype(np.int64), target, kind="image")


def _uniform(seed: int, number: int, block: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.asarray(random.uniform(random.make_key(seed, random.DATA, number, block), shape).numpy())


def _coverage(
    distance: Distance, extent: np.ndarray, centre: np.ndarray, angle: np.ndarray, size: int
) -> np.ndarray:
    """Return the covered fraction of each pixel [n, size, size], from the shape's distance in pixels."""
    axis = ((np.arange(size) + 0.5) * 2 / size - 1).astype(np.float32)
    x = (axis[None, None, :] - centre[:, 0, None, None]) / extent[:, None, None]
    y = (axis[None, :, None] - centre[:, 1, None, None]) / extent[:, None, None]
    cos, sin = np.cos(angle)[:, None, None], np.sin(angle)[:, None, None]
    pixels = (extent * size / 2)[:, None, None]
    return np.clip(0.5 - pixels * distance(cos * x + sin * y, cos * y - sin * x), 0, 1)


def _polygon(x: np.ndarray, y: np.ndarray, corners: int, inner: float) -> np.ndarray:
    """Return the signed distance to a regular polygon around the unit of `inner` radius."""
    angles = 2 * np.pi * np.arange(corners) / corners + np.pi / 2
    result: np.ndarray = np.max([np.cos(a) * x + np.sin(a) * y for a in angles], axis=0) - inner
    return result


def _box(x: np.ndarray, y: np.ndarray, width: float, height: float) -> np.ndarray:
    result: np.ndarray = np.maximum(np.abs(x) - width, np.abs(y) - height)
    return result


def circle(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the signed distance to a circle, negative inside, as for all other shapes."""
    result: np.ndarray = np.hypot(x, y) - np.sqrt(AREA / np.pi)
    return result


def square(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the signed distance to a square."""
    return _box(x, y, np.sqrt(AREA) / 2, np.sqrt(AREA) / 2)


def triangle(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the signed distance to an equilateral triangle with the area 3 sqrt(3) inner radius^2."""
    return _polygon(x, y, 3, np.sqrt(AREA / np.sqrt(27)))


def cross(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the signed distance to two crossed bars, three times as long as wide (five squares)."""
    half = np.sqrt(AREA / 5) / 2
    result: np.ndarray = np.minimum(_box(x, y, 3 * half, half), _box(x, y, half, 3 * half))
    return result


def ring(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the signed distance to a ring whose hole has half the outer radius."""
    outer = np.sqrt(AREA / (0.75 * np.pi))
    radius = np.hypot(x, y)
    result: np.ndarray = np.maximum(radius - outer, outer / 2 - radius)
    return result


def star(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the signed distance to a pentagram, whose inner radius is 0.382 of the outer radius.

    The points are folded onto one edge.
    """
    fifth, inner = np.pi / 5, (3 - np.sqrt(5)) / 2
    outer = np.sqrt(AREA / (5 * inner * np.sin(fifth)))
    angle = np.abs(np.mod(np.arctan2(y, x) + np.pi / 2 + fifth, 2 * fifth) - fifth)
    radius = np.hypot(x, y)
    edge_x, edge_y = inner * np.cos(fifth) - 1, inner * np.sin(fifth)
    length = np.hypot(edge_x, edge_y)
    px, py = radius * np.cos(angle) - outer, radius * np.sin(angle)
    result: np.ndarray = (px * edge_y - py * edge_x) / length
    return result


def bar(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the signed distance to a bar, three times as long as wide."""
    half = np.sqrt(AREA / 3) / 2
    return _box(x, y, 3 * half, half)


def half_circle(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the signed distance to a half disc around its centroid, 4 / (3 pi) radius above the cut."""
    radius = np.sqrt(2 * AREA / np.pi)
    lower = y + radius * 4 / (3 * np.pi)
    result: np.ndarray = np.maximum(np.hypot(x, lower) - radius, -lower)
    return result


SHAPES: dict[str, Distance] = {
    "circle": circle,
    "square": square,
    "triangle": triangle,
    "cross": cross,
    "ring": ring,
    "star": star,
    "bar": bar,
    "half_circle": half_circle,
}
