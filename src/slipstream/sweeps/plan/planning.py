"""Planning: converting a command line to a valid plan with fixed and swept keys, and all jobs of a grid."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from omegaconf import DictConfig, OmegaConf

from slipstream.config import composition, grammar
from slipstream.config.replay import folder_of
from slipstream.config.schema import CHOICES, check, options, settings, takes_fractions
from slipstream.core.errors import ConfigError, did_you_mean
from slipstream.core.registry import LISTS
from slipstream.core.types import Plain
from slipstream.core.wording import counted, shell, spell, typed
from slipstream.sweeps.plan import sweep_settings, syntax
from slipstream.sweeps.plan.space import Axis, Choices, Condition, Interval, Space, without_repetition
from slipstream.sweeps.plan.sweep_plan import REPEATING, Faults, SweepPlan, probes
from slipstream.sweeps.plan.templates import Templates, is_plain

LARGEST_GRID = 100_000
PARTS = (*CHOICES, *LISTS)  # sections whose keys depend on the chosen option
OBJECTIVE = ("trainer.monitor", "trainer.mode", "early_stopping.metric", "early_stopping.mode")


def is_sweep(overrides: Sequence[str]) -> bool:
    """Return True if the YAML selected by a command line without -m defines a sweep, that is, a space."""
    if folder_of(overrides) is not None:
        return False
    try:
        reading = syntax.read(overrides)
        return bool(_composed(reading)[0].get("space"))
    except ConfigError:
        return False  # the run reports the error


@dataclass(frozen=True)
class Command:
    """A command line of a sweep.

    context: its overrides for Hydra and for the sweep itself. sweeper, launcher: Hydra's plugins.
    """

    plan: SweepPlan
    context: list[str]
    sweeper: str
    launcher: str


def plan(overrides: Sequence[str], space: Mapping[str, Plain] | None = None) -> SweepPlan:
    """Parse and validate a sweep without writing anything. Raises ConfigError with all problems of all jobs.

    overrides: as typed, including axes and sweep.*. space: further axes, as in `sweep.space`.
    """
    return command(overrides, space).plan


def command(overrides: Sequence[str], space: Mapping[str, Plain] | None = None) -> Command:
    """Return the plan (see `plan`) together with the overrides for Hydra."""
    with composition.loading():
        typed = syntax.read(overrides)
        try:
            section, hydra = _composed(typed)
        except ConfigError as error:
            raise ConfigError([*typed.problems, *error.problems]) from None
        chosen, problems = _settings(section)
        if chosen is None:
            raise ConfigError([*typed.problems, *problems])
        reading = syntax.CommandParts(problems=[*typed.problems, *problems])
        params = OmegaConf.to_container(hydra.sweeper.get("params") or OmegaConf.create())
        assert isinstance(params, dict)
        for where, written in (
            ("hydra.sweeper.params", params),
            ("sweep.space", chosen.space),
            ("space", space or {}),
        ):
            _take(reading, syntax.read_space(written, where))
        _take(reading, typed)
        name = section["name"]
        sweeper, launcher = (hydra.runtime.choices[f"hydra/{kind}"] for kind in ("sweeper", "launcher"))
        reading.problems += _contradictions(reading, chosen, name)
        reading.problems += _other_plugins(chosen, sweeper, launcher)
        if hydra.sweeper.get("max_batch_size") is not None and launcher == "packs":
            reading.problems.append("hydra.sweeper.max_batch_size: packs train all jobs together; remove it")
        if reading.problems:
            raise ConfigError(dict.fromkeys(reading.problems))
        context = [*typed.hydra, *typed.sweep]
        made = _assemble(reading, context, chosen, name)
        if sweeper == "basic" and made.notes:  # it would train inapplicable values and duplicates
            raise ConfigError([f"hydra/sweeper=basic: {note}; remove it" for note in made.notes])
        return Command(made, context, sweeper, launcher)


def _other_plugins(chosen: sweep_settings.GridSettings, sweeper: str, launcher: str) -> Iterator[str]:
    """Yield settings that would be ignored if another plugin creates or runs the jobs."""
    searches = isinstance(chosen, sweep_settings.SearchSettings)
    if sweeper not in ("space", "basic"):
        yield f"hydra/sweeper={sweeper}: remove it; use sweep=random, tpe, cma_es or gp to search"
    if sweeper == "basic" and (searches or chosen.space or chosen.members > 1):
        yield "hydra/sweeper=basic: supports only comma-separated values; remove it"
    if launcher == "packs":
        return
    if searches:
        yield f"hydra/launcher={launcher}: a search needs hydra/launcher=packs; sweep.pack=1 disables packs"
    if chosen.pack not in ("auto", 1) or chosen.workers > 1 or chosen.cluster is not None:
        yield f"hydra/launcher={launcher}: sweep.pack, workers and cluster are for hydra/launcher=packs"


def _take(reading: syntax.CommandParts, more: syntax.CommandParts) -> None:
    reading.problems += more.problems
    for key, line in more.lines.items():
        reading.add(key, more.axes[key] if line is None else line)


def _composed(reading: syntax.CommandParts) -> tuple[dict[str, Plain], DictConfig]:
    """Compose the sections of the sweep and of Hydra from the selected options, without single values."""
    with composition.loading() as loader:
        groups = set(loader.list_groups(""))
        chosen = [line for key, line in reading.lines.items() if line is not None and key in groups]
        composed, _ = composition.read([*reading.hydra, *reading.sweep, *chosen], sweeps=True)
        section = composition.plain_section(composed, "sweep")
        return section if isinstance(section, dict) else {}, composed.hydra


def _settings(section: Mapping[str, Plain]) -> tuple[sweep_settings.GridSettings | None, list[str]]:
    name = section.get("name")
    if name not in sweep_settings.SWEEPS:
        return None, [f"sweep={name}: no such option, {did_you_mean(str(name), options('sweep'))}"]
    values = {key: value for key, value in section.items() if key != "name"}
    valid, problems = check(settings("sweep", name), values, "sweep", f"sweep={name}", _searchers_with)
    if problems:
        return None, problems
    chosen = sweep_settings.SWEEPS[name](**valid)
    return chosen, list(sweep_settings.problems(chosen))


def _searchers_with(key: str, value: Plain) -> str | None:
    """Return the hint for a setting that other sweep options have."""
    setting = key.partition(".")[2]
    having = [name for name in sweep_settings.SWEEPS if setting in settings("sweep", name)]
    if not having:
        return None
    return f"sweep={', '.join(having)} have it: did you mean sweep={having[0]} {typed(key, value)}?"


def _contradictions(
    reading: syntax.CommandParts, chosen: sweep_settings.GridSettings, name: str
) -> Iterator[str]:
    searches = isinstance(chosen, sweep_settings.SearchSettings)
    if chosen.repeats > 1 and "seed" in reading.axes:
        yield "sweep.repeats: seed is already swept; remove one of them"
    for key in ("data.folds", "data.fold"):
        if chosen.folds is not None and key in reading.lines:
            yield f"sweep.folds: sets {key} itself; remove one of them"
    if searches and not reading.axes:
        yield (
            f"sweep={name}: there is nothing to search; add an axis: "
            f"{shell('optimizer.lr' + syntax.LOGARITHMIC)}"
        )
    for key, axis in reading.axes.items():
        if key.partition("@")[0].lstrip("+~").partition(".")[0] in ("sweep", "hydra", "resume"):
            yield f"{key}: cannot be swept"
        elif key == "trainer.portable":
            yield f"{key}: is the same for all members of a sweep and cannot be swept"
        elif isinstance(axis, Interval) and not searches:
            yield f"{key}: sweep=grid cannot enumerate an interval; list values, or use sweep=random"
        elif isinstance(axis, Interval) and not is_plain(key, axis.low):
            yield f"{key}: an interval needs a numeric setting"
        elif searches and key in OBJECTIVE:
            yield f"{key}: determines which trial is best, so it cannot be searched"
        elif searches and key in REPEATING:
            yield (
                f"{key}: sweep={name} would only search for a lucky value; use "
                f"{REPEATING[key]}=N to repeat every trial"
            )
    size = Space(tuple(reading.axes.values())).size
    if not searches and size is not None and size * chosen.members > LARGEST_GRID:
        yield f"sweep=grid: {size * chosen.members:,} members; use fewer values, or sweep=random"


def _assemble(
    reading: syntax.CommandParts, context: Sequence[str], chosen: sweep_settings.GridSettings, name: str
) -> SweepPlan:
    with composition.loading() as loader:
        groups = set(loader.list_groups(""))
    repeated = list(_unrepeated(reading))
    choosing = [key for key in reading.axes if key in groups]
    fixed = _late_values(reading, groups) if choosing else {}
    structural = {
        key: [f"{key}={spell(value)}" for value in axis.values]
        for key, axis in reading.axes.items()
        if isinstance(axis, Choices) and not _sets(key, axis.values, groups, reading.lines)
    }
    lines = {
        key: line
        for key, line in reading.lines.items()
        if key not in fixed and (line is not None or key in structural)
    }
    templates = Templates(lines, structural, context)
    swept = {key: _typed(axis, templates) for key, axis in reading.axes.items()}
    late = [*fixed, *(key for key in swept if key not in structural)]
    conditions = _conditions(late, choosing, swept, templates)
    space = Space(tuple(swept.values()), conditions)
    searches = isinstance(chosen, sweep_settings.SearchSettings)
    made = SweepPlan(
        lines=reading.lines,
        fixed=fixed,
        space=space,
        settings=chosen,
        name=name,
        templates=templates,
        grid=None if searches else tuple(space.grid()),
        notes=(*repeated, *_told(conditions), *(syntax.notes(swept.values()) if searches else ())),
    )
    _require_sound(made)
    if not isinstance(chosen, sweep_settings.SearchSettings):
        return made.distinct()
    few = made.space.countable
    if few is None or len(few) >= chosen.trials:
        return made
    all_of_them = (
        f"the space has {counted(len(few), 'configuration')}, fewer than sweep.trials, so each is tried once"
    )
    return replace(made, notes=(*made.notes, all_of_them))


def _unrepeated(reading: syntax.CommandParts) -> Iterator[str]:
    """Remove repeated values of axes. Yield a sentence for each of them."""
    for key, axis in reading.axes.items():
        if isinstance(axis, Choices):
            reading.axes[key], repeated = without_repetition(axis)
            for value, times in repeated:
                often = "twice" if times == 2 else f"{times} times"
                yield f"{key}={spell(value)}: appears {often} and counts once"


def _require_sound(made: SweepPlan) -> None:
    """Raise ConfigError for values that are invalid in every composition, and for every invalid job."""
    try:
        if made.grid is None:
            faults, tried = Faults(), list(probes(made.space))
            for values in tried:
                with faults.of(made, values):
                    made.job(0, 0, values)
            faults.report(len(tried))
        else:
            _ = made.jobs
        found: list[str] = []
    except ConfigError as error:
        found = error.problems
    for problems in made.templates.problems.values():
        found = [*dict.fromkeys([*problems, *found])]
    if found:
        raise ConfigError(found)


def _late_values(reading: syntax.CommandParts, groups: set[str]) -> dict[str, Plain]:
    """Return fixed keys that apply only to some swept options. They are set after composing."""
    late: dict[str, Plain] = {}
    for key, line in reading.lines.items():
        if line is not None and key.partition(".")[0] in PARTS and "." in key:
            override = grammar.parsed(line)
            value = override.value() if override is not None else None
            if override is not None and _sets(key, [value], groups, reading.lines):
                late[key] = value
    return late


def _sets(key: str, values: Sequence[Plain], groups: set[str], lines: Mapping[str, str | None]) -> bool:
    """Return True if values of a key can be set on a composition because none of them affects composing."""
    if key in groups or not all(is_plain(key, value) for value in values):
        return False
    below = any(other.startswith(f"{key}.") for other in lines)
    return not below and not any(key.startswith(f"{other}.") for other in lines if other not in groups)


def _typed(axis: Axis, templates: Templates) -> Axis:
    """Return an interval of integers if the setting accepts nothing else."""
    if isinstance(axis, Choices) or axis.integer:
        return axis
    group, _, setting = axis.key.partition(".")
    for combination in templates.singles():
        annotation = _annotations(templates.tree(combination), group).get(setting)
        if annotation is not None:
            return axis if takes_fractions(annotation) else syntax.whole(axis)
    return axis


def _annotations(tree: Mapping[str, Plain], group: str) -> dict[str, Plain]:
    """Return the settings of the selected options in a group, as `name.setting` for list groups."""
    section = tree.get(group)
    if not isinstance(section, Mapping):
        return {}
    if group in LISTS:
        known = [name for name in section if name in options(group)]
        return {f"{n}.{key}": kind for n in known for key, kind in settings(group, n).items()}
    name = "default" if group == "trainer" else section.get("name")
    return settings(group, name) if group in (*PARTS, "trainer") and name in options(group) else {}


def _conditions(
    keys: Sequence[str], choosing: Sequence[str], swept: Mapping[str, Axis], templates: Templates
) -> dict[str, Condition]:
    """Return the conditions of keys that apply only to some of the swept options."""
    found = {}
    for key in keys:
        group, _, setting = key.partition(".")
        deciding = [group] if group in choosing else choosing
        if group not in PARTS or not deciding:
            continue
        deciding = [axis for axis in deciding if axis == group or _decides(axis, group, templates)]
        rows = list(templates.combinations(deciding))
        allowed = []
        for combination, places in rows:
            if _has(templates.tree(combination), group, setting):
                allowed.append(tuple(swept[axis].values[n] for axis, n in places.items()))  # type: ignore[union-attr]  # a choosing axis lists its values
        if 0 < len(allowed) < len(rows):
            found[key] = Condition(tuple(deciding), tuple(allowed))
    return found


def _decides(axis: str, group: str, templates: Templates) -> bool:
    """Return True if options of one group select options of another, as model=perceptron does."""
    first = _annotations(templates.tree(templates.first), group)
    return any(
        _annotations(templates.tree(combination), group) != first
        for combination, _ in templates.combinations([axis])
    )


def _has(tree: Mapping[str, Plain], group: str, setting: str) -> bool:
    known = _annotations(tree, group)
    return any(setting == key or setting.startswith(f"{key}.") for key in known)


def _told(conditions: Mapping[str, Condition]) -> Iterator[str]:
    for key, condition in conditions.items():
        where = [
            f"{axis}={'|'.join(dict.fromkeys(spell(row[n]) for row in condition.allowed))}"
            for n, axis in enumerate(condition.axes)
        ]
        yield f"{key} applies only to {' and '.join(where)}"
