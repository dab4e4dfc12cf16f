"""What a pack is predicted to need, beside what it is measured to need."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from harness import tiny, tiny_data
from sampling import exhaustive_after
from slipstream.config import for_target
from slipstream.runs.summary import results
from slipstream.training.backend import memory
from slipstream.training.backend.memory import Alive, fits, is_small, predict
from slipstream.training.engine import Engine
from slipstream.training.interrupts import Interrupts
from slipstream.training.loop import train_pack
from slipstream.training.member import Member
from slipstream.training.snapshot import restore

# In a fresh process: the most that was resident at once, less what was before the pack began.
MEASURE = """
import ctypes, gc, json, sys
import slipstream
from slipstream.runs import session, setup
from slipstream.config import validate
from slipstream.training.backend.memory import predict

def status(name):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))

overrides, members, folds = json.loads(sys.argv[1])
raw = slipstream.compose(*overrides, "logger=none", "early_stopping=none", "trainer.max_epochs=2")
def config(k):
    part = {"folds": folds, "fold": k % folds} if folds else {}
    return validate(raw | {"seed": k, "data": raw["data"] | part})
configs = [config(k) for k in range(members)]
loaded = setup.load_all(configs)
setup.load_all = lambda *_: loaded
gc.collect()
ctypes.CDLL("libc.so.6").malloc_trim(0)
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")
before = status("VmRSS")
session.train_pack(configs)
measured = status("VmHWM") - before
resolved = setup.resolve(configs[0], loaded[0][0])
compiled = resolved.trainer.compile is True
print(json.dumps([measured, predict(resolved, loaded[0], members, compiled=compiled)]))
"""


def alive(function):
    """The most bytes that were alive while the function ran."""
    with Alive() as counted:
        function()
    return counted.peak


def trained(config, folds, members):
    """Train members with different seeds on these folds, and compute their results."""
    configs = [replace(config, seed=seed) for seed in range(members)]
    engine = Engine(configs, folds, torch.device("cpu"), [k % len(folds) for k in range(members)])
    pack = [Member(config, None) for config in configs]
    progress = restore(engine, pack, [None] * members)
    train_pack(engine, pack, progress, [], Interrupts())
    return results(engine, pack, range(members), progress, 0)


def test_alive_counts_storages_once_and_only_while_they_are_there():
    """Views cost nothing, and what is gone costs nothing any more."""

    def allocate():
        first = torch.zeros(1000)
        view = first[:10].view(2, 5)
        del first, view
        second = torch.zeros(500)
        return second + 1

    assert alive(allocate) == 4000


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "folds", "members"),
    exhaustive_after(
        2,
        [
            ({"regularizer": ["ema"], "optimizer": "adam"}, 1, 24),
            ({}, 2, 1),
            ({}, 1, 1),
            ({}, 1, 24),
            ({}, 2, 24),
            ({"regularizer": ["ema"], "optimizer": "adam"}, 1, 1),
            ({"regularizer": ["ema"], "optimizer": "adam"}, 2, 1),
            ({"regularizer": ["ema"], "optimizer": "adam"}, 2, 24),
        ],
    ),
)
def test_a_pack_costs_as_many_bytes_as_its_real_steps_have_alive(changes, folds, members, monkeypatch):
    """What shapes alone say is what tensors with content come to: tiny networks, trained really."""
    for name, value in {"SCATTER": 1.0, "CODE": 0, "CODE_ALONE": 0}.items():
        monkeypatch.setattr(memory, name, value)
    monkeypatch.setattr("slipstream.training.backend.blocks.EAGER", 2**18)  # several blocks of members
    data = [tiny_data()] * folds
    sizes = {"model.width": 64, "model.depth": 2}
    config = for_target(tiny(changes | sizes | {"trainer.observations": False}), data[0].target)
    real = alive(lambda: trained(config, data, members))
    assert predict(config, data, members) == pytest.approx(real, rel=0.02)
    # The best weights of a run this short are its last ones, which need no memory of their own.
    config = replace(config, trainer=replace(config.trainer, observations=True))
    real = alive(lambda: trained(config, data, members))
    assert real * 0.98 <= predict(config, data, members) <= real * 1.07


@pytest.mark.slow
def test_what_the_engine_does_is_what_is_counted(monkeypatch):
    """An engine that keeps another tensor needs it in the prediction, without a change of the count."""
    data, advance, kept = tiny_data(), Engine.advance, []
    config = for_target(tiny(), data.target)
    before = predict(config, [data], 2)

    def wasteful(engine, *arguments):
        kept.append(torch.empty(2**26))
        return advance(engine, *arguments)

    monkeypatch.setattr(Engine, "advance", wasteful)
    assert predict(config, [data], 2) == pytest.approx(before + 4 * 2**26 * len(kept), rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("regularizer", [[], ["dropout", "batch_norm", "ema"]])
def test_members_add_up(regularizer):
    """From some members on the next ones cost the same each."""
    config, data = tiny({"regularizer": regularizer, "model.width": 256, "model.depth": 2}), tiny_data()
    config = for_target(config, data.target)
    needs = [predict(config, [data], members) for members in (512, 768, 1024)]
    assert needs[2] - needs[1] == pytest.approx(needs[1] - needs[0], rel=0.1)
    assert needs[1] > needs[0]


@pytest.mark.slow
@pytest.mark.parametrize("members", exhaustive_after(1, [2, 1]))
@pytest.mark.parametrize(
    ("form", "changes"),
    exhaustive_after(
        1,
        [
            ("image", {"data": "digits", "augmentation": ["translation", "mixup"], "regularizer": ["ema"]}),
            (
                "image",
                {"data": "digits", "model": "convnet", "model.channels": 4, "regularizer": ["dropout"]},
            ),
            ("sequence", {"data": "adding_problem", "model": "rnn", "model.width": 5}),
        ],
    ),
)
def test_examples_of_every_form_are_counted(form, changes, members):
    """Alone and in a pack, with noise, keys and what regularizers keep."""
    data = tiny_data(form=form)
    config = for_target(tiny(changes | {"data.batch_size": 12}), data.target)
    assert predict(config, [data], members) > 2**20


@pytest.mark.slow
def test_folds_cost_their_copies():
    """Members with folds have each a copy of the validation part."""
    config, data = for_target(tiny(), tiny_data().target), tiny_data()
    assert predict(config, [data, data], 64) > predict(config, [data], 64)


@pytest.mark.slow
def test_nothing_is_allocated_to_predict(monkeypatch):
    """A network that no machine could train has a prediction all the same."""
    monkeypatch.setattr("slipstream.training.model_spec.require_memory", lambda *_: None)
    data = tiny_data()
    config = for_target(tiny({"model.width": 200_000, "model.depth": 2}), data.target)
    assert predict(config, [data], 4) > 4 * 4 * 200_000**2


def test_fits_finds_the_largest_pack():
    """All where there is room, else the most that stay within the share of it; one, or none."""

    def need(members):
        return 100 + 10 * members

    assert fits(need, 64, None) == 64
    assert fits(need, 64, 10_000) == 64
    assert fits(need, 64, int(300 / memory.SHARE)) == 20
    assert fits(need, 64, int(115 / memory.SHARE)) == 1
    assert fits(need, 64, int(105 / memory.SHARE)) == 0


def test_free_memory_is_known_on_linux():
    """It is positive and below what the machine has."""
    free = memory.free_bytes(torch.device("cpu"))
    if not sys.platform.startswith("linux"):
        pytest.skip("known on Linux only")
    assert free is not None
    assert 0 < free < 2**50


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize(
    ("overrides", "members", "folds"),
    exhaustive_after(
        1,
        [
            (["data=spirals", "data.rows=4000", "data.batch_size=400", "model.width=64"], 32, 4),
            (["model.width=128", "model.depth=4", "regularizer=[dropout,batch_norm,ema]"], 32, None),
            (["model.width=16"], 1, None),
            (["model.width=16"], 2, None),
            (["model.width=16"], 256, None),
            (["model.width=128"], 64, None),
            (["model.width=1024"], 2, None),
            (["model.width=512", "data.batch_size=512"], 64, None),
            (["model.width=256", "model.depth=1", "optimizer=sgd"], 32, None),
            (["data=spirals", "data.rows=50000", "data.batch_size=1000", "model.width=32"], 64, None),
            (["model.width=128", "trainer.compile=true"], 32, None),
        ],
    ),
)
def test_prediction_is_near_the_peak(overrides, members, folds, tmp_path):
    """Measured in a fresh process that compiles for the first time. The aim is a quarter; the heap of
    one and the same run differs by 15 % from time to time, and for folds 1.3 to 1.45 times of what is
    used is predicted. Too much makes a smaller pack, too little ends a sweep: it has the closer bound."""
    common = ["data=digits", "trainer.threads=2"]
    if not any("compile" in text for text in overrides):
        common.append("trainer.compile=false")
    if any(text.startswith("data=") for text in overrides):
        common.remove("data=digits")
    case = json.dumps([[*common, *overrides], members, folds])
    command, cold = [sys.executable, "-c", MEASURE, case], {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | cold)
    assert done.returncode == 0, done.stderr
    measured, predicted = json.loads(done.stdout.splitlines()[-1])
    assert 0.7 * measured < predicted < 1.6 * measured, (measured >> 20, predicted >> 20)


@pytest.mark.slow
def test_what_is_called_small_is_far_below_what_is_free():
    """Nothing that needs all that is free is small, nor anything where nothing is known."""
    config, data = for_target(tiny(), tiny_data().target), tiny_data()
    need = predict(config, [data], 64)
    assert not is_small(config, [data], 64, None)
    assert not is_small(config, [data], 64, need)
    assert is_small(config, [data], 64, 2**36)
