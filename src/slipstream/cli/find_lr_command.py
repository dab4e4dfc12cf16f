"""`slipstream find-lr RUN` and `slipstream find-lr KEY=VALUE...`: the learning rate to use."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from slipstream.cli.commands import CommandParser, keep

WHAT = """Find the learning rate for a run, or for a command line of train.py. Rates from 1e-06 to 33, a
factor of 2 apart, begin with the same weights and see the same batches, each at a constant rate. The best
eight are also trained for longer and with a second seed, and up to five of them for half the run. Their
weights are not kept.

Settings after RUN change the run. Exit code 0: a rate is named. 3: no rate lowers the loss."""
EXAMPLES = (
    "slipstream find-lr outputs/mine",
    "slipstream find-lr data=digits optimizer=sgd model.depth=3",
    "slipstream find-lr outputs/mine optimizer=momentum trainer.max_epochs=40 --updates 40 -o rates",
)
USUAL = "updates of the best rates (default: half the run's, at least 40 and at most 2,000)"


def parser() -> CommandParser:
    """Return the command's parser."""
    made = CommandParser("find-lr", WHAT, EXAMPLES)
    made.add_argument(
        "words", metavar="RUN | KEY=VALUE", nargs="+", help="folder of a run, or settings of train.py"
    )
    made.add_count("--updates", None, USUAL)
    made.add_json("the rates")
    made.add_output("write learning_rates.json, learning_rates.csv and a plot")
    return made


def run(arguments: Sequence[str]) -> int:
    """Try the rates and show them; return the exit code."""
    given = parser().given(arguments, "names no run and no settings")
    from slipstream.core.console import console
    from slipstream.diagnosis.learning_rate_files import as_json, show_rates, write_rates
    from slipstream.diagnosis.learning_rates import find_lr

    screen = console()
    found = find_lr(*given.words, updates=given.updates)
    if given.json:
        print(json.dumps(as_json(found), indent=1))
        if given.output is not None:
            write_rates(found, Path(given.output))
    else:
        show_rates(screen, found)
        keep(screen, given.output, partial(write_rates, found), "this and a plot")
    return 0 if found.named is not None else 3
