"""Sampling of the next configuration. A new sampler is created for each trial, from (seed, number).

Its proposals therefore depend on the seed and on the study, but never on the process.

Conditions. `tpe` draws only the keys that apply to a trial and models each branch. `gp` and `cma_es` need a
value of every key: keys that do not apply are drawn and then dropped, so the objective is constant along
them. (96 trials over 8 keys, 5 of them conditional, mean regret of the best: tpe 0.06 this way, with all keys
0.11; gp with all keys 0.02, with the others drawn at random 0.15; random 0.12.) Optuna's own Sobol and CMA-ES
samplers are not used: the first draws conditional keys and its first point at random, and the second stores
pickles in the journal.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from optuna.trial import TrialState

from slipstream.core.errors import UserError
from slipstream.core.types import Plain
from slipstream.core.wording import install
from slipstream.sweeps.plan.space import Axis, Interval, identity

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial

Distribution = FloatDistribution | IntDistribution | CategoricalDistribution
Distributions = Mapping[str, Distribution]

# Samplers that need a value of every key for every trial.
WHOLE = ("cma_es", "gp")

# Samplers whose proposals depend on the seed; the others are deterministic given the study.
DRAWING = ("random", "tpe", "cma_es")

ORDER = "order"  # a trial's attribute: the number of trials that ended before it
SIGMA = 0.25  # the initial spread of CMA-ES, in widths of the space (its authors advise about a quarter)
GENERATIONS = 10  # CMA-ES learns once per generation: minimum generations in a sweep


def make(
    name: str,
    distributions: Distributions,
    seed: int,
    number: int,
    population: int,
    conditional: bool,
    attempt: int = 0,
) -> BaseSampler:
    """Return the sampler for one trial.

    attempt: the number of proposals for this trial that had already been tried. population: of CMA-ES, see
    `population`. conditional: True if some keys apply to some trials only.
    Raises UserError if cma_es lacks its library.
    """
    entropy = [seed, number, attempt] if attempt else [seed, number]
    own = int(np.random.SeedSequence(entropy).generate_state(1)[0])
    match name:
        case "random":
            return RandomSampler(seed=own)
        case "quasi_random":
            return Sobol(distributions, seed)
        case "tpe":
            return TPESampler(seed=own, multivariate=True, group=conditional, constant_liar=True)
        case "gp":
            start = Sobol(distributions, seed)
            return GPSampler(seed=own, independent_sampler=start, warn_independent_sampling=False)
        case "cma_es":
            return Evolution(distributions, own, population)
    raise ValueError(f"no sampler {name}")


def distribution(axis: Axis) -> Distribution:
    """Return Optuna's distribution for an axis: of a number, or of the index of a choice.

    Three or more numbers in ascending or descending order are steps on a line, which a model can learn from;
    other choices are a set without order.
    """
    if isinstance(axis, Interval):
        if axis.integer:
            return IntDistribution(int(axis.low), int(axis.high), log=axis.log)
        return FloatDistribution(axis.low, axis.high, log=axis.log)
    count = len(axis.values)
    if count > 2 and _is_scale(axis.values):
        return IntDistribution(0, count - 1)
    return CategoricalDistribution(list(range(count)))


def _is_scale(values: tuple[Plain, ...]) -> bool:
    if any(isinstance(value, bool) or not isinstance(value, (int, float)) for value in values):
        return False
    return list(values) in (sorted(set(values)), sorted(set(values), reverse=True))


def propose(sampler: BaseSampler, study: Study, trial: FrozenTrial) -> Callable[[str, Distribution], Plain]:
    """Return a function that draws a sampler's value for each parameter of a trial, without storing it."""
    space = sampler.infer_relative_search_space(study, trial)
    together = sampler.sample_relative(study, trial, space)

    def draw(key: str, kind: Distribution) -> Plain:
        if kind.single():
            return kind.choices[0] if isinstance(kind, CategoricalDistribution) else kind.low
        if key in together:
            return together[key]
        return sampler.sample_independent(study, trial, key, kind)

    return draw


def drawn_for(axis: Axis, value: Plain) -> Plain:
    """Return Optuna's value for the axis's value."""
    if isinstance(axis, Interval):
        return value
    return list(map(identity, axis.values)).index(identity(value))


def value(axis: Axis, drawn: Plain) -> Plain:
    """Return the axis's value for Optuna's value."""
    return drawn if isinstance(axis, Interval) else axis.values[drawn]


def place(kind: Distribution, u: float) -> Plain:
    """Return the value at u in [0, 1] of a distribution, equal shares for integers and choices."""
    if isinstance(kind, CategoricalDistribution):
        return kind.choices[min(int(u * len(kind.choices)), len(kind.choices) - 1)]
    low, high, back = _line(kind)
    drawn = back(low + u * (high - low))
    if isinstance(kind, IntDistribution):
        drawn = round(drawn)
    return min(max(drawn, kind.low), kind.high)


