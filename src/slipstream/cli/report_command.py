"""`slipstream report RUN -o report.html`: one HTML file to send to a colleague."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from slipstream.cli.commands import CommandParser, warnings_shown

WHAT = """Write a report of a trained run as one HTML file: data, learning curves, metrics with intervals, the
largest losses, importance, configuration, and the command that repeats the run. The file is self-contained
and needs no JavaScript.

RUN is the folder of a run, of a member of a sweep, or of a sweep. For a sweep, the seeds or folds of its best
trial predict together. Without data.path, the report evaluates the run's test rows."""
EXAMPLES = (
    "slipstream report outputs/mine -o report.html",
    "slipstream report outputs/mine data.path=new.csv -o new.html",
)


def parser() -> CommandParser:
    """Return the command's parser."""
    made = CommandParser("report", WHAT, EXAMPLES)
    made.add_run()
    made.add_argument("-o", "--output", metavar="FILE", required=True, help="the .html file to write")
    return made


def run(arguments: Sequence[str]) -> int:
    """Write the report and return the exit code."""
    given = parser().given(arguments)
    from slipstream.core.console import console
    from slipstream.inference.html_report import report, require_new, write

    output = Path(given.output)
    require_new(output)  # fail before minutes of work
    screen = console()
    with warnings_shown(screen):
        page = report(given.run, *given.overrides)
    write(page, output)
    screen.print(f"written: {output}", soft_wrap=True)
    return 0
