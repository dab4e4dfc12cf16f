"""A searcher's study: the configurations to try, and their results. Based on Optuna."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from slipstream.core.console import quiet
from slipstream.core.errors import UserError
from slipstream.core.lazy import torch
from slipstream.core.wording import install
from slipstream.sweeps.plan.space import Space, identity

try:
    import optuna
except ModuleNotFoundError as error:
    raise UserError(
        f"searching needs the package optuna, which is not installed: {install('search')}"
    ) from error

from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from slipstream.core.types import Plain
from slipstream.sweeps.search import pruners, samplers
from slipstream.sweeps.search.journal import Journal
from slipstream.sweeps.search.stored_values import ValueStorage

NAME = "sweep"
OWN_ATTEMPTS = 8  # attempts of a searcher to propose something new
CHANCES = 200  # random draws after that, if configurations are not countable
PRUNED = "pruned"  # a trial's attribute: the epoch at which the pruner stopped it
STATUS = "status"  # a trial's attribute: slipstream's name for how it ended


Report = tuple[int, int, float]  # trial, epoch, value


@dataclass(frozen=True)
class Trial:
    """A configuration to try: its number, and the value of each axis that applies to it."""

    number: int
    values: Mapping[str, Plain]


class Study:
    """A searcher, its pruner and all its trials, shared by any number of processes.

    journal: its file, None to keep everything in memory. space: the axes. settings: those of the sweep: name,
    trials, at_once, seed, pruner, min_epochs, reduction, patience. minimize: True if small values are good.
    epochs: the maximum length of a trial. metric: the name of the values, for other tools that read the
    study.

    Proposals depend only on the seed and the study, so a reopened study continues as if it had never been
    closed. Processes that share a study influence each other's trials, since each learns from all results so
    far.
    """

    def __init__(
        self,
        journal: Path | None,
        space: Space,
        settings: Mapping[str, Plain],
        minimize: bool,
        epochs: int,
        metric: str | None = None,
    ) -> None:
        self._metric = metric
        self._path = journal
        self._space = space
        self._settings = settings
        self._direction = StudyDirection.MINIMIZE if minimize else StudyDirection.MAXIMIZE
        self._distributions = {axis.key: samplers.distribution(axis) for axis in space.axes}
        with quiet("optuna"):
            self._pruner = pruners.make(settings, epochs)
        self._asked: set[int] = set()  # by this object
        self._spent = False  # True when all trials have been asked
        self._names: list[Hashable] = []  # the configurations of the trials, by number
        self._journal: Journal | None = None
        self._optuna: optuna.Study | None = None
        self._open = False  # True within a transaction
        with self.together():  # errors of the study show up here
            pass

    @contextmanager
    def together(self) -> Iterator[None]:
        """Make all calls inside the block one atomic transaction, which waits for the disk once.

        Other processes wait meanwhile. Every call outside is a separate transaction. Trials requested inside
        exist only after its end, so do not create folders for them earlier.
        """
        if self._open:
            yield
            return
        asked = self._asked
        try:
            if self._optuna is None:
                self._journal = None if self._path is None else Journal(self._path)
            transaction: AbstractContextManager[None]
            transaction = nullcontext() if self._journal is None else self._journal.transaction()
            with transaction:
                self._open = True
                if self._optuna is None:
                    self._optuna = self._load()
                    self._check()
                yield
        except BaseException:
            # The storage has records that are not in the file; a study in memory has nothing else.
            if self._path is not None:
                self._optuna, self._asked, self._spent = None, asked, False
                self._names = []
            raise
        finally:
            self._open = False

    def left(self) -> int:
        """Return the number of trials that all processes together may still request, without repeats."""
        with self.together():
            left = self._settings["trials"] - len(self._trials())
            if self._space.countable is not None:
                left = min(left, len(self._space.countable) - len(self._tried()))
            result: int = max(left, 0)
            return result

    def asked(self) -> list[Trial]:
        """Return all trials, by number."""
        with self.together():
            return [self._trial(trial) for trial in self._trials()]

    def waiting(self) -> list[Trial]:
        """Return unfinished trials that were requested elsewhere, by a dead or a live process.

        The sweep's leases show which worker has their members.
        """
        with self.together():
            return [
                self._trial(trial)
                for trial in self._trials()
                if trial.state is TrialState.RUNNING and trial.number not in self._asked
            ]

    def ask(self, count: int) -> list[Trial]:
        """Ask for `count` new trials, or fewer at the limit of the sweep's `trials` or of configurations."""
        asked: list[Trial] = []
        if self._spent:
            return asked
        with self.together(), quiet("optuna"), self._threads():
            left = self.left()
            self._spent = left <= count
            asked += [self._draw() for _ in range(min(count, left))]
        self._asked = self._asked | {trial.number for trial in asked}
        return asked

    def report(self, reports: Iterable[tuple[int, int, float | None]]) -> set[int]:
        """Report (trial, epoch, value) of all trials that trained an epoch. Return the numbers to prune.

        epoch: from 1, increasing within a trial; for wilcoxon the number of the repeat or fold. All trials
        are written before any is judged, so that members of a pack are compared with each other. A resumed
        trial may be reported again, and is judged as before. Undefined values (None, NaN) are ignored.
        Without a pruner, this costs nothing.
        """
        pruner = self._pruner
        if pruner is None:
            return set()
        wanted = [
            (number, epoch, float(value))
            for number, epoch, value in reports
            if value is not None and not math.isnan(value) and pruners.reads(pruner, number, epoch)
        ]
        if not wanted:
            return set()
        with self.together(), quiet("optuna"):
            for reports in _rounds(wanted):
                self._judge(pruner, reports)
            trials = self._trials()
            return {
                number
                for number, epoch, _ in wanted
                if epoch >= trials[number].user_attrs.get(PRUNED, math.inf)
            }

    def _judge(self, pruner: optuna.pruners.BasePruner, reports: Iterable[Report]) -> None:
        before = self._trials()
        new = []
        for number, epoch, value in reports:
            known = before[number]
            if known.state is TrialState.RUNNING and epoch not in known.intermediate_values:
                self._storage.set_trial_intermediate_value(number, epoch, value)
                new.append((number, epoch))
        after = self._trials()
        for number, epoch in new:
            if PRUNED not in after[number].user_attrs and pruner.prune(self._study, after[number]):
                self._storage.set_trial_user_attr(number, PRUNED, pruners.since(pruner, epoch))

    def tell(self, number: int, value: float | None, status: str) -> None:
        """Record how a trial ended: finished | stopped_early | diverged | pruned | failed. May be repeated.

        A diverged trial or an infinite value counts as the worst possible result, so that searchers learn to
        avoid it. Searchers ignore a trial that failed or has no value, since its configuration may not be the
        cause.
        """
        state, objective = self._verdict(value, status)
        with self.together(), quiet("optuna"):
            trials = self._trials()
            if trials[number].state is not TrialState.RUNNING:
                return
            self._storage.set_trial_user_attr(number, STATUS, status)
            ended = sum(trial.state is not TrialState.RUNNING for trial in trials)
            self._storage.set_trial_user_attr(number, samplers.ORDER, ended)
            self._study.tell(number, objective, state=state)

    def _verdict(self, value: float | None, status: str) -> tuple[TrialState, float | None]:
        worst = math.inf if self._direction is StudyDirection.MINIMIZE else -math.inf
        match status:
            case "pruned":
                return TrialState.PRUNED, None
            case "diverged":
                return TrialState.COMPLETE, worst
            case "finished" | "stopped_early" if value is not None and not math.isnan(value):
                return TrialState.COMPLETE, value if math.isfinite(value) else worst
            case "finished" | "stopped_early" | "failed":
                return TrialState.FAIL, None
        raise ValueError(f"a trial cannot end as {status}")

    def _load(self) -> optuna.Study:
        self._storage: BaseStorage
        with quiet("optuna"), self._as_written():
            self._storage = InMemoryStorage()
            if self._journal is not None:
                self._storage = ValueStorage(self._journal, self._space.axes, self._distributions)
            if optuna.get_all_study_names(self._storage):
                return optuna.load_study(study_name=NAME, storage=self._storage, sampler=self._sampler(0))
            # Not `load_if_exists`: that writes a line each time.
            made = optuna.create_study(
                storage=self._storage, study_name=NAME, direction=self._direction, sampler=self._sampler(0)
            )
            if self._metric is not None:
                with warnings.catch_warnings(action="ignore", category=ExperimentalWarning):
                    made.set_metric_names([self._metric])
            return made

    def _check(self) -> None:
        """Raise UserError if a trial in the journal does not belong to this sweep."""
        with self._as_written():
            for trial in self._trials():
                if any(trial.distributions[key] != self._distributions[key] for key in trial.params):
                    raise ValueError(f"trial {trial.number} belongs to another space")
                self._trial(trial)

    @contextmanager
    def _as_written(self) -> Iterator[None]:
        """Explain errors in hand-edited records, for which Optuna may raise any exception."""
        try:
            yield
        except (UserError, OSError):
            raise
        except Exception as error:
            raise UserError(
                f"{self._path}: was changed after it was written: {type(error).__name__} {error}. Restore "
                "the file from a copy; the members' own folders are not affected"
            ) from error

    @property
    def _study(self) -> optuna.Study:
        assert self._optuna is not None
        return self._optuna

    def _sampler(self, number: int, attempt: int = 0) -> Plain:
        settings, kinds = self._settings, self._distributions
        population = samplers.population(kinds, settings["at_once"], settings["trials"])
        conditional = bool(self._space.conditions)
        name = settings["name"] if attempt <= OWN_ATTEMPTS else "random"
        return samplers.make(name, kinds, settings["seed"], number, population, conditional, attempt)

    def _trials(self) -> list[FrozenTrial]:
        """Return all trials by number; in a storage with one study that is also the storage's id for them."""
        return self._study.get_trials(deepcopy=False)

    @contextmanager
    def _threads(self) -> Iterator[None]:
        """Use one thread for `gp`: its matrices are small, and its proposals must not depend on the count."""
        if self._settings["name"] != "gp":
            yield
            return
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)

    def _draw(self) -> Trial:
        """Start a new trial of a configuration that has not been tried."""
        tried = self._tried()
        number = self._storage.create_new_trial(self._study._study_id)
        drawn = self._new(number, tried)
        for axis in self._space.in_asking_order:
            if axis.key in drawn:
                kind = self._distributions[axis.key]
                inner = kind.to_internal_repr(drawn[axis.key])
                self._storage.set_trial_param(number, axis.key, inner, kind)
        return self._trial(self._trials()[number])

    def _new(self, number: int, tried: set[Hashable]) -> dict[str, Plain]:
        """Draw from the searcher until the proposal is new; otherwise choose a remaining one at random."""
        drawing = self._settings["name"] in samplers.DRAWING
        known = self._space.countable
        attempts = [0, *range(1 if drawing else OWN_ATTEMPTS + 1, OWN_ATTEMPTS + 1)]
        if known is None:
            attempts += range(OWN_ATTEMPTS + 1, OWN_ATTEMPTS + CHANCES)
        drawn: dict[str, Plain] = {}
        for attempt in attempts:
            drawn = self._proposal(number, self._sampler(number, attempt))
            if self._name_of(drawn) not in tried:
                return drawn
        left = [values for values in known or () if identity(values) not in tried]
        if not left:  # it has intervals, and many random draws found nothing new
            return drawn
        draw = np.random.default_rng([self._settings["seed"], number])
        values = left[int(draw.integers(len(left)))]
        axes = {axis.key: axis for axis in self._space.axes}
        kept = drawn if self._settings["name"] in samplers.WHOLE else {}
        return kept | {key: samplers.drawn_for(axes[key], value) for key, value in values.items()}

    def _proposal(self, number: int, sampler: Plain) -> dict[str, Plain]:
        """Return a sampler's values for the axes of a trial, key -> Optuna's value."""
        propose = samplers.propose(sampler, self._study, self._trials()[number])
        drawn: dict[str, Plain] = {}
        chosen: dict[str, Plain] = {}
        for axis in self._space.in_asking_order:
            if self._settings["name"] in samplers.WHOLE or self._space.applies(axis.key, chosen):
                drawn[axis.key] = propose(axis.key, self._distributions[axis.key])
                chosen[axis.key] = samplers.value(axis, drawn[axis.key])
        return drawn

    def _tried(self) -> set[Hashable]:
        """Return the configurations of all trials, regardless of how they ended."""
        names = self._names
        for trial in self._trials()[len(names) :]:
            names.append(self._name_of(trial.params))
        return set(names)

    def _name_of(self, drawn: Mapping[str, Plain]) -> Hashable:
        return identity(self._applying(drawn))

    def _applying(self, drawn: Mapping[str, Plain]) -> dict[str, Plain]:
        """Return the drawn values that apply, by key in the axes' order."""
        axes = [axis for axis in self._space.axes if axis.key in drawn]
        chosen = {axis.key: samplers.value(axis, drawn[axis.key]) for axis in axes}
        return {key: value for key, value in chosen.items() if self._space.applies(key, chosen)}

    def _trial(self, trial: FrozenTrial) -> Trial:
        return Trial(trial.number, self._applying(trial.params))


def _rounds(reports: Iterable[Report]) -> list[list[Report]]:
    """Yield the first report of each trial, then the second of those that have one, and so on."""
    rounds: list[list[Report]] = []
    count: Counter[int] = Counter()
    for report in reports:
        if count[report[0]] == len(rounds):
            rounds.append([])
        rounds[count[report[0]]].append(report)
        count[report[0]] += 1
    return rounds
