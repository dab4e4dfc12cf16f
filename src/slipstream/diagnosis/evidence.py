"""The evidence about a run before anything is tried: settings, curves, observations and data."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import numpy as np

from slipstream.config.changes import chosen
from slipstream.config.files import defaults
from slipstream.config.run_config import Config
from slipstream.core.errors import UserError
from slipstream.core.types import Plain
from slipstream.data import Data
from slipstream.diagnosis.branches import Origin
from slipstream.runs import setup
from slipstream.runs.summary import Result
from slipstream.runs.symptoms import EndOfRun, class_shares, end_of_run, of_layers
from slipstream.training.epoch_plan import Batching

Record = Mapping[str, Plain]


class Evidence:
    """A run's files, and its data, which are loaded when first needed.

    run: one that has ended, as `Origin` takes it. Raises UserError if there is none.
    """

    def __init__(self, run: str | Path | Result) -> None:
        self.origin = Origin(run)
        self.folder = self.origin.folder
        self.raw = self.origin.raw
        summary = self.folder / "summary.json"
        if not summary.exists():
            raise UserError(
                f"{self.folder}: has not ended; continue it with: python train.py resume={self.folder}"
            )
        self.summary: Record = json.loads(summary.read_text())
        self.records: list[Record] = _lines(self.folder / "metrics.jsonl")
        self.observations: list[Record] = _lines(self.folder / "observations.jsonl")

    @cached_property
    def config(self) -> Config:
        """The validated configuration, with the settings that depend on the data filled in."""
        return setup.resolve(self.origin.composed(self.origin.typed()), self.data)

    @property
    def data(self) -> Data:
        """The run's data, loaded again."""
        return self.origin.data

    # Settings.

    def setting(self, key: str, default: Plain = None) -> Plain:
        """Return a setting such as `optimizer.lr`, or `default` if the run has no such setting."""
        value: Plain = self.raw
        for part in key.split("."):
            if not isinstance(value, Mapping) or part not in value:
                return default
            value = value[part]
        return value

    def usual(self, key: str) -> Plain:
        """Return the default of a setting of a chosen option, such as `optimizer.lr` of sgd."""
        group, _, rest = key.partition(".")
        name = "default" if group == "trainer" else self.raw[group]["name"]
        return defaults(group, name).get(rest)

    def changed(self, key: str) -> bool:
        """Return True if a setting or an option differs from its default."""
        if "." not in key:
            return bool(self.raw[key]["name"] != chosen()[key])
        return bool(self.setting(key) != self.usual(key))

    def number(self, key: str) -> float | None:
        """Return a setting if it is a number."""
        value = self.setting(key)
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None

    @property
    def regularizers(self) -> Mapping[str, Mapping[str, Plain]]:
        """The regularizers with their settings."""
        found: Mapping[str, Mapping[str, Plain]] = self.raw["regularizer"]
        return found

    def without(self, group: str, name: str) -> str:
        """Return the override that removes a regularizer or an augmentation."""
        return f"{group}=[{','.join(other for other in self.raw[group] if other != name)}]"

    def adding(self, name: str) -> str:
        """Return the override that adds a regularizer."""
        return f"regularizer=[{','.join([*self.regularizers, name])}]"

    # Sizes.

    @cached_property
    def rows(self) -> int:
        """The number of training rows."""
        return len(self.data.train)

    @cached_property
    def batch(self) -> int:
        """The number of rows per batch."""
        size = self.setting("data.batch_size")
        return self.rows if size == "full" else min(int(size), self.rows)

    @cached_property
    def steps(self) -> int:
        """The number of updates per epoch."""
        return Batching(self.rows, self.batch, int(self.setting("trainer.accumulate", 1))).steps

    @property
    def epochs(self) -> int:
        """The number of epochs that were trained."""
        return len(self.records)

    # Curves and observations.

    def curve(self, name: str) -> np.ndarray:
        """Return a metric of every epoch, NaN where it is undefined, float64 [epochs]."""
        return np.array([_float(record.get(name)) for record in self.records])

    def observed(self, name: str, at: int = -1) -> float:
        """Return an observed quantity of the whole network, by default the last; NaN if there is none."""
        return _float(self.observations[at].get(name)) if self.observations else math.nan

    def layers(self, quantity: str, at: int = -1) -> dict[str, float]:
        """Return an observed quantity by layer, in order, by default the last."""
        line = self.observations[at] if self.observations else {}
        return of_layers(line, quantity)

    # The end.

    @property
    def seconds(self) -> float:
        """The seconds that training took."""
        return float(self.summary["seconds"])

    @property
    def status(self) -> str:
        """The status at the end: finished, stopped_early, diverged or interrupted."""
        return str(self.summary["status"])

    @property
    def keeps_best(self) -> bool:
        """True if the run delivers the weights of its best epoch, not of its last."""
        return bool(self.setting("early_stopping.restore_best", True))

    @cached_property
    def end(self) -> EndOfRun:
        """The end of the run, which symptoms are read from."""
        said = self.summary
        result = Result(
            str(said["status"]),
            str(said["reason"]),
            int(said["best_epoch"]),
            said["best"],
            said["last"],
            list(map(dict, self.records)),
            {},
            observations=list(map(dict, self.observations)),
        )
        return end_of_run(self.config, self.data, result)

    @cached_property
    def final(self) -> Record:
        """The metrics of the weights that the run delivers."""
        values: Record = self.summary["best" if self.keeps_best else "last"]
        return values

    @cached_property
    def split(self) -> str:
        """The split that judges changes: val, or train if there are no validation rows."""
        return "val" if len(self.data.validation.inputs) else "train"

    def scored(self, metric: str, split: str | None = None) -> float:
        """Return a metric of the delivered weights, by default on the split that judges changes."""
        return _float(self.final.get(f"{split or self.split}/{metric}"))

    @cached_property
    def classes(self) -> int:
        """The number of classes, 0 without classes."""
        target = self.data.target
        return len(target.classes) if target.task in ("binary", "multiclass") else 0

    @cached_property
    def shares(self) -> np.ndarray:
        """The share of each class among the training rows, float64 [classes]."""
        return class_shares(self.data)


def _float(value: Plain) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def _lines(path: Path) -> list[Record]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
