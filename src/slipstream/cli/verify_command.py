"""`slipstream verify RUN`: train parts of the run again and compare the bytes."""

from __future__ import annotations

from collections.abc import Sequence

from slipstream.cli.commands import CommandParser

WHAT = """Train the epochs between a run's saved checkpoints again and compare every byte of the weights, the
optimizer state and all metrics. If bytes differ, report the damaged file or the condition that has changed:
the version of torch, the processor's kernels, the number of threads, the data.

Exit code 0: all bytes are the same. 1: some differ."""
EXAMPLES = ("slipstream verify outputs/mine", "slipstream verify outputs/mine --whole")


def parser() -> CommandParser:
    """Return the command's parser."""
    made = CommandParser("verify", WHAT, EXAMPLES)
    made.add_argument("run", metavar="RUN", help="folder of a run")
    made.add_argument("--whole", action="store_true", help="train again from the start of the run")
    made.add_json("the receipt")
    return made


def run(arguments: Sequence[str]) -> int:
    """Verify and show; return the exit code."""
    given = parser().given(arguments)
    from slipstream.core.console import console
    from slipstream.diagnosis.verification import receipt_json, verify

    screen = console()
    receipt = verify(given.run, whole=given.whole)
    if given.json:
        print(receipt_json(receipt), end="")
    else:
        for line in receipt.lines():
            screen.print(line, soft_wrap=True)
        screen.print(f"{receipt.folder}: {'verified' if receipt.holds else 'not verified'}", soft_wrap=True)
    return 0 if receipt.holds else 1
