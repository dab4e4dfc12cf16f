"""`slipstream why RUN`: what keeps a run from working, or what it needs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from slipstream.cli.commands import CommandParser

WHAT = """Find out why a run does not work. Its settings, curves, layers and data suggest causes. Each is
tried as a branch of the run that differs in one thing, and confirmed with fresh seeds. A verdict says what
was seen, what was measured, and what to type. Numbers and a plot are written beside the run, where
`slipstream report` finds them. Of a sweep, the best trials are trained again with fresh seeds: the best of
many was lucky, too."""
EXAMPLES = ("slipstream why outputs/mine", "slipstream why outputs/mine --json")


def parser() -> CommandParser:
    """Return the command's parser."""
    made = CommandParser("why", WHAT, EXAMPLES)
    made.add_argument("run", metavar="RUN", help="folder of a run, or of a sweep, that has ended")
    made.add_argument("--json", action="store_true", help="print the diagnosis as JSON")
    made.add_argument("-o", dest="output", metavar="DIR", help="folder of the files (RUN)")
    return made


def run(arguments: Sequence[str]) -> int:
    """Find the causes and show them; return the exit code."""
    given = parser().given(arguments)
    from slipstream.core.console import console
    from slipstream.diagnosis import why_files
    from slipstream.diagnosis.why import why

    found = why(given.run)
    files = why_files.write(found, Path(given.output or given.run))
    if given.json:
        print(json.dumps(why_files.numbers(found), indent=1))
        return 0
    screen = console()
    for line in found.lines():
        screen.print(line, soft_wrap=True)
    screen.print(f"written: {', '.join(map(str, files))}", soft_wrap=True)
    return 0
