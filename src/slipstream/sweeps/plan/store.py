"""The stored plan of a sweep: written once, joined by equal plans, and changed only in free settings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from hydra.core.override_parser.types import Override

from slipstream.config import grammar, hints
from slipstream.config.files import defaults
from slipstream.config.replay import classify, diff
from slipstream.config.schema import check, options, settings, show
from slipstream.core import folders, kernels, storage
from slipstream.core.errors import ConfigError, UserError, did_you_mean
from slipstream.core.types import Plain
from slipstream.core.wording import spell, typed
from slipstream.sweeps.plan import sweep_settings
from slipstream.sweeps.plan.space import Choices
from slipstream.sweeps.plan.sweep_plan import SweepPlan

FILE = "sweep.json"
# Settings of how and where members are trained, which do not affect what is computed.
WORKERS = ("workers", "cluster", "slurm")


def holds_sweep(folder: Path) -> bool:
    """Return True if a folder belongs to a sweep."""
    return (folder / FILE).is_file()


def freeze(plan: SweepPlan, folder: Path) -> SweepPlan:
    """Write the plan into the sweep's folder. If it has an identical one, join it and use its kernels.

    Returns the plan. Raises ConfigError if the folder has a different one, UserError if it cannot be
    written.
    """
    try:
        folders.mkdir(folder)
        folders.require_own(folder)
        if (folder / "config.yaml").exists():
            raise UserError(f"{folder}: is the folder of a run; choose another one with hydra.sweep.dir=DIR")
        if not holds_sweep(folder) and _write_first(plan, folder):
            return plan
    except OSError as error:
        raise UserError(
            f"{folder}: cannot create the folder of the sweep: {error.strerror}. "
            "Choose another one with hydra.sweep.dir=DIR"
        ) from error
    saved = _join(folder)
    found = list(_differences(saved, plan, folder))
    if found:
        raise ConfigError(found)
    return plan  # with its own logging, device and workers


def _write_first(plan: SweepPlan, folder: Path) -> bool:
    """Write the plan unless another process was faster. The file is complete as soon as it exists."""
    with folders.held(folder):
        return storage.write_first(folder / FILE, _text(plan))


def _text(plan: SweepPlan) -> str:
    saved = plan.to_json() | {"mkl_cbwr": kernels.asked()}
    return json.dumps(saved | {"sha256": _digest(saved)}, indent=1) + "\n"


def _digest(saved: Mapping[str, Plain]) -> str:
    return hashlib.sha256(json.dumps(saved, sort_keys=True).encode()).hexdigest()


def load(folder: Path) -> SweepPlan:
    """Load the plan of a sweep's folder. Raises ConfigError if it cannot be read, or was edited by hand."""
    return _load(folder)[0]


def _join(folder: Path) -> SweepPlan:
    """Return the plan and set its kernels for this process, if torch has not computed anything yet."""
    plan, mode = _load(folder)
    kernels.use(mode)
    return plan


def _load(folder: Path) -> tuple[SweepPlan, object]:
    """Load a sweep's plan and MKL's mode."""
    file = folder / FILE
    try:
        saved = json.loads(file.read_text(encoding="utf-8"))
        if saved["format"] != 1:
            raise ConfigError(
                [f"{file}: has format {saved['format']}, but this version of slipstream reads 1"]
            )
        if saved.pop("sha256") != _digest(saved):
            text = (
                "was changed after it was written (its checksum differs). Restore the file from a copy; the "
            )
            raise ConfigError([f"{file}: {text}members' own folders are not affected"])
        return SweepPlan.from_json(saved), saved.get("mkl_cbwr", kernels.NONE)
    except OSError as error:
        raise ConfigError([f"{file}: cannot be read: {error.strerror}"]) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError([f"{file}: is damaged: {type(error).__name__} {error}"]) from None


def resume(folder: Path, overrides: Sequence[str] = ()) -> SweepPlan:
    """Return the plan of a resumed sweep with allowed changes: free keys, workers, and more trials.

    Raises ConfigError with the difference for any other change. Permanent changes are written.
    """
    folders.require_own(folder)
    saved = _join(folder)
    plan, problems = saved, []
    for text in overrides:
        override = grammar.parsed(text)
        if override is None:
            problems.append(hints.unreadable(text))
        elif override.key_or_group != "resume":
            try:
                plan = _changed(plan, override, folder)
            except ConfigError as error:
                problems += error.problems
    if problems:
        raise ConfigError(problems)
    if plan is not saved:
        _ = plan.example if plan.grid is None else plan.jobs  # raises for invalid values
        lasting = replace(plan, settings=_with(plan.settings, saved.settings, WORKERS))
        if lasting.to_json() != saved.to_json():
            with folders.held(folder):
                storage.replace(folder / FILE, _text(lasting))
    return plan


