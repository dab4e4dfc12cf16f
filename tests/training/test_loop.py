"""The loop: epochs, best weights, early stopping, divergence, signals, and no waiting for the device."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from harness import engine_of, tiny, tiny_data, train
from sampling import slow_after
from slipstream.models.layers import Noise
from slipstream.training.interrupts import Interrupts
from slipstream.training.loop import Progress, train_pack
from slipstream.training.member import Member


class Transfers(TorchDispatchMode):
    """Counts what makes the host wait for the device: reading a value out of a tensor."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        # item() and bool() of a tensor end here; tolist() does once for every element that it reads.
        self.count += function is torch.ops.aten._local_scalar_dense.default
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("size", [1, 3])
def test_no_step_waits_for_the_device(size):
    """In all steps of an epoch no value is read out of a tensor, alone or in a pack.

    But for the key of a noise layer, alone and on a CPU, where that waits for nothing."""
    changes = {"regularizer": ["dropout", "batch_norm", "ema", "gradient_clipping"], "optimizer": "adam"}
    engine = engine_of([tiny(changes, seed=k) for k in range(size)])
    for module in engine.program.module.modules():
        if isinstance(module, Noise):
            module.alone = False
    state, plan = engine.start(), engine.plan(0)
    steps = engine.batching.steps
    rates, counts = engine.rates([[0.1] * steps] * size), engine.counts(0, steps)
    with Transfers() as transfers:
        for i in range(steps):
            state, _ = engine.step(state, plan.batches[i], rates[i], counts[i])
    assert transfers.count == 0
    with Transfers() as transfers:
        float(torch.ones(1).sum())
    assert transfers.count == 1  # the counter counts


@pytest.mark.slow
@pytest.mark.parametrize(("observes", "reads"), [(False, 4), (True, 6)])  # after the first and the last epoch
def test_an_epoch_reads_its_results_once(monkeypatch, observes, reads):
    """All metrics of all members leave the device in one transfer an epoch, and observations in another."""
    changes = {"trainer.max_epochs": 4, "trainer.observations": observes}
    engine = engine_of([tiny(changes, seed=k) for k in range(3)])
    calls = []
    rows = engine.pack.rows
    monkeypatch.setattr(engine.pack, "rows", lambda values: calls.append(values.shape) or rows(values))
    members = [Member(config, None) for config in engine.configs]
    state = engine.start()
    progress = Progress(state, engine.evaluated(state))
    with Transfers() as transfers:
        train_pack(engine, members, progress, [], Interrupts())
    assert len(calls) == reads
    assert transfers.count == 0  # none besides


@pytest.mark.slow
def test_the_best_weights_are_those_of_the_best_epoch():
    """With a rate that overshoots, the best epoch is not the last: the weights kept for it are those
    with which a run of exactly so many epochs ends, and its record is the smallest."""
    changes = {"optimizer.lr": 10.0, "trainer.max_epochs": 8, "early_stopping": "none"}
    run = train(tiny(changes))
    losses = [record["val/loss"] for record in run.members[0].records]
    best = run.members[0].best_epoch
    assert best == 1 + losses.index(min(losses)) < 8
    short = train(tiny(changes | {"trainer.max_epochs": best}))
    assert torch.equal(run.progress.best[0], short.progress.state.params)
    assert not torch.equal(run.progress.best[0], run.progress.state.params)


def test_patience_stops_a_run_after_its_epochs_without_improvement():
    """The run ends `patience` epochs after its best one, as stopped_early, with the reason."""
    changes = {"optimizer.lr": 10.0, "trainer.max_epochs": 60, "early_stopping.patience": 4}
    member = train(tiny(changes)).members[0]
    assert member.status == "stopped_early"
    assert len(member.records) == member.best_epoch + 4 < 60
    assert "no improvement" in member.reason


@pytest.mark.slow
def test_a_member_that_stopped_stays_as_it_was():
    """In a pack with one that goes on, a member that stops early keeps its bytes: the last weights, the
    average, what its optimizer evaluates with, and the best."""
    common = {"optimizer": "schedule_free", "regularizer": ["batch_norm"], "trainer.max_epochs": 6}
    target = {"early_stopping": "target", "early_stopping.value": 100.0}  # reached in the first epoch
    never = {"early_stopping": "target", "early_stopping.value": -1.0}
    pack = train([tiny(common | target), tiny(common | never), tiny(common | never, seed=3)])
    other = train([tiny(common | never, seed=8), tiny(common | target)])
    assert [member.status for member in pack.members] == ["stopped_early", "finished", "finished"]
    assert pack.bytes(0) == other.bytes(1)
    stopped = train([tiny(common | target), tiny(common | target)])
    # At the end of the pack it evaluates, epochs later, as it did at its own end.
    ends = [run.engine.pack.member(run.engine.evaluated(run.progress.state), 0) for run in (stopped, pack)]
    assert torch.equal(ends[0][0], ends[1][0])
    assert all(torch.equal(ends[0][1][name], ends[1][1][name]) for name in ends[0][1])


