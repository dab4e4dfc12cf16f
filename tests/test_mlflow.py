"""Runs in MLflow: by its client in a SQLite file, and by HTTP on its real server.

The full mlflow needs an older pandas than slipstream's tests: so the server gets an environment of its own.
SLIPSTREAM_MLFLOW=DIR takes one that is there.
"""

import json
import os
import signal
import socket
import subprocess
import time
import urllib.request
import venv
from importlib.util import find_spec
from pathlib import Path

import pytest

import slipstream
from harness import small
from ondisk import SWEPT, at_step, terminate
from slipstream.config import validate
from slipstream.config.files import defaults
from slipstream.loggers.delivery import Delivery
from slipstream.loggers.tracker import LoggedRun
from slipstream.runs.session import run
from slipstream.runs.tracking import RunLog
from slipstream.training.member import METRICS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # of its libraries
    pytest.mark.skipif(
        find_spec("mlflow") is None, reason="mlflow is not installed"
    ),  # its import takes a second
]


class Server:
    """MLflow's server on loopback, with a file of SQLite behind it, that can be stopped and started again."""

    def __init__(self, program, folder):
        self.program, self.folder, self.process = program, folder, None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"

    def start(self):
        words = ["server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        words += ["--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db"]
        words += ["--artifacts-destination", str(self.folder / "artifacts")]
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(
                [self.program, *words], stdout=log, stderr=log, start_new_session=True
            )
        end = time.monotonic() + 180
        while not self.answers():
            assert time.monotonic() < end, (self.folder / "log").read_text()
            time.sleep(0.5)

    def answers(self):
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=2) as found:
                return found.status == 200
        except OSError:
            return False

    def stop(self):
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The real server, from an environment that is made once."""
    folder = tmp_path_factory.mktemp("mlflow")
    home = Path(os.environ.get("SLIPSTREAM_MLFLOW", folder / "env"))
    if not home.exists():
        venv.create(home, with_pip=True)
        words = [str(home / "bin" / "python"), "-m", "pip", "install", "-q", "mlflow>=3"]
        made = subprocess.run(words, capture_output=True, text=True)
        if made.returncode:
            pytest.skip(f"pip cannot install mlflow here: {made.stderr[-300:]}")
    found = Server(str(home / "bin" / "mlflow"), folder)
    found.start()
    yield found
    found.stop()


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """A file of SQLite, whose tables MLflow takes seconds to make."""
    from mlflow.tracking import MlflowClient

    found = f"sqlite:///{tmp_path_factory.mktemp('sqlite')}/mlflow.db"
    MlflowClient(found).search_experiments()
    return found


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """A machine that is busy may need longer than a run waits for a logger."""
    monkeypatch.setattr("slipstream.runs.tracking.CLOSE_SECONDS", 180.0)


@pytest.fixture(params=["sqlite", pytest.param("server", marks=pytest.mark.exhaustive)])
def uri(request, tmp_path, monkeypatch):
    """Where runs go: a file, or the real server."""
    monkeypatch.chdir(tmp_path)  # MLflow puts files of a run in ./mlruns
    if request.param == "server":
        return request.getfixturevalue("server").uri
    return request.getfixturevalue("database")


def config(uri, *words, **changes):
    """A small run that is logged to MLflow in an experiment of its own."""
    raw = small("logger=[]", "trainer.max_epochs=3", "trainer.checkpoint_seconds=0", *words)
    own = {"uri": uri, "experiment": f"e{time.time_ns()}", "tags": {"team": "blue"}, **changes}
    raw["logger"] = {"mlflow": {**defaults("logger", "mlflow"), **own}}
    return validate(raw)


def found(config):
    """The client, and the runs of the configuration's experiment, oldest first."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(config.loggers["mlflow"]["uri"])
    experiment = client.get_experiment_by_name(config.loggers["mlflow"]["experiment"])
    runs = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"])
    return client, list(runs)


def history(client, run, folder):
    """Asserts that MLflow has each metric of each epoch once, as metrics.jsonl has them."""
    records = [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]
    for tag in (tag for tag in records[0] if tag not in ("epoch", "step")):
        points = client.get_metric_history(run.info.run_id, tag)
        expected = [(record["epoch"], record[tag]) for record in records if record[tag] is not None]
        assert [(point.step, point.value) for point in points] == expected, tag