def _changed(plan: SweepPlan, override: Override, folder: Path) -> SweepPlan:
    key, line = override.get_key_element(), override.input_line or ""
    section, _, setting = key.partition(".")
    if section == "hydra" or override.is_hydra_override():
        raise ConfigError([f"{line}: a resumed sweep keeps its folder; remove this"])
    if override.is_sweep_override():
        raise ConfigError([f"{line}: a resumed sweep cannot get more values; start another sweep"])
    value = override.value()
    if section == "sweep":
        return replace(plan, settings=_setting(plan, setting, value, line, folder))
    raw = plan.example.config.raw
    known: Plain = raw
    for step in key.split("."):
        known = known.get(step) if isinstance(known, Mapping) else None
    if key in {axis.key for axis in plan.space.axes}:
        raise ConfigError([f"{key}: is swept in {folder}; a resumed sweep cannot change its values"])
    if classify(key, known, value) == "free":
        if key == "logger":
            names = [str(name) for name in (value if isinstance(value, list) else [value])]
            for name in names:
                if name not in options("logger"):
                    raise ConfigError([f"{line}: no such option, {did_you_mean(name, options('logger'))}"])
            value = {name: defaults("logger", name) for name in names}
        lines = {**plan.lines, key: line}
        return replace(plan, lines=lines, fixed={**plan.fixed, key: value})
    chosen = known.get("name", list(known)) if isinstance(known, Mapping) else known
    if chosen == value and isinstance(chosen, bool) is isinstance(value, bool):
        return plan
    raise ConfigError(
        [f"{key}: was {show(chosen)} in {folder}, now {show(value)}; a resumed sweep cannot change it"]
    )


def _setting(plan: SweepPlan, key: str, value: Plain, line: str, folder: Path) -> sweep_settings.GridSettings:
    known = settings("sweep", plan.name)
    if key not in known:
        raise ConfigError([f"{line}: sweep={plan.name} has no such setting, {did_you_mean(key, known)}"])
    old = getattr(plan.settings, key)
    grows = key == "trials" and isinstance(value, int) and value >= old
    if key not in WORKERS and not grows and value != old:
        hint = "it can only be increased" if key == "trials" else "a resumed sweep cannot change it"
        raise ConfigError([f"sweep.{key}: was {show(old)} in {folder}, now {show(value)}; {hint}"])
    valid, problems = check({key: known[key]}, {key: value}, "sweep", f"sweep={plan.name}")
    if problems:
        raise ConfigError(problems)
    made = replace(plan.settings, **valid)
    problems = list(sweep_settings.problems(made))
    if problems:
        raise ConfigError(problems)
    return made


def _with(
    settings: sweep_settings.GridSettings, other: sweep_settings.GridSettings, keys: Sequence[str]
) -> sweep_settings.GridSettings:
    """Return settings with some values from others."""
    return replace(settings, **{key: getattr(other, key) for key in keys})


def _differences(saved: SweepPlan, new: SweepPlan, folder: Path) -> Iterator[str]:
    """Yield a sentence for each difference that makes it another sweep."""
    where = f"in {folder}; choose another hydra.sweep.dir, or continue it with {typed('resume', folder)}"
    if saved.name != new.name:
        yield f"sweep: was {saved.name} {where}"
        return
    for key, old, value in diff(_fixed_settings(saved), _fixed_settings(new), "sweep."):
        yield f"{key}: was {show(old)}, now {show(value)} {where}"
    before, after = _axes(saved), _axes(new)
    for key in before | after:
        if before.get(key) != after.get(key):
            yield f"{key}: was {before.get(key, 'not swept')}, now {after.get(key, 'not swept')} {where}"
    if before != after:
        return
    if list(before) != list(after):
        yield f"{', '.join(after)}: had another order {where}"
    changes: dict[str, None] = {}
    for combination in saved.templates.composed.keys() & new.templates.composed.keys():
        trees = saved.templates.tree(combination), new.templates.tree(combination)
        for key, old, value in (*diff(*trees), *diff(saved.fixed, new.fixed)):
            if not key.startswith("sweep.") and classify(key, old, value) != "free":
                changes[f"{key}: was {show(old)}, now {show(value)} {where}"] = None
    yield from changes


def _fixed_settings(plan: SweepPlan) -> dict[str, Plain]:
    return {
        key: getattr(plan.settings, key)
        for key in settings("sweep", plan.name)
        if key not in (*WORKERS, "space")
    }


def _axes(plan: SweepPlan) -> dict[str, str]:
    """Describe the axes in words."""
    return {
        axis.key: ", ".join(spell(value) for value in axis.values)
        if isinstance(axis, Choices)
        else f"{'log ' * axis.log}{axis.low:g} to {axis.high:g}"
        for axis in plan.space.axes
    }
