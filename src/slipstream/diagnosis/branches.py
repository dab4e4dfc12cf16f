"""Branches of a run: the same run with a change, from its start or from one of its epochs.

A branch has the run's weights, order of examples and noise, and differs only in the change. Branches of equal
structure train as one pack.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from slipstream.config.changes import written
from slipstream.config.replay import diff, inherited, remaining
from slipstream.config.run_config import Config
from slipstream.config.validation import composed, validate
from slipstream.core import kernels
from slipstream.core.errors import ConfigError, UserError
from slipstream.core.storage import CheckpointError
from slipstream.core.types import Plain
from slipstream.data import Data
from slipstream.runs import checkpoints, setup
from slipstream.runs.grouped import Ended, train_grouped
from slipstream.runs.prediction import saved_config
from slipstream.runs.summary import Result
from slipstream.training.snapshot import Taken, branched

SEEDS = 2**64


@dataclass(frozen=True)
class Change:
    """A change of a run. overrides: as typed on the command line; none leave the run unchanged.

    >>> str(Change(("optimizer.lr=0.1", "optimizer=sgd")))
    'optimizer.lr=0.1 optimizer=sgd'
    """

    overrides: tuple[str, ...] = ()

    def __str__(self) -> str:
        return " ".join(self.overrides) or "unchanged"


NOTHING = Change()


@dataclass(frozen=True)
class Branch:
    """A trained branch.

    seed: of its weights, order of examples and noise; the branches of a pair share it. kept: True if it
    delivers the weights of its best epoch, not of its last.
    """

    change: Change
    seed: int
    result: Result
    kept: bool = True


def folder_of(run: str | Path | Result) -> Path:
    """Return the folder of a run, which is named or was returned by `slipstream.train`.

    Raises UserError if the run was trained without one, or if this is not a run.
    """
    if isinstance(run, str | Path):
        return Path(run)
    if not isinstance(run, Result):
        raise UserError(
            f"run: found {type(run).__name__}, expected the folder of a run, or the result of "
            "slipstream.train"
        )
    if run.directory is None:
        raise UserError(
            "the run has no folder to begin from: train it on a file or a bundled data set, "
            'with a folder, as in slipstream.train(slipstream.compose("data=wine"), "runs/wine")'
        )
    return run.directory


class Origin:
    """A run that branches begin from.

    run: its folder, or the result of its training. trained: the number of its branches that were trained so
    far. Raises UserError if the folder holds no run, or if the run was trained without a folder or on rows in
    memory.
    """

    def __init__(self, run: str | Path | Result) -> None:
        self.folder = folder_of(run)
        self.raw: Mapping[str, Plain] = saved_config(self.folder)
        if self.raw["data"]["name"] == "memory":
            raise UserError(
                f"{self.folder}: the run was trained on rows in memory, which no longer exist; "
                "write them to a file and train on it, as in data=table data.path=my.parquet data.target=y"
            )
        self.trained = 0
        self._composed: dict[Change, Mapping[str, Plain]] = {}

    @cached_property
    def _read(self) -> tuple[dict[int, Path], list[str]]:
        """The intact checkpoints at the ends of epochs, by epoch, and sentences about damaged ones."""
        found, damaged = {}, []
        for path in checkpoints.steps(self.folder / "checkpoints"):
            try:
                _, state = checkpoints.load(path)
            except CheckpointError as error:
                damaged.append(str(error))
                continue
            if not state["steps_into_epoch"]:
                found[int(state["epoch"])] = path
        return dict(sorted(found.items())), damaged

    @property
    def saved(self) -> dict[int, Path]:
        """The intact checkpoints at the ends of epochs, by epoch."""
        return self._read[0]

    @property
    def damaged(self) -> list[str]:
        """A sentence about each damaged checkpoint."""
        return self._read[1]

    @staticmethod
    def composed(words: Sequence[str]) -> Config:
        """Return the configuration of a command line. Raises ConfigError if it is invalid."""
        return validate({key: value for key, value in composed(words).items() if key != "resume"})

    def with_change(self, change: Change) -> Mapping[str, Plain]:
        """Return a branch's configuration, composed only once. Raises ConfigError if it is invalid."""
        if change not in self._composed:
            self._composed[change] = self.composed(self.typed(change)).raw
        return self._composed[change]

    @cached_property
    def data(self) -> Data:
        """The run's data, loaded again."""
        return setup.load_all([self.composed(self.typed())])[0][0]

    def refusal(self, change: Change) -> str:
        """Return why a change does not fit the run's configuration or its data; empty if it does."""
        try:
            config = validate(self.with_change(change))
            if not any(text.startswith("data") for text in change.overrides):
                setup.resolve(config, self.data)
        except ConfigError as error:
            return error.problems[0]
        except UserError as error:
            return str(error)
        return ""

    def typed(self, change: Change = NOTHING, seed: int | None = None) -> list[str]:
        """Return the command line of a branch."""
        new = [*change.overrides, *([] if seed is None else [f"seed={seed}"])]
        return [*remaining(self._typed, self.raw, new), *new]

    @cached_property
    def _typed(self) -> list[str]:
        """A command line that composes to the run's configuration: its own, or one with all settings.

        A run from Python has no command line, and that of an older run may compose to other defaults now.
        """
        own = inherited(self.folder, ())
        try:
            return written(self.raw) if diff(self.raw, self.composed(own).raw) else own
        except ConfigError:  # the paths of the data alone, without the rest
            return written(self.raw)

    def at(self, epoch: int) -> Taken | None:
        """Return the run's snapshot after an epoch, or None for its start.

        An epoch that is not saved is trained again from the nearest earlier one, to the same bytes.
        Raises UserError if the run has no such epoch.
        """
        if epoch == 0:
            return None
        last = max(self.saved, default=0)
        if not 0 < epoch <= last:
            raise UserError(f"{self.folder}: has no epoch {epoch}; its last saved epoch is {last}")
        before = max((e for e in self.saved if e <= epoch), default=0)
        taken = checkpoints.load(self.saved[before]) if before else None
        if before == epoch:
            return taken
        how = taken or checkpoints.load(self.saved[last])
        return self.again(taken, how[1], until=epoch).trained.snapshot

    def again(self, taken: Taken | None, how: Mapping[str, Plain], until: int | None = None) -> Ended:
        """Train the run itself from a snapshot, with the computing settings of the checkpoint state `how`."""
        kernels.use(how.get("mkl_cbwr", kernels.NONE))
        kernels.use_capability(how.get("cpu_capability"))
        config = setup.as_saved(self.composed(self.typed()), ({}, how))
        return train_grouped([config], [taken], until=until, packed=bool(how["packed"]))[0]


