"""The files of examples/ work as their first line says."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.numpy import load_file

EXAMPLES = Path(__file__).parents[1] / "examples"
ONE = "trainer.max_epochs=1"
FAST = ("trainer.compile=false", "trainer.progress=none")
# Those that need a library of the environment.
OWN = ("own_module", "own_dataset", "own_loss", "own_metric", "own_logger")
SMALL = {"own_module": ("data.rows=120", "model.width=4"), "own_dataset": ("data.count=60",)}


def typed(folder, *words):
    """What a file of examples/ does with these words, typed in a folder."""
    ended = subprocess.run(
        [sys.executable, *words], cwd=folder, capture_output=True, text=True, check=False, timeout=300
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout + ended.stderr


def line(name):
    """The words of the first line of a file, after `python`."""
    (found,) = re.findall(rf"python (examples/{name}\.py [^\n\"]*)", (EXAMPLES / f"{name}.py").read_text())
    words = shlex.split(found)
    return [str(EXAMPLES / f"{name}.py"), *words[1:]]


@pytest.mark.slow
@pytest.mark.parametrize("name", OWN)
def test_an_example_runs_as_its_first_line_says(tmp_path, name):
    """It trains, and evaluates to the same metrics."""
    typed(tmp_path, *line(name), *SMALL.get(name, ()), *FAST, ONE, "hydra.run.dir=run")
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["status"] == "finished"
    assert "test split" in typed(tmp_path, str(EXAMPLES / f"{name}.py"), "evaluate", "run")


@pytest.mark.slow
def test_a_strangers_network_goes_through_a_runs_whole_life(tmp_path):
    """With batch normalization and dropout: repeat, resume, start from a file, freeze, sweep, export."""
    own = (*line("own_module"), *SMALL["own_module"], *FAST)
    typed(tmp_path, *own, "trainer.max_epochs=2", "hydra.run.dir=whole")
    typed(tmp_path, *own, ONE, "hydra.run.dir=parts")
    typed(tmp_path, own[0], "resume=parts", "trainer.max_epochs=2")
    newest = [max((tmp_path / run / "checkpoints").glob("step-*")) for run in ("whole", "parts")]
    for file in ("weights", "optimizer", "best"):
        whole, parts = ((folder / f"{file}.safetensors").read_bytes() for folder in newest)
        assert whole == parts, file
    weights = newest[0] / "best.safetensors"
    typed(tmp_path, *own, ONE, f"model.weights={weights}", "trainer.freeze=[0.*]", "hydra.run.dir=frozen")
    (after,) = (tmp_path / "frozen" / "checkpoints").glob("step-*")
    before, frozen = load_file(weights), load_file(after / "weights.safetensors")
    same = {name for name in before if before[name].tobytes() == frozen[name].tobytes()}
    assert {name for name in before if name.startswith("0.")} <= same
    assert "1.3.weight" not in same
    said = typed(tmp_path, *own[:1], "-m", *own[1:], ONE, "seed=0,1", "hydra.sweep.dir=sweep")
    assert "members of model=own_resnet train one after another: it draws random numbers" in said
    said = typed(tmp_path, own[0], "export", "frozen", "--to", "torch", "-o", "exported")
    assert "tolerance 0.0001" in said
