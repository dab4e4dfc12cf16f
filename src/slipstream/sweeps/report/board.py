"""TensorBoard events of a whole sweep, at the top of its folder."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from statistics import fmean

from slipstream.config.schema import CHOICES
from slipstream.core.types import Plain
from slipstream.loggers.tensorboard import CURVES, TensorBoard
from slipstream.runs.recorder import hyperparameters
from slipstream.sweeps.plan.job import Job
from slipstream.sweeps.plan.space import Axis
from slipstream.sweeps.report import Report, show
from slipstream.sweeps.report.aggregates import REPEATS, Group, is_number
from slipstream.sweeps.report.parallel_coordinates import picture
from slipstream.sweeps.report.reading import lines
from slipstream.training.member import METRICS

TRIALS = ("trials/best", "trials/median", "trials/worst")  # folders; TensorBoard gives each one a color
MORE_METRICS = 3  # columns of the table in addition to the monitored metric
Records = Sequence[Mapping[str, Plain]]


def write(report: Report, axes: Sequence[Axis], jobs: Sequence[Job]) -> None:
    """Write the events, replacing those of an earlier report.

    They are the columns of the HParams tab (the members write its rows) with the swept keys and the monitored
    metric, the curves of the best, the median and the worst trial in one chart with a color each, parallel
    coordinates as an image, and the report as text. Raises OSError if they cannot be written.
    """
    whole = [group for group in report.groups if group.whole]
    board = TensorBoard(report.directory, leads=True, curves=TRIALS if whole else ())
    if whole:
        chosen = dict(zip(TRIALS, (whole[0], whole[len(whole) // 2], whole[-1]), strict=True))
        records = {name: _records(group) for name, group in chosen.items()}
        logged = _logged(records[TRIALS[0]])
        board.columns(_columns(report, jobs), _metrics(report.metric, logged))
        _draw(board, records, [name for name in logged if name in (report.metric, "train/loss", "val/loss")])
        board.image("sweep/parallel_coordinates", picture(whole, axes, report.metric), 0)
    board.text("sweep/report", f"```\n{_text(report)}\n```")
    board.close()


def _records(group: Group) -> list[Records]:
    """Read the epochs of each member."""
    return [lines(member.directory / METRICS) for member in group.members if member.directory is not None]


def _logged(members: Sequence[Records]) -> list[str]:
    """Return the metrics that are logged after every epoch."""
    names = dict.fromkeys(name for records in members for name in (records[-1] if records else {}))
    return [name for name in names if "/" in name]


def _columns(report: Report, jobs: Sequence[Job]) -> dict[str, list[Plain]]:
    """Return the swept keys as in the members' rows, sorted by importance: name -> all values.

    Parallel coordinates omit rows that lack a column, so a key that does not apply to all members has no
    column.
    """
    rows = [hyperparameters(job.config.raw, job.values) for job in jobs]
    found = {}
    for key in dict.fromkeys([*(entry.key for entry in report.importance), *report.keys]):
        name = f"{key}.name" if key in CHOICES else key
        values = [row[name] for row in rows if name in row]
        if key not in REPEATS and len(values) == len(rows) and len(set(map(repr, values))) > 1:
            found[name] = values
    return found


def _metrics(decides: str, logged: Sequence[str]) -> list[str]:
    """Return metrics of the best epoch: the monitored metric and others on the same split."""
    split = decides.partition("/")[0]
    others = [name for name in logged if name.startswith(f"{split}/") and name != decides]
    others = [name for name in others if not name.endswith("norm")]
    return [decides, *others[:MORE_METRICS]]


def _draw(board: TensorBoard, chosen: Mapping[str, Sequence[Records]], metrics: Sequence[str]) -> None:
    """Write a chart per metric with the mean over each trial's members by epoch.

    A stopped member keeps its last values, so that a curve always covers the same members. Otherwise, it
    would jump when a member stops.
    """
    for name, members in chosen.items():
        longest = max(map(len, members), default=0)
        for epoch in range(longest):
            here = [records[min(epoch, len(records) - 1)] for records in members if records]
            means = {metric: _mean([record.get(metric) for record in here]) for metric in metrics}
            board.curve(name, {f"{metric}_by_epoch": mean for metric, mean in means.items()}, epoch + 1)
    charts = {f"{metric} by epoch": [f"{CURVES}/{metric}_by_epoch$"] for metric in metrics}
    board.charts(charts, "the sweep: best, median and worst trial")


def _mean(values: Sequence[Plain]) -> float | None:
    known = [float(value) for value in values if is_number(value)]
    return fmean(known) if known else None


def _text(report: Report) -> str:
    from rich.console import Console

    written = io.StringIO()
    show(Console(file=written, width=100, color_system=None), report)
    return written.getvalue().strip()
