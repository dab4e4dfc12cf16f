"""Training on data in memory: `slipstream.fit(frame, target)` returns a `FittedRun`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from slipstream.config.validation import compose, validate
from slipstream.core.errors import ConfigError, UserError
from slipstream.core.types import DataLike, Plain
from slipstream.core.wording import counted, spell
from slipstream.data.identity import labels, names_of
from slipstream.data.in_memory import InMemory
from slipstream.inference import new_data
from slipstream.inference.ensemble import Ensemble
from slipstream.inference.evaluation import Evaluation, evaluated
from slipstream.runs.prediction import Classification, Model, model_of, saved_config
from slipstream.runs.session import run_pack
from slipstream.runs.summary import Result
from slipstream.runs.trained import Trained

SHOWN = 6  # metrics in a repr


class FittedRun:
    """A run that was trained on data in memory, from `slipstream.fit`.

    Attributes:
        result: status, metrics and weights, as `slipstream.train` returns them.
        records: the lines of metrics.jsonl, one per epoch.

    Example:
        >>> import slipstream
        >>> table = {"x": list(range(80)), "y": ["no", "yes"] * 40}
        >>> run = slipstream.fit(table, "y", "trainer.max_epochs=2")
        >>> run.predict({"x": [1, 2, 3]}).shape, run.predict_proba({"x": [1, 2, 3]}).shape
        ((3,), (3, 2))
        >>> run.evaluate(table).whole.rows, len(run.history["val/loss"])
        (80, 2)
    """

    def __init__(self, result: Result, trained: Trained) -> None:
        self.result, self.records, self._trained = result, result.records, trained

    def __repr__(self) -> str:
        """Say how the run ended, the metrics of its best epoch, and what it predicts."""
        result = self.result
        last = [(name, value) for name, value in result.best.items() if not name.startswith("train/")]
        said = ", ".join(
            f"{name} {'undefined' if value is None else format(value, '.4g')}" for name, value in last[:SHOWN]
        )
        best = f"best epoch {result.best_epoch} of {counted(len(self.records), 'epoch')}"
        model = f"\n {self.model!r}" if result.best_epoch else ""
        return f"<slipstream run, {result.status}: {result.reason}\n {best}: {said}{model}>"

    @cached_property
    def model(self) -> Model:
        """The trained network, as `slipstream.load` returns it, with the weights of the best epoch."""
        if not self.result.best_epoch:
            raise UserError(
                f"no epoch ended with finite weights ({self.result.reason}); there is nothing to predict with"
            )
        return model_of(self._trained.raw, self._trained.fitted, self._trained.tensors)

    @property
    def history(self) -> dict[str, list[Plain]]:
        """The metrics of every epoch by name."""
        names = dict.fromkeys(name for record in self.records for name in record)
        return {name: [record.get(name) for record in self.records] for name in names}

    def predict(self, x: DataLike) -> np.ndarray:
        """Predict labels [N] in their original type, values [N] or [N, D], or for several labels bool [N, L].

        Args:
            x: a table with the columns of training (others are ignored), or an array in their order.

        Raises:
            DataError: the inputs do not match those of training.
        """
        found = self.model.predict(x)
        return found.labels if isinstance(found, Classification) else found

    def predict_proba(self, x: DataLike) -> np.ndarray:
        """Predict probabilities [N, C] in the order of `classes`. x: as in `predict`.

        Raises UserError for a run that predicts numbers, or whose loss gives no probabilities.
        """
        found = self.model.predict(x)
        if not isinstance(found, Classification):
            raise UserError("this run predicts numbers, which have no probabilities; use predict")
        return found.probabilities

    @property
    def classes(self) -> np.ndarray:
        """The labels in the order of the columns of `predict_proba`; empty for numbers."""
        target = self.model.target
        return labels(target.classes, target.label_kind)

    def evaluate(self, data: DataLike, target: DataLike = None, *, by: str | None = None) -> Evaluation:
        """Measure new examples with known targets: every metric with an interval, and each row.

        Args:
            data: a table or an array, as in `slipstream.fit`.
            target: their true values; None takes the columns of the table that training had as targets.
            by: a column whose values are groups that are measured one by one.

        Raises:
            ConfigError, DataError: the data do not fit those of training.
        """
        raw: Plain = self._trained.raw
        names = names_of(raw["data"]["target"])
        given, _ = InMemory.of(data, names if target is None else target, called=names[0])
        ensemble = Ensemble(Path("run"), (self.model,), (Path("run"),))
        return evaluated(ensemble, new_data.read_as(ensemble.models, [raw], (), by, given))

    def save(self, directory: str | Path) -> Path:
        """Write the run's folder, for `slipstream.load` and the command line. Return its path.

        Raises UserError if the folder holds a run already.
        """
        self._trained.save(Path(directory))
        return Path(directory)


def fit(
    data: DataLike,
    target: DataLike,
    *overrides: str | Sequence[str],
    directory: str | Path | None = None,
    resume: bool = False,
) -> FittedRun:
    """Train a run on data in memory.

    Args:
        data: a table (of pandas, polars or pyarrow, or a mapping of names to columns), whose columns are used
            by their types: a categorical one is a category even if it holds numbers, words that are not dates
            are categories, numbers are numbers. Or an array or tensor [N, ...] of numbers.
        target: the name of the column to predict, a list of names, or the values themselves: [N] or [N, D].
            Words, booleans and a few distinct whole numbers are classes; data.task says otherwise.
        overrides: settings as on the command line, such as "model.width=64" or "data.test=0".
        directory: the run's folder; None writes nothing to disk.
        resume: go on with the run in `directory`, given the same data again.

    Returns:
        The trained run, with `predict`, `evaluate` and `save`.

    Raises:
        ConfigError: the settings cannot run. DataError: the data cannot be used.

    Example:
        >>> import polars, slipstream
        >>> columns = {"age": range(20, 80), "city": ["Ulm", "Rom"] * 30, "paid": [True, False] * 30}
        >>> frame = polars.DataFrame(columns)
        >>> run = slipstream.fit(frame, "paid", "model.width=8", "trainer.max_epochs=3")
        >>> run.predict(frame.head(2)).dtype
        dtype('bool')
    """
    given, names = InMemory.of(data, target)
    texts = [text for item in overrides for text in ([item] if isinstance(item, str) else item)]
    if resume:
        config = _resumed(directory, texts)
    else:
        if any(text.lstrip("+").startswith(("data=", "data.target=")) for text in texts):
            raise ConfigError(
                ["fit: data and target are given as arguments; leave data=... and data.target=... out"]
            )
        texts = ["data=memory", f"data.target={spell(names[0] if len(names) == 1 else names)}", *texts]
        config = compose(texts)
    return FittedRun(*trained_on(config, given, directory, texts, resume=resume))


def trained_on(
    config: Mapping[str, Plain],
    given: InMemory,
    directory: str | Path | None = None,
    overrides: Sequence[str] = (),
    *,
    resume: bool = False,
) -> tuple[Result, Trained]:
    """Train the run of a configuration with data=memory on rows that are given."""
    folder, keep = None if directory is None else Path(directory), list[Trained]()
    (result,) = run_pack(
        [validate(config)], [folder], [overrides], resume=resume, quiet=True, given=given, keep=keep
    )
    return result, keep[0]


def _resumed(directory: str | Path | None, overrides: Sequence[object]) -> Mapping[str, Plain]:
    """Return the configuration of a run to go on with."""
    if directory is None:
        raise ConfigError(["fit: resume=True goes on with the run of a folder; give its directory"])
    if overrides:
        raise ConfigError(
            ["fit: resume=True goes on with the settings of the folder; leave the overrides out"]
        )
    return saved_config(Path(directory))
