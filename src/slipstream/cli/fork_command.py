"""`slipstream fork RUN@EPOCH key=a,b`: alternative futures of a run from one of its epochs."""

from __future__ import annotations

from collections.abc import Sequence

from slipstream.cli.commands import CommandParser

WHAT = """Train alternative futures of a run from one of its epochs, along with the unchanged run. They have
the same weights, order of examples and noise, except for the change. Each value of a setting is one future.

Without @EPOCH, they begin after the last saved epoch; @0 is the start of the run. An epoch that is not saved
is trained again, to the same bytes."""
EXAMPLES = (
    "slipstream fork outputs/mine@2 optimizer.lr=0.1,0.01",
    "slipstream fork outputs/mine@0 regularizer=[],[dropout] --seeds 5",
    "slipstream fork outputs/mine@2 optimizer=sgd optimizer.lr=0.1 -o futures",
)


def parser() -> CommandParser:
    """Return the command's parser."""
    made = CommandParser("fork", WHAT, EXAMPLES)
    made.add_argument("run", metavar="RUN[@EPOCH]", help="folder of a run, and the epoch to begin after")
    made.add_argument("overrides", metavar="KEY=VALUE[,VALUE...]", nargs="+", help="settings to change")
    made.add_count("--seeds", 1, "futures per change, with different orders and noise (1)")
    made.add_output("keep each future as a run folder in DIR")
    return made


def run(arguments: Sequence[str]) -> int:
    """Train the futures and show them; return the exit code."""
    given = parser().given(arguments)
    from slipstream.core.console import console
    from slipstream.diagnosis.branch_tables import show_fork
    from slipstream.diagnosis.forking import fork

    screen = console()
    found = fork(given.run, *given.overrides, seeds=given.seeds, into=given.output)
    show_fork(screen, found)
    if given.output is None:
        screen.print("to keep the futures as run folders: -o DIR")
    else:
        screen.print(f"curves: tensorboard --logdir {given.output}", soft_wrap=True)
    return 0
