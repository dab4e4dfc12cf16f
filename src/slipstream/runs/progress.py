"""The progress of a run in the terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from slipstream.core.console import BAR, console, number
from slipstream.core.errors import printable
from slipstream.core.types import Plain
from slipstream.training.member import BROKEN

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from slipstream.training.loop import Progress
    from slipstream.training.member import Member

PLAIN_LINES = 20  # approximate number of progress lines of a run without a terminal


class Screen:
    """A progress bar in a terminal, plain lines otherwise, and no output for `none`.

    It observes a pack and shows the first member that trains.
    """

    def __init__(self, kind: str, members: Sequence[Member], examples: int) -> None:
        self.console = console()
        if kind == "auto":
            live = self.console.is_terminal and not self.console.is_dumb_terminal
            kind = "bar" if live else "plain"
        self.kind, self.members, self._began_at = kind, members, members[0].epoch
        self.epochs, self.examples = members[0].config.trainer.max_epochs, examples
        self._before = time.monotonic()
        self._started: float | None = None  # the end of the first epoch, which includes compilation
        self._bar = self._start_bar() if kind == "bar" else None

    def _start_bar(self) -> Bar:
        from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        bar = Bar(
            TextColumn("epoch {task.completed:.0f}/{task.total:.0f}"),
            BarColumn(bar_width=BAR),
            TextColumn("{task.fields[text]}"),
            TimeRemainingColumn(compact=True),
            console=self.console,
            transient=True,
        )
        bar.start()
        bar.add_task("epochs", total=self.epochs, completed=self._began_at, text="")
        return bar

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        if self.kind != "none":
            self.console.print(text, soft_wrap=True)

    def warn(self, text: str) -> None:
        """Print a warning, even if nothing else is shown."""
        if self.kind == "none":
            print(f"warning: {printable(text)}", file=sys.stderr)
        else:
            self.say(f"warning: {text}")

    def epoch(self, progress: Progress, finished: Sequence[int]) -> None:
        """Show a finished epoch and its speed."""
        if self.kind == "none":
            return
        member = next(m for k, m in enumerate(self.members) if m.running or k in finished)
        if member.status in BROKEN:
            return
        record, epochs_here = member.records[-1], member.epoch - self._began_at
        now = time.monotonic()
        of_epoch = max(now - self._before, 1e-9)
        self._started = now if self._started is None else self._started
        self._before = now
        parts = [*describe(record, member.metric), f"{self.examples / of_epoch:,.0f} samples/s"]
        if self._bar is not None:
            # Drop the last parts until the line fits next to epoch, bar and remaining time.
            room = self.console.width - BAR - 2 * len(str(self.epochs)) - len("epoch / 0:00:00") - 6
            while len(parts) > 1 and len("  ".join(parts)) > room:
                parts.pop()
            text = "  ".join(parts)
            self._bar.update(self._bar.task_ids[0], completed=record["epoch"], text=text)
        elif self._is_due(record["epoch"]) or not member.running:
            if epochs_here > 1:
                left = (self.epochs - record["epoch"]) * (now - self._started) / (epochs_here - 1)
                parts.append(f"{left:.0f} s left")
            self.say(f"epoch {record['epoch']:>4}/{self.epochs}  {'  '.join(parts)}")

    def interrupted(self, progress: Progress, broken: Sequence[int] = ()) -> None:
        """Do nothing, since the end of the run reports it."""

    def _is_due(self, epoch: int) -> bool:
        return epoch == 1 or epoch % max(self.epochs // PLAIN_LINES, 1) == 0

    def close(self) -> None:
        """Stop updating the bar and keep it visible."""
        if self._bar is not None:
            self._bar.stop()


def describe(record: Mapping[str, Plain], metric: str) -> list[str]:
    """Format an epoch's losses, and the monitored metric if it is not a loss."""
    names = [name for name in record if name.startswith(("train/", "val/")) and "norm" not in name]
    others = [name for name in names if name.startswith("val/") and not name.endswith("/loss")]
    shown = [name for name in names if name.endswith("/loss")]
    shown += [metric] if metric in record and metric not in shown else others[:1]
    return [f"{name} {number(record[name])}" for name in shown]
