"""The terminal: a console that survives a closed pipe, numbers and tables."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.segment import Segment
from rich.table import Table

from slipstream.core.errors import printable

BAR = 12  # width of a progress bar, in characters
WHOLE = 1000  # characters per line if the output is not a terminal
WRITTEN_OUT = 1e7  # smaller numbers are written without an exponent


class Output(Console):
    """A console whose pipe may close (`| head -1`). Later output is dropped and the run continues."""

    def _check_buffer(self) -> None:
        try:
            super()._check_buffer()
        except OSError:  # for example a full disk behind a redirection
            self.on_broken_pipe()

    def _render_buffer(self, buffer: Iterable[Segment]) -> str:
        """Escape control codes in the text: only Rich may set colors and move the cursor."""
        return super()._render_buffer(
            part if part.control else Segment(printable(part.text), part.style) for part in buffer
        )

    def on_broken_pipe(self) -> None:
        """Stop all output. Rich's own method would end the process."""
        self.quiet = True
        # Python flushes the stream again on exit, which would otherwise fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())


def console() -> Console:
    """Return a console on standard output, without colors and cursor movement unless it is a terminal.

    Brackets are printed literally, because a list of options is not Rich markup.
    """
    return Output(file=sys.stdout, highlight=False, markup=False, soft_wrap=False)


@contextmanager
def quiet(library: str) -> Iterator[None]:
    """Silence a library's log messages below errors, and all warnings, inside the block."""
    logger = logging.getLogger(library)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def number(value: float | None, digits: int = 4) -> str:
    """Format a number with some significant digits, without an exponent below ten million; None gives "-".

    >>> number(0.123456), number(68432.1), number(1e-05), number(2.5e9), number(None)
    ('0.1235', '68432', '1e-05', '2.5e+09', '-')
    """
    if value is None:
        return "-"
    text = f"{value:.{digits}g}"
    return f"{value:.0f}" if "e+" in text and abs(value) < WRITTEN_OUT else text


def print_table(screen: Console, table: Table) -> None:
    """Print a table that fits the terminal. If the output is not a terminal, lines may have any length."""
    if screen.is_terminal:
        screen.print(table)
        return
    # `print` does not accept a width beyond that of the console.
    for line in screen.render_lines(table, screen.options.update(width=WHOLE), pad=False):
        screen.out("".join(part.text for part in line).rstrip(), highlight=False)


def metrics_table(
    values: Mapping[str, float | None], title: str, labels: Mapping[str, str] | None = None
) -> Table:
    """Return a table of train, validation and test values one row per metric. labels: names of rows."""
    present = {key.partition("/")[0] for key in values}
    splits = [split for split in ("train", "val", "test") if split in present]
    table = Table("metric", *splits, title=title, title_justify="left")
    for name in dict.fromkeys(key.partition("/")[2] for key in values):
        cells = [number(values[key]) if (key := f"{split}/{name}") in values else "" for split in splits]
        table.add_row((labels or {}).get(name, name), *cells)
    return table
