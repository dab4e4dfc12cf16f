"""Jobs and outcomes of a sweep: members to train, and how they ended."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from slipstream.core.types import Plain
from slipstream.runs.run_folder import SUMMARY

if TYPE_CHECKING:
    from slipstream.config.run_config import Config


@dataclass(frozen=True)
class Job:
    """One member to train.

    number: its folder's name in the sweep. trial: the number of its configuration; members of a trial differ
    only in seed or fold. overrides: its complete command line. values: the swept values by key, without keys
    that do not apply to it.
    """

    number: int
    trial: int
    overrides: tuple[str, ...]
    values: Mapping[str, Plain]
    config: Config


@dataclass(frozen=True)
class Outcome:
    """The outcome or progress of a member, read from its folder.

    status: finished | stopped_early | diverged | pruned | failed | interrupted | running | waiting. value:
    the best value of the monitored metric, None if there is none. best: the metrics of the best epoch,
    `split/name` -> value. test: the metrics on test rows, which are never used for selection and are shown
    only for the best trial.
    """

    number: int
    trial: int
    values: Mapping[str, Plain]
    status: str
    reason: str
    value: float | None
    best_epoch: int
    epochs: int
    seconds: float
    seed: int
    fold: int | None
    best: Mapping[str, float | None]
    directory: Path | None
    test: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class End:
    """The outcome of a member that will not be trained again."""

    status: str
    value: float | None


def ended(directory: Path) -> End | None:
    """Return how the member of a folder ended, or None if it is unfinished or has no files."""
    try:
        found = json.loads((directory / SUMMARY).read_text(encoding="utf-8"))
        status, value = found["status"], found["value"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return None if status == "interrupted" else End(status, value)
