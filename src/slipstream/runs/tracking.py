"""The way of a run's metrics to its loggers besides TensorBoard."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from slipstream.config.changes import changes
from slipstream.core.errors import ConfigError, UserError
from slipstream.core.registry import Component, component
from slipstream.core.traits import LoggerTraits
from slipstream.core.types import Plain
from slipstream.core.wording import install
from slipstream.loggers.delivery import CLOSE_SECONDS, Delivery, Sending
from slipstream.loggers.tracker import FunctionTracker, LoggedRun, Point, Tracker

if TYPE_CHECKING:
    from slipstream.config.run_config import Config
    from slipstream.loggers.tensorboard import TensorBoard

IN_THE_RECORDER = ("tensorboard", "none")  # written by the thread that trains, or not at all
NO_METRICS = ("epoch", "step")


@dataclass
class RunLog:
    """All loggers of one run. TensorBoard is written by the thread that trains, the others are sent to."""

    tensorboard: TensorBoard | None = None
    sendings: Sequence[Sending] = field(default_factory=list)

    def epoch(self, record: Mapping[str, Plain]) -> None:
        """Send the metrics of an epoch."""
        for sending in self.sendings:
            sending.epoch(point(record))

    def end(self, status: str, best: Mapping[str, float | None], epoch: int) -> None:
        """Send the end of the run, with the metrics of its best weights."""
        for sending in self.sendings:
            sending.end(status, {tag: v for tag, v in best.items() if v is not None}, epoch)


def point(record: Mapping[str, Plain]) -> Point:
    """Return a line of metrics.jsonl for a logger: undefined metrics are left out."""
    values = {tag: float(v) for tag, v in record.items() if tag not in NO_METRICS and v is not None}
    return Point(int(record["epoch"]), values, int(time.time() * 1000))


def require_installed(config: Config) -> None:
    """Raise ConfigError if a logger needs a package that is not installed."""
    missing = {
        name: needs
        for name in config.loggers
        if (needs := component("logger", name).traits.needs) and find_spec(needs) is None
    }
    if missing:
        raise ConfigError(
            f"logger={name}: needs the package {needs}, which is not installed: {install(name)}"
            for name, needs in missing.items()
        )


class Tracking:
    """The deliveries of a process, a thread for each logger in use."""

    def __init__(self) -> None:
        self._deliveries: dict[str, Delivery] = {}
        self._sweep: dict[str, Callable[..., None]] = {}
        self._opening = threading.Lock()  # members of a pack are opened side by side

    def begin(
        self,
        config: Config,
        directory: Path,
        records: Sequence[Mapping[str, Plain]],
        flat: Mapping[str, Plain],
        sweep: Path | None = None,
        swept: Collection[str] = (),
    ) -> list[Sending]:
        """Begin a run with each of its loggers; what was recorded before is sent to those that lack it."""
        names = [name for name in config.loggers if name not in IN_THE_RECORDER]
        if not names:
            return []
        run = LoggedRun(
            name=directory.name,
            project=config.name,
            directory=directory,
            settings=flat,
            changed=changes(config.raw),
            sweep=sweep,
            swept=tuple(swept),
            epochs=len(records),
        )
        opened = []
        for name in names:
            part = component("logger", name)
            with self._opening:
                if name not in self._deliveries:
                    self._deliveries[name] = Delivery(name)
                    if part.traits.sweep is not None:
                        self._sweep[name] = part.traits.sweep
            make = partial(_tracker, part, run, config.loggers[name])
            opened.append(self._deliveries[name].begin(make, len(records)))
            for record in records:
                opened[-1].epoch(point(record))
        return opened

    def news(self) -> list[str]:
        """Return the warnings of all loggers since the last call."""
        return [text for delivery in self._deliveries.values() for text in delivery.news()]

    def end_sweep(
        self, directory: Path, status: str, values: Mapping[str, Plain], files: Sequence[Path]
    ) -> None:
        """Send the end of a sweep to the loggers that keep one."""
        for name, told in self._sweep.items():
            self._deliveries[name].finally_(partial(told, directory, status, values, files))

    def close(self) -> list[str]:
        """Wait a little until all is sent; return what is to be said of it."""
        end = time.monotonic() + CLOSE_SECONDS
        deliveries, self._deliveries = self._deliveries, {}
        found = []
        for delivery in deliveries.values():
            missing = delivery.close(max(end - time.monotonic(), 0.0))
            # What is missing at the end replaces the warning that something might be.
            found += [missing] if missing else delivery.news()
        return found


def _tracker(part: Component[LoggerTraits], run: LoggedRun, settings: Mapping[str, Plain]) -> Tracker:
    made = part(run, **settings)
    if made is None:
        return FunctionTracker(lambda values, epoch: None)
    if isinstance(made, Tracker):
        return made
    if callable(made):
        return FunctionTracker(made)
    raise UserError(f"returned {type(made).__name__}, expected log(values, epoch) or a Tracker")
