"""Loggers besides TensorBoard: a list of them, in a thread of their own, and never at the run's cost."""

import csv
import json
import re
import threading
import time
from pathlib import Path

import pytest
import yaml

import slipstream
from harness import small
from slipstream.config import validate
from slipstream.config.files import defaults
from slipstream.config.validation import composed
from slipstream.core.errors import ConfigError
from slipstream.core.registry import _components, register
from slipstream.core.types import Count
from slipstream.loggers import Point, Tracker
from slipstream.loggers.delivery import Delivery
from slipstream.runs.session import run, run_pack
from slipstream.runs.tracking import RunLog
from slipstream.training.member import METRICS


def records(folder):
    """The lines of metrics.jsonl."""
    return [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]


@pytest.fixture
def logger(monkeypatch):
    """Registers a logger of a user's own: logger(function) -> its name."""

    def make(function):
        register("logger", "mine")(function)
        return "mine"

    yield make
    _components["logger"].pop("mine", None)


def config(*names, **changes):
    """A configuration with these loggers, some of which have no YAML."""
    raw = small("logger=[]", "trainer.max_epochs=3")
    raw["logger"] = {name: {**defaults("logger", name), **changes.get(name, {})} for name in names}
    return validate(raw)


# The list


@pytest.mark.slow
def test_loggers_compose_as_a_list():
    """Any number of loggers, each with its settings below its own name; one alone needs no brackets."""
    found = small("logger=[tensorboard,csv]", "logger.tensorboard.graph=false")["logger"]
    assert found == {"tensorboard": {"histograms": 10, "graph": False}, "csv": {}}
    assert small("logger=tensorboard")["logger"] == {"tensorboard": defaults("logger", "tensorboard")}
    assert small("logger=[]")["logger"] == {}
    assert small("logger=none")["logger"] == {"none": {}}


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("logger=[none,csv]", "none stands alone"),
        ("logger=[csv,csv]", "twice"),
        ("logger=tensorbord", "did you mean tensorboard?"),
        ("logger.graph=false", "did you mean logger.tensorboard.graph=false?"),
        ("logger=null", "write logger=[]"),
    ],
)
def test_what_is_no_list_of_loggers_is_answered(word, said):
    """A wrong list, a misspelled logger, and a setting typed as when there was one logger."""
    words = ["logger=[tensorboard]", word] if word.startswith("logger.") else [word]
    with pytest.raises(ConfigError, match=said.replace("?", r"\?").replace("[", r"\[")):
        slipstream.compose(*words)


def old_form(folder):
    """Rewrites a run's folder as when `logger` was a choice."""
    raw = yaml.safe_load((folder / "config.yaml").read_text())
    raw["logger"] = {"name": "tensorboard", "histograms": 2, "graph": False}
    (folder / "config.yaml").write_text(yaml.safe_dump(raw))
    words = ["logger=tensorboard", "logger.graph=false", "logger.histograms=2"]
    kept = [w for w in yaml.safe_load((folder / "overrides.yaml").read_text()) if not w.startswith("logger")]
    (folder / "overrides.yaml").write_text(yaml.safe_dump([*kept, *words]))


@pytest.mark.slow
def test_a_run_of_the_old_form_loads_and_resumes(tmp_path):
    """`logger` was one choice: such a folder predicts, and goes on with TensorBoard's settings."""
    words = ["data=iris", "trainer.max_epochs=1", "model.width=4", "trainer.compile=false"]
    words += ["trainer.progress=none", "logger=tensorboard", "logger.tensorboard.graph=false"]
    run(validate(composed(words)), tmp_path / "r", words)
    old_form(tmp_path / "r")
    assert slipstream.load(tmp_path / "r").predict([[5.0, 3.0, 1.5, 0.2]]).labels[0]
    again = validate(composed([f"resume={tmp_path / 'r'}", "trainer.max_epochs=2"]))
    assert again.loggers == {"tensorboard": {"histograms": 2, "graph": False}}
    run(again, tmp_path / "r", words, resume=True)
    assert len(records(tmp_path / "r")) == 2
    assert validate({**again.raw, "logger": {"name": "none"}}).loggers == {"none": {}}


@pytest.mark.slow
def test_a_package_that_is_missing_is_named_before_anything_is_made(tmp_path, monkeypatch):
    """The command that installs it; a folder that was trained elsewhere still loads."""
    monkeypatch.setattr("slipstream.runs.tracking.find_spec", lambda name: None)
    made = validate(small("logger=[csv,mlflow]"))
    with pytest.raises(ConfigError, match=r"logger=mlflow: needs the package mlflow.*pip install"):
        run(made, tmp_path / "r")
    assert not (tmp_path / "r").exists()
    with pytest.raises(ConfigError, match="logger=mlflow: needs the package mlflow"):
        slipstream.sweep({"seed": [0, 1]}, "data=iris", "logger=mlflow", directory=tmp_path / "s")


# What a logger gets


