"""Parallel coordinates: a line for each trial from its swept values to its result, drawn with Pillow."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from PIL import Image, ImageDraw

from slipstream.core.console import number
from slipstream.core.drawing import shortened, width, write
from slipstream.core.types import Plain
from slipstream.core.wording import counted, spell
from slipstream.sweeps.plan.space import Axis, Interval
from slipstream.sweeps.report.aggregates import REPEATS, Group

GAP, TOP, HEIGHT, BOTTOM, SIDE = 220, 76, 420, 68, 110
FRAME = (150, 150, 150)
FONT = 20  # large, because TensorBoard initially shows an image 340 pixels wide
GOOD, BAD = (200, 30, 30), (190, 205, 235)
BEST = 5  # trials drawn last, with thick lines
LABELS = 12  # on an axis
Place = Callable[[Plain], float]  # position of a value, from 0 (bottom) to 1 (top)


def picture(trials: Sequence[Group], axes: Sequence[Axis], metric: str) -> Image.Image:
    """Draw the trials, sorted from the best, whose line is the reddest and ends at the top.

    An interval has a continuous scale, and a list has a position for each value. The metric's axis shows
    ranks. A line runs below an axis that does not apply to it.
    """
    shown = [axis for axis in axes if axis.key not in REPEATS]
    columns = [(axis.key, *_scale(axis)) for axis in shown]
    made = Image.new("RGB", (2 * SIDE + GAP * len(columns), TOP + HEIGHT + BOTTOM), "white")
    draw = ImageDraw.Draw(made)
    for rank in reversed(range(len(trials))):
        heights = [
            place(trials[rank].values[key]) if key in trials[rank].values else -0.08
            for key, place, _ in columns
        ]
        heights.append(_height(rank, len(trials)))
        points = [(SIDE + GAP * i, TOP + HEIGHT * (1 - height)) for i, height in enumerate(heights)]
        draw.line(points, fill=_color(rank, len(trials)), width=3 if rank < BEST else 1, joint="curve")
    ranks = sorted({round(share * (len(trials) - 1)) for share in (0, 0.25, 0.5, 0.75, 1)})
    ends = [(_height(rank, len(trials)), number(trials[rank].mean)) for rank in ranks]
    for i, (name, _, labels) in enumerate([*columns, (metric, None, ends)]):
        x = SIDE + GAP * i
        draw.line((x, TOP, x, TOP + HEIGHT), fill=FRAME)
        # Adjacent labels have different heights, and none extends beyond the image.
        title = shortened(name, FONT, 2 * GAP - 10)
        middle = min(max(x, width(title, FONT) / 2 + 6), made.width - width(title, FONT) / 2 - 6)
        write(draw, (middle, TOP - 52 + (FONT + 6) * (i % 2)), title, FONT, anchor="mm")
        for height, label in labels:
            y = TOP + HEIGHT * (1 - height)
            said = shortened(label, FONT, GAP - 30)
            box = (x + 6, y - FONT / 2, x + 10 + width(said, FONT), y + FONT / 2)
            draw.rectangle(box, fill="white")  # lines run below
            write(draw, (x + 8, y), said, FONT, anchor="lm")
    thick = f"; the best {BEST} have thick lines" if len(trials) > BEST else ""
    foot = f"{counted(len(trials), 'trial')}{thick}"
    write(draw, (6, TOP + HEIGHT + BOTTOM - 14), foot, FONT, anchor="lm")
    return made


def _height(rank: int, count: int) -> float:
    return 1 - rank / max(count - 1, 1)


def _color(rank: int, count: int) -> tuple[int, int, int]:
    share = (rank / max(count - 1, 1)) ** 0.5  # more shades for the better ones
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(GOOD, BAD, strict=True))
    return red, green, blue


def _scale(axis: Axis) -> tuple[Place, list[tuple[float, str]]]:
    """Return the position function of the axis, and its labels."""
    if isinstance(axis, Interval):
        of: Callable[[float], float] = math.log if axis.log else float
        low, span = of(axis.low), (of(axis.high) - of(axis.low)) or 1.0
        shares = (0, 0.25, 0.5, 0.75, 1)
        values = [low + span * share for share in shares]
        labels = [number(math.exp(value) if axis.log else value) for value in values]
        return lambda value: (of(value) - low) / span, list(zip(map(float, shares), labels, strict=True))
    different = list(dict.fromkeys(map(spell, _in_order(axis.values))))
    places = {word: i / max(len(different) - 1, 1) for i, word in enumerate(different)}
    every = math.ceil(len(different) / LABELS)
    named = [(places[word], _label(word)) for word in different[::every]]
    return lambda value: places.get(spell(value), -0.08), named


def _in_order(values: Sequence[Plain]) -> list[Plain]:
    """Sort numbers; anything else stays in its written order."""
    try:
        return sorted(values)
    except TypeError:
        return list(values)


def _label(word: str) -> str:
    try:
        return number(float(word))
    except ValueError:
        return word
