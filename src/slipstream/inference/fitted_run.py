"""A trained run as an object: it predicts, evaluates, explains, exports and saves."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from slipstream.core.errors import UserError
from slipstream.core.types import DataLike, Plain
from slipstream.data.identity import labels
from slipstream.data.in_memory import InMemory
from slipstream.inference import run_display
from slipstream.inference.caller_frames import like_caller
from slipstream.inference.ensemble import Ensemble, RunLike, RunOrigin, open_run
from slipstream.inference.evaluation import Evaluation, evaluate
from slipstream.inference.explanation import Explanation, explain
from slipstream.inference.permutation_importance import ImportanceResult, importance
from slipstream.runs.prediction import Classification, Model, model_of
from slipstream.runs.summary import Result
from slipstream.runs.trained import Trained


@dataclass(frozen=True, repr=False)
class FittedRun(Result):
    """A finished run, from `slipstream.fit`, `train` or `train_pack`.

    Attributes:
        status, reason, best_epoch, best, last, records, weights, directory, exit_code, observations: as in
            `Result`.
        origin: its configuration, its folder if it has one, and its rows if they were given in memory.

    Example:
        >>> import slipstream
        >>> table = {"x": list(range(80)), "y": ["no", "yes"] * 40}
        >>> run = slipstream.fit(table, "y", "trainer.max_epochs=2")
        >>> run.predict({"x": [1, 2, 3]}).shape, run.predict_proba({"x": [1, 2, 3]}).shape
        ((3,), (3, 2))
        >>> run.evaluate(table).whole.rows, len(run.history["val/loss"])
        (80, 2)
        >>> run.importance().features[0].name
        'x'
    """

    origin: RunOrigin = field(default_factory=lambda: RunOrigin({}), compare=False)

    def __repr__(self) -> str:
        """Return a table of the best epoch's metrics, how the run ended, and what it predicts."""
        return run_display.text_of(self, self._meaning)

    def _repr_html_(self) -> str:
        """Return the same for notebooks, with the curves."""
        return run_display.html_of(self, self._meaning)

    @property
    def _meaning(self) -> str:
        return repr(self.model).strip("<>").removeprefix("slipstream model of ") if self.best_epoch else ""

    @cached_property
    def model(self) -> Model:
        """The trained network, as `slipstream.load` returns it, with the weights of the best epoch."""
        if not self.best_epoch:
            raise UserError(
                f"no epoch ended with finite weights ({self.reason}); there is nothing to predict with"
            )
        held = self.origin.trained
        assert held is not None
        return model_of(held.raw, held.fitted, held.tensors)

    @cached_property
    def ensemble(self) -> Ensemble:
        """The run's network, in the form that `slipstream.evaluate` and similar functions use."""
        path = self.directory or Path("the run")
        return Ensemble(path, (self.model,), (path,) if self.directory else (), (self.origin,))

    @property
    def history(self) -> dict[str, list[Plain]]:
        """The metrics of every epoch by name."""
        names = dict.fromkeys(name for record in self.records for name in record)
        return {name: [record.get(name) for record in self.records] for name in names}

    @property
    def classes(self) -> np.ndarray:
        """The labels in the order of the columns of `predict_proba`; empty for numbers."""
        target = self.model.target
        return labels(target.classes, target.label_kind)

    def predict(self, x: DataLike) -> DataLike:
        """Predict labels [N] in their original type, values [N] or [N, D], or several labels as bool [N, L].

        Args:
            x: a table with the columns of training (others are ignored), an array in their order, or a
                Hugging Face Dataset.

        Returns:
            For a pandas (with its index), polars or pyarrow frame, a column of that library, or a frame for
            several columns. For a tensor, a tensor if numbers are predicted. Otherwise an array.

        Raises:
            DataError: the inputs do not match those of training.
        """
        return predict(self, x)

    def predict_proba(self, x: DataLike) -> DataLike:
        """Predict probabilities [N, C] in the order of `classes`.

        Args:
            x: as in `predict`.

        Returns:
            A frame with a column for each class, a tensor or an array, depending on x as in `predict`.

        Raises:
            UserError: the run predicts numbers, or its loss gives no probabilities.
        """
        return predict_proba(self, x)

    def evaluate(self, *data: DataLike, target: DataLike = None, by: str | None = None) -> Evaluation:
        """Evaluate the run on examples with known targets: metrics with intervals, and every row.

        Args:
            data: as in `slipstream.evaluate`; the second item may also be the targets.
            target: the targets of examples in memory; None uses the run's target columns of the table.
            by: a column of a table whose values are groups, each evaluated separately.

        Returns:
            Metrics with intervals, and scores and losses of every row.

        Raises:
            ConfigError, DataError: the data do not fit the run.
        """
        given = list(data)
        if len(given) == 2 and target is None and not isinstance(given[1], str):
            target = given.pop()
        return evaluate(self, *given, target=target, by=by)

    def importance(
        self, *data: DataLike, target: DataLike = None, metric: str | None = None, repeats: int = 5
    ) -> ImportanceResult:
        """Measure how much worse a metric gets without each column.

        Args:
            data: as in `slipstream.evaluate`; without any, the run's test rows.
            target: the targets of examples in memory.
            metric: a metric of the task, or "loss"; by default the one that chose the best epoch.
            repeats: the number of permutations of each column, >= 1.

        Returns:
            Importances with intervals, as in `slipstream.importance`.

        Raises:
            ConfigError, DataError: the data or the metric do not fit the run.
        """
        return importance(self, *data, target=target, metric=metric, repeats=repeats)

    def explain(
        self, *data: DataLike, row: int = 1, target: DataLike = None, output: str | None = None
    ) -> Explanation:
        """Explain the prediction of one example as a sum.

        Args:
            data: as in `slipstream.evaluate`; without any, the run's test rows.
            row: the example's number, from 1.
            target: the targets of examples in memory.
            output: the class, or the target column, to explain; by default the predicted class, or the first.

        Returns:
            The prediction as a sum of contributions, as in `slipstream.explain`.

        Raises:
            UserError: captum is not installed. ConfigError, DataError: data, row or output do not fit.
        """
        return explain(self, *data, row=row, target=target, output=output)

    def export(self, to: Literal["onnx", "torch"], directory: str | Path) -> Path:
        """Write a folder that predicts without slipstream, checked on the run's test rows.

        Args:
            to: "onnx" (extra `export`) or "torch".
            directory: a folder that does not exist.

        Returns:
            The path of the folder.

        Raises:
            UserError: the folder exists, or the network cannot be exported.
        """
        from slipstream.inference.export.exporting import FILES, export

        if to not in FILES:
            raise UserError(f"export: found {to!r}, expected {' or '.join(FILES)}")
        return export(self.ensemble, to, Path(directory)).folder

    def save(self, directory: str | Path) -> Path:
        """Write the run's folder, for `slipstream.load` and the command line.

        Args:
            directory: a folder that does not exist or holds no run.

        Returns:
            The path of the folder.

        Raises:
            UserError: the folder already holds a run.
        """
        assert self.origin.trained is not None
        self.origin.trained.save(Path(directory))
        return Path(directory)


