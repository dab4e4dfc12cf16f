"""`slipstream compare RUN RUN ...`: the differences between runs, and which is better on the same rows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from slipstream.cli.commands import CommandParser, keep, warnings_shown

WHAT = """Compare trained runs with the first one on the same rows. Shows how the configurations differ, every
metric side by side, paired tests (a bootstrap over shared rows and, for classification, McNemar's exact test)
and a sentence that says which run is better, or that the test is inconclusive.

RUN is the folder of a run, of a member of a sweep, or of a sweep. For a sweep, the seeds or folds of its best
trial predict together. Without data.path, the runs must share the same test rows."""
EXAMPLES = (
    "slipstream compare outputs/mine outputs/other",
    "slipstream compare outputs/mine outputs/other outputs/third data.path=new.csv -o comparison",
    "slipstream compare outputs/mine outputs/other --metric roc_auc",
)


def parser() -> CommandParser:
    """Return the command's parser."""
    made = CommandParser("compare", WHAT, EXAMPLES)
    made.add_argument(
        "words", metavar="RUN|data.KEY=VALUE", nargs="+", help="run folders, and data settings to change"
    )
    made.add_argument("--metric", metavar="NAME", help="the metric to decide by, or loss")
    made.add_output("write comparison.json, comparison.csv and curves")
    return made


def run(arguments: Sequence[str]) -> int:
    """Compare the runs, show the result and return the exit code."""
    given = parser().given(arguments, "names no runs")
    overrides = [word for word in given.words if word.startswith("data.") and "=" in word]
    runs = [word for word in given.words if word not in overrides]
    if len(runs) < 2:
        parser().error("expected at least two runs")
    from slipstream.core.console import console
    from slipstream.inference.comparison_files import show, write
    from slipstream.inference.paired_comparison import compare

    screen = console()
    with warnings_shown(screen):
        found = compare(runs, *overrides, metric=given.metric)
    show(screen, found)
    keep(screen, given.output, partial(write, found), "these results and the curves")
    return 0