def poisoned(row: int):
    """Data in which one training row holds a NaN."""
    data = tiny_data()
    data.train.inputs[row, 0] = float("nan")
    return data


def test_a_loss_that_is_not_finite_stops_the_run_before_its_update():
    """A NaN in the data stops the run at the first step that sees it: it ends with the weights that
    the steps before left, names the step, and no weight is NaN."""
    data = poisoned(5)
    config = tiny({"trainer.max_epochs": 3, "optimizer": "adam"})
    run = train(config, data)
    member = run.members[0]
    assert member.status == "diverged"
    assert member.records == []
    plan = run.engine.plan(0)
    bad = next(i for i, batch in enumerate(plan.batches) if 5 in batch.indices[0])
    assert f"the loss was nan at step {bad + 1} (epoch 1)" in member.reason
    engine, state = run.engine, run.engine.start()
    for i in range(bad):
        state, _ = engine.step(state, plan.batches[i], 0.001, i + 1)
    assert torch.equal(run.progress.state.params, state.params)


def test_a_rate_that_overflows_the_weights_stops_the_run():
    """Under a finite gradient the weights can overflow by their rate: the update is not made."""
    run = train(tiny({"optimizer.lr": 1e39, "trainer.max_epochs": 2}))
    assert run.members[0].status == "diverged"
    assert "at step 1 (epoch 1)" in run.members[0].reason
    assert torch.equal(run.progress.state.params, run.engine.start().params)


@pytest.mark.slow
def test_a_member_that_diverges_leaves_its_companions_alone():
    """The others' bytes are those of a pack without it, and it ends as it does among others."""
    good = [tiny({"trainer.max_epochs": 3}, seed=k) for k in (1, 2)]
    bad = tiny({"trainer.max_epochs": 3, "optimizer.lr": 1e39}, seed=9)
    mixed, pure = train([good[0], bad, good[1]]), train(good)
    assert [member.status for member in mixed.members] == ["finished", "diverged", "finished"]
    assert mixed.bytes(0) == pure.bytes(0)
    assert mixed.bytes(2) == pure.bytes(1)
    assert mixed.bytes(1) == train([bad, good[1]]).bytes(0)


@pytest.mark.parametrize("scheduler", ["cosine", "one_cycle", "step"])
def test_the_schedule_reaches_the_step(scheduler):
    """With a gradient-free penalty alone, plain SGD's path shows the rate of every single step: each
    shrinks the weights by 1 - 2 lr strength; the logged rate is that of the epoch's last step."""
    changes = {"scheduler": scheduler, "regularizer": ["l2"], "regularizer.l2.strength": 0.1}
    changes |= {"scheduler.every_epochs": 2} if scheduler == "step" else {}
    changes |= {"optimizer.lr": 0.2, "trainer.max_epochs": 5}
    data = tiny_data()
    data.train.weights[:] = 0  # the loss is silent, only the penalty speaks
    data.train.inputs[:] = 0
    run = train(tiny(changes), data)
    engine, member, rates = run.engine, run.members[0], []
    logged = [record["optimizer.lr"] for record in member.records]
    for epoch in range(5):
        again = Member(member.config, None)
        again.records = member.records[:epoch]
        rates += again.rates(3).tolist()
    mask = engine.program.mask(torch.device("cpu")) == 1
    expected = engine.start().params[mask] * torch.tensor([1 - 2 * rate * 0.1 for rate in rates]).prod()
    # 15 roundings to float32.
    torch.testing.assert_close(run.progress.state.params[mask], expected, rtol=5e-6, atol=1e-7)
    assert logged == rates[2::3]
    assert len({round(rate, 12) for rate in rates}) > 1


@pytest.mark.parametrize("after", slow_after(1, [1, 3, 4, 5]))
def test_a_signal_ends_the_run_where_it_stands(after):
    """Interrupted in the middle of an epoch, or with its last step, and resumed: the same bytes."""
    config = tiny({"optimizer": "adam", "regularizer": ["dropout"], "trainer.max_epochs": 3})
    stopped = train(config, interrupt_after=after)
    assert stopped.members[0].status == "interrupted"
    assert len(stopped.members[0].records) == after // 3
    assert train(config, resume=stopped).bytes() == train(config).bytes()


@pytest.mark.slow
def test_a_pack_is_resumed_as_a_run_is():
    """Three members interrupted together go on together to the bytes of the uninterrupted pack."""
    configs = [tiny({"regularizer": ["dropout"], "optimizer.lr": 0.1 + 0.1 * k}, seed=k) for k in range(3)]
    resumed = train(configs, resume=train(configs, interrupt_after=5))
    whole = train(configs)
    assert [resumed.bytes(k) for k in range(3)] == [whole.bytes(k) for k in range(3)]
