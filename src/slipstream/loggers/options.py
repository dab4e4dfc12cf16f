"""The loggers that `logger=[...]` names. Each is imported when a run uses it, in its thread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from slipstream.core.registry import register
from slipstream.core.types import Natural, Plain
from slipstream.loggers.tracker import LoggedRun, Tracker


@register("logger")
def none(run: LoggedRun) -> None:
    """Write nothing except metrics.jsonl and summary.json."""


@register("logger")
def tensorboard(run: LoggedRun, *, histograms: Natural, graph: bool) -> None:
    """Write curves, hyperparameters, weight histograms and the network's graph as TensorBoard events.

    histograms: how many times a run writes histograms of its weights, evenly spaced over the
    epochs; 0 for never. graph: write the network's graph.
    """
    # The recorder writes them, because images and histograms come from the engine.


@register("logger")
def csv(run: LoggedRun) -> Tracker:
    """Write metrics.csv into the run's folder, with a row per epoch and a column per metric."""
    from slipstream.loggers.metrics_csv import MetricsCsv

    return MetricsCsv(run)


def _of_sweep(folder: Path, status: str, values: Mapping[str, Plain], files: Sequence[Path]) -> None:
    from slipstream.loggers.mlflow_runs import end_sweep

    end_sweep(folder, status, values, files)


@register("logger", needs="mlflow", sweep=_of_sweep)
def mlflow(
    run: LoggedRun, *, uri: str | None, experiment: str | None, weights: bool, tags: dict[str, str]
) -> Tracker:
    """Send parameters, metrics, tags and files to MLflow; a sweep is a parent run with nested runs.

    uri: a server, such as http://127.0.0.1:5000, or a file, such as sqlite:///mlflow.db; null for
    MLFLOW_TRACKING_URI or MLflow's own default. experiment: its name; null for the run's `name`. weights:
    keep the best weights as an artifact, next to config.yaml and summary.json. tags: your own tags.
    """
    from slipstream.loggers.mlflow_runs import MlflowRun

    return MlflowRun(run, uri, experiment or run.project, weights, tags)


@register("logger", needs="wandb")
def wandb(
    run: LoggedRun,
    *,
    project: str | None,
    entity: str | None,
    mode: Literal["offline", "online"],
    tags: list[str],
) -> Tracker:
    """Log to Weights & Biases; the members of a sweep are a group.

    project: its name; null for the run's `name`. entity: the user or team; null for your own. mode: offline
    writes into the run's folder without using the network (`wandb sync` sends it later); online sends with
    the key of `wandb login`. tags: your own tags.
    """
    from slipstream.loggers.wandb_runs import WandbRun

    return WandbRun(run, project or run.project, entity, mode, tags)
