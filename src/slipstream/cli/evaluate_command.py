"""`slipstream evaluate RUN data.path=FILE`: metrics with intervals, and the loss of every row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from slipstream.cli.commands import CommandParser, keep, warnings_shown
from slipstream.core.errors import UserError

WHAT = """Evaluate a trained run on new examples with known targets, or again on its own data.

RUN is the folder of a run, of a member of a sweep, or of a sweep. For a sweep, the seeds or folds of its best
trial predict together. Without data.path, the metrics of summary.json are recomputed."""
EXAMPLES = (
    "slipstream evaluate outputs/mine data.path=new.csv",
    "slipstream evaluate outputs/mine data.path=new.csv --by country -o evaluation",
    "slipstream evaluate outputs/mine",
)


def parser() -> CommandParser:
    """Return the command's parser."""
    made = CommandParser("evaluate", WHAT, EXAMPLES)
    made.add_run()
    made.add_argument("--by", metavar="COLUMN", help="also evaluate each group of this column")
    made.add_output("write evaluation.json, rows.csv and plots")
    return made


def run(arguments: Sequence[str]) -> int:
    """Evaluate the run, show the result and return the exit code."""
    given = parser().given(arguments)
    from slipstream.core.console import console, metrics_table
    from slipstream.inference import own_data
    from slipstream.inference.ensemble import open_run
    from slipstream.inference.evaluation import evaluate, evaluated
    from slipstream.inference.evaluation_files import show, write

    screen = console()
    with warnings_shown(screen):
        if given.overrides:
            found = evaluate(given.run, *given.overrides, by=given.by)
        else:
            ensemble = open_run(given.run)
            if given.by is not None:
                raise UserError("--by needs data to group; add for example data.path=new.csv")
            if len(ensemble.models) > 1:
                raise UserError(
                    f"{given.run}: several members predict together, and no summary.json has their metrics; "
                    f"add data, such as data.path=new.csv, or name one member, such as {ensemble.folders[0]}"
                )
            values, data = own_data.repeated(ensemble.folders[0])
            screen.print(metrics_table(values, f"{ensemble}, recomputed"))
            name, examples = own_data.shown(ensemble.first, data, ensemble.origins[0])
            found = replace(evaluated(ensemble, examples), name=f"{ensemble}, {name} split")
    show(screen, found)
    keep(screen, given.output, partial(write, found), "these results with every row and plots")
    return 0