@pytest.mark.slow
def test_csv_has_what_metrics_jsonl_has(tmp_path):
    """metrics.csv: a row for each epoch; a resumed run's has every epoch once."""
    run(config("csv"), tmp_path / "r")
    longer = validate({**config("csv").raw, "trainer": {**config("csv").raw["trainer"], "max_epochs": 5}})
    run(longer, tmp_path / "r", resume=True)
    with open(tmp_path / "r" / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3, 4, 5]
    for row, record in zip(rows, records(tmp_path / "r"), strict=True):
        assert {tag: float(value) for tag, value in row.items() if tag != "epoch"} == {
            tag: value for tag, value in record.items() if tag not in ("epoch", "step")
        }


@pytest.mark.slow
def test_a_logger_of_ones_own_is_a_function(tmp_path, logger):
    """It gets every epoch's metrics in order, with TensorBoard's tags, in a thread of its own."""
    got, told = [], []

    def mine(run, *, every: Count):
        told.append(run)

        def log(values, epoch):
            if epoch % every == 0:
                got.append((epoch, dict(values), threading.current_thread()))

        return log

    logger(mine)
    run(config("mine", mine={"every": 1}), tmp_path / "r")
    assert [(epoch, values) for epoch, values, _ in got] == [
        (r["epoch"], {tag: v for tag, v in r.items() if tag not in ("epoch", "step")})
        for r in records(tmp_path / "r")
    ]
    assert threading.main_thread() not in {thread for *_, thread in got}
    assert (told[0].name, told[0].directory, told[0].epochs) == ("r", tmp_path / "r", 0)
    assert told[0].settings["optimizer.name"] == "sgd"
    assert any(text.startswith("trainer.max_epochs=3") for text in told[0].changed)


@pytest.mark.slow
def test_nothing_is_logged_without_a_folder(logger):
    """slipstream.train(config) without a directory calls no logger."""
    called = []
    logger(lambda run: called.append(run))
    slipstream.train(config("mine"))
    assert called == []


# What fails


class Broken(Tracker):
    """A logger that works when `up`."""

    def __init__(self):
        self.up, self.got, self.tries, self.status = False, [], 0, None

    def log(self, values, epoch):
        self.tries += 1
        if not self.up:
            raise ConnectionError("connection refused")
        self.got.append(epoch)

    def end(self, status, values, epoch):
        self.status = status


@pytest.mark.slow
@pytest.mark.parametrize("fails", ["begin", "log"])
def test_a_logger_that_raises_costs_one_warning(tmp_path, capsys, logger, fails):
    """The run ends as without it, with the same bytes, and one sentence says what is missing."""

    def begin(run):
        raise RuntimeError("no such project")

    logger(begin if fails == "begin" else lambda run: Broken())
    result = run(config("mine"), tmp_path / "a")
    run(config(), tmp_path / "b")
    assert result.status == "finished"
    assert (tmp_path / "a" / METRICS).read_bytes() == (tmp_path / "b" / METRICS).read_bytes()
    said = capsys.readouterr().err
    assert said.count("logger=mine") == 1
    assert "3 epochs and the ends of 1 run were not sent" in said
    assert ("RuntimeError: no such project" if fails == "begin" else "connection refused") in said


def test_what_comes_back_gets_all_points(monkeypatch):
    """While a server is gone epochs are kept; when it is back it gets each once, in order, and the end."""
    monkeypatch.setattr("slipstream.loggers.delivery.FIRST_WAIT", 0.01)
    delivery, broken = Delivery("mine"), Broken()
    log = RunLog(None, [delivery.begin(lambda: broken, 0)])
    for epoch in range(1, 6):
        log.epoch({"epoch": epoch, "step": epoch, "val/loss": 0.5})
    until(lambda: broken.tries > 1)
    broken.up = True
    log.end("finished", {"val/loss": 0.1, "val/roc_auc": None}, 5)
    assert delivery.close() is None
    assert (broken.got, broken.status) == ([1, 2, 3, 4, 5], "finished")
    assert delivery.news() == []  # nothing is missing


def test_what_fails_for_long_is_told_while_the_run_goes_on(monkeypatch):
    """One warning, of the reason, however often it is tried."""
    monkeypatch.setattr("slipstream.loggers.delivery.FIRST_WAIT", 0.01)
    monkeypatch.setattr("slipstream.loggers.delivery.TELL_SECONDS", 0.0)
    delivery, broken = Delivery("mine"), Broken()
    RunLog(None, [delivery.begin(lambda: broken, 0)]).epoch({"epoch": 1, "step": 1, "val/loss": 0.5})
    until(lambda: broken.tries > 2)
    (warning,) = delivery.news()
    assert "connection refused" in warning
    assert "Unsent metrics are kept and sent again" in warning
    delivery.close(0)


def test_one_run_that_fails_does_not_keep_others_waiting():
    """Of many members the server may refuse one."""
    delivery, broken, fine = Delivery("mine"), Broken(), Broken()
    fine.up = True
    logs = [RunLog(None, [delivery.begin(lambda one=one: one, 0)]) for one in (broken, fine)]
    for log in logs:
        log.epoch({"epoch": 1, "step": 1, "val/loss": 0.5})
        log.end("finished", {}, 1)
    assert "1 epoch and the ends of 1 run were not sent" in delivery.close()
    assert fine.got == [1]


