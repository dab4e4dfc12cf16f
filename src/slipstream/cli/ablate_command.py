"""`slipstream ablate RUN`: what each ingredient of a run contributes."""

from __future__ import annotations

from collections.abc import Sequence

from slipstream.cli.commands import CommandParser

WHAT = """Remove each ingredient of a run in turn and train the run again with several seeds. Ingredients are
the settings that differ from the defaults, the regularizers and the augmentations. Differences are paired by
seed; p has Holm's correction for the number of ingredients."""
EXAMPLES = (
    "slipstream ablate outputs/mine",
    "slipstream ablate outputs/mine --only trainer.max_epochs=2 --seeds 8",
    "slipstream ablate outputs/mine --metric val/accuracy",
)


def parser() -> CommandParser:
    """Return the command's parser."""
    made = CommandParser("ablate", WHAT, EXAMPLES)
    made.add_argument("run", metavar="RUN", help="folder of a run")
    made.add_argument(
        "--only",
        metavar="INGREDIENT",
        action="append",
        default=[],
        help="remove only this ingredient; repeat for several",
    )
    made.add_count("--seeds", 5, "runs per ingredient (5)")
    made.add_argument(
        "--metric",
        metavar="SPLIT/NAME",
        help="the metric to compare (default: the one that chose the best epoch)",
    )
    return made


def run(arguments: Sequence[str]) -> int:
    """Train without each ingredient and show the effects; return the exit code."""
    given = parser().given(arguments)
    from slipstream.core.console import console
    from slipstream.diagnosis.ablation import ablate
    from slipstream.diagnosis.branch_tables import show_ablation

    show_ablation(console(), ablate(given.run, given.only, seeds=given.seeds, metric=given.metric))
    return 0
