"""metrics.csv: the content of metrics.jsonl, for spreadsheets."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence

from slipstream.core import folders
from slipstream.loggers.tracker import LoggedRun, Point, Tracker

FILE = "metrics.csv"


class MetricsCsv(Tracker):
    """One row per epoch. The columns are the metrics of the first epoch; undefined values are empty."""

    last_epoch = 0  # the file is rewritten from the first epoch

    def __init__(self, run: LoggedRun) -> None:
        self._path = run.directory / FILE
        self._columns: list[str] = []
        folders.remove(self._path)

    def log(self, values: Mapping[str, float], epoch: int) -> None:
        """Append a row."""
        self.log_points([Point(epoch, values, 0)])

    def log_points(self, points: Sequence[Point]) -> None:
        """Append all rows, or none if the disk is full."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        columns = self._columns or ["epoch", *points[0].values]
        if not self._columns:
            writer.writerow(columns)
        for point in points:
            row = {"epoch": point.epoch, **point.values}
            writer.writerow([row.get(name, "") for name in columns])
        with folders.opened(self._path, "ab" if self._columns else "xb") as file:
            size = file.tell()
            try:
                file.write(text.getvalue().encode())
                file.flush()
            except OSError:
                file.truncate(size)
                raise
        self._columns = columns
