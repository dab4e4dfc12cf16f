"""The choices of a study in readable form: values in the journal, indices in the samplers.

Samplers model the index of a choice, because three or more ordered numbers are steps on a line. But a user
who opens the study wants to read `optimizer = adam` instead of `optimizer = 1`. The storage converts.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Container, Iterable, Mapping, Sequence

from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend
from optuna.trial import FrozenTrial, TrialState

from slipstream.core.types import Plain
from slipstream.sweeps.plan.space import Axis, Choices, encoded

SCALARS = (str, int, float, bool, type(None))  # the values that Optuna stores


def stored(values: Sequence[Plain]) -> list[str | int | float | bool | None]:
    """Return the values of an axis as a study stores them, all different.

    Strings, numbers, booleans and null stay unchanged; lists and mappings become JSON text. If two values of
    the axis would then be equal in Python (1 and true, the list [1] and the text "[1]"), all become JSON
    text.

    >>> stored(["adam", None, 0.1]), stored([[], ["dropout", "l2"]]), stored([True, 1, "1"])
    (['adam', None, 0.1], ['[]', '["dropout", "l2"]'], ['true', '1', '"1"'])
    """
    found = [value if isinstance(value, SCALARS) else json.dumps(value) for value in values]
    if not _distinct(found):
        found = [json.dumps(value) for value in values]
    return found if _distinct(found) else [json.dumps(encoded(value)) for value in values]


def _distinct(values: Iterable[Plain]) -> bool:
    found = list(values)
    return len(set(found)) == len(found)


class ValueStorage(JournalStorage):
    """A journal that stores the values of listed choices and returns their indices.

    indices: the distribution of each axis's index for the samplers. A study from an earlier version contains
    indices and continues with them, because Optuna allows only one distribution per name.
    """

    def __init__(
        self,
        backend: BaseJournalBackend,
        axes: Sequence[Axis],
        indices: Mapping[str, BaseDistribution],
    ) -> None:
        super().__init__(backend)
        listed = {axis.key: axis.values for axis in axes if isinstance(axis, Choices)}
        self._indices = {key: indices[key] for key in listed}
        self._values = {key: CategoricalDistribution(stored(values)) for key, values in listed.items()}
        self._old: set[str] | None = None  # keys stored as indices; None before the study is read
        self._shown: dict[int, tuple[FrozenTrial, FrozenTrial]] = {}  # by number: as stored, with indices

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """Return a trial with indices instead of values."""
        return self._translated(super().get_trial(trial_id))

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """Return the trials with indices instead of values."""
        found = [self._translated(t) for t in super().get_all_trials(study_id, deepcopy=False, states=states)]
        return copy.deepcopy(found) if deepcopy else found

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        """Store the value for an index."""
        if param_name in self._values and param_name not in self._stored_as_indices(trial_id):
            param_value_internal = int(distribution.to_external_repr(param_value_internal))
            distribution = self._values[param_name]
        super().set_trial_param(trial_id, param_name, param_value_internal, distribution)

    def _stored_as_indices(self, trial_id: int) -> set[str]:
        if self._old is None:
            study = self.get_study_id_from_name(self.get_all_studies()[0].study_name)
            trials = super().get_all_trials(study, deepcopy=False)
            found = [(key, kind) for trial in trials for key, kind in trial.distributions.items()]
            self._old = {
                key for key, kind in found if kind == self._indices.get(key) and kind != self._values[key]
            }
        return self._old

    def _translated(self, trial: FrozenTrial) -> FrozenTrial:
        known = self._shown.get(trial.number)
        if known is not None and known[0] is trial:
            return known[1]
        keys = [key for key, kind in trial.distributions.items() if kind == self._values.get(key)]
        shown = trial
        if keys:
            shown = copy.copy(trial)
            places = {key: self._values[key].choices.index(trial.params[key]) for key in keys}
            shown.params = {key: places.get(key, value) for key, value in trial.params.items()}
            kinds = {key: self._indices[key] for key in keys}
            shown.distributions = {key: kinds.get(key, kind) for key, kind in trial.distributions.items()}
        self._shown[trial.number] = trial, shown
        return shown
