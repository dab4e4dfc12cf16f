"""Averaged, slow and several weights against torch and plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from regularizing import regularizer, sample

import slipstream
from harness import tiny, tiny_data, train
from slipstream.core.errors import ConfigError
from slipstream.core.registry import component
from slipstream.data.splits import split_rows
from slipstream.runs.session import run
from slipstream.schedulers import Clock


def test_ema() -> None:
    """Without warm-up it is torch's AveragedModel average; with it the memory is (1 + t) / (10 + t) first."""
    average = expected = sample(5)
    theirs = torch.optim.swa_utils.get_ema_avg_fn(0.9)
    for t in range(1, 30):
        params = sample(5, seed=t)
        average = regularizer("ema")(average, params, t, decay=0.9, warmup=False)
        expected = theirs(expected, params, torch.tensor(t))
    torch.testing.assert_close(average, expected)
    zero, one = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    for t in (1, 10, 1000):
        found = regularizer("ema")(zero, one, t, decay=0.99, warmup=True)
        torch.testing.assert_close(found, one - min(0.99, (1 + t) / (10 + t)))


def test_swa_is_the_mean_of_the_last_epochs():
    """Up to the epoch after the start it is the weights of now, then torch's average of those since."""
    function, theirs = regularizer("swa"), torch.optim.swa_utils.get_swa_avg_fn()
    average, expected = sample(5), None
    for epoch in range(1, 11):
        params = sample(5, seed=epoch)
        average = function(average, params, torch.tensor(float(epoch)), 10, None, start=0.7)
        expected = params if epoch <= 8 else theirs(expected, params, torch.tensor(epoch - 8))
        torch.testing.assert_close(average, expected)
    # 0.29 of 100 is a little less than 29 in double precision: epoch 30 is the first that is averaged.
    for start in (0.29, torch.tensor(0.29)):
        assert torch.equal(function(average, params, torch.tensor(30.0), 100, None, start=start), params)


def test_lookahead_is_the_papers_loop():
    """Slow weights move every third update, and the fast ones go on from them; t is an int or a tensor."""
    w = slow = expected_w = expected_slow = sample(5)
    for t in range(1, 20):
        step = sample(5, seed=t)
        number = t if t % 2 else torch.tensor(float(t))
        w, slow = regularizer("lookahead")(w + step, slow, number, steps=3, alpha=0.4)
        expected_w = expected_w + step
        if t % 3 == 0:
            expected_slow = expected_slow + 0.4 * (expected_w - expected_slow)
            expected_w = expected_slow
        torch.testing.assert_close(w, expected_w)
        torch.testing.assert_close(slow, expected_slow)


def test_snapshots_are_taken_at_the_ends_of_cycles():
    """A place holds the weights of its cycle's end, and before that those of now."""
    function, cycles, epochs = regularizer("snapshot_ensemble"), 3, 8
    first = sample(4)
    kept = function.traits.start(first, cycles=cycles)
    assert torch.equal(kept, torch.cat([first] * 3))
    ends, seen = (2, 5, 8), {}
    for epoch in range(1, epochs + 1):
        seen[epoch] = sample(4, seed=epoch)
        kept = function(kept, seen[epoch], torch.tensor(float(epoch)), epochs, None, cycles=cycles)
        assert torch.equal(kept, torch.cat([seen[min(epoch, end)] for end in ends]))


def test_the_rate_falls_in_every_cycle():
    """Cycles of 2, 3 and 3 epochs each begin at 1 and fall along half a cosine; theirs is the paper's
    formula."""
    steps = 4
    step = np.arange(8 * steps)
    found = regularizer("snapshot_ensemble").traits.rate(Clock(step, steps, 8 * steps), cycles=3)
    expected = [(np.cos(np.pi * i / n) + 1) / 2 for n in (8, 12, 12) for i in range(n)]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-15)


@pytest.mark.slow
def test_an_ensemble_predicts_the_mean_of_its_members_probabilities():
    """The report's loss is the mean of the members' losses; every member has its own running statistics."""
    changes = {"regularizer": ["batch_norm", "snapshot_ensemble"], "trainer.max_epochs": 4}
    changes |= {"regularizer.snapshot_ensemble.cycles": 2, "optimizer.lr": 0.3}
    changes |= {"trainer.metrics": ["log_loss"], "early_stopping.restore_best": False}
    data = tiny_data()
    run = train(tiny(changes), data)
    engine = run.engine
    params, buffers = engine.evaluated(run.progress.state)
    half = train(tiny(changes), data, interrupt_after=6)
    assert half.members[0].epoch == 2
    assert torch.equal(params[: engine.program.layout.size], half.progress.state.params)
    outputs = engine.predict((params, buffers), "val")
    assert outputs.shape == (8, 2, 3)
    program = engine.program
    for e, state in enumerate((half.progress.state, run.progress.state)):
        alone = program.infer(program.views(state.params), state.buffers, data.validation.inputs)[0]
        torch.testing.assert_close(outputs[:, e], alone)
    probabilities = outputs.softmax(-1).mean(1)
    expected = torch.nn.functional.nll_loss(probabilities.log(), data.validation.targets)
    assert abs(run.members[0].records[-1]["val/log_loss"] - float(expected)) < 1e-5


