"""Runs of MLflow, through its client. Nothing here is called by the training thread."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

# One attempt of a few seconds: failures are retried here, and an unreachable server must not block the thread
# for the minutes that MLflow waits. Usage reports would go to the network, and links to the screen.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")

from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from slipstream.core import storage
from slipstream.core.types import Plain
from slipstream.core.version import __version__
from slipstream.core.wording import spell
from slipstream.loggers.tracker import LoggedRun, Point, Tracker, kept_in, remembered

LOGGER = "mlflow"
MOST_METRICS, MOST_PARAMS, MOST_TAGS = 1000, 100, 100  # per request
LONGEST_VALUE, LONGEST_TAG = 6000, 5000
STATUS = {"interrupted": "KILLED", "diverged": "FAILED", "failed": "FAILED"}
BEST = "with_best_weights"  # the prefix of these tags, as in TensorBoard
T = TypeVar("T")


class MlflowRun(Tracker):
    """One run. A resumed run continues after the server's history; members are nested in the sweep's run."""

    def __init__(
        self, run: LoggedRun, uri: str | None, experiment: str, weights: bool, tags: Mapping[str, str]
    ) -> None:
        self._run, self._weights = run, weights
        self._client = MlflowClient(uri)
        known = self._continued()
        if known is not None:
            self._id, self.last_epoch = known
            return
        self.last_epoch = 0
        own = {
            "slipstream.version": __version__,
            "slipstream.folder": str(run.directory.absolute()),
            "slipstream.changed": " ".join(run.changed) or "nothing",
            "mlflow.source.name": "slipstream",
            **tags,
        }
        home = _experiment(self._client, experiment)
        if run.sweep is not None:
            own["mlflow.parentRunId"] = _parent(self._client, run.sweep, home, uri)
            own |= {f"swept.{_name(key)}": spell(run.settings.get(key)) for key in run.swept}
        made = self._client.create_run(home, run_name=run.name, tags=own)
        self._id = str(made.info.run_id)
        params = [Param(_name(key), _text(value)) for key, value in run.settings.items()]
        params.append(Param("changed", _text(" ".join(run.changed) or "nothing")))
        for some in _blocks(params, MOST_PARAMS):
            self._client.log_batch(self._id, params=some)
        _keep(run.directory, self._id, uri)

    def _continued(self) -> tuple[str, int] | None:
        """Return the run's id and last epoch on the server, or None if it is new there."""
        found = remembered(self._run.directory, LOGGER).get("run_id")
        if not isinstance(found, str):
            return None
        try:
            known = self._client.get_run(found)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
        self._client.update_run(found, status="RUNNING")
        tags = [name for name in known.data.metrics if not name.startswith(f"{BEST}/")]
        if not tags:
            return found, 0
        return found, max(point.step for point in self._client.get_metric_history(found, tags[0]))

    def log_points(self, points: Sequence[Point]) -> None:
        """Send the metrics of several epochs in as few requests as possible; the step is the epoch.

        Metrics that are sent twice, for example after a lost response, are stored once, because MLflow
        identifies a point by its time.
        """
        metrics = [
            Metric(_name(tag), value, point.milliseconds, point.epoch)
            for point in points
            for tag, value in point.values.items()
        ]
        for some in _blocks(metrics, MOST_METRICS):
            self._client.log_batch(self._id, metrics=some)

    def end(self, status: str, values: Mapping[str, float], epoch: int) -> None:
        """Send the metrics with the best weights, the files and the status."""
        now = int(time.time() * 1000)
        best = [Metric(_name(f"{BEST}/{tag}"), value, now, epoch) for tag, value in values.items()]
        self._client.log_batch(self._id, metrics=best, tags=[RunTag("slipstream.status", status)])
        folder = self._run.directory
        files = [folder / "config.yaml", folder / "summary.json"]
        if self._weights:
            files += sorted(folder.glob("checkpoints/step-*/best.safetensors"))[-1:]
        _add_files(self._client, self._id, files)
        self._client.set_terminated(self._id, STATUS.get(status, "FINISHED"))


def end_sweep(folder: Path, status: str, values: Mapping[str, Plain], files: Sequence[Path]) -> None:
    """Send the best trial's metrics and the report to the parent run of a sweep's members."""
    known = remembered(folder, LOGGER)
    if not isinstance(known.get("run_id"), str):  # no member has created it
        return
    client, now = MlflowClient(known.get("uri")), int(time.time() * 1000)
    numbers = {tag: float(v) for tag, v in values.items() if isinstance(v, int | float)}
    others = {tag: spell(value)[:LONGEST_TAG] for tag, value in values.items() if tag not in numbers}
    tags = [RunTag(f"best.{_name(tag)}", text) for tag, text in others.items()]
    metrics = [Metric(_name(f"best/{tag}"), value, now, 0) for tag, value in numbers.items()]
    client.log_batch(known["run_id"], metrics=metrics[:MOST_METRICS], tags=tags[:MOST_TAGS])
    _add_files(client, known["run_id"], files)
    client.set_terminated(known["run_id"], STATUS.get(status, "FINISHED"))


def _experiment(client: MlflowClient, name: str) -> str:
    known = client.get_experiment_by_name(name)
    if known is not None:
        return str(known.experiment_id)
    try:
        return str(client.create_experiment(name))
    except MlflowException:  # another process was faster
        known = client.get_experiment_by_name(name)
        if known is None:
            raise
        return str(known.experiment_id)


def _parent(client: MlflowClient, sweep: Path, experiment: str, uri: str | None) -> str:
    """Return the run of a sweep, which the first of its processes creates."""
    known = remembered(sweep, LOGGER).get("run_id")
    if isinstance(known, str):
        return known
    tags = {"slipstream.folder": str(sweep.absolute()), "mlflow.source.name": "slipstream"}
    made = str(client.create_run(experiment, run_name=sweep.name, tags=tags).info.run_id)
    if storage.write_first(kept_in(sweep, LOGGER), _line(made, uri)):
        return made
    client.delete_run(made)
    return str(remembered(sweep, LOGGER)["run_id"])


def _keep(folder: Path, run_id: str, uri: str | None) -> None:
    storage.replace(kept_in(folder, LOGGER), _line(run_id, uri), sync=False)


def _line(run_id: str, uri: str | None) -> str:
    return json.dumps({"run_id": run_id, "uri": uri}) + "\n"


def _add_files(client: MlflowClient, run_id: str, files: Iterable[Path]) -> None:
    for file in files:
        if file.is_file():
            client.log_artifact(run_id, str(file))


def _blocks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _name(key: str) -> str:
    """Return a valid MLflow name, with only letters, digits, _ - . / and spaces."""
    return re.sub(r"[^\w\-./ ]", "_", key)


def _text(value: Plain) -> str:
    return spell(value)[:LONGEST_VALUE]
