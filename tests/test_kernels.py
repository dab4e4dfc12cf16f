"""MKL's mode: what a process computes with, and that a resumed run keeps it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness import tiny, train
from slipstream import kernels, preparing, resuming
from slipstream.config import resume

ROOT = Path(__file__).resolve().parents[1]
ASK = "import slipstream; from slipstream import kernels; print(kernels.mode())"


def run(*words, **environment):
    """What a fresh Python prints, without this process's mode."""
    inherited = {key: value for key, value in os.environ.items() if key != kernels.VARIABLE}
    inherited |= {"PYTHONPATH": os.pathsep.join(sys.path), **environment}
    done = subprocess.run(
        [sys.executable, *map(str, words)], capture_output=True, text=True, env=inherited, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


pytestmark = pytest.mark.skipif(kernels.mode() is None, reason="this torch has no MKL")


@pytest.mark.parametrize(
    ("program", "environment", "expected"),
    [
        (ASK, {}, "AUTO,STRICT"),
        (ASK, {"MKL_CBWR": "COMPATIBLE"}, "COMPATIBLE"),
        (ASK, {"MKL_CBWR": ""}, ""),
        (f"import torch; {ASK}", {}, "AUTO,STRICT"),
        (f"import torch; torch.ones(2, 2) @ torch.ones(2, 2); {ASK}", {}, ""),
    ],
    ids=["usual", "a user's own", "none", "torch first", "too late"],
)
def test_the_mode_in_effect(program, environment, expected):
    """Slipstream's own unless the user has one; MKL is asked, so that one set too late is not believed."""
    assert run("-c", program, **environment) == expected


def test_a_resumed_run_computes_in_the_mode_it_began_with(tmp_path):
    """Recorded with the run, and set again before torch is loaded, whatever the environment has then."""
    folder = tmp_path / "run"
    words = ["data=iris", "trainer.max_epochs=1", "trainer.progress=none", "logger=none"]
    run(ROOT / "train.py", *words, f"hydra.run.dir={folder}", MKL_CBWR="COMPATIBLE")
    for _ in range(2):
        assert json.loads((folder / "summary.json").read_text())["mkl_cbwr"] == "COMPATIBLE"
        run(ROOT / "train.py", f"resume={folder}", "trainer.max_epochs=2")


def test_a_mode_that_cannot_be_had_any_more_is_told(tmp_path):
    """This process has computed: a run of another mode goes on with a warning, one of this mode without."""
    (warning,) = resuming.other_kernels(tmp_path, {"mkl_cbwr": "COMPATIBLE"})
    assert "set MKL_CBWR=COMPATIBLE before Python starts" in warning
    assert resuming.other_kernels(tmp_path, {"mkl_cbwr": kernels.mode()}) == []
    assert len(resuming.other_kernels(tmp_path, {})) == 1  # runs of before had none


def test_a_folder_chooses_a_mode_and_nothing_else(tmp_path, monkeypatch):
    """A run folder may come from anyone: only MKL's own names reach the environment."""
    monkeypatch.setenv(kernels.VARIABLE, "AVX2")
    saved = tmp_path / "checkpoints" / "step-00000004" / "state.json"
    assert resume.kernels_of(tmp_path) is None
    saved.parent.mkdir(parents=True)
    for text, expected in (
        ("{", "AVX2"),
        ("[1]", "AVX2"),
        ('{"mkl_cbwr": "$(id)"}', "AVX2"),
        ('{"mkl_cbwr": ["AVX512"]}', "AVX2"),
        ('{"mkl_cbwr": "COMPATIBLE"}', "COMPATIBLE"),
        ("{}", ""),
    ):
        saved.write_text(text)
        kernels.use(resume.kernels_of(tmp_path))
        assert kernels.asked() == expected, text


@pytest.mark.parametrize("width", [5, 7, 10, 23, 25, 30, 50])
def test_a_members_bytes_do_not_depend_on_where_its_matrices_lie(width):
    """Real sizes whose P is no multiple of a vector register: in every other place of a pack a layer's
    matrix has another alignment, by which MKL chose another kernel."""
    changes = {"data": "iris", "data.batch_size": 7, "model.width": width, "model.depth": 2}
    changes |= {"activation": "relu", "optimizer": "sgd", "optimizer.lr": 0.05}
    configs = [tiny(changes, seed=seed) for seed in range(5)]
    (data,), _ = preparing.load_all(configs[:1])
    together = train(configs, data)
    for places in ([1, 0], [4, 3, 2, 1, 0], [3, 4, 1]):
        found = train([configs[k] for k in places], data)
        for place, k in enumerate(places):
            assert found.bytes(place) == together.bytes(k), (places, k)
