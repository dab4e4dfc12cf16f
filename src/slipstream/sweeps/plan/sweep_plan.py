"""The plan of a sweep, which contains everything about its members, so that YAML files are not read again."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property

from slipstream.config.files import renamed
from slipstream.config.validation import validate
from slipstream.core.errors import ConfigError
from slipstream.core.types import Plain
from slipstream.core.wording import counted, shell, spell
from slipstream.sweeps.plan import sweep_settings
from slipstream.sweeps.plan.job import Job
from slipstream.sweeps.plan.space import Choices, Space, decoded, encoded, identity
from slipstream.sweeps.plan.templates import Combination, Templates

Values = Mapping[str, Plain]

# The keys that differ between members of one configuration, and the settings that vary them.
REPEATING = {"seed": "sweep.repeats", "data.fold": "sweep.folds", "data.folds": "sweep.folds"}


@dataclass(frozen=True)
class SweepPlan:
    """A valid sweep, ready for training.

    lines: the command line of a job, key -> override, or None for an axis. fixed: the lines that are set as
        values.
    space: the swept keys. settings: of the sweep. templates: the compositions of all choices. grid: the
    values of every configuration of a grid, or None for a searcher. notes: sentences for the user.
    """

    lines: Mapping[str, str | None]
    fixed: Mapping[str, Plain]
    space: Space
    settings: sweep_settings.GridSettings
    name: str
    templates: Templates = field(compare=False)
    grid: tuple[Values, ...] | None
    notes: tuple[str, ...] = ()

    @property
    def members(self) -> int:
        """The number of members per configuration: repeats x folds."""
        return self.settings.members

    @property
    def trials(self) -> int:
        """The maximum number of different configurations that a searcher tries."""
        assert isinstance(self.settings, sweep_settings.SearchSettings)
        known = self.space.countable
        return self.settings.trials if known is None else min(self.settings.trials, len(known))

    @cached_property
    def jobs(self) -> tuple[Job, ...]:
        """Return all members of a grid, or () for a searcher. Raises ConfigError if some are invalid."""
        made: list[Job] = []
        faults = Faults()
        trials: dict[str, int] = {}
        for values in self.grid or ():
            # Seeds and folds repeat a configuration, whether swept by hand or by the settings.
            trial = trials.setdefault(repr(_own(values)), len(trials))
            for repeat in range(self.members):
                with faults.of(self, values):
                    made.append(self._job(len(made), trial, repeat, values))
        faults.report(len(self.grid or ()))
        return tuple(made)

    def job(self, trial: int, repeat: int, values: Values) -> Job:
        """Return a member of a searcher's trial. Raises ConfigError if the values contradict each other.

        repeat: the number of the member within the trial, from 0. values: of the axes that apply.
        """
        return self._job(trial * self.members + repeat, trial, repeat, values)

    @property
    def example(self) -> Job:
        """Return the first job, or for a searcher a job with the first value of every axis."""
        return self._job(0, 0, 0, self.grid[0] if self.grid else next(probes(self.space), {}))

    def distinct(self) -> SweepPlan:
        """Return the plan of a grid without duplicate configurations.

        Different values may be equivalent, such as `${seed}` and a number, or two experiments with the same
        content.
        """
        trials: dict[int, list[Job]] = {}
        for job in self.jobs:
            trials.setdefault(job.trial, []).append(job)
        first: dict[Hashable, Job] = {}
        same: dict[int, tuple[Job, Job]] = {}  # trial -> its first member, and that of the one it repeats
        for trial, members in trials.items():
            found = first.setdefault(frozenset(identity(job.config.raw) for job in members), members[0])
            if found.trial != trial:
                same[trial] = members[0], found
        if not same:
            return self
        rows = [job.trial for job in self.jobs][:: self.members]
        kept = [values for trial, values in zip(rows, self.grid or (), strict=True) if trial not in same]
        repeats, earlier = (" ".join(self.own(_own(job.values))) for job in next(iter(same.values())))
        said = counted(len(same), "configuration is", "configurations are")
        note = f"{said} the same as an earlier one and skipped: {repeats} equals {earlier}"
        return replace(self, grid=tuple(kept), notes=(*self.notes, note))

    def own(self, values: Values) -> list[str]:
        """Return the swept values as overrides."""
        return [f"{key}={spell(value)}" for key, value in values.items()]

    def _job(self, number: int, trial: int, repeat: int, values: Values) -> Job:
        lines: dict[str, str] = {}
        sets: list[tuple[str, Plain]] = []
        for key, line in self.lines.items():
            if line is None and key in values:
                lines[key] = f"{key}={spell(values[key])}"
                if key not in self.templates.axes:
                    sets.append((key, values[key]))
            elif line is not None and self.space.applies(key, values):
                lines[key] = line
                if key in self.fixed:
                    sets.append((key, self.fixed[key]))
        combination = self._combination(values)
        for key, value in self._repeats(combination, sets, repeat).items():
            lines[key] = f"{key}={spell(value)}"
            sets.append((key, value))
        plain, problems = self.templates.plain(combination, sets)
        try:
            config = validate(plain)
        except ConfigError as error:
            raise ConfigError([*problems, *error.problems]) from None
        if problems:
            raise ConfigError(problems)
        return Job(number, trial, tuple(lines.values()), dict(values), config)

    def _combination(self, values: Values) -> Combination:
        places = self.templates.places
        return tuple(places[key][spell(values[key])] for key in self.templates.axes)

    def _repeats(self, combination: Combination, sets: Sequence[tuple[str, Plain]], repeat: int) -> Values:
        """Return the keys that differ between members of one configuration."""
        changes: dict[str, Plain] = {}
        number, fold = divmod(repeat, self.settings.folds or 1)
        if self.settings.repeats > 1:
            seed = dict(sets).get("seed", self.templates.tree(combination).get("seed"))
            if isinstance(seed, int) and not isinstance(seed, bool):  # validation reports any other
                changes["seed"] = seed + number
        if self.settings.folds is not None:
            changes |= {"data.folds": self.settings.folds, "data.fold": fold}
        return changes

    def to_json(self) -> dict[str, Plain]:
        """Return the whole plan as plain data, so that resuming reads no YAML files."""
        return {
            "format": 1,
            "lines": dict(self.lines),
            "fixed": encoded(self.fixed),
            "space": self.space.to_json(),
            "name": self.name,
            "settings": encoded(asdict(self.settings)),
            "templates": self.templates.to_json(),
            "grid": None if self.grid is None else [encoded(values) for values in self.grid],
            "notes": list(self.notes),
        }

    @classmethod
    def from_json(cls, saved: Mapping[str, Plain]) -> SweepPlan:
        """Restore a plan from its `to_json`."""
        return cls(
            saved["lines"],
            {renamed(key): value for key, value in decoded(saved["fixed"]).items()},
            Space.from_json(saved["space"]),
            sweep_settings.SWEEPS[saved["name"]](**decoded(saved["settings"])),
            saved["name"],
            Templates.from_json(saved["templates"]),
            None if saved["grid"] is None else tuple(decoded(saved["grid"])),
            tuple(saved["notes"]),
        )


def _own(values: Values) -> dict[str, Plain]:
    """Return the swept values without the keys that differ between a trial's members."""
    return {key: value for key, value in values.items() if key not in REPEATING}