def test_a_slow_logger_costs_no_epoch_and_no_more_than_the_end_waits():
    """A call that hangs: epochs are taken at once, and closing gives up when its time is over."""
    hangs = threading.Event()

    class Hanging(Broken):
        def log(self, values, epoch):
            hangs.wait(20)

    delivery = Delivery("mine")
    log = RunLog(None, [delivery.begin(Hanging, 0)])
    begin = time.monotonic()
    for epoch in range(1, 1001):
        log.epoch({"epoch": epoch, "step": epoch, "val/loss": 0.5})
    assert time.monotonic() - begin < 1  # 10 ms on an idle machine; the thread would take 20 s an epoch
    assert "1000 epochs" in delivery.close(0.05).replace(",", "")
    hangs.set()


def test_what_is_kept_is_bounded(monkeypatch):
    """Beyond the limit epochs are dropped and counted."""
    monkeypatch.setattr("slipstream.loggers.delivery.MOST", 3)
    delivery, broken = Delivery("mine"), Broken()
    log = RunLog(None, [delivery.begin(lambda: broken, 0)])
    for epoch in range(1, 11):
        log.epoch({"epoch": epoch, "step": epoch, "val/loss": 0.5})
    assert "10 epochs" in delivery.close()


@pytest.mark.slow
def test_a_full_disk_of_metrics_csv_costs_a_warning(tmp_path, monkeypatch, capsys):
    """The file keeps its whole rows."""
    from slipstream.core import folders

    opened = folders.opened

    def full(path, mode, encoding=None):
        if path.name == "metrics.csv":
            raise OSError(28, "No space left on device")
        return opened(path, mode, encoding)

    monkeypatch.setattr(folders, "opened", full)
    assert run(config("csv"), tmp_path / "r").status == "finished"
    assert "No space left on device" in capsys.readouterr().err


def test_epochs_that_a_resumed_run_has_logged_are_not_logged_again():
    """last_epoch says which points a tracker has; without it those recorded before are skipped."""

    class Knows(Broken):
        last_epoch = 3

    for known, expected in ((Knows, [4, 5]), (Broken, [3, 4, 5])):
        delivery, tracker = Delivery("mine"), known()
        tracker.up = True
        sending = delivery.begin(lambda tracker=tracker: tracker, 2)
        for epoch in range(1, 6):
            sending.epoch(Point(epoch, {"val/loss": 0.5}, 0))
        assert delivery.close() is None
        assert tracker.got == expected


@pytest.mark.slow
def test_members_of_a_pack_are_logged_each_for_itself(tmp_path, logger):
    """A pack's members share a thread, and every one gets its own epochs."""
    got = {}
    logger(lambda run: lambda values, epoch: got.setdefault(run.name, []).append(values["val/loss"]))
    seeds = [validate({**config("mine").raw, "seed": seed}) for seed in range(4)]
    run_pack(seeds, [tmp_path / str(seed) for seed in range(4)], [()] * 4, quiet=True)
    assert got == {str(k): [r["val/loss"] for r in records(tmp_path / str(k))] for k in range(4)}


@pytest.mark.slow
def test_a_sweep_over_loggers_gives_each_member_its_own(tmp_path):
    """Members of one pack may differ in their loggers: these are lists, as regularizers are."""
    words = (
        "data=iris",
        "trainer.max_epochs=2",
        "model.width=4",
        "trainer.threads=1",
        "trainer.progress=none",
    )
    found = slipstream.sweep(
        {"logger": [[], ["csv"], ["csv", "tensorboard"]]}, *words, directory=tmp_path / "s"
    )
    assert found.exit_code == 0
    for number, (rows, events) in enumerate([(False, False), (True, False), (True, True)]):
        folder = tmp_path / "s" / str(number)
        assert (folder / "metrics.csv").exists() == rows
        assert bool(list(folder.glob("events.out.tfevents.*"))) == events


def until(condition, seconds=20):
    """Wait for something that another thread does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.mark.slow
def test_the_logger_of_the_documents_prints(tmp_path, capsys):
    """docs/loggers.md: the function and the YAML, as they stand there."""
    page = (Path(__file__).resolve().parents[1] / "docs" / "loggers.md").read_text(encoding="utf-8")
    blocks = dict(re.findall(r"```(python|yaml)\n(.*?)```", page, flags=re.S))
    space = {}
    exec(blocks["python"], space)
    try:
        settings = yaml.safe_load(blocks["yaml"])
        raw = small("logger=[]", "trainer.max_epochs=2")
        run(validate(raw | {"logger": {"printed": settings}}), tmp_path / "r")
    finally:
        _components["logger"].pop("printed", None)
    values = [record["val/loss"] for record in records(tmp_path / "r")]
    assert capsys.readouterr().out.splitlines() == [f"r {n} {value}" for n, value in enumerate(values, 1)]
