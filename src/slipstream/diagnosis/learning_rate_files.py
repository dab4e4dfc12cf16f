"""The learning rates of a run as a table, a picture and files."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from PIL import Image, ImageDraw
from rich.table import Table

from slipstream.core.console import number, print_table
from slipstream.core.drawing import LINE, PALE, shortened, write
from slipstream.core.types import Plain
from slipstream.core.wording import counted
from slipstream.diagnosis.learning_rates import Rates
from slipstream.inference.result_files import write_result
from slipstream.runs.plots import BLUE, COLORS, GRID, RED

if TYPE_CHECKING:
    from rich.console import Console

FONT, GAP = 18, 8
WIDE, HIGH, LEFT, TOP, BOTTOM = 720, 400, 110, 72, 60
DOT, ROW = 5, 24
SHADES = (COLORS[1], COLORS[2], BLUE)


def show_rates(screen: Console, found: Rates) -> None:
    """Show every rate with its loss and how it looks, and the line to paste."""
    title = f"learning rates of {found.source}, optimizer={found.optimizer}"
    table = Table(title=title, title_justify="left")
    for heading in ("optimizer.lr", "updates", f"lowest {found.metric}", "how it looks"):
        table.add_column(heading)
    for each in found.tried:
        loss = "" if each.lowest == math.inf else number(each.lowest)
        table.add_row(f"{each.lr:g}", str(each.updates), loss, each.look)
    print_table(screen, table)
    if found.named is None:
        within = counted(found.updates, "update")
        screen.print(
            f"no rate lowers {found.metric} within {within}: the rate is not the cause", soft_wrap=True
        )
    elif found.named == found.before:
        screen.print(f"{found.line}, unchanged", soft_wrap=True)
    else:
        screen.print(f"{found.line} instead of {found.before:g}", soft_wrap=True)


def as_json(found: Rates) -> dict[str, Plain]:
    """Return the rates, their run and the named rate as plain values."""
    tried = [
        {
            "lr": each.lr,
            "updates": each.updates,
            "lowest": None if each.lowest == math.inf else each.lowest,
            "look": each.look,
            "losses": {str(updates): loss for updates, loss in each.losses.items()},
            "losses_with_the_next_seed": {str(updates): loss for updates, loss in each.again.items()},
        }
        for each in found.tried
    ]
    return {**vars(found), "line": found.line, "tried": tried}


def write_rates(found: Rates, folder: Path) -> list[Path]:
    """Write learning_rates.json, learning_rates.csv and learning_rates.png; return the files."""
    held = io.StringIO()
    writer = csv.writer(held, lineterminator="\n")
    writer.writerow(["lr", "updates", found.metric, "look"])
    writer.writerows(
        [f"{p.lr:g}", p.updates, "" if p.lowest == math.inf else repr(p.lowest), p.look] for p in found.tried
    )
    names = ("learning_rates.json", "learning_rates.csv")
    pictures = [("learning_rates", rate_picture(found))]
    return write_result(folder, as_json(found), held.getvalue(), pictures, names)


def rate_picture(found: Rates) -> Image.Image:
    """Draw the lowest loss of every rate on logarithmic axes, a curve for each number of updates.

    A cross stands for a rate that diverged.
    """
    lengths = sorted({each.updates for each in found.tried if not each.diverged})
    made = Image.new("RGB", (LEFT + WIDE + 3 * GAP, TOP + HIGH + BOTTOM + len(lengths) * ROW), "white")
    draw = ImageDraw.Draw(made)
    curves = [
        [(each.lr, each.until(length)) for each in found.tried if each.updates >= length]
        for length in lengths
    ]
    axes = _Axes.of(found, [loss for points in curves for _, loss in points])
    _frame(draw, axes)
    if found.named is not None:
        x, _ = axes.place(found.named, axes.bottom)
        draw.line((x, TOP, x, TOP + HIGH), fill=RED, width=3)
        write(draw, (x, TOP - GAP), found.line, FONT, anchor="mb", fill=RED)
    for row, (length, points) in enumerate(zip(lengths, curves, strict=True)):
        color = SHADES[row % len(SHADES)]
        drawn = [axes.place(lr, loss) for lr, loss in points if loss < math.inf]
        draw.line(drawn, fill=color, width=3)
        for x, y in drawn:
            draw.ellipse((x - DOT, y - DOT, x + DOT, y + DOT), fill=color)
        y = TOP + HIGH + BOTTOM + row * ROW - GAP
        draw.line((LEFT, y, LEFT + 30, y), fill=color, width=4)
        words = f"lowest {found.metric} of the first {counted(length, 'update')}"
        write(draw, (LEFT + 40, y), words, FONT - 2, anchor="lm")
    for each in found.tried:
        if each.diverged:
            x, _ = axes.place(each.lr, axes.bottom)
            write(draw, (x, TOP + FONT), "x", FONT, anchor="mm", fill=PALE)
    what = shortened(f"{found.optimizer}, {found.source}", FONT - 2, WIDE)
    write(draw, (LEFT + WIDE, GAP), what, FONT - 2, anchor="rt", fill=PALE)
    return made


class _Axes(NamedTuple):
    """The ends of the axes: rates across, losses upwards."""

    first: float
    last: float
    bottom: float
    top: float

    @classmethod
    def of(cls, found: Rates, losses: Sequence[float]) -> _Axes:
        """Return axes that hold the losses; those far above the start's are drawn at the top."""
        drawn = [loss for loss in losses if 0 < loss < math.inf] or [1.0]
        top = min(max(drawn), 3 * max(found.tried[0].losses.values(), default=max(drawn)))
        return cls(found.tried[0].lr, found.tried[-1].lr, min(min(drawn), top / 1.1), top)

    def place(self, lr: float, loss: float) -> tuple[float, float]:
        """Return the pixel of a rate and its loss."""
        x = math.log(lr / self.first) / max(math.log(self.last / self.first), 1e-9)
        y = math.log(max(loss, self.bottom) / self.bottom) / math.log(self.top / self.bottom)
        return LEFT + WIDE * (0.02 + 0.96 * x), TOP + HIGH * (0.96 - 0.9 * min(y, 1.0))


def _frame(draw: ImageDraw.ImageDraw, axes: _Axes) -> None:
    """Draw the frame, a line for each power of ten of the rate, and three losses."""
    for power in range(math.ceil(math.log10(axes.first)), math.floor(math.log10(axes.last)) + 1):
        x, _ = axes.place(10.0**power, axes.bottom)
        draw.line((x, TOP, x, TOP + HIGH), fill=GRID)
        write(draw, (x, TOP + HIGH + GAP), f"{10.0**power:g}", FONT - 2, anchor="mt")
    for share in (0.0, 0.5, 1.0):
        loss = axes.bottom * (axes.top / axes.bottom) ** share
        _, y = axes.place(axes.first, loss)
        draw.line((LEFT, y, LEFT + WIDE, y), fill=GRID)
        write(draw, (LEFT - GAP, y), number(loss, 3), FONT - 2, anchor="rm")
    draw.rectangle((LEFT, TOP, LEFT + WIDE, TOP + HIGH), outline=LINE)
