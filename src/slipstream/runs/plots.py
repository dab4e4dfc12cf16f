"""Plots of curves, bars and grids, drawn only with Pillow."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw

from slipstream.core.drawing import INK, LINE, PALE, shortened, width, write
from slipstream.runs.diagnostics import tick_text, ticks

FONT, GAP = 18, 8
WIDE, HIGH = 640, 360  # pixels of a plot without its labels
LEFT, TOP, BOTTOM = 110, 44, 64
BAR, LONGEST = 28, 320  # pixels of a bar's row, and of a name
GRID, BLUE, RED = (225, 225, 225), (31, 119, 180), (214, 39, 40)
COLORS = (BLUE, (255, 127, 14), (44, 160, 44), RED, (148, 103, 189), (140, 86, 75), (227, 119, 194))
CELL = 72  # pixels

Span = tuple[float, float]


def curves_picture(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], title: str, across: str
) -> Image.Image:
    """Draw curves by name, each x [V] and y [V], in one frame with a legend.

    Values that are not finite leave a gap.
    """
    x_span = _span([x for xs, _ in curves.values() for x in xs])
    y_span = _span([y for _, ys in curves.values() for y in ys])
    legend = (FONT + GAP) * len(curves) if len(curves) > 1 else 0
    made = Image.new("RGB", (LEFT + WIDE + 4 * GAP, TOP + HIGH + BOTTOM + legend), "white")
    draw = ImageDraw.Draw(made)
    _frame(draw, x_span, y_span)
    write(draw, (LEFT, GAP), shortened(title, FONT, WIDE), FONT, anchor="lt")
    write(draw, (LEFT + WIDE / 2, TOP + HIGH + BOTTOM - 2 * GAP), across, FONT - 2, anchor="mb")
    for number, (name, (xs, ys)) in enumerate(curves.items()):
        color = COLORS[number % len(COLORS)]
        points = [
            (_place(x, x_span, WIDE) + LEFT, TOP + HIGH - _place(y, y_span, HIGH))
            if math.isfinite(y)
            else None
            for x, y in zip(xs, ys, strict=True)
        ]
        _line(draw, points, color)
        if legend:
            y = TOP + HIGH + BOTTOM + number * (FONT + GAP)
            draw.line((LEFT, y, LEFT + 30, y), fill=color, width=4)
            write(draw, (LEFT + 40, y), shortened(name, FONT - 2, WIDE - 40), FONT - 2, anchor="lm")
    return made


def bars_picture(
    values: Mapping[str, tuple[float, Span | None]], title: str, color: tuple[int, int, int] = BLUE
) -> Image.Image:
    """Draw horizontal bars by name, each a value with its interval, from 0."""
    names = {name: shortened(name, FONT - 2, LONGEST) for name in values}
    left = max((width(text, FONT - 2) for text in names.values()), default=0) + 3 * GAP
    reach = [0.0, *(v for value, interval in values.values() for v in (value, *(interval or ())))]
    span = _span(reach)
    high = BAR * len(values)
    made = Image.new("RGB", (left + WIDE + 4 * GAP, TOP + high + BOTTOM // 2 + FONT), "white")
    draw = ImageDraw.Draw(made)
    write(draw, (GAP, GAP), shortened(title, FONT, left + WIDE), FONT, anchor="lt")
    for tick in ticks(*span):
        x = left + _place(tick, span, WIDE)
        draw.line((x, TOP, x, TOP + high), fill=GRID, width=2)
        write(draw, (x, TOP + high + GAP), tick_text(tick, span[1] - span[0]), FONT - 4, anchor="mt")
    zero = left + _place(0.0, span, WIDE)
    for number, (name, (value, interval)) in enumerate(values.items()):
        y = TOP + BAR * (number + 0.5)
        write(draw, (left - GAP, y), names[name], FONT - 2, anchor="rm")
        ends = sorted((zero, left + _place(value, span, WIDE)))
        draw.rectangle((ends[0], y - BAR * 0.3, ends[1], y + BAR * 0.3), fill=color)
        if interval is not None:
            low, top = (left + _place(v, span, WIDE) for v in interval)
            draw.line((low, y, top, y), fill=PALE, width=3)
    draw.line((zero, TOP, zero, TOP + high), fill=LINE, width=2)
    return made


def grid_picture(values: np.ndarray, title: str) -> Image.Image:
    """Draw a grid of numbers [R, C]: positive ones in blue, negative ones in red."""
    rows, columns = values.shape
    made = Image.new(
        "RGB", (max(columns * CELL, width(title, FONT)) + 2 * GAP, rows * CELL + TOP + GAP), "white"
    )
    draw = ImageDraw.Draw(made)
    write(draw, (GAP, GAP), title, FONT, anchor="lt")
    largest = float(np.abs(values[np.isfinite(values)]).max(initial=0.0)) or 1.0
    for i, j in np.ndindex(rows, columns):
        value, place = float(values[i, j]), (GAP + j * CELL, TOP + i * CELL)
        share = abs(value) / largest if math.isfinite(value) else 0.0
        fill = tuple(round(255 + share * (c - 255)) for c in (BLUE if value > 0 else RED))
        draw.rectangle((*place, place[0] + CELL, place[1] + CELL), fill=fill, outline=LINE)
        said = f"{value:.2g}" if math.isfinite(value) else "-"
        ink = "white" if share > 0.6 else INK
        write(draw, (place[0] + CELL / 2, place[1] + CELL / 2), said, FONT - 4, anchor="mm", fill=ink)
    return made


def _span(values: Sequence[float]) -> Span:
    finite = [value for value in values if math.isfinite(value)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    spread = max(high - low, 1e-9 * max(abs(low), abs(high))) or 1.0
    return low, low + spread


def _place(value: float, span: Span, size: int) -> float:
    return size * (value - span[0]) / (span[1] - span[0])


def _frame(draw: ImageDraw.ImageDraw, x_span: Span, y_span: Span) -> None:
    """Draw the axes with their ticks."""
    for tick in ticks(*x_span):
        x = LEFT + _place(tick, x_span, WIDE)
        draw.line((x, TOP, x, TOP + HIGH), fill=GRID, width=2)
        write(draw, (x, TOP + HIGH + GAP), f"{tick:.6g}", FONT - 4, anchor="mt")
    for tick in ticks(*y_span):
        y = TOP + HIGH - _place(tick, y_span, HIGH)
        draw.line((LEFT, y, LEFT + WIDE, y), fill=GRID, width=2)
        write(draw, (LEFT - GAP, y), f"{tick:.6g}", FONT - 4, anchor="rm")
    draw.rectangle((LEFT, TOP, LEFT + WIDE, TOP + HIGH), outline=LINE)


def _line(
    draw: ImageDraw.ImageDraw, points: Sequence[tuple[float, float] | None], color: tuple[int, int, int]
) -> None:
    """Draw a line through points. None is a gap, and a point without neighbors is a dot."""
    for before, point, after in zip([None, *points[:-1]], points, [*points[1:], None], strict=True):
        if point is None:
            continue
        if before is not None:
            draw.line((*before, *point), fill=color, width=3)
        if before is None and after is None:
            draw.ellipse((point[0] - 4, point[1] - 4, point[0] + 4, point[1] + 4), fill=color)
