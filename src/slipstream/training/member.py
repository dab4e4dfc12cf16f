"""The host side of one run: history, best epoch, schedule and stopping."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from dataclasses import replace as replace_field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from slipstream.core.errors import ConfigError
from slipstream.core.registry import component
from slipstream.core.storage import append, line, replace
from slipstream.core.types import Plain
from slipstream.early_stopping import History, direction, reason_to_stop
from slipstream.schedulers import Clock, factors

if TYPE_CHECKING:
    from slipstream.config.run_config import Config

Record = dict[str, Plain]
METRICS = "metrics.jsonl"
TIMINGS = "timings.jsonl"
OBSERVATIONS = "observations.jsonl"

RUNNING, FINISHED, STOPPED, DIVERGED = "running", "finished", "stopped_early", "diverged"
INTERRUPTED, PRUNED, FAILED = "interrupted", "pruned", "failed"
BROKEN = (DIVERGED, FAILED)  # ended within an epoch, which has no record
AGAINST_DIVERGENCE = "lower optimizer.lr, or add regularizer=gradient_clipping"
IDLE = "idle"  # occupies a slot of a pack without training


@dataclass
class Member:
    """One run of a pack, on the host.

    records: one mapping per epoch, `split/name` -> value (None if undefined). best_epoch: counted from 1, and
    0 before the first epoch; as long as the monitored metric was never defined, it is the last epoch.
    """

    config: Config
    directory: Path | None
    best_epoch: int = 0
    status: str = RUNNING
    reason: str = ""

    def __post_init__(self) -> None:
        settings = self.config.early_stopping.settings
        self.metric = settings["metric"]
        self.records: list[Record] = []
        self.timings: list[Record] = []
        self.observations: list[Record] = []
        self.samples: Mapping[str, np.ndarray] = {}  # of the last observation, for histograms
        self.penalty: float | None = None  # of the last epoch
        self._written = self._observed = 0
        self.history = History([], direction(self.metric, settings["mode"]), [], [], 0.0)

    @property
    def running(self) -> bool:
        """True while the member trains."""
        return self.status == RUNNING

    @property
    def epoch(self) -> int:
        """The number of finished epochs."""
        return len(self.records)

    @property
    def best_value(self) -> float | None:
        """The monitored metric after the best epoch, or None if it was never defined."""
        value = self.history.raw[self.best_epoch - 1] if self.best_epoch else math.nan
        return None if math.isnan(value) else value

    @property
    def seconds(self) -> float:
        """Training time so far, over all resumes."""
        return self.history.seconds

    @seconds.setter
    def seconds(self, value: float) -> None:
        self.history = replace_field(self.history, seconds=value)

    def rates(self, steps: int) -> np.ndarray:
        """Return the learning rate of every step of the next epoch, float64 [S]."""
        clock = Clock(
            step=np.arange(self.epoch * steps, (self.epoch + 1) * steps),
            steps_per_epoch=steps,
            total_steps=steps * self.config.trainer.max_epochs,
            history=self._smaller_is_better(),
        )
        scheduler = self.config.scheduler
        shape = factors(component("scheduler", scheduler.name), scheduler.settings, clock)
        for name, settings in self.config.regularizers.items():
            rate = component("regularizer", name).traits.rate
            if rate is not None:
                shape = shape * rate(clock, **settings)
        result: np.ndarray = self.config.optimizer.settings["lr"] * shape
        return result

    def _smaller_is_better(self) -> Sequence[float]:
        raw = self.history.raw
        return raw if self.history.sign > 0 else [-value for value in raw]

    def restore(self, saved: Mapping[str, Plain]) -> None:
        """Restore a checkpoint, and decide from its history whether the run has ended."""
        for record in saved["records"]:
            self._remember(record)
        self.best_epoch, self.seconds = saved["best_epoch"], saved["seconds"]
        if saved["status"] == DIVERGED:
            self.status, self.reason = DIVERGED, saved["reason"]
        elif self.records and not saved["steps_into_epoch"]:  # a run ends only between epochs
            self._decide()

    def _remember(self, record: Record) -> None:
        self.records.append(record)
        pairs = ((self.history.raw, self.metric), (self.history.train_loss, "train/loss"))
        for values, name in (*pairs, (self.history.validation_loss, "val/loss")):
            values.append(_number(record.get(name)))  # type: ignore[attr-defined]  # a sequence to all other readers

    def finish_epoch(self, record: Record) -> bool:
        """Add an epoch's record and decide whether to stop. Returns True if it is the best so far."""
        if self.metric not in record:
            known = sorted(name for name in record if "/" in name)
            raise ConfigError(
                [f"early_stopping.metric: found {self.metric!r}, expected one of: {', '.join(known)}"]
            )
        self._remember(record)
        self.timings.append({"epoch": record["epoch"], "seconds": round(self.seconds, 3)})
        improved = self._is_best()
        if improved:
            self.best_epoch = len(self.records)
        self._decide()
        return improved

    def _is_best(self) -> bool:
        """Apply the rule of `best_epoch` incrementally. Until an epoch has a value, the last one is best."""
        raw, sign, before = self.history.raw, self.history.sign, self.best_value
        if before is None or math.isnan(raw[-1]):
            return before is None
        warm_up = self.config.early_stopping.settings.get("warm_up", 0)
        return self.best_epoch <= warm_up < len(raw) or sign * raw[-1] < sign * before

    def _decide(self) -> None:
        stopping = self.config.early_stopping
        rule = component("early_stopping", stopping.name)
        reason = reason_to_stop(rule, stopping.settings, self.history)
        if reason is not None:
            self.status, self.reason = STOPPED, reason
        elif len(self.records) >= self.config.trainer.max_epochs:
            made = len(self.records)
            self.status, self.reason = FINISHED, f"all {made} epochs done" if made > 1 else "1 epoch done"

    @property
    def restores_best(self) -> bool:
        """True if the run keeps the weights of the best epoch instead of the last ones."""
        return bool(self.config.early_stopping.settings["restore_best"])

    def lr_factor(self, rates: np.ndarray) -> float | None:
        """Return the last learning rate of an epoch as a multiple of `optimizer.lr`."""
        lr = self.config.optimizer.settings["lr"]
        return float(rates[-1]) / lr if lr else None

    def observe(self, values: Record, steps: int, samples: Mapping[str, np.ndarray]) -> None:
        """Keep the observations of the epoch that has just ended.

        steps: updates an epoch. samples: of tensors, by name, for histograms.
        """
        epoch, self.samples = self.epoch + 1, samples
        self.observations.append({"epoch": epoch, "step": epoch * steps, **values})

    def flush(self) -> None:
        """Append new lines to metrics.jsonl, timings.jsonl and observations.jsonl."""
        if self.directory is not None:
            append(self.directory / OBSERVATIONS, self.observations[self._observed :])
            self._observed = len(self.observations)
            append(self.directory / METRICS, self.records[self._written :])
            append(self.directory / TIMINGS, self.timings[self._written :])
            self._written = len(self.records)

    def rewrite(self, *, sync: bool = True) -> None:
        """Rewrite the files to match this history, removing later and truncated lines."""
        if self.directory is None:
            return
        path = self.directory / TIMINGS
        before = _lines(path) if path.exists() else []
        replace(self.directory / METRICS, "".join(line(record) for record in self.records), sync=sync)
        replace(path, "".join(f"{text}\n" for text in before[: len(self.records)]), sync=sync)
        self.timings = [{}] * len(self.records)
        self._written = len(self.records)
        path = self.directory / OBSERVATIONS
        if path.exists():
            kept = [text for text in _lines(path) if _epoch(text) <= len(self.records)]
            replace(path, "".join(f"{text}\n" for text in kept), sync=sync)


def _lines(path: Path) -> list[str]:
    """Return the complete lines of a file."""
    return path.read_text("utf-8", "replace").split("\n")[:-1]


def _epoch(text: str) -> float:
    """Return the epoch of a line of observations, or infinity if it cannot be read."""
    try:
        return float(json.loads(text)["epoch"])
    except (ValueError, KeyError, TypeError):
        return math.inf


def _number(value: Plain) -> float:
    return math.nan if value is None else float(value)


def as_values(names: Sequence[str], row: Sequence[float]) -> dict[str, float | None]:
    """Return the named values of a row, with None for non-finite ones."""
    return {name: value if math.isfinite(value) else None for name, value in zip(names, row, strict=True)}
