"""Ablation: every ingredient of a run is taken out in turn, and its effect measured in pairs of seeds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from slipstream.config.changes import changes, chosen
from slipstream.config.files import defaults
from slipstream.core.errors import ConfigError, UserError, did_you_mean
from slipstream.core.registry import LISTS
from slipstream.core.types import Plain
from slipstream.core.wording import spell
from slipstream.diagnosis.branches import NOTHING, Change, Origin, branches
from slipstream.diagnosis.paired_effects import Effect, effects
from slipstream.early_stopping import direction

SEEDS = 5  # of each change: the fewest that can show a tie (sweeps/report/comparisons.py)
# The question and the place, not an ingredient of the answer.
GIVEN = (
    *("data", "data.path", "data.target", "name", "logger"),
    *("trainer.device", "trainer.threads", "trainer.compile", "trainer.metrics", "trainer.observations"),
)


@dataclass(frozen=True)
class Ablation:
    """The effects of taking out a run's ingredients.

    Attributes:
        folder: the run.
        metric: what is compared, at the best epoch; `minimize` says that smaller is better.
        effects: of each ingredient's removal, the largest loss first. `effect.change` is what was typed.
        control: the metric of the unchanged run, seed by seed.
    """

    folder: Path
    metric: str
    minimize: bool
    effects: tuple[Effect, ...]
    control: tuple[float | None, ...]


def removals(raw: Mapping[str, Plain]) -> dict[str, Change]:
    """Return the change that takes out each ingredient of a configuration, by the ingredient as typed.

    An ingredient is an option or a setting that differs from the defaults, which it is put back to, and each
    regularizer and augmentation, which is left out. Settings of the data count, its source does not.
    """
    found: dict[str, Change] = {}
    for text in changes(raw):
        key, _, _ = text.partition("=")
        parts = key.split(".")
        if key in GIVEN or key.startswith("logger."):
            continue
        if key in LISTS:
            for name in raw[key]:
                kept = ",".join(other for other in raw[key] if other != name)
                found[f"{key}={name}"] = Change((f"{key}=[{kept}]",))
        elif len(parts) == 1:
            found[text] = Change((f"{key}={chosen()[key]}",))
        else:
            usual = _usual(raw, parts)
            found[text] = Change((f"{key}={spell(usual)}",))
    return found


def _usual(raw: Mapping[str, Plain], parts: Sequence[str]) -> Plain:
    """Return the default of a setting, given the option that is chosen."""
    group, key = parts[0], parts[-1]
    option = parts[1] if group in LISTS else "default" if group == "trainer" else raw[group]["name"]
    return defaults(group, option).get(key)


def ablate(
    run: str | Path, only: Sequence[str] = (), *, seeds: int = SEEDS, metric: str | None = None
) -> Ablation:
    """Measure what each ingredient of a run contributes.

    Each is taken out in turn, everything else equal: weights, order of examples and noise of each seed.
    Differences are paired by seed; Holm's correction applies over all ingredients.

    Args:
        run: the folder of a run.
        only: ingredients to take out, such as "regularizer=dropout"; all of them by default.
        seeds: runs of each, the run's own seed first. 5 or more can tell a tie from a small effect.
        metric: `split/name`; by default the one that decided on the run's best epoch.

    Returns:
        The effects, with 95 % intervals.

    Raises:
        UserError: the folder holds no run, or it has nothing that differs from the defaults.

    Example:
        >>> import slipstream
        >>> config = slipstream.compose("data=iris", "regularizer=dropout", "trainer.max_epochs=2")
        >>> result = slipstream.train(config, "runs/ablated")
        >>> found = slipstream.ablate("runs/ablated", seeds=2)
        >>> sorted(str(effect.change) for effect in found.effects)
        ['regularizer=[]', 'trainer.max_epochs=50']
    """
    origin = Origin(run)
    known = removals(origin.raw)
    asked = list(_asked(known, only))
    if not asked:
        raise UserError(f"{origin.folder}: everything has its default; there is nothing to take out")
    name = metric or str(origin.raw["early_stopping"]["metric"])
    minimize = direction(name, "auto") > 0
    found = branches(origin, [NOTHING, *(known[text] for text in asked)], seeds=seeds)
    if not any(name in branch.result.best for branch in found):
        names = sorted({key for branch in found for key in branch.result.best})
        raise ConfigError([f"metric {name}: no such metric of this run, {did_you_mean(name, names)}"])
    measured = effects(found, name, minimize=minimize)
    control = tuple(branch.result.best.get(name) for branch in found if branch.change == NOTHING)
    worst_first = sorted(measured, key=lambda effect: _order(effect, minimize))
    return Ablation(origin.folder, name, minimize, tuple(worst_first), control)


def _asked(known: Mapping[str, Change], only: Sequence[str]) -> Iterator[str]:
    for text in only:
        if text not in known:
            raise UserError(f"{text}: no ingredient of this run, {did_you_mean(text, list(known))}")
    yield from only or known


def _order(effect: Effect, minimize: bool) -> float:
    if effect.difference is None:
        return -float("inf")
    return -effect.difference if minimize else effect.difference
