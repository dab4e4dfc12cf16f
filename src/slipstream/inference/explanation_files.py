"""The terminal output and the files of an explanation."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from slipstream.core.console import number, print_table
from slipstream.core.types import Plain
from slipstream.inference.explanation import Explanation, told
from slipstream.inference.result_files import write_result
from slipstream.runs.plots import bars_picture

if TYPE_CHECKING:
    from rich.console import Console

SHOWN = 30  # contributions shown and plotted
NUMBERS, TABLE = "explanation.json", "explanation.csv"


def show(screen: Console, found: Explanation) -> None:
    """Show the prediction as a sum."""
    screen.print(told(found), soft_wrap=True)
    table = Table("of", "value", f"adds to {found.output}", title="explanation", title_justify="left")
    for each in found.contributions[:SHOWN]:
        table.add_row(each.name, each.value, number(each.adds))
    print_table(screen, table)
    if len(found.contributions) > SHOWN:
        screen.print(f"and {len(found.contributions) - SHOWN:,} more; -o DIR writes them all")


def write(found: Explanation, folder: Path) -> list[Path]:
    """Write explanation.json, explanation.csv and a plot into a folder, and return the files."""
    written = io.StringIO()
    table = csv.writer(written, lineterminator="\n")
    table.writerow(["kind", "name", "value", "adds"])
    for each in found.contributions:
        table.writerow([each.kind, each.name, each.value, each.adds])
    return write_result(folder, asdict(found), written.getvalue(), _pictures(found), (NUMBERS, TABLE))


def _pictures(found: Explanation) -> Iterator[tuple[str, Plain]]:
    bars = {f"{each.name} {each.value}".strip(): (each.adds, None) for each in found.contributions[:SHOWN]}
    yield "explanation", bars_picture(bars, f"added to {found.output}")
