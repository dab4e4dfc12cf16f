"""The terminal output and the files of a comparison of runs."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image
from rich.table import Table

from slipstream.core.console import number, print_table
from slipstream.core.types import Plain
from slipstream.core.wording import counted
from slipstream.inference.ensemble import RunOrigin
from slipstream.inference.paired_comparison import ComparisonResult
from slipstream.inference.paired_tests import MetricDifference
from slipstream.inference.result_files import write_result
from slipstream.runs.plots import curves_picture
from slipstream.training.member import METRICS

if TYPE_CHECKING:
    from rich.console import Console

NUMBERS, TABLE = "comparison.json", "comparison.csv"


def show(screen: Console, found: ComparisonResult) -> None:
    """Show how the configurations differ, the metrics side by side, their differences and the verdicts."""
    if found.settings:
        table = Table("setting", *found.names, title="configuration", title_justify="left")
        for key, spelled in found.settings.items():
            table.add_row(key, *("" if value is None else value for value in spelled))
        print_table(screen, table)
    else:
        screen.print("The configurations do not differ.")
    two = len(found.names) == 2
    more = ("difference", "95 % interval", "p") if two else ()
    title = f"{counted(found.rows, 'example')}, {found.source}"
    table = Table("metric", *found.names, *more, title=title, title_justify="left")
    for name, values in found.values.items():
        cells = _cells(found.others[0].differences[name]) if two else ()
        table.add_row(name, *map(number, values), *cells)
    print_table(screen, table)
    for other in () if two else found.others:
        title = f"{other.name} minus {found.names[0]}"
        table = Table("metric", "difference", "95 % interval", "p", title=title, title_justify="left")
        for metric, difference in other.differences.items():
            table.add_row(metric, *_cells(difference))
        print_table(screen, table)
    for other in found.others:
        if (test := other.mcnemar) is not None:
            screen.print(
                f"only {found.names[0]} is right on {counted(test.first_only, 'row')}, only {other.name} on "
                f"{test.other_only:,}: McNemar's exact test, p = {number(test.p, 2)}",
                soft_wrap=True,
            )
    for other in found.others:
        screen.print(other.sentence, soft_wrap=True)


def _cells(of: MetricDifference) -> tuple[str, str, str]:
    interval = "" if of.interval is None else " to ".join(map(number, of.interval))
    return number(of.difference), interval, "" if of.p is None else number(of.p, 2)


def write(found: ComparisonResult, folder: Path) -> list[Path]:
    """Write comparison.json, comparison.csv and the learning curves into a folder, and return the files.

    Raises StorageError if a file cannot be written.
    """
    return write_result(folder, as_json(found), _csv(found), curves(found), (NUMBERS, TABLE))


def as_json(found: ComparisonResult) -> dict[str, Plain]:
    """Return the content of comparison.json."""
    own = asdict(replace(found, origins=()))
    del own["origins"]
    own["folders"] = [[str(origin.folder or "") for origin in origins] for origins in found.origins]
    return own


def _csv(found: ComparisonResult) -> str:
    written = io.StringIO()
    table = csv.writer(written, lineterminator="\n")
    table.writerow(["metric", "run", "value", "difference", "low", "high", "p"])
    for metric, values in found.values.items():
        table.writerow([metric, found.names[0], values[0], "", "", "", ""])
        for value, other in zip(values[1:], found.others, strict=True):
            each = other.differences[metric]
            table.writerow([metric, other.name, value, each.difference, *(each.interval or ("", "")), each.p])
    return written.getvalue()


def curves(found: ComparisonResult) -> Iterator[tuple[str, Image.Image]]:
    """Yield plots of the losses and of the deciding metric by epoch, each with all runs and members."""
    runs = {
        name if len(members) == 1 else f"{name}, {origin.name}": origin
        for name, members in zip(found.names, found.origins, strict=True)
        for origin in members
    }
    yield from history_pictures(runs, found.metric)


def history_pictures(runs: Mapping[str, RunOrigin], metric: str) -> Iterator[tuple[str, Image.Image]]:
    """Yield pictures of the loss and of a metric by epoch, by name of the runs."""
    read = {name: _history(origin) for name, origin in runs.items()}
    for each in dict.fromkeys(["loss", metric]):
        drawn = {}
        for split in ("train", "val"):
            key = f"{split}/{each}"
            for name, lines in read.items():
                points = [(line["epoch"], line[key]) for line in lines if line.get(key) is not None]
                if points:
                    xs, ys = zip(*points, strict=True)
                    drawn[f"{name}, {key}"] = xs, ys
        if drawn:
            yield f"curves_{each}", curves_picture(drawn, f"{each} by epoch", "epoch")


def _history(origin: RunOrigin) -> list[dict[str, float]]:
    """Return the metrics of every complete epoch; a line that a killed run left unfinished is skipped."""
    if origin.trained is not None:
        return [_numbers(record) for record in origin.trained.state["records"]]
    assert origin.folder is not None
    lines = []
    try:
        for line in (origin.folder / METRICS).read_text("utf-8").splitlines():
            lines.append(_numbers(json.loads(line)))
    except (OSError, ValueError):
        pass
    return lines


def _numbers(record: Mapping[str, Plain]) -> dict[str, float]:
    return {name: math.nan if isinstance(value, str) else value for name, value in record.items()}