def locate(kind: Distribution, drawn: Plain) -> float:
    """Return a value's position in [0, 1], the inverse of `place`: the middle of its share."""
    if isinstance(kind, CategoricalDistribution):
        return (kind.choices.index(drawn) + 0.5) / len(kind.choices)
    low, high, _ = _line(kind)
    return ((math.log(drawn) if kind.log else drawn) - low) / (high - low)


def _line(kind: FloatDistribution | IntDistribution) -> tuple[float, float, Callable[[float], float]]:
    """Return the ends of the line on which numbers are drawn uniformly, and the inverse mapping."""
    half = 0.5 if isinstance(kind, IntDistribution) else 0.0
    low, high = kind.low - half, kind.high + half
    return (math.log(low), math.log(high), math.exp) if kind.log else (low, high, float)


class Sobol(BaseSampler):
    """A scrambled Sobol sequence over all axes, of which trial n gets point n (Sobol 1967, Owen 1998)."""

    def __init__(self, distributions: Distributions, seed: int) -> None:
        self._distributions = distributions
        self._seed = seed
        self._point: dict[str, float] = {}

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the axes to draw together (Optuna's interface)."""
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Plain]:
        """Draw all axes of a trial (Optuna's interface)."""
        return {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Plain:
        """Refuse: no axis is drawn alone (Optuna's interface)."""
        if not self._point:
            from scipy.stats.qmc import Sobol as Sequence  # 0.8 s

            sequence = Sequence(len(self._distributions), rng=np.random.default_rng(self._seed))
            if trial.number:
                sequence.fast_forward(trial.number)
            self._point = dict(zip(self._distributions, sequence.random(1)[0].tolist(), strict=True))
        return place(self._distributions[param_name], self._point[param_name])


def population(distributions: Distributions, at_once: int, trials: int) -> int:
    """Return the population of CMA-ES: the number of trials that train at once, within reason."""
    least = 4 + int(3 * math.log(max(len(distributions), 1)))
    return max(least, min(at_once, trials // GENERATIONS))


class Evolution(BaseSampler):
    """CMA-ES (Hansen 2016) on the unit cube, replayed from the study for each trial.

    A generation is the next `population` trials in the order in which they ended, so that none is wasted when
    many train at once. Only their ranks count: by value, then pruned trials (longer ones rank higher), and
    diverged trials last. Choices are steps on a line.
    """

    def __init__(self, distributions: Distributions, seed: int, population: int) -> None:
        try:
            import cmaes
        except ModuleNotFoundError as error:
            raise UserError(
                f"sweep=cma_es needs the package cmaes, which is not installed: {install('search')}"
            ) from error
        self._space: Distributions = {name: kind for name, kind in distributions.items() if not kind.single()}
        self._seed = seed
        self._population = population
        self._make = cmaes.CMA

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the axes to draw together (Optuna's interface)."""
        return dict(self._space)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Plain]:
        """Draw all axes of a trial (Optuna's interface)."""
        space, size = self._space, len(self._space)
        evolution = self._make(
            mean=np.full(size, 0.5),
            sigma=SIGMA,
            bounds=np.tile([0.0, 1.0], (size, 1)),
            population_size=self._population,
        )
        states = (TrialState.COMPLETE, TrialState.PRUNED)
        trials = study.get_trials(deepcopy=False, states=states)
        # Another tool may have added trials, which have no order attribute.
        ended = sorted((t for t in trials if ORDER in t.user_attrs), key=lambda t: t.user_attrs[ORDER])
        sign = 1 if study.direction.name == "MINIMIZE" else -1
        for start in range(0, len(ended) - self._population + 1, self._population):
            generation = ended[start : start + self._population]
            generation.sort(key=lambda t: _rank(t, sign))
            points = [
                np.array([locate(kind, t.params[name]) for name, kind in space.items()]) for t in generation
            ]
            evolution.tell(list(zip(points, map(float, range(len(points))), strict=True)))
        evolution.reseed_rng(self._seed)
        point = evolution.ask().tolist()
        return {name: place(kind, u) for (name, kind), u in zip(space.items(), point, strict=True)}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Plain:
        """Refuse: no axis is drawn alone (Optuna's interface)."""
        raise NotImplementedError  # everything that varies is in the relative space


def _rank(trial: FrozenTrial, sign: int) -> tuple[int, float, float]:
    """Return a sort key; smaller is better."""
    last = math.inf if trial.value is None else sign * trial.value
    if trial.state is TrialState.PRUNED:
        return 1, -max(trial.intermediate_values, default=-1), last
    return (2 if math.isinf(last) else 0), 0.0, last
