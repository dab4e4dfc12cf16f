"""The files of a diagnosis: numbers, a table, a plot, and both in TensorBoard."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from slipstream.core import folders
from slipstream.core.storage import writing
from slipstream.core.types import Plain
from slipstream.diagnosis.verdicts import Diagnosis
from slipstream.inference.result_files import write_result

if TYPE_CHECKING:
    from PIL.Image import Image

NAMES = ("why.json", "why.csv")  # `slipstream report` reads the first
BOARD = "why"  # subfolder of the events, which TensorBoard shows as a run of its own


def write(found: Diagnosis, folder: Path) -> list[Path]:
    """Write why.json, why.csv and why.png and return them. Raises StorageError if one cannot be written.

    Beside a run that logs to TensorBoard, the text and the plot appear there, too, as the run `NAME/why`.
    """
    made = write_result(folder, numbers(found), table(found), pictures(found), NAMES)
    if any(folder.glob("events.out.tfevents.*")):
        from slipstream.loggers.tensorboard import TensorBoard

        with writing(folder):
            folders.mkdir(folder / BOARD)
            board = TensorBoard(folder / BOARD)
            board.text("why", "\n".join(f"    {line}" for line in found.lines()))
            for name, picture in pictures(found):
                board.image(name, picture, 0)
            board.close()
    return made


def numbers(found: Diagnosis) -> dict[str, Plain]:
    """Return the diagnosis as JSON, with its text as lines."""
    return {**asdict(found), "folder": str(found.folder), "text": list(found.lines())}


def table(found: Diagnosis) -> str:
    """Return the causes that were tried as CSV: a row each, with the gain of its best change."""
    proved = {verdict.cause for verdict in found.verdicts if verdict.confirmed}
    file = io.StringIO()
    rows = csv.writer(file, lineterminator="\n")
    rows.writerow(["cause", "proved", "score", "change", "metric", "before", "after", "gain"])
    for tried in found.tried:
        gain = tried.gain
        values = [gain.metric, gain.before, gain.after, gain.mean]
        rows.writerow([tried.cause, tried.cause in proved, tried.score, str(tried.change), *values])
    return file.getvalue()


def pictures(found: Diagnosis) -> Iterator[tuple[str, Image]]:
    """Yield the plot of what each tried change gains on the run's own seed."""
    from slipstream.runs.plots import bars_picture

    gains = {str(tried.change): (tried.gain.mean, None) for tried in found.tried}
    if gains:
        largest = sorted(gains.items(), key=lambda pair: -pair[1][0])
        title = f"gain of each change of {found.folder.name}: 1 is the smallest that matters"
        yield "why", bars_picture(dict(largest), title)