def branches(
    origin: Origin,
    changes: Iterable[Change],
    *,
    at: int = 0,
    seeds: int = 1,
    first: int = 0,
    split_again: bool = False,
    until: int | None = None,
    least: int = 1,
    into: Path | None = None,
) -> list[Branch]:
    """Train branches of a run that differ only in their changes.

    Args:
        origin: the run.
        changes: one per branch; `NOTHING` trains the unchanged run again as the control.
        at: the epoch after which they begin; 0 is the run's start.
        seeds: the number of seeds per change: the run's own seed and the numbers after it. Branches of
            different changes with the same seed are a pair. After an epoch, all branches begin with the same
            weights, and the seed changes only the later order of examples and noise.
        first: the number of seeds to skip, for seeds that no earlier branch has used.
        split_again: True gives each further seed its own random split, so that differences do not depend on
            the validation rows.
        until: the epoch after which all branches stop; None trains to the end.
        least: branches with fewer than this number per structure train one by one.
        into: a folder for the branches' run folders, named by number; None writes nothing.

    Returns:
        The branches, change by change, each with its seeds.

    Raises:
        ConfigError: a change does not fit the run. UserError: the run has no such epoch.
    """
    own, split, snapshot = int(origin.raw["seed"]), int(origin.raw["data"]["split_seed"]), origin.at(at)
    numbers = range(first, first + seeds)
    asked = [(change, (own + k) % SEEDS) for change in changes for k in numbers]
    splits = {seed: (split + seed - own) % SEEDS if split_again else split for _, seed in asked}
    typed = [origin.typed(change, seed) for change, seed in asked]
    configs = [_seeded(origin.with_change(change), seed, splits[seed]) for change, seed in asked]
    folders = None if into is None else [into / str(k) for k in range(len(asked))]
    same = origin.raw["optimizer"]["name"]
    entries = [
        snapshot and branched(snapshot, same_optimizer=config.optimizer.name == same) for config in configs
    ]
    try:
        ended = train_grouped(configs, entries, folders, typed, until=until, least=least)
    except CheckpointError as error:
        raise ConfigError(
            [f"a change makes a different network, which cannot continue from epoch {at}: {error}"]
        ) from error
    origin.trained += len(ended)
    kept = [bool(config.early_stopping.settings["restore_best"]) for config in configs]
    return [
        Branch(*pair, one.result, restored) for pair, one, restored in zip(asked, ended, kept, strict=True)
    ]


def _seeded(raw: Mapping[str, Plain], seed: int, split_seed: int) -> Config:
    """Return a configuration with other seeds, without composing again, which would take most of the time."""
    return validate({**raw, "seed": seed, "data": {**raw["data"], "split_seed": split_seed}})


def with_change(change: Change, found: Sequence[Branch]) -> list[Branch]:
    """Return the branches of a change, one per seed."""
    return [branch for branch in found if branch.change == change]
