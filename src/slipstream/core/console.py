"""The terminal: a console that survives its reader, numbers and tables."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping

from rich.console import Console
from rich.segment import Segment
from rich.table import Table

from slipstream.core.errors import printable

BAR = 12  # characters of a bar of progress


class Output(Console):
    """A console whose reader may go away (`| head -1`): what follows is not shown, the run goes on."""

    def _check_buffer(self) -> None:
        try:
            super()._check_buffer()
        except OSError:  # also a full disk behind a redirection
            self.on_broken_pipe()

    def _render_buffer(self, buffer: Iterable[Segment]) -> str:
        """Colours and movements are Rich's alone: what is shown cannot bring its own."""
        return super()._render_buffer(
            part if part.control else Segment(printable(part.text), part.style) for part in buffer
        )

    def on_broken_pipe(self) -> None:
        """Show nothing more. Rich would end the process."""
        self.quiet = True
        # Python flushes the stream once more at its end, and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())


def console() -> Console:
    """Standard output; without colours and movement where it is no terminal or a dumb one. Brackets are
    brackets: a list of options is no style."""
    return Output(file=sys.stdout, highlight=False, markup=False, soft_wrap=False)


def number(value: float | None) -> str:
    """Four significant digits; a dash where it is undefined."""
    return "-" if value is None else f"{value:.4g}"


def metrics_table(values: Mapping[str, float | None], title: str, loss: str = "loss") -> Table:
    """Train, validation and test values of every metric, a row each. loss: what its row is called."""
    present = {key.partition("/")[0] for key in values}
    splits = [split for split in ("train", "val", "test") if split in present]
    table = Table("metric", *splits, title=title, title_justify="left")
    for name in dict.fromkeys(key.partition("/")[2] for key in values):
        cells = [number(values[key]) if (key := f"{split}/{name}") in values else "" for split in splits]
        table.add_row(loss if name == "loss" else name, *cells)
    return table
