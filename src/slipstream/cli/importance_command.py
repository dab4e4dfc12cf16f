"""`slipstream importance RUN`: which columns, regions, channels or words a network uses."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from slipstream.cli.commands import CommandParser, keep, warnings_shown
from slipstream.core.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

WHAT = """Measure how much worse a trained network predicts when the values of one column are permuted between
examples (tables, sequences, the channels of images), when one region of the images is filled with the mean
color, or when one word is removed.

RUN is the folder of a run, of a member of a sweep, or of a sweep. For a sweep, the seeds or folds of its best
trial predict together. By default, this uses the metric that chose the best epoch and the run's test rows.
With --row, it explains the prediction of one example instead: what each of its values adds."""
EXAMPLES = (
    "slipstream importance outputs/mine",
    "slipstream importance outputs/mine data.path=new.csv --metric roc_auc -o importance",
    "slipstream importance outputs/photos --grid 8",
    "slipstream importance outputs/mine --row 17",
)


def parser() -> CommandParser:
    """Return the command's parser."""
    made = CommandParser("importance", WHAT, EXAMPLES)
    made.add_run()
    made.add_argument("--metric", metavar="NAME", help="a metric of the task, or loss")
    made.add_count("--repeats", 5, "permutations of each column (5)")
    made.add_count("--grid", 4, "regions along each side of an image (4)")
    made.add_count("--words", 200, "the number of most frequent words to try (200)")
    made.add_count("--row", None, "explain the prediction of this row, from 1 (needs the extra explain)")
    made.add_argument("--of", metavar="CLASS", help="with --row: the class, or target, to explain")
    made.add_output("write importance.json, importance.csv and plots")
    return made


def run(arguments: Sequence[str]) -> int:
    """Measure importances, show them and return the exit code."""
    given = parser().given(arguments)
    from slipstream.core.console import console
    from slipstream.inference.importance_files import show, write
    from slipstream.inference.permutation_importance import importance

    screen = console()
    if given.row is not None or given.of is not None:
        return _explain(screen, given)

    def progress(done: int, of: int) -> None:
        if sys.stderr.isatty():
            print(
                f"\r{done} of {of} measured" if done < of else "\r\033[K", end="", file=sys.stderr, flush=True
            )

    with warnings_shown(screen):
        found = importance(
            given.run,
            *given.overrides,
            metric=given.metric,
            repeats=given.repeats,
            grid=given.grid,
            words=given.words,
            progress=progress,
        )
    show(screen, found)
    keep(screen, given.output, partial(write, found), "these results and the plots")
    return 0


def _explain(screen: Console, given: Namespace) -> int:
    """Explain one row and show it; return the exit code."""
    from slipstream.inference import explanation_files
    from slipstream.inference.explanation import explain

    if given.row is None:
        raise UserError(f"--of {given.of}: needs a row to explain; add --row N")
    with warnings_shown(screen):
        found = explain(given.run, *given.overrides, row=given.row, output=given.of)
    explanation_files.show(screen, found)
    keep(screen, given.output, partial(explanation_files.write, found), "this")
    return 0
