"""Ablation: each ingredient of a run is removed in turn, and its effect is measured in pairs of runs."""

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
from slipstream.runs.summary import Result

SEEDS = 5  # per change, the fewest that can show a tie (sweeps/report/comparisons.py)
# These keys define the task and the folder, and are not ingredients.
GIVEN = (
    *("data", "data.path", "data.target", "name", "logger"),
    *("trainer.device", "trainer.threads", "trainer.compile", "trainer.metrics", "trainer.observations"),
)


@dataclass(frozen=True)
class Ablation:
    """The effects of removing a run's ingredients.

    Attributes:
        folder: the run.
        metric: the metric that is compared, at the best epoch; `minimize` is True if smaller is better.
        effects: the effect of each removal, the largest loss first. `effect.change` has the overrides.
        control: the metric of the unchanged run, one value per seed.
        needed: a sentence about each ingredient without which the configuration is not valid.
    """

    folder: Path
    metric: str
    minimize: bool
    effects: tuple[Effect, ...]
    control: tuple[float | None, ...]
    needed: tuple[str, ...] = ()

    @property
    def trained(self) -> int:
        """The number of branches that were trained."""
        return (len(self.effects) + 1) * len(self.control)


def removals(raw: Mapping[str, Plain]) -> dict[str, Change]:
    """Return the change that removes each ingredient of a configuration, by the ingredient as typed.

    An option or a setting that differs from its default is an ingredient; it is reset to the default. So is
    each regularizer and augmentation, which is dropped. Settings of the data count, the data source does not.
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
    """Return the default of a setting of the chosen option. parts: of its key, such as optimizer, lr."""
    group, key = parts[0], parts[-1]
    option = parts[1] if group in LISTS else "default" if group == "trainer" else raw[group]["name"]
    return defaults(group, option).get(key)


def ablate(
    run: str | Path | Result, only: Sequence[str] = (), *, seeds: int = SEEDS, metric: str | None = None
) -> Ablation:
    """Measure what each ingredient of a run contributes.

    Each ingredient is removed in turn, with the weights, order of examples and noise of each seed unchanged.
    Differences are paired by seed; Holm's correction applies over all ingredients.

    Args:
        run: the folder of a run, or the result of `slipstream.train` with a folder.
        only: ingredients to remove, such as "regularizer=dropout"; all by default.
        seeds: runs per ingredient, the run's own seed first. At least 5 are needed to show a tie.
        metric: `split/name`; by default the one that chose the run's best epoch.

    Returns:
        The effects, with 95 % intervals.

    Raises:
        UserError: the folder holds no run, or the run has no setting that differs from the defaults.

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
        raise UserError(f"{origin.folder}: all settings have their defaults, so there is nothing to remove")
    name = metric or str(origin.raw["early_stopping"]["metric"])
    minimize = direction(name, "auto") > 0
    needed = {} if only else {text: why for text in asked if (why := origin.refusal(known[text]))}
    removed = [known[text] for text in asked if text not in needed]
    found = branches(origin, [NOTHING, *removed], seeds=seeds)
    if not any(name in branch.result.best for branch in found):
        names = sorted({key for branch in found for key in branch.result.best})
        raise ConfigError([f"metric {name}: no such metric of this run, {did_you_mean(name, names)}"])
    measured = effects(found, name, minimize=minimize)
    control = tuple(branch.result.best.get(name) for branch in found if branch.change == NOTHING)
    worst_first = sorted(measured, key=lambda effect: _order(effect, minimize))
    said = tuple(f"{text}: needed, since {why}" for text, why in needed.items())
    return Ablation(origin.folder, name, minimize, tuple(worst_first), control, said)


def _asked(known: Mapping[str, Change], only: Sequence[str]) -> Iterator[str]:
    """Yield the ingredients to remove: all if `only` is empty. Raises UserError for an unknown one."""
    for text in only:
        if text not in known:
            raise UserError(f"{text}: not an ingredient of this run, {did_you_mean(text, list(known))}")
    yield from only or known


def _order(effect: Effect, minimize: bool) -> float:
    """Return a number that is lowest for the ingredient whose removal harms most, a divergence first."""
    if effect.difference is None:
        return -float("inf")
    return -effect.difference if minimize else effect.difference
