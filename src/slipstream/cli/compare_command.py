"""`slipstream compare RUN RUN ...`: what differs, and which is better on the same rows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from slipstream.cli.commands import CommandParser, keep, warnings_shown

WHAT = """Compare trained runs with the first of them on the same rows: what differs in the configuration,
every metric, paired tests (a bootstrap of the same rows for all; of classes McNemar's exact test), and a
sentence that says which is better, or that it cannot be told.

A RUN is the folder of a run, of a sweep's member, or of a sweep: then its best trial's seeds or folds predict
together. Without data.path the runs must have the same test rows."""
EXAMPLES = (
    "slipstream compare outputs/mine outputs/other",
    "slipstream compare outputs/mine outputs/other outputs/third data.path=new.csv -o comparison",
    "slipstream compare outputs/mine outputs/other --metric roc_auc",
)


def parser() -> CommandParser:
    """Return the command's parser."""
    made = CommandParser("compare", WHAT, EXAMPLES)
    made.add_argument(
        "words", metavar="RUN|data.KEY=VALUE", nargs="+", help="folders, and settings of the data that change"
    )
    made.add_argument("--metric", metavar="NAME", help="the metric that decides, or loss")
    made.add_argument(
        "-o", "--output", metavar="DIR", help="write comparison.json, comparison.csv and curves"
    )
    return made


def run(arguments: Sequence[str]) -> int:
    """Compare and show; return the exit code."""
    given = parser().given(arguments, "names no runs")
    overrides = [word for word in given.words if word.startswith("data.") and "=" in word]
    runs = [word for word in given.words if word not in overrides]
    if len(runs) < 2:
        parser().error("expected two runs or more")
    from slipstream.core.console import console
    from slipstream.inference.comparison_files import show, write
    from slipstream.inference.paired_comparison import compare

    screen = console()
    with warnings_shown(screen):
        found = compare(runs, *overrides, metric=given.metric)
    show(screen, found)
    keep(screen, given.output, partial(write, found), "all of this, with the curves")
    return 0