def test_a_run_is_in_mlflow_with_all_it_has(tmp_path, uri):
    """Parameters, changed ones, every epoch's metrics, tags, files, the best weights, and FINISHED."""
    made = config(uri, weights=True)
    run(made, tmp_path / "r")
    client, (logged,) = found(made)
    assert (logged.info.status, logged.info.run_name) == ("FINISHED", "r")
    assert logged.data.params["optimizer.name"] == "sgd"
    assert logged.data.params["trainer.max_epochs"] == "3"
    assert "trainer.max_epochs=3" in logged.data.params["changed"]
    assert "optimizer.momentum" not in logged.data.params
    assert (logged.data.tags["team"], logged.data.tags["slipstream.status"]) == ("blue", "finished")
    history(client, logged, tmp_path / "r")
    best = json.loads((tmp_path / "r" / "summary.json").read_text())
    assert logged.data.metrics["with_best_weights/val/loss"] == best["best"]["val/loss"]
    files = {item.path for item in client.list_artifacts(logged.info.run_id)}
    assert files == {"config.yaml", "summary.json", "best.safetensors"}


def test_a_killed_run_goes_on_as_the_same_run(tmp_path, uri):
    """Interrupted it is KILLED; resumed it is the same run, has each epoch once, and ends FINISHED."""
    made = config(uri)
    with at_step(6, terminate):
        assert run(made, tmp_path / "r").status == "interrupted"
    assert [one.info.status for one in found(made)[1]] == ["KILLED"]
    assert run(made, tmp_path / "r", resume=True).status == "finished"
    client, (logged,) = found(made)
    assert logged.info.status == "FINISHED"
    history(client, logged, tmp_path / "r")


def test_a_run_that_diverges_has_failed(tmp_path, uri):
    """FAILED, with the status in our words."""
    made = config(uri, "optimizer.lr=1e38", "activation=identity")
    run(made, tmp_path / "r")
    _, (logged,) = found(made)
    assert (logged.info.status, logged.data.tags["slipstream.status"]) == ("FAILED", "diverged")


def test_a_sweep_is_a_parent_with_its_members(tmp_path, uri):
    """Members of a pack are nested in one run, which ends with the best trial and the report."""
    name = f"e{time.time_ns()}"
    words = [w for w in SWEPT if not w.startswith(("logger", "trainer.max_epochs"))]
    words += ["logger=mlflow", f"logger.mlflow.uri={uri}", f"logger.mlflow.experiment={name}"]
    space = {"optimizer.lr": [0.1, 0.01], "seed": [0, 1, 2]}
    slipstream.sweep(space, *words, "trainer.max_epochs=2", directory=tmp_path / "s", pack=4)
    made = validate(small("logger=mlflow", f"logger.mlflow.uri={uri}", f"logger.mlflow.experiment={name}"))
    client, runs = found(made)
    (parent,) = [one for one in runs if "mlflow.parentRunId" not in one.data.tags]
    members = {one.info.run_name: one for one in runs if one is not parent}
    assert set(members) == {"0", "1", "2", "3", "4", "5"}
    assert {one.data.tags["mlflow.parentRunId"] for one in members.values()} == {parent.info.run_id}
    assert {one.info.status for one in runs} == {"FINISHED"}
    for number, one in members.items():
        history(client, one, tmp_path / "s" / number)
    assert members["4"].data.tags["swept.seed"] == "1"
    assert parent.data.metrics["best/optimizer.lr"] in (0.1, 0.01)
    assert {item.path for item in client.list_artifacts(parent.info.run_id)} == {
        "leaderboard.csv",
        "report.json",
    }


@pytest.mark.exhaustive
def test_a_server_that_was_gone_gets_what_it_missed(tmp_path, server):
    """Killed between two epochs and started again: it has every epoch once, and the end."""
    from slipstream.loggers.mlflow_runs import MlflowRun

    logged = LoggedRun("r", "gone", tmp_path, {"a": 1})
    delivery = Delivery("mlflow")
    log = RunLog(None, [delivery.begin(lambda: MlflowRun(logged, server.uri, "gone", False, {}), 0)])

    def epochs(*numbers):
        for epoch in numbers:
            log.epoch({"epoch": epoch, "step": epoch, "val/loss": 1 / epoch})

    epochs(1, 2)
    end = time.monotonic() + 120
    while delivery.kept:
        assert time.monotonic() < end
        time.sleep(0.1)
    server.stop()
    epochs(3, 4)
    time.sleep(3)
    assert delivery.kept == 2
    server.start()
    epochs(5)
    log.end("finished", {}, 5)
    assert delivery.close(120) is None
    from mlflow.tracking import MlflowClient

    run_id = json.loads((tmp_path / "mlflow.json").read_text())["run_id"]
    client = MlflowClient(server.uri)
    assert [point.step for point in client.get_metric_history(run_id, "val/loss")] == [1, 2, 3, 4, 5]
    assert client.get_run(run_id).info.status == "FINISHED"


def test_no_server_costs_one_warning(tmp_path, capsys):
    """Nobody listens: the run has its bytes, and one sentence says what MLflow lacks."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        made = config(f"http://127.0.0.1:{free.getsockname()[1]}")
    assert run(made, tmp_path / "r").status == "finished"
    assert capsys.readouterr().err.count("logger=mlflow: 3 epochs and the ends of 1 run were not sent") == 1