def predict(run: RunLike, x: DataLike) -> DataLike:
    """Predict labels [N] in their original type, values [N] or [N, D], or several labels as bool [N, L].

    Args:
        run: the folder of a run or a sweep, or the result of `slipstream.fit`, `train` or `sweep`. For a
            sweep, the networks of the best trial's seeds or folds predict together.
        x: a table with the columns of training (others are ignored), an array in their order, a list of texts
            or images, or a Hugging Face Dataset, as in `slipstream.load(folder).predict`.

    Returns:
        For a pandas (with its index), polars or pyarrow frame, a column of that library, or a frame for
        several columns. For a tensor, a tensor if numbers are predicted. Otherwise an array.

    Raises:
        UserError: the folder is not a run. DataError: the inputs do not match those of training.

    Example:
        >>> import polars, slipstream
        >>> table = polars.DataFrame({"x": range(80), "y": ["no", "yes"] * 40})
        >>> folder = slipstream.fit(table, "y", "trainer.max_epochs=1", directory="runs/xy").directory
        >>> found = slipstream.predict(folder, table.head(3))
        >>> found.name, found.dtype, len(found)
        ('y', String, 3)
    """
    ensemble = open_run(run)
    found, names = ensemble.predict(x), ensemble.target.names
    if not isinstance(found, Classification):
        return like_caller(x, found, names)
    return like_caller(x, found.labels, names if found.labels.ndim == 1 else ensemble.target.classes)


def predict_proba(run: RunLike, x: DataLike) -> DataLike:
    """Predict probabilities [N, C], a column for each class.

    Args:
        run: as in `slipstream.predict`.
        x: as in `slipstream.predict`.

    Returns:
        A frame with a column for each class, a tensor or an array, depending on x as in `slipstream.predict`.

    Raises:
        UserError: the run predicts numbers, or its loss gives no probabilities.

    Example:
        >>> import polars, slipstream
        >>> table = polars.DataFrame({"x": range(80), "y": ["no", "yes"] * 40})
        >>> run = slipstream.fit(table, "y", "trainer.max_epochs=1")
        >>> slipstream.predict_proba(run, table.head(3)).columns
        ['no', 'yes']
    """
    ensemble = open_run(run)
    found = ensemble.predict(x)
    if not isinstance(found, Classification):
        raise UserError("this run predicts numbers, which have no probabilities; use predict")
    return like_caller(x, found.probabilities, ensemble.target.classes)


def fitted_run(result: Result, trained: Trained, given: InMemory | None = None) -> FittedRun:
    """Return a run from its result, the contents of its folder, and its rows if they are in memory."""
    origin = RunOrigin(trained.raw, result.directory, given, trained)
    return FittedRun(**{name: getattr(result, name) for name in Result.__dataclass_fields__}, origin=origin)
