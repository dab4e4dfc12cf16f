"""Horizontal bars on a log scale, drawn with Pillow alone."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from benchmarks.contest import Group, Rounds, number

LEFT, BARS, RIGHT, LINE, MARGIN = 330, 560, 110, 26, 16
INK, PALE, GRID = "#222222", "#9aa5b1", "#e3e6ea"
OURS = ("slipstream", "pack")  # drawn in colour
COLOUR = "#2f7ed8"


def draw(results: Sequence[tuple[Group, Rounds]], path: Path) -> None:
    """One picture with a chart for each group."""
    charts = [chart(group, found) for group, found in results if any(found.values())]
    if not charts:
        return
    picture = Image.new("RGB", (charts[0].width, sum(c.height for c in charts)), "white")
    top = 0
    for each in charts:
        picture.paste(each, (0, top))
        top += each.height
    picture.save(path)


def chart(group: Group, found: Rounds) -> Image.Image:
    """A bar for each contestant, from the decade below the least to the one above the greatest."""
    quantity = next(iter(next(iter(found.values()))[0]))
    values = {name: statistics.median(times[quantity] for times in rounds) for name, rounds in found.items()}
    values = {name: value for name, value in values.items() if value > 0}
    low = math.floor(math.log10(min(values.values()) / 1.5))
    high = max(math.ceil(math.log10(max(values.values()))), low + 1)
    height = 2 * MARGIN + LINE * (len(values) + 2)
    picture = Image.new("RGB", (LEFT + BARS + RIGHT, height), "white")
    pen, font, small = ImageDraw.Draw(picture), ImageFont.load_default(14), ImageFont.load_default(11)

    def across(value: float) -> float:
        return LEFT + BARS * (math.log10(value) - low) / (high - low)

    pen.text((MARGIN, MARGIN), f"{group.workload}: {group.title}", INK, font)
    top = MARGIN + LINE
    bottom = top + LINE * len(values)
    for decade in range(low, high + 1):
        x = across(10.0**decade)
        pen.line((x, top, x, bottom + 4), GRID)
        pen.text((x, bottom + 6), f"{10.0**decade:g}", INK, small, anchor="ma")
    pen.text((LEFT - 10, bottom + 6), quantity, INK, small, anchor="ra")
    for place, (name, value) in enumerate(values.items()):
        y = top + LINE * place
        pen.text((LEFT - 10, y + LINE / 2), name, INK, font, anchor="rm")
        colour = COLOUR if name.startswith(OURS) else PALE
        pen.rectangle((LEFT, y + 4, across(value), y + LINE - 4), colour)
        pen.text((across(value) + 6, y + LINE / 2), number(value), INK, font, anchor="lm")
    return picture
