"""The engine: what it hands to a step, for one member as for many."""

from __future__ import annotations

import pytest
import torch

from harness import engine_of, tiny, tiny_data
from slipstream.training.engine import choose_device
from slipstream.training.step import StepOutput


def test_rates_and_counts_are_numbers_alone_and_tensors_in_a_pack():
    """Step by step: floats and ints for one member, [K] rates and counts in a pack, whose members may
    stand at different updates."""
    alone, pack = engine_of(tiny()), engine_of([tiny(), tiny(seed=1)])
    assert alone.rates([[0.1, 0.2]]) == [0.1, 0.2]
    assert alone.counts(3, 2) == [4, 5]
    assert [rate.tolist() for rate in pack.rates([[0.25, 0.5], [1.0, 2.0]])] == [[0.25, 1], [0.5, 2]]
    assert [count.tolist() for count in pack.counts([3, 7], 2)] == [[4, 8], [5, 9]]


def test_a_packs_start_is_its_members_starts():
    """The stacked state holds, member by member, the bytes of each one's own start."""
    configs = [tiny({"regularizer": ["dropout", "ema"], "optimizer": "nadam"}, seed=k) for k in range(3)]
    pack = engine_of(configs)
    state = pack.start()
    for k, config in enumerate(configs):
        own, there = engine_of(config).start(), pack.pack.member(state, k)
        assert torch.equal(own.params, there.params)
        for kind in ("buffers", "opt_state", "regularizer_state"):
            mine, theirs = getattr(own, kind), getattr(there, kind)
            assert mine.keys() == theirs.keys()
            assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_bfloat16_trains_near_float32_with_float32_weights():
    """Products in bfloat16 (8 bits of fraction) move the run by less than a few parts in a hundred;
    weights, outputs and losses stay float32."""
    ends = []
    for dtype in ("float32", "bfloat16"):
        engine = engine_of(tiny({"trainer.dtype": dtype}))
        state = engine.start()
        for i, batch in enumerate(engine.plan(0).batches):
            state, seen = engine.step(state, batch, 0.1, i + 1)
        assert state.params.dtype == seen.outputs.dtype == seen.objective.dtype == torch.float32
        ends.append(state.params)
    assert not torch.equal(*ends)
    assert (ends[0] - ends[1]).norm() < 0.02 * ends[0].norm()


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel", "regression"])
def test_an_epochs_metrics_are_those_of_its_batches_together(task):
    """The report over the steps' outputs equals measure over the split, each row in its place."""
    data = tiny_data(task)
    names = ["rmse", "mae"] if task == "regression" else ["accuracy"]
    engine = engine_of(tiny({"trainer.metrics": names}), data)
    state, plan = engine.start(), engine.plan(0)
    outputs = engine.predict(engine.evaluated(state), "train")
    zero = torch.zeros(())
    steps = [StepOutput(outputs[torch.cat(batch.indices)], zero, zero) for batch in plan.batches]
    whole = engine.measure("train", outputs, names, [0])
    report = engine.report(plan, steps, state, state.params)
    assert engine.reported[: len(whole)] == [f"train/{name}" for name in ("loss", *names)]
    # Sums over 28 rows in another order, in float64.
    torch.testing.assert_close(report[: len(whole)], whole, rtol=1e-12, atol=0)


def test_the_device_is_chosen_by_name():
    """cpu is obeyed; auto takes CUDA where there is one."""
    assert choose_device("cpu").type == "cpu"
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
