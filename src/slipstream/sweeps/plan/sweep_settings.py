"""The settings of a sweep: the search method, repeats of configurations, and workers.

They are not part of the members' configurations.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Lt

from slipstream.config.schema import SECTIONS
from slipstream.core.types import Count, Plain

# The settings of each pruner.
PRUNERS: dict[str, tuple[str, ...]] = {
    "none": (),
    "median": ("min_epochs",),
    "asha": ("min_epochs", "reduction"),
    "hyperband": ("min_epochs", "reduction"),
    "patient": ("min_epochs", "patience"),
    "wilcoxon": (),
}


@dataclass(frozen=True)
class GridSettings:
    """All combinations of the values, each once.

    space: the swept keys, key -> values; on the command line, use the key itself. repeats: members per
    configuration, with the seeds seed, seed + 1, ... folds: members per configuration, one for each fold of a
    cross-validation. pack: members trained together; `auto` measures the fastest number, 1 trains them one
    after another. workers: processes that share the sweep. cluster: where they run; null for this process and
    its children. slurm: parameters of submitit, such as {partition: gpu}.
    """

    space: dict[str, Plain]
    repeats: Count
    folds: Annotated[int, Ge(2)] | None
    pack: Literal["auto"] | Count
    workers: Count
    cluster: Literal["local", "slurm"] | None
    slurm: dict[str, Plain]

    @property
    def members(self) -> int:
        """Return the number of members of a configuration."""
        return self.repeats * (self.folds or 1)


@dataclass(frozen=True)
class SearchSettings(GridSettings):
    """Draw values trial by trial.

    trials: the total number of configurations. at_once: trials in progress at the same time. seed: of the
        draws.
    pruner: the rule that stops unpromising trials early. min_epochs: epochs before it may stop a trial
    (median, asha, hyperband, patient). reduction: one in this many trials continues (asha, hyperband).
    patience: tolerated epochs without improvement (patient).
    """

    trials: Count
    at_once: Count
    seed: Annotated[int, Ge(0), Lt(2**32)]
    pruner: Literal["none", "median", "asha", "hyperband", "patient", "wilcoxon"]
    min_epochs: Count | None
    reduction: Annotated[int, Ge(2)] | None
    patience: Count | None


def _searcher(name: str, what: str) -> type[SearchSettings]:
    made: type[SearchSettings] = dataclass(frozen=True)(
        type(name, (SearchSettings,), {"__module__": __name__})
    )
    described = (SearchSettings.__doc__ or "").partition("\n")[2]
    made.__doc__ = f"{what}\n{described}"
    return made


SWEEPS: dict[str, type[GridSettings]] = {
    "grid": GridSettings,
    "random": _searcher("Random", "Draws every trial independently of the others."),
    "quasi_random": _searcher("QuasiRandom", "Draws a Sobol sequence: random, but evenly spread."),
    "tpe": _searcher("Tpe", "Draws near good trials and away from bad ones (Parzen estimators)."),
    "cma_es": _searcher("CmaEs", "Adapts a normal distribution towards the best numbers (CMA-ES)."),
    "gp": _searcher(
        "Gp", ("Fits a Gaussian process and draws where it expects the most, for few, costly trials.")
    ),
}
SECTIONS["sweep"] = SWEEPS


def problems(settings: GridSettings) -> Iterator[str]:
    """Yield a sentence for every setting that would have no effect."""
    if settings.slurm and settings.cluster != "slurm":
        yield "sweep.slurm: is for sweep.cluster=slurm"
    if not isinstance(settings, SearchSettings):
        return
    pruner = settings.pruner
    for key in ("min_epochs", "reduction", "patience"):
        if getattr(settings, key) is not None and key not in PRUNERS[pruner]:
            having = ", ".join(name for name, keys in PRUNERS.items() if key in keys)
            yield f"sweep.{key}: sweep.pruner={pruner} has no such setting; it is for {having}"
    if pruner == "wilcoxon" and settings.members == 1:
        yield (
            "sweep.pruner=wilcoxon: compares configurations member by member, but each has only one; "
            "set sweep.repeats or sweep.folds, or use sweep.pruner=median"
        )
