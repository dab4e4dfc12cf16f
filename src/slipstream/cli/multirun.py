"""The output of a sweep that runs job by job: a heading for each job and a table at the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from slipstream.config.run_config import Config
    from slipstream.runs.summary import Result


@dataclass
class ShownJob:
    """One job: its folder, its own overrides, the metric that selects its best epoch, and how it ended."""

    directory: Path
    overrides: str
    metric: str
    result: Result | None = None

    def row(self) -> tuple[str, ...]:
        """Return folder, overrides, status, best epoch and its metric. A job without a result has failed."""
        shown = (self.directory.name, self.overrides)
        if self.result is None:
            return (*shown, "failed", "-", "-")
        from slipstream.core.console import number

        epoch = str(self.result.best_epoch) if self.result.best_epoch else "-"
        return (*shown, self.result.status, epoch, number(self.result.best.get(self.metric)))


class Sweep:
    """The jobs of a multirun, in order. Jobs with trainer.progress=none print nothing."""

    def __init__(self, jobs: Sequence[Sequence[str]], notes: Sequence[str] = ()) -> None:
        self.total, self.notes = len(jobs), notes
        # Overrides that all jobs share do not distinguish them.
        self._common = set(jobs[0]).intersection(*jobs) if self.total > 1 else set()
        self._shown: list[ShownJob] = []
        self._job: ShownJob | None = None
        self._number = 0

    def begin(self, config: Config, directory: Path, overrides: Sequence[str]) -> None:
        """Print the heading of a job that starts."""
        self._number += 1
        own = "  ".join(text for text in overrides if text not in self._common)
        self._job = ShownJob(directory, own, config.early_stopping.settings["metric"])
        if config.trainer.progress == "none":
            return
        self._shown.append(self._job)
        from slipstream.core.console import console

        if self._number == 1:
            for note in self.notes:
                console().print(note, soft_wrap=True)
        gap = "" if self._number == 1 else "\n"
        console().print(f"{gap}{self._number}/{self.total}  {own}", style="bold", soft_wrap=True)

    def end(self, result: Result) -> None:
        """Record how the job ended."""
        assert self._job is not None
        self._job.result = result

    def report(self) -> None:
        """Print a table of the jobs so far and the folder that contains them."""
        if not self._shown:
            return
        from rich.table import Table

        from slipstream.core.console import console, print_table

        metrics = dict.fromkeys(job.metric for job in self._shown)
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("folder")
        table.add_column("job", overflow="fold")
        table.add_column("status", no_wrap=True)
        table.add_column("best epoch", justify="right", no_wrap=True)
        table.add_column(" or ".join(metrics), justify="right", no_wrap=True)
        for job in self._shown:
            table.add_row(*job.row())
        screen = console()
        screen.print()
        print_table(screen, table)
        screen.print(f"\n{self._shown[0].directory.parent}", soft_wrap=True)
