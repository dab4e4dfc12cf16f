"""Pruning of unpromising trials.

`median`, `patient` and `wilcoxon` are Optuna's. Halving is implemented here, because members of a pack reach
a rung at the same epoch, while Optuna compares each of them only with those judged before, so the first ones
always pass. Optuna's Hyperband also reads all trials at every report to find a bracket.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from optuna.pruners import BasePruner, MedianPruner, PatientPruner, WilcoxonPruner
from optuna.study import StudyDirection

from slipstream.core.types import Plain

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial

# The settings of each pruner and their defaults.
SETTINGS: Mapping[str, Mapping[str, int]] = {
    "none": {},
    "median": {"min_epochs": 1},
    "asha": {"min_epochs": 1, "reduction": 4},
    "hyperband": {"min_epochs": 1, "reduction": 3},
    "patient": {"min_epochs": 1, "patience": 5},
    "wilcoxon": {},
}
GOLDEN = (math.sqrt(5) - 1) / 2


def make(settings: Mapping[str, Plain], epochs: int) -> BasePruner | None:
    """Return the pruner for the settings, or None for `none`.

    epochs: the maximum length of a trial.
    """
    name = settings["pruner"]
    own = SETTINGS[name]
    chosen = {key: value if settings[key] is None else settings[key] for key, value in own.items()}
    match name:
        case "median":
            return MedianPruner(n_warmup_steps=chosen["min_epochs"])
        case "patient":
            return PatientPruner(MedianPruner(n_warmup_steps=chosen["min_epochs"]), chosen["patience"])
        case "wilcoxon":
            return WilcoxonPruner()
        case "asha":
            return Halving(chosen["min_epochs"], chosen["reduction"], brackets=1)
        case "hyperband":
            rungs = math.log(max(epochs / chosen["min_epochs"], 1), chosen["reduction"])
            return Halving(chosen["min_epochs"], chosen["reduction"], brackets=int(rungs + 1e-9) + 1)
    return None


def reads(pruner: BasePruner, number: int, step: int) -> bool:
    """Return True if a report at this step can matter. Other reports are not written."""
    return not isinstance(pruner, Halving) or pruner.is_rung(number, step)


def since(pruner: BasePruner, step: int) -> int:
    """Return the step from which a trial that is pruned at this step counts as pruned.

    Epochs arrive in order, and a process that repeats some of them learns of it only then. Repeats and folds
    have no order, so they count from the first.
    """
    return 0 if isinstance(pruner, WilcoxonPruner) else step


class Halving(BasePruner):
    """Asynchronous successive halving (ASHA); with several brackets, Hyperband.

    Rungs are at first * reduction^(bracket + i) epochs, i = 0, 1, ... At a rung a trial continues if it is
    among the best 1/reduction of all that have reached it in its bracket, at least one.
    Source: Li et al., "A system for massively parallel hyperparameter tuning" (2020); Hyperband, Li et al.
    (2018).
    """

    def __init__(self, first: int, reduction: int, brackets: int) -> None:
        self._first, self._reduction = first, reduction
        # The paper's number of trials per bracket: brackets that prune earlier get more.
        sizes = [
            math.ceil(brackets * reduction ** (brackets - 1 - b) / (brackets - b)) for b in range(brackets)
        ]
        self._bounds = [sum(sizes[: b + 1]) / sum(sizes) for b in range(brackets)]

    def bracket(self, number: int) -> int:
        """Return the bracket of a trial. Multiples of the golden ratio distribute trials evenly."""
        share = (number + 1) * GOLDEN % 1
        return next((b for b, bound in enumerate(self._bounds) if share < bound), len(self._bounds) - 1)

    def is_rung(self, number: int, step: int) -> bool:
        """Return True if a step is a rung of the trial's bracket."""
        rung = self._first * self._reduction ** self.bracket(number)
        while rung < step:
            rung *= self._reduction
        result: bool = rung == step
        return result

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Return True if the trial is at a rung and not among the best (Optuna calls this)."""
        step = trial.last_step
        if step is None or not self.is_rung(trial.number, step):
            return False
        bracket = self.bracket(trial.number)
        sign = 1 if study.direction is StudyDirection.MINIMIZE else -1
        rivals = sorted(
            sign * other.intermediate_values[step]
            for other in study.get_trials(deepcopy=False)
            if step in other.intermediate_values and self.bracket(other.number) == bracket
        )
        worst_kept = rivals[max(len(rivals) // self._reduction, 1) - 1]
        return sign * trial.intermediate_values[step] > worst_kept
