"""`slipstream why RUN`: why a run does not work, or what makes it work."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from slipstream.cli.commands import CommandParser

WHAT = """Find out why a run does not work. Its settings, curves, layers and data suggest causes. Each is
tried as a branch of the run that differs in one thing, and confirmed with fresh seeds. A verdict states the
evidence, the measured effect, and the overrides that fix the run. why.json, why.csv and why.png are written
to the run's folder, where `slipstream report` finds them.

If no cause is found, shows what each ingredient of the run contributes. For a sweep, its best trials are
trained again with fresh seeds, because the best of many trials was also lucky."""
EXAMPLES = ("slipstream why outputs/mine", "slipstream why outputs/mine --json")


def parser() -> CommandParser:
    """Return the command's parser."""
    made = CommandParser("why", WHAT, EXAMPLES)
    made.add_argument("run", metavar="RUN", help="folder of a run, or of a sweep, that has ended")
    made.add_json("the diagnosis")
    made.add_output("write the files to this folder instead of RUN")
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
