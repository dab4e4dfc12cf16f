"""A run as a small table in a terminal, and with its curves in a notebook."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from html import escape

from rich.console import Console

from slipstream.core.console import metrics_table, number
from slipstream.core.types import Plain
from slipstream.core.wording import counted
from slipstream.inference.html_table import html_table
from slipstream.runs.summary import Result

WIDTH, HEIGHT, LEFT, BOTTOM = 480, 200, 52, 22  # pixels of a chart, and of its axes
SPLITS = {"train": "#4477aa", "val": "#ee6677"}  # distinguishable for color-blind readers
WIDE = 200  # characters per line of a printed table
POINTS = 400  # of a curve; more are thinned out


def text_of(run: Result, meaning: str) -> str:
    """Return a table of the best epoch's metrics, and how the run ended. meaning: what it predicts."""
    held = io.StringIO()
    screen = Console(file=held, width=WIDE, highlight=False, markup=False, emoji=False)
    screen.print(metrics_table(run.best, _title(run)))
    lines = [line.rstrip() for line in held.getvalue().splitlines()]
    return "\n".join([*lines, *_told(run, meaning)])


def html_of(run: Result, meaning: str) -> str:
    """Return the same in HTML, with a curve of the loss."""
    told = "".join(f"<div>{escape(line)}</div>" for line in _told(run, meaning))
    table = html_table(metrics_table(run.best, _title(run)))
    return f"<div>{curves_svg(run.records)}{table}{told}</div>"


def _title(run: Result) -> str:
    if not run.best_epoch:
        return "metrics of the untrained network: no epoch was finished"
    return f"metrics of epoch {run.best_epoch}, the best of {len(run.records)}"


def _told(run: Result, meaning: str) -> list[str]:
    where = "" if run.directory is None else f"; {run.directory}"
    return [f"{run.status}: {run.reason}{where}", *([meaning] if meaning else [])]


def curves_svg(records: Sequence[Mapping[str, Plain]], metric: str = "loss", epochs: int = 0) -> str:
    """Return the train and validation curves of a metric by epoch, as SVG; "" before the first epoch.

    epochs: the planned number, which is the right end of the axis; 0 for the number of recorded epochs.
    """
    curves = {split: _points(records, f"{split}/{metric}") for split in SPLITS}
    values = [y for points in curves.values() for _, y in points]
    if not values:
        return ""
    low, high, last = min(values), max(values), max(epochs, len(records), 2)
    span = (high - low) or 1.0

    def place(x: float, y: float) -> str:
        across = LEFT + (x - 1) / (last - 1) * (WIDTH - LEFT - 8)
        return f"{across:.1f},{8 + (high - y) / span * (HEIGHT - BOTTOM - 16):.1f}"

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}" role="img" font-family="sans-serif" font-size="11">'
        f"<title>{metric} by epoch</title>"
    ]
    for split, points in curves.items():
        path = " ".join(place(x, y) for x, y in points)
        color = SPLITS[split]
        parts.append(f'<polyline fill="none" stroke="{color}" stroke-width="1.5" points="{path}"/>')
    for y, at in ((high, 14), (low, HEIGHT - BOTTOM - 4)):
        parts.append(
            f'<text x="{LEFT - 6}" y="{at}" text-anchor="end" fill="currentColor">{number(y, 3)}</text>'
        )
    legend = "".join(
        f'<tspan dx="8" fill="{SPLITS[split]}">{split}/{metric}</tspan>'
        for split, points in curves.items()
        if points
    )
    said = counted(len(records), "epoch")
    parts.append(f'<text x="{LEFT}" y="{HEIGHT - 6}" fill="currentColor">{said}{legend}</text></svg>')
    return "".join(parts)


def _points(records: Sequence[Mapping[str, Plain]], name: str) -> list[tuple[int, float]]:
    """Return the finite values of a metric by epoch, thinned out if there are many."""
    found = [(epoch, record.get(name)) for epoch, record in enumerate(records, start=1)]
    there = [(e, float(v)) for e, v in found if isinstance(v, int | float) and math.isfinite(v)]
    step = -(-len(there) // POINTS) or 1
    return there[::step] + (there[-1:] if there and (len(there) - 1) % step else [])
