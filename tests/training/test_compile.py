"""The compiled step: one graph without breaks, the eager results, and the same promise about bytes."""

from __future__ import annotations

import pytest
import torch

from harness import engine_of, tiny, tiny_data, train
from sampling import exhaustive_after
from slipstream.core.errors import ConfigError
from slipstream.training.backend.compile_choice import compile_pays
from slipstream.training.pack import Pack

CASES = {
    "nadam": {
        "optimizer": "nadam",
        "regularizer": ["dropout", "layer_norm", "l2", "gradient_clipping", "ema"],
        "activation": "gelu",
    },
    "momentum": {
        "optimizer": "momentum",
        "regularizer": ["batch_norm", "label_smoothing", "gaussian_noise", "weight_decay", "max_norm"],
        "activation": "glu",
    },
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # inductor's own, of many kinds
@pytest.mark.parametrize("case", exhaustive_after(1, CASES))
def test_a_compiled_run_equals_the_eager_one(case):
    """Alone and in packs of 3 and 2: the step can be traced whole, results are
    the eager ones within float32, and a member's bytes do not depend on its companions or place."""
    data = tiny_data()
    common = CASES[case] | {"data.batch_size": 3}  # 10 updates an epoch
    configs = [tiny(common | {"optimizer.lr": 0.02 + 0.01 * k}, seed=k) for k in range(3)]
    compiled = [
        tiny(common | {"optimizer.lr": 0.02 + 0.01 * k, "trainer.compile": True}, seed=k) for k in range(3)
    ]
    pack, fewer = train(compiled, data), train([compiled[2], compiled[0]], data)
    assert pack.engine.compiled
    assert fewer.bytes(0) == pack.bytes(2)
    assert fewer.bytes(1) == pack.bytes(0)
    alone, eager = train(compiled[0], data), train(configs, data)
    assert alone.engine.compiled
    for key, tensor in eager.tensors(0).items():
        # Fused operations round less often, and in another order; 20 updates by rules that divide by
        # the root of a small square.
        torch.testing.assert_close(pack.tensors(0)[key], tensor, rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(alone.tensors()[key], tensor, rtol=1e-3, atol=1e-5)
    interrupted = train(compiled[0], data, interrupt_after=4)
    assert len(interrupted.progress.seen) == 4
    resumed = train(compiled[0], data, resume=interrupted)
    assert resumed.bytes() == alone.bytes()


@pytest.mark.parametrize(
    ("setting", "updates", "size", "expected"),
    [
        (True, 1, 1, True),
        (False, 10**9, 64, False),
        ("auto", 10, 1, False),
        ("auto", 10**6, 1, True),
        ("auto", 100, 16, False),
        ("auto", 10**5, 16, True),
    ],
)
def test_compilation_is_decided_before_the_run_by_the_planned_work(setting, updates, size, expected):
    """true and false are obeyed; auto compiles long work and leaves short work eager."""
    assert compile_pays(setting, updates, Pack(size)) is expected


def test_auto_counts_the_planned_updates():
    """A short run is eager, the same run with many epochs is compiled."""
    assert not engine_of(tiny({"trainer.compile": "auto"})).compiled
    assert engine_of(tiny({"trainer.compile": "auto", "trainer.max_epochs": 10**6})).compiled


def test_without_a_compiler_auto_stays_eager_and_true_is_refused(monkeypatch):
    """No C++ compiler on the PATH: long work runs all the same, and asking for it is a mistake."""
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.delenv("CXX", raising=False)
    assert compile_pays("auto", 10**9, Pack(1)) is False
    with pytest.raises(ConfigError, match="needs a C\\+\\+ compiler"):
        compile_pays(True, 1, Pack(1))
