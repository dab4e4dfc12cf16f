"""Forks of a run: different continuations from the same epoch."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from slipstream.config.grammar import parsed
from slipstream.core.errors import ConfigError, UserError
from slipstream.diagnosis.branches import NOTHING, Branch, Change, Origin, branches, folder_of
from slipstream.runs.summary import Result


@dataclass(frozen=True)
class Fork:
    """Branches of a run from one of its epochs.

    Attributes:
        folder: the run. epoch: the epoch after which they begin; 0 is its start.
        metric: the metric that chooses the best epoch of each.
        branches: the unchanged run first, then each combination of changes.
    """

    folder: Path
    epoch: int
    metric: str
    branches: tuple[Branch, ...]


def fork(
    run: str | Path | Result,
    *overrides: str,
    epoch: int | None = None,
    seeds: int = 1,
    into: str | Path | None = None,
) -> Fork:
    """Train alternative futures of a run from one of its epochs, as packs, with the unchanged run.

    Args:
        run: the folder of a run, FOLDER@EPOCH, or the result of `slipstream.train` with a folder.
        overrides: the changes, such as "optimizer.lr=0.1,0.01". Each value is a future; several settings
            with several values give all combinations.
        epoch: the epoch after which they begin; 0 is the run's start. An epoch that is not saved is trained
            again. The default, like "@last", is the last saved epoch.
        seeds: the number of futures per change, with different orders and noise after the epoch.
        into: a folder for their run folders; None writes nothing.

    Returns:
        The branches with their results, the unchanged one first.

    Raises:
        ConfigError: a change does not fit the run. UserError: the run has no such epoch.

    Example:
        >>> import slipstream
        >>> config = slipstream.compose("data=iris", "trainer.max_epochs=4")
        >>> result = slipstream.train(config, "runs/forked")
        >>> found = slipstream.fork("runs/forked@2", "optimizer.lr=0.1,0.01")
        >>> [str(branch.change) for branch in found.branches]
        ['unchanged', 'optimizer.lr=0.1', 'optimizer.lr=0.01']
        >>> found.branches[0].result.records[:2] == result.records[:2]
        True
    """
    folder, at = _split(str(folder_of(run)))
    origin = Origin(folder)
    chosen = epoch if epoch is not None else at
    if chosen is None:
        chosen = max(origin.saved, default=0)
    found = branches(
        origin,
        [NOTHING, *futures(overrides)],
        at=chosen,
        seeds=seeds,
        into=None if into is None else Path(into),
    )
    return Fork(origin.folder, chosen, str(origin.raw["early_stopping"]["metric"]), tuple(found))


def futures(overrides: Sequence[str]) -> list[Change]:
    """Return a change for every combination of the overrides' values.

    >>> [str(change) for change in futures(["optimizer.lr=0.1,0.01", "seed=1"])]
    ['optimizer.lr=0.1 seed=1', 'optimizer.lr=0.01 seed=1']
    """
    axes = []
    for text in overrides:
        override = parsed(text)
        if override is None:
            raise ConfigError([f"{text}: expected key=value, such as optimizer.lr=0.1,0.01"])
        key = text.partition("=")[0]
        values = override.sweep_string_iterator() if override.is_sweep_override() else None
        axes.append([text] if values is None else [f"{key}={value}" for value in values])
    return [Change(tuple(combination)) for combination in itertools.product(*axes)] if axes else []


def _split(run: str) -> tuple[str, int | None]:
    """Split FOLDER@EPOCH; the epoch is None for a folder alone and for @last."""
    folder, mark, epoch = run.rpartition("@")
    if not mark or Path(run).exists():
        return run, None
    if epoch == "last":
        return folder, None
    if not epoch.isdecimal():
        raise UserError(f"{run}: expected an epoch after @, such as {folder}@10 or {folder}@last")
    return folder, int(epoch)
