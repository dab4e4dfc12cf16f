"""The terminal display of a sweep while it trains: progress, counts, and the best result so far."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from slipstream.core.console import BAR, console, number
from slipstream.core.errors import printable
from slipstream.core.types import Plain
from slipstream.core.wording import counted
from slipstream.sweeps.plan.job import Job, ended
from slipstream.sweeps.plan.space import Interval
from slipstream.sweeps.plan.sweep_settings import SearchSettings
from slipstream.sweeps.report import overrides
from slipstream.sweeps.report.aggregates import SOUND
from slipstream.training.member import FAILED

if TYPE_CHECKING:
    from rich.console import RenderableType

    from slipstream.sweeps.plan.space import Axis
    from slipstream.sweeps.plan.sweep_plan import SweepPlan
    from slipstream.sweeps.work.pack_trainer import PackTrainer
    from slipstream.training.loop import Progress

LOOK_SECONDS = 0.25  # between two checks of a pack's members
LOOK_ELSEWHERE = 5.0  # between two checks for members that other workers have finished
REDRAWS = 2  # per second, by rich's thread, since a stopped clock looks like a hang
PLAIN_SECONDS, PLAIN_SHARE = 5.0, 0.05  # the time, and the fraction of the total time, between plain lines
ORDER = ("finished", "stopped_early", "pruned", "diverged", "failed")


class SweepScreen:
    """A live display in a terminal, plain lines otherwise, and no output for `none`. It observes a worker."""

    def __init__(self, kind: str, plan: SweepPlan, directory: Path, minimize: bool) -> None:
        self.console = console()
        if kind == "auto":
            live = self.console.is_terminal and not self.console.is_dumb_terminal
            kind = "bar" if live else "plain"
        self.kind, self.plan, self.directory = kind, plan, directory
        searches = isinstance(plan.settings, SearchSettings)
        self.total = plan.trials * plan.members if searches else len(plan.jobs)
        self._sign = 1 if minimize else -1
        self._ended: set[int] = set()
        self._counts = Counter[str]()  # how they ended
        self._best: tuple[float, float, str] | None = None  # signed value, value, overrides
        self._metric = plan.example.config.early_stopping.settings["metric"]
        self._pack: PackTrainer | None = None
        self._packs, self._updates, self._running, self._begun = 0, 0, 0, 0.0
        # the time of the first epochs, and the amount of work done by then
        self._steady: tuple[float, float] | None = None
        self._started = self._looked = self._drawn = self._looked_elsewhere = time.monotonic()
        self._live = None
        if kind != "none":
            self._look_elsewhere(first=True)
            for line in self._heading():
                self.say(line)
        self._ended_before = len(self._ended)
        if kind == "bar":
            self._live = self._start()

    def _start(self) -> Plain:
        from rich.live import Live

        live = Live(
            get_renderable=self._picture,
            console=self.console,
            refresh_per_second=REDRAWS,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        live.start()
        return live

    def _heading(self) -> Iterator[str]:
        trials = self.total // self.plan.members if self.plan.members > 1 else self.total
        of = f" of {counted(trials, 'trial')}" if self.plan.members > 1 else ""
        settings = self.plan.settings
        sizes = [*map(_size, self.plan.space.axes)]
        sizes += [counted(settings.repeats, "seed")] if settings.repeats > 1 else []
        sizes += [counted(settings.folds, "fold")] if settings.folds else []
        yield f"{counted(self.total, 'member')}{of}{': ' * bool(sizes)}{', '.join(sizes)}"
        yield from self.plan.notes
        if self._ended:
            have = "has" if len(self._ended) == 1 else "have"
            yield f"continuing: {len(self._ended)} of {counted(self.total, 'member')} {have} ended"

    # News

    def say(self, text: str) -> None:
        """Print a line above the display."""
        if self.kind != "none":
            self.console.print(text, soft_wrap=True)

    def warn(self, text: str) -> None:
        """Print a warning, even if nothing else is shown."""
        self._loud(f"warning: {text}")

    def failed(self, job: Job, reason: str) -> None:
        """Immediately report a member that could not be trained, with its own overrides."""
        self._end(job.number, FAILED)
        self._say_failed(job.number, job.values, reason)

    def ended(self, job: Job, status: str, value: float | None) -> None:
        """Count a member that has ended."""
        self._end(job.number, status)
        if self._pack is not None:  # counts its last epoch, after which it was not running
            self._updates += self._pack.engine.batching.steps
        if status in SOUND:
            self._consider(value, job.values)

    def begins(self, pack: PackTrainer) -> None:
        """Show the epochs of this pack from now on."""
        self._pack, self._packs = pack, self._packs + 1

    def interrupted(self, progress: Progress, broken: Sequence[int] = ()) -> None:
        """Do nothing, since the end of the sweep reports it."""

    def epoch(self, progress: Progress, finished: Sequence[int]) -> None:
        """Show a finished epoch of the pack."""
        pack = self._pack
        if self.kind == "none" or pack is None:
            return
        self._running = sum(member.running for member in pack.members)
        self._updates += self._running * pack.engine.batching.steps
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS and self._steady is not None:
            return
        self._looked, self._begun = now, 0.0
        for slot in pack.slots:
            if slot.job is None:
                continue
            if not slot.member.running:  # it has stopped and is concluded later together with others
                self._begun += slot.job.number not in self._ended
            else:
                self._begun += slot.member.epoch / slot.member.config.trainer.max_epochs
                self._consider(slot.member.best_value, slot.job.values)
        self.look()

    def look(self) -> None:
        """Do everything that is due: check members of other workers, and print a plain line."""
        now = time.monotonic()
        passed = now - self._started
        if self.kind == "none":
            return
        if now - self._looked_elsewhere > LOOK_ELSEWHERE:
            self._look_elsewhere()
        if self._steady is None and self._made > 0:
            self._steady = now, self._made
        if self.kind == "plain" and now - self._drawn > max(PLAIN_SECONDS, PLAIN_SHARE * passed):
            self._drawn = now
            parts = self._parts()
            order = ("time", "ended", "counts", "speed", "left", "best")
            self.say("  ".join(parts[name] for name in order if parts[name]))

    def close(self) -> None:
        """Remove the display. Printed lines stay."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    # State

    def _end(self, member: int, status: str) -> None:
        if member not in self._ended:
            self._ended.add(member)
            self._counts[status] += 1
            self._begun = max(self._begun - 1, 0.0)  # it was counted as started until the next check

    def _consider(self, value: float | None, values: Mapping[str, Plain]) -> None:
        if value is not None and (self._best is None or self._sign * value < self._best[0]):
            self._best = (self._sign * value, value, overrides(values))

    def _look_elsewhere(self, *, first: bool = False) -> None:
        """Check the folders for members that ended earlier or in other workers, and report failures."""
        self._looked_elsewhere = time.monotonic()
        for member in range(self.total):
            end = None if member in self._ended else ended(self.directory / str(member))
            if end is None:
                continue
            self._end(member, end.status)
            values = {} if self.plan.grid is None else self.plan.jobs[member].values
            if end.status in SOUND:
                self._consider(end.value, values or {"folder": member})
            elif end.status == FAILED and not first:
                self._say_failed(member, values, f"see {self.directory / str(member)}")

    def _say_failed(self, member: int, values: Mapping[str, Plain], reason: str) -> None:
        self._loud(" ".join(f"member {member} failed: {overrides(values)}: {reason}".split()))

    def _loud(self, text: str) -> None:
        if self.kind == "none":
            print(printable(text), file=sys.stderr)
        else:
            self.say(text)

    @property
    def _left(self) -> float | None:
        """Estimate the remaining seconds from the members (or fractions) trained since the first epoch.

        Return None before there are any, since the time for starting and compiling does not indicate the
        speed.
        """
        if self._steady is None:
            return None
        since, before = self._steady
        made = self._made - before
        waiting = max(self.total - len(self._ended) - self._begun, 0.0)
        return waiting * (time.monotonic() - since) / made if made > 0 else None

    @property
    def _made(self) -> float:
        """Return the number of members that were trained here, including fractions."""
        return len(self._ended) - self._ended_before + self._begun

    # Drawing

    def _parts(self) -> dict[str, str]:
        """Return the parts of the status in descending order of importance."""
        seconds = max(time.monotonic() - self._started, 1e-9)
        best = "no result yet"
        if self._best is not None:
            best = f"best {self._metric} {number(self._best[1])}: {self._best[2]}"
        return {
            "ended": f"{len(self._ended)}/{counted(self.total, 'member')}",
            "time": _clock(seconds),
            "left": "" if self._left is None else f"{_clock(self._left)} left",
            "speed": f"{self._updates / seconds:,.0f} member-steps/s",
            "counts": self._said_counts(),
            "best": best,
        }

    def _said_counts(self) -> str:
        """Return the number of the running pack, and how the other members ended."""
        said = [f"{self._running} running in pack {self._packs}"] if self._packs else ["none running"]
        said += [f"{n} {name.replace('_', ' ')}" for name in ORDER if (n := self._counts[name])]
        return ", ".join(said)

    def _picture(self) -> RenderableType:
        """Draw the display. rich's thread calls this while the main thread updates the state."""
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        parts = self._parts()
        row = Table.grid(padding=(0, 1))
        done = len(self._ended) + self._begun
        times = "  ".join(parts[name] for name in ("ended", "time", "left"))
        row.add_row(ProgressBar(self.total, done, width=BAR), Text(times))
        counts = Text(f"{parts['counts']}  {parts['speed']}")
        return Group(row, counts, Text(parts["best"]))


def _size(axis: Axis) -> str:
    """Describe an axis and its number of values.

    >>> _size(Interval("optimizer.lr", 0.001, 0.1))
    'optimizer.lr from 0.001 to 0.1'
    """
    if isinstance(axis, Interval):
        return f"{axis.key} from {axis.low:g} to {axis.high:g}"
    return f"{len(axis.values)} x {axis.key}"


def _clock(seconds: float) -> str:
    """Format minutes and seconds, with hours if there are any.

    >>> _clock(75), _clock(3600 * 30)
    ('1:15', '30:00:00')
    """
    whole = round(seconds)
    minutes = f"{whole // 60 % 60:02}:{whole % 60:02}"
    return f"{whole // 3600}:{minutes}" if whole >= 3600 else minutes.removeprefix("0")
