"""The terminal output and the files of importances."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.table import Table

from slipstream.core.console import number, print_table
from slipstream.core.types import Plain
from slipstream.core.wording import counted
from slipstream.inference.dependence import Dependence
from slipstream.inference.permutation_importance import FeatureImportance, ImportanceResult
from slipstream.inference.result_files import write_result
from slipstream.runs.plots import bars_picture, curves_picture, grid_picture

if TYPE_CHECKING:
    from rich.console import Console

SHOWN = 30  # features shown and plotted
LEVELS = 8  # values of a partial dependence shown
NUMBERS, TABLE = "importance.json", "importance.csv"


def show(screen: Console, found: ImportanceResult) -> None:
    """Show the importances with their intervals, and the partial dependence on the first columns."""
    screen.print(explanation(found), soft_wrap=True)
    for table in tables(found):
        print_table(screen, table)
    if len(found.features) > SHOWN:
        screen.print(f"and {len(found.features) - SHOWN:,} more; -o DIR writes them all")


def tables(found: ImportanceResult) -> Iterator[Table]:
    """Yield the tables of importances and of partial dependence."""
    table = Table("feature", "worse by", "95 % interval", "std", title="importance", title_justify="left")
    several = len({each.kind for each in found.features}) > 1
    for each in found.features[:SHOWN]:
        interval = "" if each.interval is None else " to ".join(map(number, each.interval))
        name = f"{each.kind} {each.name}" if several or each.kind == "region" else each.name
        deviation = "" if each.deviation is None else number(each.deviation)
        table.add_row(name, number(each.worse), interval, deviation)
    yield table
    yield from map(_dependence, found.dependence)


def explanation(found: ImportanceResult) -> str:
    """Return sentences that explain the numbers."""
    better = "lower" if found.mode == "min" else "higher"
    kinds = {each.kind for each in found.features}
    how = []
    if kinds & {"column", "channel"}:
        what = " or ".join(sorted(kinds & {"column", "channel"}))
        how.append(f"one {what} is permuted between examples ({counted(found.repeats, 'permutation')})")
    if "region" in kinds:
        how.append("one region is filled with the mean color")
    if "word" in kinds:
        how.append("one word is removed from all texts")
    return (
        f"{found.name}: {found.metric} {number(found.baseline)} ({better} is better) on "
        f"{counted(found.rows, 'example')}, {found.source}. Importance is how much worse it gets when "
        f"{', or '.join(how)}. Intervals come from resampling the rows."
    )


def _dependence(one: Dependence) -> Table:
    table = Table(one.column, *one.outputs, title="mean prediction", title_justify="left")
    at = np.unique(np.linspace(0, len(one.values) - 1, min(LEVELS, len(one.values))).round().astype(int))
    for i in at:
        value = one.values[i]
        table.add_row(value if isinstance(value, str) else number(value), *map(number, one.means[i]))
    return table


def write(found: ImportanceResult, folder: Path) -> list[Path]:
    """Write importance.json, importance.csv and plots into a folder, and return the files.

    Raises StorageError if a file cannot be written.
    """
    return write_result(folder, as_json(found), _csv(found), pictures(found), (NUMBERS, TABLE))


def as_json(found: ImportanceResult) -> dict[str, Plain]:
    """Return the content of importance.json."""
    return {
        "run": found.name,
        "source": found.source,
        "rows": found.rows,
        "metric": found.metric,
        "mode": found.mode,
        "baseline": found.baseline,
        "repeats": found.repeats,
        "features": [
            {**vars(each), "interval": None if each.interval is None else list(each.interval)}
            for each in found.features
        ],
        "dependence": [
            {
                "column": one.column,
                "kind": one.kind,
                "values": list(one.values),
                "predictions": {name: [row[i] for row in one.means] for i, name in enumerate(one.outputs)},
            }
            for one in found.dependence
        ],
    }


def _csv(found: ImportanceResult) -> str:
    written = io.StringIO()
    table = csv.writer(written, lineterminator="\n")
    table.writerow(["kind", "name", "worse", "low", "high", "deviation", "rows"])
    for each in found.features:
        low, high = each.interval or ("", "")
        table.writerow([each.kind, each.name, each.worse, low, high, each.deviation, each.rows])
    return written.getvalue()


def pictures(found: ImportanceResult) -> Iterator[tuple[str, Plain]]:
    """Yield plots with their names: a bar chart, a map of image regions, and each partial dependence."""
    title = f"{found.metric} is worse by"
    shown = [each for each in found.features if each.kind != "region" and each.worse is not None]
    if shown:
        yield "importance", bars_picture({each.name: _bar(each) for each in shown[:SHOWN]}, title)
    regions = {each.name: each for each in found.features if each.kind == "region"}
    if regions:
        places = [tuple(map(int, re.findall(r"\d+", name))) for name in regions]
        grid = np.full(np.max(places, axis=0), np.nan)
        for (i, j), each in zip(places, regions.values(), strict=True):
            grid[i - 1, j - 1] = math.nan if each.worse is None else each.worse
        yield "importance_regions", grid_picture(grid, title)
    for i, one in enumerate(found.dependence):
        yield f"dependence_{i + 1}", _dependence_picture(one)


def _bar(each: FeatureImportance) -> tuple[float, tuple[float, float] | None]:
    return each.worse or 0.0, each.interval


def _dependence_picture(one: Dependence) -> Plain:
    title = f"mean prediction by {one.column}"
    numbers = [value for value in one.values if not isinstance(value, str)]
    if len(numbers) == len(one.values) and len(numbers) > 1:
        curves = {name: (numbers, [row[i] for row in one.means]) for i, name in enumerate(one.outputs)}
        return curves_picture(curves, title, one.column)
    several = len(one.outputs) > 1
    bars = {
        f"{value}: {name}" if several else str(value): (one.means[v][i], None)
        for v, value in enumerate(one.values)
        for i, name in enumerate(one.outputs)
    }
    return bars_picture(dict(list(bars.items())[:SHOWN]), title)