class Faults:
    """The problems of jobs. Each sentence appears once, with the jobs that have the problem."""

    def __init__(self) -> None:
        self._jobs: dict[str, dict[tuple[str, ...], None]] = {}
        self._all: list[tuple[str, ...]] = []

    @contextmanager
    def of(self, plan: SweepPlan, values: Values) -> Iterator[None]:
        """Collect errors inside the block as problems of the job with these values."""
        own = tuple(plan.own(values))
        self._all.append(own)
        try:
            yield
        except ConfigError as error:
            for problem in error.problems:
                self._jobs.setdefault(problem, {})[own] = None

    def report(self, total: int) -> None:
        """Raise ConfigError with all problems. total: the number of jobs; a problem of all lists none."""
        if not self._jobs:
            return
        sentences = []
        for problem, jobs in self._jobs.items():
            first = " ".join(next(iter(jobs)))
            more = f", and {len(jobs) - 1} more" if len(jobs) > 1 else ""
            told = f"{problem} (in {first}{more}){self._apart(jobs)}"
            sentences.append(problem if len(jobs) == total or not first else told)
        raise ConfigError(sentences)

    def _apart(self, jobs: Iterable[tuple[str, ...]]) -> str:
        """Return advice on excluding a combination of individually valid values."""
        wrong = set(jobs)
        sound = {line for own in self._all if own not in wrong for line in own}
        shared = [line for line in next(iter(wrong)) if all(line in own for own in wrong)]
        if len(shared) != 2 or not sound.issuperset(shared):
            return ""
        one, other = map(shell, shared)
        return f"; to exclude this combination, sweep {one} in a separate command without {other}"


def probes(space: Space) -> Iterator[dict[str, Plain]]:
    """Yield every choice and both ends of every interval, with the other axes at their first values."""
    ends = {
        axis.key: axis.values if isinstance(axis, Choices) else (axis.low, axis.high) for axis in space.axes
    }
    first = {key: values[0] for key, values in ends.items()}
    for key, values in ends.items():
        condition = space.conditions.get(key)
        needed = dict(zip(condition.axes, condition.allowed[0], strict=True)) if condition else {}
        for value in values:
            chosen = first | needed | {key: value}
            yield {key: value for key, value in chosen.items() if space.applies(key, chosen)}
