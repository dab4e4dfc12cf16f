"""The host's side of one run: its history, its best epoch, its schedule, when it stops."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from slipstream.early_stopping import History
from slipstream.errors import ConfigError
from slipstream.registry import component
from slipstream.schedulers import Clock, schedule

if TYPE_CHECKING:
    from slipstream.config import Config

Record = dict[str, Any]
METRICS = "metrics.jsonl"
TIMINGS = "timings.jsonl"

RUNNING, FINISHED, STOPPED, DIVERGED = "running", "finished", "stopped_early", "diverged"
INTERRUPTED = "interrupted"


@dataclass
class Member:
    """One run of a pack as the host sees it.

    records: one mapping an epoch, `split/name` -> value (None where undefined). best_epoch counts
    from 1, 0 before any epoch had a finite monitored metric. `sign` turns the monitored metric
    around where larger is better, so that smaller is better for every rule.
    """

    config: Config
    directory: Path | None
    records: list[Record] = field(default_factory=list)
    best_epoch: int = 0
    status: str = RUNNING
    reason: str = ""
    seconds: float = 0.0

    def __post_init__(self) -> None:
        stopping = self.config.early_stopping
        self.metric = stopping.settings["metric"]
        self.sign = -1.0 if self._mode(stopping.settings["mode"]) == "max" else 1.0
        self._stopping = component("early_stopping", stopping.name)
        self._stopping_settings = {n: stopping.settings[n] for n in self._stopping.own_settings}

    def _mode(self, mode: str) -> str:
        name = self.metric.partition("/")[2]
        if mode != "auto":
            return mode
        return "min" if name == "loss" else component("metric", name).traits["mode"]

    @property
    def running(self) -> bool:
        return self.status == RUNNING

    @property
    def monitored(self) -> list[float]:
        """The monitored metric of every epoch, smaller is better, NaN where it is undefined."""
        return [self.sign * _number(record.get(self.metric)) for record in self.records]

    def rates(self, epoch: int, steps: int) -> np.ndarray:
        """The learning rate of every step of the epoch that begins, float64 [S]."""
        clock = Clock(
            step=np.arange(epoch * steps, (epoch + 1) * steps),
            steps_per_epoch=steps,
            total_steps=steps * self.config.trainer.max_epochs,
            history=self.monitored,
        )
        scheduler = self.config.scheduler
        factors = schedule(component("scheduler", scheduler.name), scheduler.settings, clock)
        return self.config.optimizer.settings["lr"] * factors

    def finish_epoch(self, record: Record) -> bool:
        """Take in an epoch's record, write it down, decide whether to stop. True if it is the best."""
        if self.metric not in record:
            known = sorted(name for name in record if "/" in name)
            raise ConfigError([f"early_stopping.metric: no {self.metric!r} here, one of: {', '.join(known)}"])
        self.records.append(record)
        if self.directory is not None:
            append(self.directory / METRICS, record)
            append(self.directory / TIMINGS, {"epoch": record["epoch"], "seconds": round(self.seconds, 3)})
        improved = self._is_best()
        if improved:
            self.best_epoch = len(self.records)
        self._decide()
        return improved

    def _is_best(self) -> bool:
        value = self.monitored[-1]
        before = self.monitored[self.best_epoch - 1] if self.best_epoch else math.inf
        return value < before

    def _decide(self) -> None:
        reason = self._stopping(self.history(), **self._stopping_settings)
        if reason is not None:
            self.status, self.reason = STOPPED, reason
        elif len(self.records) >= self.config.trainer.max_epochs:
            self.status, self.reason = FINISHED, f"all {len(self.records)} epochs done"

    def history(self) -> History:
        """What the stopping rules look at."""
        return History(
            values=self.monitored,
            train_loss=[_number(record.get("train/loss")) for record in self.records],
            seconds=self.seconds,
            raw=[_number(record.get(self.metric)) for record in self.records],
        )

    def rewrite(self) -> None:
        """Bring metrics.jsonl and timings.jsonl to this history: later lines go, torn ones too."""
        if self.directory is None:
            return
        replace(self.directory / METRICS, "".join(_line(record) for record in self.records))
        timings = self.directory / TIMINGS
        lines = timings.read_text().splitlines(keepends=True) if timings.exists() else []
        replace(timings, "".join(lines[: len(self.records)]))


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(record, allow_nan=False) + "\n"


def append(path: Path, record: Mapping[str, Any]) -> None:
    """Add one line of JSON."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(_line(record))


def replace(path: Path, text: str) -> None:
    """Write a whole file so that at every instant the old or the new one is there."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def as_values(names: Sequence[str], row: Sequence[float]) -> dict[str, float | None]:
    """Named values of a row; what is not finite is undefined."""
    return {name: value if math.isfinite(value) else None for name, value in zip(names, row, strict=True)}
