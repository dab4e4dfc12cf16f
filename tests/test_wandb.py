"""Runs of Weights & Biases offline: what its files hold, read back."""

import json
import shutil
import subprocess
import sys
import time
from importlib.util import find_spec

import pytest

import slipstream
from harness import small
from ondisk import SWEPT, at_step, terminate
from slipstream.config import validate
from slipstream.runs.session import run
from slipstream.training.member import METRICS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # of its libraries
    pytest.mark.skipif(
        find_spec("wandb") is None, reason="wandb is not installed"
    ),  # its import takes a second
]

TINY = ("logger=wandb", "trainer.max_epochs=3", "trainer.checkpoint_seconds=0")


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """A machine that is busy may need longer than a run waits for a logger."""
    monkeypatch.setattr("slipstream.runs.tracking.CLOSE_SECONDS", 180.0)


def read(folder):
    """The records of all files of a folder: (the run's own, its config, history by step, summary)."""
    from wandb.proto.wandb_internal_pb2 import Record

    from slipstream.loggers.wandb_files import records

    own, settings, history, summary = [], {}, [], {}
    for file in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
        for data in records(file):
            record = Record()
            record.ParseFromString(data)
            kind = record.WhichOneof("record_type")
            if kind == "run":
                own.append(record.run)
                settings |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
            if kind == "history":
                history.append(
                    {i.key or i.nested_key[0]: json.loads(i.value_json) for i in record.history.item}
                )
            if kind == "summary":
                summary |= {i.key or i.nested_key[0]: json.loads(i.value_json) for i in record.summary.update}
    return own, settings, history, summary


def whole(folder, epochs):
    """The same, once wandb's own process, which writes the files, has written these epochs."""
    until = time.monotonic() + 60
    while len((found := read(folder))[2]) < epochs and time.monotonic() < until:
        time.sleep(0.2)
    return found


def test_an_offline_run_has_every_epoch_once_and_goes_on_when_resumed(tmp_path):
    """The files have configuration, metrics.jsonl's values and the end; interrupted and resumed, one id."""
    made = validate(small(*TINY))
    with at_step(6, terminate):
        assert run(made, tmp_path / "r").status == "interrupted"
    run(made, tmp_path / "r", resume=True)
    own, settings, history, summary = whole(tmp_path / "r", 3)
    assert {one.run_id for one in own} == {json.loads((tmp_path / "r" / "wandb.json").read_text())["id"]}
    assert {(one.project, one.display_name) for one in own} == {("spirals", "r")}
    assert settings["optimizer.name"] == "sgd"
    assert "trainer.max_epochs=3" in settings["changed"]
    lines = [json.loads(line) for line in (tmp_path / "r" / METRICS).read_text().splitlines()]
    assert [line["_step"] for line in history] == [1, 2, 3]
    for line, record in zip(history, lines, strict=True):
        assert {tag: line[tag] for tag in record if tag not in ("epoch", "step")} == {
            tag: value for tag, value in record.items() if tag not in ("epoch", "step")
        }
    assert summary["status"] == "finished"
    assert "with_best_weights/val/loss" in summary
    assert not [path for path in (tmp_path / "r").rglob("*") if path.is_symlink()]


def test_members_of_a_sweep_are_a_group(tmp_path):
    """Each member's files are in its folder; the group is the sweep's."""
    words = [w for w in SWEPT if not w.startswith(("logger", "trainer.max_epochs"))]
    space = {"seed": [0, 1, 2]}
    slipstream.sweep(space, *words, "logger=wandb", "trainer.max_epochs=2", directory=tmp_path / "s", pack=3)
    for number in range(3):
        own, _, history, _ = whole(tmp_path / "s" / str(number), 2)
        assert {(one.run_group, one.display_name) for one in own} == {("s", f"s/{number}")}
        assert [line["_step"] for line in history] == [1, 2]


@pytest.mark.exhaustive
def test_offline_asks_no_network(tmp_path):
    """No process of the run opens a connection, to loopback and sockets of the system besides."""
    tracer = shutil.which("strace")
    if tracer is None:
        pytest.skip("strace is not installed")
    words = ["trainer.max_epochs=2", "logger=wandb", f"hydra.run.dir={tmp_path / 'r'}", "data=iris"]
    words += ["trainer.compile=false", "trainer.progress=none"]
    program = [sys.executable, "-m", "slipstream", *words]
    trace = [tracer, "-f", "-qq", "-e", "trace=connect,sendto", "-o", str(tmp_path / "trace"), *program]
    made = subprocess.run(trace, capture_output=True, text=True)
    if "ptrace" in made.stderr:
        pytest.skip("strace may not trace here")
    assert made.returncode == 0, made.stderr
    lines = (tmp_path / "trace").read_text().splitlines()
    outside = [line for line in lines if "AF_INET" in line and "127.0.0.1" not in line and "::1" not in line]
    assert outside == []
    assert list((tmp_path / "r").glob("wandb/offline-run-*/*.wandb"))
