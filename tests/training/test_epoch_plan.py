"""An epoch's plan: every example once, in an order that its seed and the epoch alone decide."""

from __future__ import annotations

import pytest
import torch

from slipstream.core import random
from slipstream.training import epoch_plan
from slipstream.training.epoch_plan import Batching, Planner
from slipstream.training.pack import Pack


def planner(batching: Batching, seeds=(0,), weights=None, last=None) -> Planner:
    pack = Pack(len(seeds))
    keys = [random.key_words(seed, random.SHUFFLE) for seed in seeds]
    weights = torch.ones(batching.examples) if weights is None else weights
    return Planner(batching, keys, (weights, weights), pack, last=last)


@pytest.mark.parametrize(
    ("examples", "size", "accumulate", "steps"),
    [
        (28, 12, 1, 3),
        (24, 12, 1, 2),
        (28, 5, 2, 3),
        (28, "full", 1, 1),
        (7, 100, 1, 1),
        (5, 1, 1, 5),
        (3, 2, 4, 1),
    ],
)
def test_every_example_counts_once_an_epoch(examples, size, accumulate, steps):
    """The rows with weight are 0 ... n-1, each once; an update's weights sum to 1; all shapes agree."""
    batching = Batching.of(examples, size, accumulate)
    made = planner(batching)(2)
    assert len(made.batches) == batching.steps == steps
    assert sorted(made.indices[made.counts > 0].tolist()) == list(range(examples))
    assert made.counts.sum() == examples
    shapes = {tuple(part.shape) for b in made.batches for part in (*b.indices, *b.weights)}
    assert shapes == {(batching.size,)}
    for batch in made.batches:
        assert len(batch.indices) == len(batch.weights) == accumulate
        assert torch.cat(batch.weights).sum().item() == pytest.approx(1, abs=1e-6)  # float32
    joined = torch.cat([torch.cat(batch.indices) for batch in made.batches])
    assert torch.equal(joined, made.indices)


def test_no_epoch_is_drawn_that_nobody_trains(monkeypatch):
    """A short run on few examples would draw thousands; those that are drawn are the same."""
    drawn, draw = [], random.permutations

    def permutations(keys, times, count):
        drawn.append(times.shape[-1])
        return draw(keys, times, count)

    monkeypatch.setattr(random, "permutations", permutations)
    batching = Batching.of(28, 12, 1)
    short, any_length = planner(batching, (5, 6), last=3), planner(batching, (5, 6))
    for epoch in (0, 1, 2):
        assert torch.equal(short(epoch).indices, any_length(epoch).indices)
    assert drawn == [3, epoch_plan.BLOCK // (28 * 2)]


def test_a_partial_batch_is_filled_with_weight_zero():
    """28 rows in batches of 12: the last one is the mean over 4, and 8 rows without weight fill it."""
    last = planner(Batching.of(28, 12, 1))(0).batches[-1]
    assert sorted(last.weights[0].tolist()) == [0] * 8 + [0.25] * 4


def test_example_weights_enter_in_proportion():
    """A row of weight 3 has three times the weight of another in its batch, one of 0 has none, and a
    batch of zeros alone is zero and not NaN."""
    weights = torch.tensor([3.0, 1, 1, 0])
    batch = planner(Batching.of(4, "full", 1), weights=weights)(0).batches[0]
    assert torch.equal(batch.weights[0], weights / 5)
    batch = planner(Batching.of(4, "full", 1), weights=torch.zeros(4))(0).batches[0]
    assert torch.equal(batch.weights[0], torch.zeros(4))


def test_orders_differ_by_epoch_and_seed_and_by_nothing_else(monkeypatch):
    """Another epoch or seed gives another order; the block in which epochs are drawn, the order in
    which they are asked for and the companions change none."""
    batching = Batching.of(28, 12, 1)
    many = planner(batching, (5, 6))
    orders = [many(epoch).indices for epoch in range(4)]
    rows = [tuple(order[k].tolist()) for order in orders for k in (0, 1)]
    assert len(set(rows)) == 8
    monkeypatch.setattr(epoch_plan, "BLOCK", 2 * 28)  # two epochs at once for one member
    alone = planner(batching, (6,))
    for epoch in (3, 0, 2, 1):
        assert torch.equal(alone(epoch).indices, orders[epoch][1])
        for a, b in zip(alone(epoch).batches, many(epoch).batches, strict=True):
            assert torch.equal(a.indices[0], b.indices[0][1])
            assert torch.equal(a.weights[0], b.weights[0][1])


def test_a_full_batch_keeps_the_order_of_the_data():
    """Where an update sees everything nothing is shuffled: sums have one order in every epoch."""
    for epoch in (0, 3):
        made = planner(Batching.of(9, "full", 1))(epoch)
        assert made.indices.tolist() == list(range(9))
