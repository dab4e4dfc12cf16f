"""Networks that predict together: the network of a run, or those of all members of a sweep's best trial."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
from torch import Tensor

from slipstream.core.errors import UserError
from slipstream.core.types import DataLike, Plain, Target
from slipstream.core.wording import counted, typed
from slipstream.data.in_memory import InMemory
from slipstream.runs import checkpoints
from slipstream.runs.prediction import Classification, Model, load, saved_config
from slipstream.runs.trained import Trained
from slipstream.sweeps.plan.store import holds_sweep
from slipstream.sweeps.report import REPORT
from slipstream.training.snapshot import Taken


class Holder(Protocol):
    """An object that holds trained networks: a run from Python."""

    @property
    def ensemble(self) -> Ensemble:
        """The networks."""


class Placed(Protocol):
    """An object with a folder of runs: the result of a sweep."""

    @property
    def directory(self) -> Path:
        """The folder."""


RunLike: TypeAlias = "str | Path | Holder | Placed"


@dataclass(frozen=True)
class RunOrigin:
    """The run that a network comes from.

    config: its configuration. folder: its folder, or None. given: its rows, if they are in memory. trained:
    the contents of its folder, if it has none.
    """

    config: Mapping[str, Plain]
    folder: Path | None = None
    given: InMemory | None = None
    trained: Trained | None = None

    @property
    def name(self) -> str:
        """The last part of the folder's path."""
        return "the run" if self.folder is None else self.folder.name

    def taken(self) -> Taken:
        """Return its newest checkpoint. Raises UserError if there is none."""
        if self.trained is not None:
            return self.trained.tensors, self.trained.state
        assert self.folder is not None
        path, _ = checkpoints.latest(self.folder / "checkpoints")
        if path is None:
            raise UserError(f"{self.folder}: nothing is saved yet")
        return checkpoints.load(path)

    def summary(self) -> str:
        """Return the content of summary.json. Raises OSError."""
        if self.trained is not None:
            return self.trained.summary
        assert self.folder is not None
        return (self.folder / "summary.json").read_text("utf-8")


@dataclass(frozen=True)
class Ensemble:
    """Networks that predict together; a run has one.

    Scores are the mean over the models of their probabilities, or of their values in original units.

    Attributes:
        path: the folder that was opened.
        models: the trained networks, each with its preprocessing.
        folders: their run folders; empty for a run without.
        held: the contents of a run without a folder.
    """

    path: Path
    models: tuple[Model, ...]
    folders: tuple[Path, ...]
    held: tuple[RunOrigin, ...] = ()

    @cached_property
    def origins(self) -> tuple[RunOrigin, ...]:
        """The runs that the models come from. Their configurations are read once."""
        return self.held or tuple(RunOrigin(saved_config(folder), folder) for folder in self.folders)

    @property
    def first(self) -> Model:
        """The first model. All models share its task and classes."""
        return self.models[0]

    @property
    def target(self) -> Target:
        """The task, the target columns and the classes."""
        return self.first.target

    def __str__(self) -> str:
        """Return the folder and, for several models, their number."""
        many = f", the mean of {counted(len(self.models), 'member')} of the best trial"
        return f"{self.path}{many if len(self.models) > 1 and self.path not in self.folders else ''}"

    def scores(self, x: DataLike) -> np.ndarray:
        """Return the scores [N, C] of raw examples, or the values [N, D] in original units."""
        return self.scores_of([model.inputs(x) for model in self.models])

    def scores_of(self, inputs: Sequence[Tensor]) -> np.ndarray:
        """Return the scores of encoded examples. inputs: those of each network, [N, ...]."""
        found = [model.scores(x) for model, x in zip(self.models, inputs, strict=True)]
        return found[0] if len(found) == 1 else np.mean(found, axis=0)

    def predict(self, x: DataLike) -> Classification | np.ndarray:
        """Predict raw examples, as `Model.predict` does."""
        return self.first.prediction(self.scores(x))


def open_run(run: RunLike) -> Ensemble:
    """Return the networks of a run, of a sweep's member, or of a sweep's best trial.

    For a sweep, the networks of the best trial's seeds or folds predict together.
    run: a folder, or the result of `slipstream.fit`, `train` or `sweep`.
    Raises UserError, with advice, for a folder that has no trained network.
    """
    if hasattr(run, "ensemble"):
        held: Ensemble = run.ensemble
        return held
    if not isinstance(run, str | Path) and not hasattr(run, "directory"):
        raise UserError(
            f"run: found {type(run).__name__}, expected the folder of a run or a sweep, or the result of "
            "slipstream.fit, train or sweep"
        )
    path = Path(run.directory if hasattr(run, "directory") else run)
    folders = _best_trial(path) if holds_sweep(path) else [path]
    models = [load(folder) for folder in folders]
    if len({(model.target.task, model.target.classes, model.target.names) for model in models}) > 1:
        raise UserError(
            f"{path}: the members of the best trial have different classes or targets; name one "
            f"of them instead"
        )
    given = getattr(run, "given", None)
    origins = [] if given is None else [RunOrigin(saved_config(folder), folder, given) for folder in folders]
    return Ensemble(path, tuple(models), tuple(folders), tuple(origins))


def reported_trials(sweep: Path) -> tuple[Mapping[str, Plain], list[Mapping[str, Plain]]]:
    """Return a sweep's report.json and its trials that have a value, the best first.

    Raises UserError, with advice, if there is no report, a damaged one, or no such trial.
    """
    try:
        report = json.loads((sweep / REPORT).read_text("utf-8"))
        found = [trial for trial in report["trials"] if trial["mean"] is not None]
    except OSError as error:
        go_on = f"python train.py {typed('resume', sweep)}"
        raise UserError(f"{sweep}: the sweep has no report yet; finish it with {go_on}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{sweep / REPORT}: is damaged ({error!r}); resume the sweep to write it again"
        ) from error
    if not found:
        raise UserError(f"{sweep}: no trial of this sweep succeeded, so there is no best one")
    return report, found


def _best_trial(sweep: Path) -> list[Path]:
    """Return the folders of the best trial's members that have a network."""
    numbers: Sequence[int] = reported_trials(sweep)[1][0]["members"]
    folders = [sweep / str(number) for number in numbers]
    there = [folder for folder in folders if folder.is_dir()]
    if not there:
        raise UserError(f"{sweep}: the folders of the best trial's members are missing, such as {folders[0]}")
    if len(there) < len(folders):
        gone = [folder.name for folder in folders if folder not in there]
        warnings.warn(f"{sweep}: members {', '.join(gone)} of the best trial are missing", stacklevel=3)
    return there
