"""The interface of a logger: its argument and its return value."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from slipstream.core.types import Plain


@dataclass(frozen=True)
class LoggedRun:
    """A run as passed to a logger, before its first epoch.

    Attributes:
        name: the name of its folder.
        project: the configuration's `name`, by default that of the data.
        directory: its folder.
        settings: the configuration by dotted key, such as `optimizer.lr`.
        changed: the settings that differ from the defaults, as typed.
        sweep: the folder of its sweep, or None.
        swept: the keys that differ within the sweep.
        epochs: the number of epochs already recorded; more than 0 for a resumed run.
    """

    name: str
    project: str
    directory: Path
    settings: Mapping[str, Plain]
    changed: Sequence[str] = ()
    sweep: Path | None = None
    swept: Sequence[str] = ()
    epochs: int = 0


@dataclass(frozen=True)
class Point:
    """The metrics of an epoch by tag, without undefined ones, and the time of its end in ms since 1970."""

    epoch: int
    values: Mapping[str, float]
    milliseconds: int


class Tracker:
    """A logger of one run, called in a thread of its own: it may wait and may raise errors.

    last_epoch: the last epoch that it has, or None if unknown; only later epochs are sent.
    """

    last_epoch: int | None = None

    def log(self, values: Mapping[str, float], epoch: int) -> None:
        """Log the metrics of an epoch."""
        raise NotImplementedError

    def log_points(self, points: Sequence[Point]) -> None:
        """Log the metrics of several epochs, in order. After an exception, all of them are sent again."""
        for point in points:
            self.log(point.values, point.epoch)

    def end(self, status: str, values: Mapping[str, float], epoch: int) -> None:
        """Log the end: status, the metrics with the best weights, and the best epoch."""


class FunctionTracker(Tracker):
    """A logger that is one function, log(values, epoch)."""

    def __init__(self, function: Callable[[Mapping[str, float], int], None]) -> None:
        self.function = function

    def log(self, values: Mapping[str, float], epoch: int) -> None:
        """Call the function."""
        self.function(values, epoch)


def remembered(folder: Path, logger: str) -> dict[str, Plain]:
    """Return the data that a logger stored in the folder of a run or a sweep, or {} without any."""
    try:
        found = json.loads(kept_in(folder, logger).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def kept_in(folder: Path, logger: str) -> Path:
    """Return the file with the id of a run or a sweep on a logger's server."""
    return folder / f"{logger}.json"
