"""The files of examples/ work as their first line says."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

EXAMPLES = Path(__file__).parents[1] / "examples"
ONE = "trainer.max_epochs=1"
FAST = ("trainer.compile=false", "trainer.progress=none")
STAND_INS = Path(__file__).parent / "stand_ins"
# Those that need a library of the environment.
OWN = ("own_module", "own_dataset", "own_loss", "own_metric", "own_logger")
SMALL = {"own_module": ("data.rows=120", "model.width=4"), "own_dataset": ("data.count=60",)}


@pytest.fixture
def typed(tmp_path, warm):
    """What `python` does with these words in an empty folder. path: modules that come first."""

    def run(*words, path=None):
        env = os.environ | ({} if path is None else {"PYTHONPATH": str(path)})
        ended = warm.python(*words, cwd=tmp_path, env=env)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout + ended.stderr

    return run


def line(name):
    """The words of the first line of a file, after `python`."""
    (found,) = re.findall(rf"python (examples/{name}\.py [^\n\"]*)", (EXAMPLES / f"{name}.py").read_text())
    words = shlex.split(found)
    return [str(EXAMPLES / f"{name}.py"), *words[1:]]


@pytest.mark.slow
@pytest.mark.parametrize("name", OWN)
def test_an_example_runs_as_its_first_line_says(tmp_path, typed, name):
    """It trains, and evaluates to the same metrics."""
    typed(*line(name), *SMALL.get(name, ()), *FAST, ONE, "hydra.run.dir=run")
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["status"] == "finished"
    assert "test split" in typed(str(EXAMPLES / f"{name}.py"), "evaluate", "run")


@pytest.mark.slow
def test_a_strangers_network_goes_through_a_runs_whole_life(tmp_path, typed):
    """With batch normalization and dropout: repeat, resume, start from a file, freeze, sweep, export."""
    own = (*line("own_module"), *SMALL["own_module"], *FAST)
    typed(*own, "trainer.max_epochs=2", "hydra.run.dir=whole")
    typed(*own, ONE, "hydra.run.dir=parts")
    typed(own[0], "resume=parts", "trainer.max_epochs=2")
    newest = [max((tmp_path / run / "checkpoints").glob("step-*")) for run in ("whole", "parts")]
    for file in ("weights", "optimizer", "best"):
        whole, parts = ((folder / f"{file}.safetensors").read_bytes() for folder in newest)
        assert whole == parts, file
    weights = newest[0] / "best.safetensors"
    typed(*own, ONE, f"model.weights={weights}", "trainer.freeze=[0.*]", "hydra.run.dir=frozen")
    (after,) = (tmp_path / "frozen" / "checkpoints").glob("step-*")
    before, frozen = load_file(weights), load_file(after / "weights.safetensors")
    same = {name for name in before if before[name].tobytes() == frozen[name].tobytes()}
    assert {name for name in before if name.startswith("0.")} <= same
    assert "1.3.weight" not in same
    said = typed(*own[:1], "-m", *own[1:], ONE, "seed=0,1", "hydra.sweep.dir=sweep")
    assert "members of model=own_resnet train one after another: it draws random numbers" in said
    said = typed(own[0], "export", "frozen", "--to", "torch", "-o", "exported")
    assert "tolerance 0.0001" in said


@pytest.fixture(params=["stand-in", "library"])
def modules(request):
    """A function from a library to the folder of its stand-in, or None for the library itself."""

    def of(name):
        if request.param == "stand-in":
            return STAND_INS
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed: pip install -e '.[{name}]'")
        return None

    return of


def best(folder):
    """The weights of a run's best epoch, and the file."""
    (file,) = folder.glob("checkpoints/step-*/best.safetensors")
    return load_file(file), file


@pytest.mark.slow
def test_a_network_of_timm_trains_from_random_weights_and_from_a_file(tmp_path, typed, modules):
    """All but the head comes from the file, and stays where it is frozen."""
    path = modules("timm")
    words = (*line("timm_backbone"), "model.architecture=test_resnet", "data.rows=60", *FAST, ONE)
    typed(*words, "hydra.run.dir=first", path=path)
    before, file = best(tmp_path / "first")
    more = (f"model.weights={file}", "model.weights_skip=[fc.*]", "trainer.freeze=[conv1.*]", "seed=1")
    typed(*words, *more, "hydra.run.dir=second", path=path)
    after, _ = best(tmp_path / "second")
    kept = [name for name in before if name.startswith("conv1.")]
    assert kept
    assert all(np.array_equal(before[name], after[name]) for name in kept)
    assert not np.array_equal(before["fc.weight"], after["fc.weight"])


@pytest.mark.slow
def test_an_encoder_of_transformers_trains_from_random_weights_and_from_a_folder(tmp_path, typed, modules):
    """The folder's config.json says how large it is, and frozen it keeps the folder's weights."""
    path = modules("transformers")
    lines = [f"{'good' if i % 2 else 'bad'} film {i % 7},{'pn'[i % 2]}" for i in range(60)]
    (tmp_path / "texts.csv").write_text("review,label\n" + "\n".join(lines) + "\n")
    more = ("data.text=review", "data.target=label", "model=encoder")
    words = (*line("transformers_encoder"), *more, *FAST, ONE)
    typed(*words, "model.width=8", "hydra.run.dir=first", path=path)
    vocabulary, width = best(tmp_path / "first")[0][EMBEDDINGS[path is None]].shape
    assert width == 8
    typed("-c", MAKES_BERT.format(vocabulary), path=path)
    more = ("model.folder=bert", "trainer.freeze=[encoder.*]")
    typed(*words, *more, "hydra.run.dir=second", path=path)
    saved, trained = load_file(tmp_path / "bert" / "model.safetensors"), best(tmp_path / "second")[0]
    name = EMBEDDINGS[path is None]
    assert np.array_equal(trained[name], saved[name.removeprefix("encoder.")])
    assert trained[name].shape == (vocabulary, 12)


EMBEDDINGS = ("encoder.embeddings.weight", "encoder.embeddings.word_embeddings.weight")
MAKES_BERT = """
from transformers import AutoModel, BertConfig
small = BertConfig(vocab_size={}, hidden_size=12, num_hidden_layers=1, num_attention_heads=2,
                   intermediate_size=16, max_position_embeddings=64)
AutoModel.from_config(small).save_pretrained("bert")
"""
