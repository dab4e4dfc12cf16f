"""Explanation of the prediction for one example by Shapley values, computed with captum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from slipstream.core.errors import ConfigError, UserError, did_you_mean
from slipstream.core.types import DataLike
from slipstream.core.wording import counted, install
from slipstream.inference.asked_data import asked_data
from slipstream.inference.dependence import levels_of
from slipstream.inference.ensemble import Ensemble, RunLike, open_run
from slipstream.inference.new_data import NewData
from slipstream.inference.perturbations import Kind, Perturbation, perturbations, slices

EXACT = 5  # the largest number of features for which all orders are used
ORDERS, ROWS = 50, 50  # random orders otherwise; rows that replace an absent value
GRID = 4  # regions along each side of an image
SEED = 0  # of orders and rows, so that an explanation repeats to the digit
AT_ONCE = 4096  # rows predicted together


@dataclass(frozen=True)
class Contribution:
    """The part of a prediction that one column, region or word explains.

    value: the example's value, "" if unknown. adds: how much it adds to the prediction.
    """

    name: str
    kind: Kind
    value: str
    adds: float


@dataclass(frozen=True)
class Explanation:
    """The prediction of one example as a sum.

    prediction = base + the sum of all `adds`, up to rounding: Shapley values (Lundberg and Lee,
    arXiv 1705.07874), over all orders of up to 5 features, otherwise over 50 random orders.

    Attributes:
        name: the run. row: the example's number in `source`, from 1.
        output: the class whose probability (or score) is explained, or the target, in its own units.
        prediction: its value. base: the mean prediction without any of the example's values: over `rows`
            other examples, for an image filled with the mean color, or for a text without words.
        contributions: the largest first.
        exact: True if all orders were used.

    Example:
        >>> import slipstream
        >>> run = slipstream.train(slipstream.compose("data=iris", "trainer.max_epochs=20"))
        >>> len(run.model.preprocessing.columns)  # contributions of slipstream.explain(run, row=3)
        4
    """

    name: str
    source: str
    row: int
    output: str
    prediction: float
    base: float
    rows: int
    contributions: tuple[Contribution, ...]
    exact: bool


def explain(
    run: RunLike, *data: DataLike, row: int = 1, target: DataLike = None, output: str | None = None
) -> Explanation:
    """Explain the prediction of one example by Shapley values of its columns, regions or words.

    A Shapley value is how much the prediction changes when the example's own value replaces those of other
    examples, averaged over the orders of replacing all values. Needs the extra `explain` (captum).

    Args:
        run: the folder of a run or a sweep, or the result of `slipstream.fit`, `train` or `sweep`.
        data: as in `slipstream.evaluate`; without any, the run's test rows.
        row: the example's number, from 1, as shown by `evaluate`.
        target: the targets of examples in memory.
        output: the class, or the target column, to explain; by default the predicted class, or the first.

    Returns:
        The prediction as a sum of contributions.

    Raises:
        UserError: captum is not installed, or the folder is not a run. ConfigError, DataError: the data, the
            row or the output do not fit the run.

    Example:
        >>> import slipstream
        >>> run = slipstream.train(slipstream.compose("data=iris", "trainer.max_epochs=5"))
        >>> slipstream.explain(run, row=0)
        Traceback (most recent call last):
        slipstream.core.errors.ConfigError: 1 problem in the configuration:
          row: found 0, expected 1 to 22 of the test rows of the run
    """
    ensemble = open_run(run)
    _output(ensemble, output)  # fail before reading data
    found, source = asked_data(ensemble, data, target)
    return explanation_of(ensemble, found, source, row, output)


def explanation_of(
    ensemble: Ensemble, data: NewData, source: str, row: int, output: str | None = None
) -> Explanation:
    """Explain one of the examples that have been read. source: their description."""
    if not 1 <= row <= len(data):
        raise ConfigError([f"row: found {row}, expected 1 to {len(data)} of {source}"])
    one = tuple(x[row - 1 : row] for x in data.inputs)
    switched = _Switched.of(ensemble, data, one)
    scores = switched.scores(torch.tensor([[0] * len(switched.things), [1] * len(switched.things)]))
    place = _output(ensemble, output)
    place = (int(scores[1].argmax()) if _has_classes(ensemble) else 0) if place is None else place
    adds, exact = _shapley(switched, place)
    found = [
        Contribution(thing.name, thing.kind, value, float(each))
        for thing, value, each in zip(switched.things, switched.values(one), adds, strict=True)
    ]
    found.sort(key=lambda each: -abs(each.adds))
    return Explanation(
        str(ensemble),
        source,
        row,
        _outputs(ensemble)[place],
        float(scores[1, place]),
        float(scores[0, place]),
        switched.count,
        tuple(found),
        exact,
    )


def _shapley(switched: _Switched, place: int) -> tuple[np.ndarray, bool]:
    """Return the Shapley value of each feature for one output, and True if it is exact."""
    try:
        from captum.attr import ShapleyValues, ShapleyValueSampling
    except ImportError as error:
        raise UserError(f"explain: needs captum; install with: {install('explain')}") from error
    features = len(switched.things)
    own, none = torch.ones(1, features), torch.zeros(1, features)

    def outputs(present: Tensor) -> Tensor:
        return switched.scores(present)[:, place]

    together = max(AT_ONCE // switched.count, 1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        if features <= EXACT:
            found = ShapleyValues(outputs).attribute(own, none, perturbations_per_eval=together)
        else:
            found = ShapleyValueSampling(outputs).attribute(
                own, none, n_samples=ORDERS, perturbations_per_eval=together
            )
    values: np.ndarray = found[0].double().numpy()
    return values, features <= EXACT


@dataclass(frozen=True)
class _Switched:
    """An example whose features can be removed one by one.

    things: the features. inputs: for each network, the example `count` times, followed by as many other
    examples if their values replace an absent one. order: swaps both halves.
    """

    ensemble: Ensemble
    things: Sequence[Perturbation]
    inputs: tuple[Tensor, ...]
    order: Tensor
    count: int

    @classmethod
    def of(cls, ensemble: Ensemble, data: NewData, one: tuple[Tensor, ...]) -> _Switched:
        """Return one of the examples with its features, and the others that replace absent values."""
        preprocessings = [model.preprocessing for model in ensemble.models]
        tokens = preprocessings[0].spec.kind == "tokens"
        every = len(one[0][0].flatten()) if tokens else 0
        things = perturbations(preprocessings, one if tokens else data.inputs, GRID, every)
        things = [thing for thing in things if thing.kind != "channel"]
        if not things:
            raise UserError("explain: this network has no inputs that can be removed")
        if not things[0].shuffles:
            return cls(ensemble, things, one, torch.zeros(1, dtype=torch.int64), 1)
        count = min(ROWS, len(data))
        rows = np.sort(np.random.default_rng(SEED).choice(len(data), count, replace=False))
        pairs = zip(one, data.inputs, strict=True)
        inputs = tuple(torch.cat([x.expand(count, *x.shape[1:]), all_[rows]]) for x, all_ in pairs)
        return cls(ensemble, things, inputs, torch.arange(2 * count).roll(count), count)

    def scores(self, present: Tensor) -> Tensor:
        """Return the outputs [B, C] of the example with the features that are 1 in each row [B, F]."""
        found = []
        for i, model in enumerate(self.ensemble.models):
            made = torch.cat([self._without(i, row) for row in (present == 0)])
            scores = torch.from_numpy(model.scores(made)).double()
            found.append(scores.reshape(len(present), self.count, -1).mean(1))
        return torch.stack(found).mean(0)

    def _without(self, number: int, absent: Tensor) -> Tensor:
        x = self.inputs[number]
        for thing, gone in zip(self.things, absent.tolist(), strict=True):
            x = thing.change(number, x, self.order) if gone else x
        return x[: self.count]

    def values(self, one: tuple[Tensor, ...]) -> list[str]:
        """Return the example's value of each feature, for a table."""
        preprocessing = self.ensemble.first.preprocessing
        if preprocessing.spec.kind != "vector" or not preprocessing.columns:
            return [""] * len(self.things)
        places, told = slices(preprocessing), []
        for column in preprocessing.columns:
            levels = levels_of(column, one[0][:, places[column.name]].numpy())
            told.append(str(levels[0][1]) if levels else "(missing)")
        return told


def _has_classes(ensemble: Ensemble) -> bool:
    return ensemble.target.task in ("binary", "multiclass")


def _outputs(ensemble: Ensemble) -> Sequence[str]:
    return ensemble.target.classes or ensemble.target.names


def _output(ensemble: Ensemble, asked: str | None) -> int | None:
    """Return the index of the requested output. Raises ConfigError."""
    known = list(_outputs(ensemble))
    if asked is not None and str(asked) not in known:
        what = "class" if ensemble.target.classes else "target"
        raise ConfigError([f"{asked!r}: no such {what} in this run, {did_you_mean(str(asked), known)}"])
    return None if asked is None else known.index(str(asked))


def told(found: Explanation) -> str:
    """Return sentences that explain the numbers."""
    where = "" if found.rows == 1 else f", the mean over {counted(found.rows, 'row')}"
    how = "all orders" if found.exact else f"{ORDERS} random orders"
    return (
        f"{found.name}, {found.source}, row {found.row}: {found.output} {found.prediction:.6g} = "
        f"{found.base:.6g} without any of its values{where}, and what each adds (Shapley values over {how})."
    )
