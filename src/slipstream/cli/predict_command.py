"""`slipstream predict RUN FILE -o OUT`: a prediction for every row, image, text or sequence."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Sequence

from slipstream.cli.commands import CommandParser
from slipstream.core.wording import counted

WHAT = """Write a prediction for every example of a file, a folder of images, or standard input (-).

RUN is the folder of a run, of a member of a sweep, or of a sweep. For a sweep, the seeds or folds of its best
trial predict together. Rows are read and written in blocks, so a file may be larger than memory."""
EXAMPLES = (
    "slipstream predict outputs/mine new.csv -o predicted.csv",
    "slipstream predict outputs/mine new.parquet -o predicted.parquet --keep id,city",
    "cat new.csv | slipstream predict outputs/mine - -o - --keep none",
    "slipstream predict outputs/cats photos/ -o predicted.jsonl",
)
SECONDS = 1.0  # between two progress lines


def parser() -> CommandParser:
    """Return the command's parser."""
    made = CommandParser("predict", WHAT, EXAMPLES)
    made.add_argument("run", metavar="RUN", help="folder of a run or a sweep")
    made.add_argument(
        "source", metavar="FILE", help="table, text file, folder of images, or - for standard input"
    )
    made.add_argument(
        "-o", "--output", metavar="OUT", required=True, help=".csv, .tsv, .jsonl, .parquet, or -"
    )
    made.add_argument(
        "--keep", metavar="COLUMNS", default="all", help="all (default), none, or names: id,city"
    )
    return made


def run(arguments: Sequence[str]) -> int:
    """Predict, write the predictions and return the exit code."""
    given = parser().parse_args(list(arguments))
    from slipstream.inference.asked_data import predicted_again
    from slipstream.inference.ensemble import open_run
    from slipstream.inference.prediction_files import predict_file

    begun = shown = time.monotonic()

    def progress(done: int) -> None:
        nonlocal shown
        now = time.monotonic()
        if now - shown > SECONDS and sys.stderr.isatty():
            print(f"\r{done:,} predicted, {done / (now - begun):,.0f} per second", end="", file=sys.stderr)
            shown = now

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        opened = open_run(given.run)
        for text in predicted_again([origin.config for origin in opened.origins], given.source):
            warnings.warn(text, stacklevel=1)
        count = predict_file(opened, given.source, given.output, given.keep, progress)
    texts = dict.fromkeys(str(warning.message) for warning in caught)
    for text in list(texts)[:20]:
        print(f"warning: {text}", file=sys.stderr)
    seconds = time.monotonic() - begun
    print(f"predicted {counted(count, 'example')} in {seconds:.1f} s: {given.output}", file=sys.stderr)
    return 0
