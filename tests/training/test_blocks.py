"""A large pack in blocks: the bytes of any other blocks, whatever they are filled up with."""

from __future__ import annotations

import pytest
import torch

from harness import tiny, tiny_data, train
from sampling import exhaustive_after
from slipstream.training import engine
from slipstream.training.backend.blocks import MOST, Blocks, block_size
from slipstream.training.member import DIVERGED

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("members", "parameters", "device", "expected"),
    [
        (2, 10, CPU, 2),
        (256, 10, CPU, 256),
        (1024, 10, CPU, MOST),
        (32, 26_122, CPU, 32),
        (40, 26_122, CPU, 20),  # two blocks alike, not 32 and 8
        (33, 26_122, CPU, 17),
        (1024, 26_122, CPU, 32),
        (64, 10**8, CPU, 16),
        (1024, 26_122, GPU, 1024),
    ],
)
def test_blocks_fit_into_a_cache(members, parameters, device, expected):
    """Small networks stay together, large ones are cut evenly; a GPU gets all members at once."""
    size = block_size(members, parameters, device, compiled=True)
    assert size == expected
    assert block_size(members, parameters, device, compiled=False) >= size  # operation by operation
    filled = Blocks(members, size)
    assert 0 <= filled.size * filled.count - members < filled.count


@pytest.fixture
def in_blocks(monkeypatch):
    """Trains members in blocks of a size, by functions that are not compiled: their order is what matters."""
    monkeypatch.setattr(engine, "Compiled", lambda function: function)

    def of(size, members, compiled=True, **kwargs):
        monkeypatch.setattr(engine, "block_size", lambda *_, **__: size)
        settings = {
            "data.batch_size": 3,  # 10 updates an epoch
            "trainer.compile": compiled,
            "trainer.max_epochs": 2,
            "trainer.accumulate": 2,
            "optimizer": "adam",
            "regularizer": ["dropout", "batch_norm", "ema"],
        }
        configs = [tiny(settings | {"optimizer.lr": 0.02 + 0.01 * k}, seed=k % 100) for k in members]
        return train(configs, tiny_data(), **kwargs)

    return of


@pytest.mark.slow
@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("size", exhaustive_after(1, [3, 2, 4]))
def test_a_member_has_the_same_bytes_in_any_block(in_blocks, size, compiled):
    """Five members: one block; blocks of two, three and four, of which the last is filled up."""
    whole, cut = in_blocks(5, range(5), compiled), in_blocks(size, range(5), compiled)
    assert cut.engine._blocks.count == -(-5 // size)
    for k in range(5):
        assert cut.bytes(k) == whole.bytes(k)


@pytest.mark.slow
def test_an_interrupted_epoch_goes_on_where_it_was(in_blocks, monkeypatch):
    """A signal waits for the updates of all blocks; after it the bytes are those of a run without one."""
    monkeypatch.setattr(engine, "UPDATES", 2)
    whole = in_blocks(2, range(5))
    stopped = in_blocks(2, range(5), interrupt_after=3)
    assert len(stopped.progress.seen) == 4
    resumed = in_blocks(2, range(5), resume=stopped)
    for k in range(5):
        assert resumed.bytes(k) == whole.bytes(k)


@pytest.mark.slow
def test_the_state_before_an_update_is_kept(in_blocks):
    """Updates are written over a copy: what diverges can go back, and an update's length is known."""
    one = in_blocks(2, range(3)).engine
    state, plan = one.start(), one.plan(0)
    first = state.params.clone()
    arguments = list(zip(one.rates([[0.1] * 5] * 3), one.counts(0, 5), strict=True))
    after, seen, before = one.advance(state, plan.batches, arguments)
    assert torch.equal(state.params, first)
    again = state
    for batch, (lr, t) in zip(plan.batches[:-1], arguments[:-1], strict=True):
        again, _ = one.step(again, batch, lr, t)
    assert torch.equal(before, again.params)
    assert not torch.equal(before, after.params)
    assert seen[0].outputs.shape[0] == 3


@pytest.mark.slow
def test_a_member_that_breaks_leaves_the_others_alone(in_blocks):
    """It diverges in a block with another member: that one and the rest end as without it."""
    whole, cut = in_blocks(3, range(3)), in_blocks(2, [0, 10**42, 1, 2])  # by its learning rate
    assert [member.status for member in cut.members].count(DIVERGED) == 1
    assert cut.members[1].status == DIVERGED
    for k, place in enumerate([0, 2, 3]):
        assert cut.bytes(place) == whole.bytes(k)
