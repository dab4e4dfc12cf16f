"""Plots of a model's predictions, drawn only with Pillow and numpy.

TensorBoard initially shows an image 340 pixels wide, so the text is large relative to the image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from slipstream.core.drawing import INK, LINE, shortened, width, write
from slipstream.core.wording import counted

FONT, GAP = 20, 8
GRID, POINT, DIAGONAL = (225, 225, 225), (31, 119, 180), (150, 150, 150)
CELL, LARGEST = 48, 960  # pixels of a cell, and of all cells on one side
LONGEST = 320  # pixels of a class's name
NUMBERED, RULED = 22, 6  # pixels: smaller cells have no room for their count, or for lines around them
LEAST_SCALE = 160  # pixels
SIDE, LEFT, TOP, BOTTOM = 520, 120, 50, 80  # of the plot of predicted against true values
TICKS, LONG = 6, 8  # maximum ticks on an axis; maximum characters of one


class MatrixFrame(NamedTuple):
    """A confusion matrix without its cells: their origin, their size, and the font size."""

    picture: Image.Image
    left: int
    top: int
    cell: int
    font: int


def confusion_picture(counts: np.ndarray, classes: Sequence[str]) -> Image.Image:
    """Draw a confusion matrix [C, C] (rows true, columns predicted), with each row shaded by its shares.

    Names are complete up to 320 pixels, about 30 characters. With more than 54 classes, only some are named.
    """
    frame, left, top, cell, font = _frame(tuple(classes))
    made, side = frame.copy(), len(classes) * cell
    draw = ImageDraw.Draw(made)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1e-12)
    shades = np.round(255 * (1 - shares)).astype(np.uint8)
    pixels = np.stack([shades, shades, np.full_like(shades, 255)], axis=-1)
    made.paste(Image.fromarray(pixels).resize((side, side), Image.Resampling.NEAREST), (left, top))
    if cell >= RULED:
        for k in range(len(classes) + 1):
            draw.line((left, top + k * cell, left + side, top + k * cell), fill=GRID)
            draw.line((left + k * cell, top, left + k * cell, top + side), fill=GRID)
    if cell >= NUMBERED:
        for i, j in np.argwhere(counts > 0):
            said, size = _count(float(counts[i, j])), font
            while size > 8 and width(said, size) > cell - 4:
                size -= 2
            place = (left + (j + 0.5) * cell, top + (i + 0.5) * cell)
            write(draw, place, said, size, anchor="mm", fill="white" if shares[i, j] > 0.5 else INK)
    right, total = (_count(float(value)) for value in (np.trace(counts), counts.sum()))
    write(draw, (GAP, GAP), f"{right} of {total} right", FONT, anchor="lt")
    return made


@lru_cache(maxsize=4)
def _frame(classes: tuple[str, ...]) -> MatrixFrame:
    """Draw names, titles and scale, which the members of a sweep share."""
    c = len(classes)
    cell = max(min(CELL, LARGEST // c), 1)
    font = max(min(FONT, cell), 12)
    names = [shortened(name, font, LONGEST) for name in classes]
    longest = max(width(name, font) for name in names)
    upright = longest + 6 > cell  # the columns' names do not fit side by side
    left = longest + FONT + 4 * GAP
    top = (longest if upright else font) + 2 * FONT + 5 * GAP
    side, scale = c * cell, max(c * cell, LEAST_SCALE)
    made = Image.new("RGB", (max(left + side, left + width("predicted class", FONT)) + 90, top + scale + GAP))
    made.paste("white", (0, 0, *made.size))
    draw = ImageDraw.Draw(made)
    every = math.ceil(font / cell)
    for i in range(0, c, every):
        middle = (i + 0.5) * cell
        write(draw, (left - GAP, top + middle), names[i], font, anchor="rm")
        if upright:
            _upright(made, (round(left + middle), top - GAP), names[i], font)
        else:
            write(draw, (left + middle, top - GAP), names[i], font, anchor="mb")
    write(draw, (left, 2 * GAP + FONT), "predicted class", FONT, anchor="lt")
    _upright(made, (GAP + FONT // 2, top + width("true class", FONT)), "true class", FONT)
    _scale(draw, (left + side + 16, top), scale)
    return MatrixFrame(made, left, top, cell, font)


def scatter_picture(true: np.ndarray, predicted: np.ndarray, name: str) -> Image.Image:
    """Plot predicted against true values [N] of one target, with equal axes and the diagonal."""
    finite = np.isfinite(true) & np.isfinite(predicted)
    true, predicted = (np.asarray(v, np.float64)[finite] for v in (true, predicted))
    both = np.concatenate([true, predicted])
    low, high = (float(both.min()), float(both.max())) if both.size else (0.0, 1.0)
    span = max(high - low, 1e-9 * max(abs(low), abs(high))) or 1.0
    made = Image.new("RGB", (LEFT + SIDE + 2 * GAP, TOP + SIDE + BOTTOM), "white")
    draw = ImageDraw.Draw(made)

    def across(value: float) -> float:
        return SIDE * (value - low) / span

    values = ticks(low, low + span)
    # Numbers far from zero are long, so ticks are relative to the first one.
    base = values[0] if max(len(tick_text(value, span)) for value in values) > LONG else 0.0
    beyond = f" minus {tick_text(base, span)}" if base else ""
    for value in values:
        said = tick_text(value - base, span)
        x, y = LEFT + across(value), TOP + SIDE - across(value)
        draw.line((x, TOP, x, TOP + SIDE), fill=GRID, width=2)
        draw.line((LEFT, y, LEFT + SIDE, y), fill=GRID, width=2)
        write(draw, (x, TOP + SIDE + GAP), said, FONT - 2, anchor="mt")
        write(draw, (LEFT - GAP, y), said, FONT - 2, anchor="rm")
    draw.rectangle((LEFT, TOP, LEFT + SIDE, TOP + SIDE), outline=LINE)
    draw.line((LEFT, TOP + SIDE, LEFT + SIDE, TOP), fill=DIAGONAL, width=2)
    _dots(made, LEFT + across_all(true, low, span), TOP + SIDE - across_all(predicted, low, span))
    title = shortened(f"{name}, {counted(len(true), 'row')}", FONT, SIDE)
    write(draw, (LEFT, GAP), title, FONT, anchor="lt")
    write(draw, (LEFT + SIDE / 2, TOP + SIDE + BOTTOM - GAP), f"true{beyond}", FONT, anchor="mb")
    title = f"predicted{beyond}"
    _upright(made, (GAP + FONT // 2, TOP + (SIDE + width(title, FONT)) // 2), title, FONT)
    return made


def across_all(values: np.ndarray, low: float, span: float) -> np.ndarray:
    """Return the positions of values on an axis, in whole pixels from its start."""
    return np.round(SIDE * (values - low) / span).astype(np.int64)


def ticks(low: float, high: float) -> list[float]:
    """Return round numbers from low to high: 1, 2 or 5 times a power of ten apart, at most six.

    >>> ticks(0.0, 1.0), ticks(19.6, 376.3)
    ([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], [100.0, 200.0, 300.0])
    """
    rough = (high - low) / (TICKS - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(step for step in (power, 2 * power, 5 * power, 10 * power) if step >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{number * step:.12g}") for number in range(first, last + 1)]


def tick_text(value: float, span: float) -> str:
    """Format a number with the digits in which ticks over this span differ.

    >>> tick_text(1700000100.0, 50.0), tick_text(0.2, 1.0), tick_text(3e-05, 1e-4)
    ('1,700,000,100', '0.2', '3e-05')
    """
    if span >= 1e-3 and abs(value) < 1e12:
        return f"{value:,.{max(0, 1 - math.floor(math.log10(span)))}f}"
    return f"{value:.6g}"


def _count(value: float) -> str:
    """Format a count, which may be fractional.

    >>> _count(26.0), _count(2.5), _count(12345.0)
    ('26', '2.5', '12,345')
    """
    return f"{value:,.0f}" if value == round(value) else f"{value:.4g}" if value < 100 else f"{value:,.1f}"


def _dots(made: Image.Image, x: np.ndarray, y: np.ndarray) -> None:
    """Draw a disc around each point, in a time that does not depend on the number of points."""
    pixels = np.array(made)
    reach = 4 if len(x) < 2000 else 2
    for down in range(-reach, reach + 1):
        for right in range(-reach, reach + 1):
            if down**2 + right**2 <= reach**2 + 1:
                pixels[y + down, x + right] = POINT
    made.paste(Image.fromarray(pixels))


def _upright(made: Image.Image, foot: tuple[int, int], text: str, size: int) -> None:
    """Draw text rotated to read upwards, starting at the bottom."""
    line = Image.new("RGB", (width(text, size) + 2, size + 8), "white")
    write(ImageDraw.Draw(line), (0, line.height / 2), text, size, anchor="lm")
    turned = line.transpose(Image.Transpose.ROTATE_90)
    made.paste(turned, (foot[0] - turned.width // 2, foot[1] - turned.height))


def _scale(draw: ImageDraw.ImageDraw, place: tuple[int, int], height: int) -> None:
    """Draw the color scale: the share of the row."""
    x, y = place
    for k in range(height):
        shade = round(255 * k / max(height - 1, 1))
        draw.line((x, y + k, x + 18, y + k), fill=(shade, shade, 255))
    draw.rectangle((x, y, x + 18, y + height), outline=LINE)
    for share, anchor in ((1.0, "lt"), (0.5, "lm"), (0.0, "lb")):
        write(draw, (x + 24, y + height * (1 - share)), f"{share:.0%}", FONT - 4, anchor=anchor)
    write(draw, (x - 4, y - 8), "of row", FONT - 4, anchor="lb")
