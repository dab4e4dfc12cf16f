"""`slipstream why RUN`: what keeps a run from working, or what it needs."""

from __future__ import annotations

from collections.abc import Sequence

from slipstream.cli.commands import CommandParser

WHAT = """Find out why a run does not work. Its settings, curves, layers and data suggest causes. Each is
tried as a branch of the run that differs in one thing, and confirmed with fresh seeds. A verdict says what
was seen, what was measured, and what to type."""
EXAMPLES = ("slipstream why outputs/mine", "slipstream why outputs/mine --json")


def parser() -> CommandParser:
    """Return the command's parser."""
    made = CommandParser("why", WHAT, EXAMPLES)
    made.add_argument("run", metavar="RUN", help="folder of a run that has ended")
    made.add_argument("--json", action="store_true", help="print the diagnosis as JSON")
    return made


def run(arguments: Sequence[str]) -> int:
    """Find the causes and show them; return the exit code."""
    given = parser().given(arguments)
    from slipstream.core.console import console
    from slipstream.diagnosis.why import why

    found = why(given.run)
    if given.json:
        print(found.as_json(), end="")
        return 0
    screen = console()
    for line in found.lines():
        screen.print(line, soft_wrap=True)
    return 0
