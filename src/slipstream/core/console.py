"""The terminal: a console that survives a closed pipe, numbers and tables."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping

from rich.console import Console
from rich.segment import Segment
from rich.table import Table

from slipstream.core.errors import printable

BAR = 12  # width of a progress bar, in characters


class Output(Console):
    """A console whose pipe may close (`| head -1`): later output is dropped and the run continues."""

    def _check_buffer(self) -> None:
        try:
            super()._check_buffer()
        except OSError:  # also a full disk behind a redirection
            self.on_broken_pipe()

    def _render_buffer(self, buffer: Iterable[Segment]) -> str:
        """Escape control codes in the text: only Rich may set colors and move the cursor."""
        return super()._render_buffer(
            part if part.control else Segment(printable(part.text), part.style) for part in buffer
        )

    def on_broken_pipe(self) -> None:
        """Stop all output. Rich would end the process."""
        self.quiet = True
        # Python flushes the stream again on exit, which would fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())


def console() -> Console:
    """Return a console on standard output, without colors and cursor movement unless it is a terminal.

    Brackets are printed as they are: a list of options is not Rich markup."""
    return Output(file=sys.stdout, highlight=False, markup=False, soft_wrap=False)


def number(value: float | None) -> str:
    """Format a number with four significant digits, and None as a dash."""
    return "-" if value is None else f"{value:.4g}"


def metrics_table(values: Mapping[str, float | None], title: str, loss: str = "loss") -> Table:
    """Return a table of train, validation and test values, one row per metric. loss: the name of its row."""
    present = {key.partition("/")[0] for key in values}
    splits = [split for split in ("train", "val", "test") if split in present]
    table = Table("metric", *splits, title=title, title_justify="left")
    for name in dict.fromkeys(key.partition("/")[2] for key in values):
        cells = [number(values[key]) if (key := f"{split}/{name}") in values else "" for split in splits]
        table.add_row(loss if name == "loss" else name, *cells)
    return table
