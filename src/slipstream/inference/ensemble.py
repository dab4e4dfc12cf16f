"""Networks that predict together: those of a run, or of all members of a sweep's best trial."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from slipstream.core.errors import UserError
from slipstream.core.types import DataLike, Target
from slipstream.core.wording import counted, typed
from slipstream.runs.prediction import Classification, Model, load
from slipstream.sweeps.plan.store import holds_sweep
from slipstream.sweeps.report import REPORT


@dataclass(frozen=True)
class Ensemble:
    """Networks that predict together; of a run it is one.

    Scores are the mean of the models' scores: of probabilities, or of values in original units.

    Attributes:
        path: the folder that was asked for.
        models: the trained networks, each with its preprocessing.
        folders: their run folders.
    """

    path: Path
    models: tuple[Model, ...]
    folders: tuple[Path, ...]

    @property
    def first(self) -> Model:
        """The first model, whose task and classes all share."""
        return self.models[0]

    @property
    def target(self) -> Target:
        """The task, the target columns and the classes."""
        return self.first.target

    def __str__(self) -> str:
        """Name the folder, and the runs if they are several."""
        many = f", the mean of {counted(len(self.models), 'member')} of the best trial"
        return f"{self.path}{many if self.path not in self.folders else ''}"

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


def open_run(path: str | Path) -> Ensemble:
    """Return the networks of a run, of a sweep's member, or of a sweep's best trial.

    A sweep is its best trial, whose seeds or folds predict together.
    Raises UserError for a folder that has no trained network, with what to do.
    """
    path = Path(path)
    folders = _best_trial(path) if holds_sweep(path) else [path]
    models = [load(folder) for folder in folders]
    if len({(model.target.task, model.target.classes, model.target.names) for model in models}) > 1:
        raise UserError(f"{path}: members of the best trial have other classes or targets; name one of them")
    return Ensemble(path, tuple(models), tuple(folders))


def _best_trial(sweep: Path) -> list[Path]:
    """Return the folders of the best trial's members that have a network."""
    try:
        report = json.loads((sweep / REPORT).read_text("utf-8"))
        numbers: Sequence[int] = next(t["members"] for t in report["trials"] if t["mean"] is not None)
    except OSError as error:
        go_on = f"python train.py {typed('resume', sweep)}"
        raise UserError(f"{sweep}: the sweep has no report yet; end it with {go_on}") from error
    except StopIteration as error:
        raise UserError(f"{sweep}: no trial of this sweep ended soundly: there is no best one") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{sweep / REPORT}: is damaged: {error!r}; resume the sweep to write it again"
        ) from error
    folders = [sweep / str(number) for number in numbers]
    there = [folder for folder in folders if folder.is_dir()]
    if not there:
        raise UserError(f"{sweep}: the folders of the best trial's members are gone: {folders[0]}")
    if len(there) < len(folders):
        gone = [folder.name for folder in folders if folder not in there]
        warnings.warn(f"{sweep}: members {', '.join(gone)} of the best trial are gone", stacklevel=3)
    return there