@pytest.mark.slow
def test_an_ensemble_of_ensembles_is_a_larger_one():
    """Snapshots of TabM, which is one by itself, give the outputs of all its networks at all times."""
    changes = {"regularizer": ["snapshot_ensemble"], "regularizer.snapshot_ensemble.cycles": 2}
    changes |= {"model": "tabm", "model.width": 5, "model.ensemble": 3}
    run = train(tiny(changes), tiny_data())
    program, state = run.engine.program, run.progress.state
    outputs = run.engine.predict(run.engine.evaluated(state), "val")
    for e, params in enumerate(state.regularizer_state["snapshot_ensemble"].view(2, -1)):
        alone, _ = program.infer(program.views(params), state.buffers, tiny_data().validation.inputs)
        assert torch.equal(outputs[:, 3 * e : 3 * e + 3], alone)


@pytest.mark.slow
@pytest.mark.parametrize("restore_best", [True, False])
def test_a_saved_ensemble_predicts_as_it_was_measured(tmp_path, restore_best):
    """Loaded from its folder it has all members, and the accuracy of summary.json on the same rows."""
    changes = {"data": "iris", "regularizer": ["batch_norm", "snapshot_ensemble"], "trainer.max_epochs": 6}
    changes |= {"regularizer.snapshot_ensemble.cycles": 3, "early_stopping.restore_best": restore_best}
    config = tiny(changes | {"data.batch_size": 16, "optimizer.lr": 0.3})
    result = run(config, tmp_path, [])
    model = slipstream.load(tmp_path)
    raw = component("data", "iris")()
    x, y = raw.inputs, raw.targets
    rows = split_rows(raw, {"name": "iris", **config.data.settings})[1][2]
    found = model.predict(x[rows])
    summary = result.best if restore_best else result.last
    assert np.mean(found.labels == np.array(model.target.classes)[y[rows]]) == summary["test/accuracy"]
    assert len(model.networks) == 3
    torch.testing.assert_close(torch.from_numpy(found.probabilities.sum(1)), torch.ones(len(rows)))
    for name, weights in result.weights.items():
        assert torch.equal(torch.stack([network[name] for network in model.networks]), weights)
    assert torch.equal(model.module.state_dict()[name], weights[-1])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ema", "swa"])
def test_running_statistics_are_averaged_along(name):
    """With batch normalization the evaluated running mean is the same average of the trained ones."""
    changes = {"regularizer": ["batch_norm", name], "trainer.max_epochs": 4, "optimizer.lr": 0.2}
    changes |= {"regularizer.swa.start": 0.5} if name == "swa" else {}
    run = train(tiny(changes), tiny_data())
    mean = "hidden.0.batch_norm.running_mean"
    cuts = range(1, 13) if name == "ema" else (9, 12)
    cut = [train(tiny(changes), tiny_data(), interrupt_after=updates) for updates in cuts]
    trained = [one.progress.state.buffers[mean] for one in cut]
    if name == "swa":
        expected = (trained[0] + trained[1]) / 2
    else:
        expected = torch.zeros_like(trained[0])
        for t, value in enumerate(trained, start=1):
            expected = expected.lerp(value, 1 - min(0.999, (1 + t) / (10 + t)))
    _, buffers = run.engine.evaluated(run.progress.state)
    torch.testing.assert_close(buffers[mean], expected)
    assert not torch.equal(buffers[mean], trained[-1])


def test_only_one_thing_is_evaluated():
    """Two that give the weights to evaluate with are refused, an optimizer that does included."""
    with pytest.raises(
        ConfigError, match=r"regularizer\.ema: sets the weights.*regularizer\.swa; use only one"
    ):
        tiny({"regularizer": ["ema", "swa"]})
    with pytest.raises(ConfigError, match=r"so does optimizer=schedule_free"):
        tiny({"regularizer": ["lookahead"], "optimizer": "schedule_free"})


def test_more_cycles_than_epochs_are_refused():
    """Before anything is trained, with what to change."""
    with pytest.raises(ConfigError, match=r"cycles: 5 cycles do not fit in 2 epochs; raise"):
        tiny({"regularizer": ["snapshot_ensemble"]})
