"""Training from Python: `slipstream.fit`, `train`, `train_pack` and `sweep`, on data in memory too."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path

from slipstream.config.run_config import Config
from slipstream.config.validation import compose, validate
from slipstream.core.errors import ConfigError
from slipstream.core.registry import component
from slipstream.core.types import DataLike, Plain
from slipstream.core.wording import spell
from slipstream.data.identity import names_of
from slipstream.data.in_memory import InMemory
from slipstream.inference.fitted_run import FittedRun, fitted_run
from slipstream.inference.notebook_curve import NotebookCurve, in_notebook
from slipstream.runs import session
from slipstream.runs.prediction import saved_config
from slipstream.runs.summary import Result
from slipstream.runs.trained import Trained
from slipstream.sweeps import api
from slipstream.sweeps.api import SweepResult

SOURCES = ("data=", "data.target=", "data.dataset=")


def fit(
    data: DataLike,
    target: DataLike,
    *overrides: str | Sequence[str],
    directory: str | Path | None = None,
    resume: bool = False,
) -> FittedRun:
    """Train a run on data in memory.

    Args:
        data: a table (pandas, polars, pyarrow, or a mapping of names to columns) whose columns are used by
            type: a categorical column is a category even if it holds numbers, strings that are not dates are
            categories, and numbers are numbers. Or an array or tensor [N, ...] of numbers. Or a Hugging Face
            Dataset or DatasetDict, whose `validation` and `test` splits become those of the run; a single
            column of images or strings makes it image or text data.
        target: the name of the column to predict, a list of names, or the values themselves: [N] or [N, D].
            Strings, booleans and a few distinct whole numbers are classes, unless data.task says otherwise.
        overrides: settings as on the command line, such as "model.width=64" or "data.test=0".
        directory: the run's folder; None writes nothing to disk.
        resume: continue the run in `directory`, given the same data again.

    Returns:
        The trained run, with `predict`, `evaluate`, `importance`, `export` and `save`.

    Raises:
        ConfigError: the settings are invalid or do not fit the data.
        DataError: the data cannot be used.

    Example:
        >>> import polars, slipstream
        >>> columns = {"age": range(20, 80), "city": ["Ulm", "Rom"] * 30, "paid": [True, False] * 30}
        >>> frame = polars.DataFrame(columns)
        >>> run = slipstream.fit(frame, "paid", "model.width=8", "trainer.max_epochs=3")
        >>> run.predict(frame.head(2)).to_list() in ([a, b] for a in (True, False) for b in (True, False))
        True
    """
    given, names = InMemory.of(data, target)
    texts = [text for item in overrides for text in ([item] if isinstance(item, str) else item)]
    if resume:
        config = _resumed(directory, texts)
    else:
        if any(text.lstrip("+").startswith(SOURCES) for text in texts):
            raise ConfigError(
                ["fit: data and target are passed as arguments; remove data=... and data.target=..."]
            )
        texts = [*_source(given, names, texts), *texts]
        config = compose(texts)
    return _trained(validate(config), directory, texts, resume=resume, given=given)


def train(
    config: Mapping[str, Plain] | Config,
    directory: str | Path | None = None,
    *,
    data: DataLike = None,
    target: DataLike = None,
) -> FittedRun:
    """Train one run.

    Only warnings are shown, on standard error, and a curve in a notebook. `trainer.progress` applies only to
    the command line.

    Args:
        config: a configuration from `slipstream.compose`, or an already validated one.
        directory: the run's folder; None writes nothing to disk.
        data: rows in memory for a configuration with data=memory, as in `slipstream.fit`.
        target: their targets; None uses data.target of the configuration.

    Returns:
        The trained run: metrics, weights and history, with `predict`, `evaluate`, `importance`, `export` and
        `save`.

    Raises:
        ConfigError: the configuration cannot run.
        DataError: the data cannot be used. Like ConfigError it is a UserError, raised before training.

    Example:
        >>> import slipstream
        >>> result = slipstream.train(slipstream.compose("data=iris", "trainer.max_epochs=1"))
        >>> result.status, len(result.records)
        ('finished', 1)
        >>> result.predict([[5.1, 3.5, 1.4, 0.2]]).shape
        (1,)
    """
    valid = config if isinstance(config, Config) else validate(config)
    return _trained(valid, directory, (), given=_rows_for(valid, data, target))


def train_pack(
    configs: Sequence[Mapping[str, Plain] | Config],
    directories: Sequence[str | Path] | None = None,
    *,
    data: DataLike = None,
    target: DataLike = None,
) -> list[FittedRun]:
    """Train K runs as one stacked computation, each as if it were trained alone.

    Args:
        configs: one configuration per run. They may differ in seeds and in all numbers (learning rates,
            decays, penalty weights, dropout rates, schedules, patience), but not in structure.
        directories: one folder per run; None writes nothing to disk.
        data: rows in memory, as in `slipstream.train`.
        target: their targets.

    Returns:
        One run per configuration, in their order.

    Raises:
        ConfigError: a configuration cannot run, or they differ in structure.
        DataError: the data cannot be used.

    Example:
        >>> import slipstream
        >>> both = [slipstream.compose("data=iris", "trainer.max_epochs=1", f"seed={k}") for k in (1, 2)]
        >>> [result.status for result in slipstream.train_pack(both)]
        ['finished', 'finished']
    """
    valid = [config if isinstance(config, Config) else validate(config) for config in configs]
    given, keep = _rows_for(valid[0], data, target) if valid else None, list[Trained]()
    results = session.train_pack(valid, directories, given=given, keep=keep)
    return [fitted_run(result, trained, given) for result, trained in zip(results, keep, strict=True)]


def sweep(
    space: Mapping[str, Plain],
    *overrides: str,
    data: DataLike = None,
    target: DataLike = None,
    directory: str | Path | None = None,
    **settings: Plain,
) -> SweepResult:
    """Train every configuration of a space as packs, or search the space.

    Nothing is shown unless an override such as "trainer.progress=auto" asks for it.

    Args:
        space: key -> list of values, {"low", "high", "log", "integer"} for an interval, or text as on the
            command line.
        overrides: settings of all members, and the search method: "data=wine", "sweep=tpe".
        data: rows in memory, as in `slipstream.fit`; overrides must then not set the data.
        target: the name of the column to predict, a list of names, or the values of all rows.
        directory: the sweep's folder; a folder with the same plan is joined and continued. None creates a
            new one below outputs/, or for rows in memory a temporary one that is deleted with the result.
        settings: settings of the sweep: repeats=5, folds=5, trials=100, pruner="asha", ...

    Returns:
        The report and the members, including those that failed or diverged. `slipstream.predict`, `evaluate`
        and similar functions use the best trial, whose seeds or folds predict together.

    Raises:
        ConfigError: the space, an override or a setting is invalid.
        UserError: the sweep cannot start or continue, such as DataError for unusable data.

    Example:
        >>> import slipstream
        >>> space = {"optimizer.lr": [1e-9, 0.01]}
        >>> found = slipstream.sweep(space, "data=iris", "trainer.max_epochs=5")
        >>> found.best.values
        {'optimizer.lr': 0.01}
        >>> slipstream.predict(found, [[5.1, 3.5, 1.4, 0.2]]).shape
        (1,)
    """
    if data is None:
        return api.sweep(space, *overrides, directory=directory, **settings)
    given, names = InMemory.of(data, target)
    if any(text.lstrip("+").startswith(SOURCES) for text in (*overrides, *(f"{key}=" for key in space))):
        raise ConfigError(["sweep: data and target are passed as arguments; remove data=..."])
    if settings.get("workers", 1) != 1 or any(text.startswith("sweep.workers=") for text in overrides):
        raise ConfigError(["sweep.workers: only this process has the rows in memory; remove the setting"])
    texts = [*_source(given, names, overrides), *overrides]
    if directory is not None:
        return api.sweep(space, *texts, directory=directory, given=given, **settings)
    place = tempfile.mkdtemp(prefix="slipstream-sweep-")
    try:
        found = api.sweep(space, *texts, directory=Path(place) / "sweep", given=given, **settings)
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise
    weakref.finalize(found, shutil.rmtree, place, ignore_errors=True)
    return found


def trained_on(
    config: Mapping[str, Plain],
    given: InMemory,
    directory: str | Path | None = None,
    overrides: Sequence[str] = (),
) -> tuple[Result, Trained]:
    """Train a run with data=memory on the given rows."""
    folder, keep = None if directory is None else Path(directory), list[Trained]()
    (result,) = session.run_pack(
        [validate(config)], [folder], [overrides], quiet=True, given=given, keep=keep
    )
    return result, keep[0]


def _trained(
    config: Config,
    directory: str | Path | None,
    overrides: Sequence[str],
    *,
    resume: bool = False,
    given: InMemory | None = None,
) -> FittedRun:
    folder, keep = None if directory is None else Path(directory), list[Trained]()
    curve = NotebookCurve() if in_notebook() and config.trainer.progress != "none" else None
    (result,) = session.run_pack(
        [config], [folder], [overrides], resume=resume, quiet=True, given=given, keep=keep, curve=curve
    )
    run = fitted_run(result, keep[0], given)
    if curve is not None:
        curve.end(run._repr_html_())
    return run


def _source(given: InMemory, names: Sequence[str], overrides: Sequence[str]) -> list[str]:
    """Return the overrides that choose rows in memory as data."""
    target = f"data.target={spell(names[0] if len(names) == 1 else list(names))}"
    if given.splits is None:
        return ["data=memory", target]
    parts = {part: f"data.{part}_split={part}" for part in ("validation", "test") if part in given.splits}
    typed = [text.partition("=")[0] for text in overrides]
    own = [text for text in parts.values() if text.partition("=")[0] not in typed]
    return ["data=hub", "data.dataset=memory", *own, target]


def _rows_for(config: Config, data: DataLike, target: DataLike) -> InMemory | None:
    """Return rows in memory for a configuration. Raises ConfigError for one whose data are elsewhere."""
    if data is None:
        return None
    name = config.data.name
    if not component("data", name).traits.in_memory:
        raise ConfigError([f"train: rows are given, but data={name} reads its own; compose data=memory"])
    named = names_of(config.data.settings["target"])
    return InMemory.of(data, named if target is None else target, called=named[0])[0]


def _resumed(directory: str | Path | None, overrides: Sequence[object]) -> Mapping[str, Plain]:
    """Return the configuration of a run to continue."""
    if directory is None:
        raise ConfigError(["fit: resume=True continues the run in a folder; pass directory=..."])
    if overrides:
        raise ConfigError(
            ["fit: resume=True continues with the settings in the folder; remove the overrides"]
        )
    return saved_config(Path(directory))
