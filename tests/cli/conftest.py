"""Fixtures for the command line: a stand-in for the engine, commands in this process and in others."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from slipstream.cli import main
from slipstream.config import composition
from slipstream.sweeps.plan import store

ROOT = Path(__file__).resolve().parents[2]


class Calls(list):
    """Stands for the engine: remembers how it was called and ends as it is told."""

    def __init__(self):
        self.outcome = 0
        self.sweeps = []

    def sweep(self, plan, directory):
        self.sweeps.append(SimpleNamespace(plan=plan, directory=directory))
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    def resume(self, directory, overrides):
        return self.sweep(store.resume(directory, overrides), directory)

    def run(self, config, directory, overrides=(), resume=False):
        self.append(SimpleNamespace(config=config, directory=directory, overrides=overrides, resume=resume))
        if isinstance(self.outcome, Exception):
            raise self.outcome
        (directory / "config.yaml").write_text(yaml.safe_dump(config.raw))
        (directory / "overrides.yaml").write_text(yaml.safe_dump(list(overrides)))
        best = {"val/loss": 0.25}
        return SimpleNamespace(exit_code=self.outcome, status="finished", best=best, best_epoch=7)


@pytest.fixture
def engine(monkeypatch, tmp_path):
    """The engine's stand-in; commands run in an empty folder."""
    calls = Calls()
    monkeypatch.setitem(sys.modules, "slipstream.runs.session", SimpleNamespace(run=calls.run))
    runner = SimpleNamespace(sweep=calls.sweep, resume=calls.resume)
    monkeypatch.setitem(sys.modules, "slipstream.sweeps.runner", runner)
    monkeypatch.chdir(tmp_path)
    yield calls
    composition.use_folder(None)


@pytest.fixture
def slipstream(engine, capsys):
    """Runs a command in this process: its exit code, stdout and stderr."""

    def command(*arguments):
        with pytest.raises(SystemExit) as end:
            main(arguments)
        printed = capsys.readouterr()
        return SimpleNamespace(code=end.value.code, out=printed.out, err=printed.err)

    return command


@pytest.fixture
def shell(tmp_path):
    """Runs a shell command in a process of its own; $TRAIN is train.py."""

    def run(command, **environment):
        train = f"'{sys.executable}' '{ROOT / 'train.py'}'"
        return subprocess.run(
            ["bash", "-c", command.replace("$TRAIN", train)],
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "src"), **environment},
            capture_output=True,
            text=True,
            timeout=600,
        )

    return run
