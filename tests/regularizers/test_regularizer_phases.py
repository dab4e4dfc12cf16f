"""Dense-sparse-dense training: who is pruned, when, at which rate, and resumed anywhere."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from regularizing import regularizer, sample

from harness import tiny, tiny_data, train
from sampling import exhaustive_after
from slipstream.core.errors import ConfigError
from slipstream.regularizers.phases import largest
from slipstream.schedulers import Clock
from slipstream.testing import LAYOUT

CHANGES = {
    "regularizer": ["dense_sparse_dense"],
    "trainer.max_epochs": 6,
    "regularizer.dense_sparse_dense.sparsity": 0.5,
    "optimizer.lr": 0.2,
    "model.width": 8,
}


def test_the_smallest_of_each_layer_are_pruned():
    """The mask is 0 for round(sparsity n) entries of every weight, none larger than one that stays, and 1
    for biases; as a number or a tensor."""
    params = sample(LAYOUT.size)
    for sparsity in (0.0, 0.3, torch.tensor(0.9)):
        mask, parts = LAYOUT.unflatten(largest(params, LAYOUT, sparsity)), LAYOUT.unflatten(params)
        assert (mask["bias"] == 1).all()
        for name in ("first", "second"):
            gone = mask[name] == 0
            assert gone.sum() == round(float(sparsity) * gone.numel())
            if gone.any():
                assert parts[name][gone].abs().max() <= parts[name][~gone].abs().min()


def test_equal_weights_are_pruned_to_the_number():
    """Ties do not change how many are pruned."""
    assert largest(torch.ones(LAYOUT.size), LAYOUT, 0.5).sum() == 6 + 4 + 4


def test_the_mask_by_epochs():
    """Of 10 epochs 4 are dense, 3 under the mask of the weights after the 4th, 3 dense again."""
    one, settings = torch.ones(LAYOUT.size), {"sparsity": 0.5, "sparse_from": 0.4, "dense_from": 0.7}
    mask = regularizer("dense_sparse_dense").traits.start(one)
    for epoch in range(1, 11):
        params = sample(LAYOUT.size, seed=epoch)
        now = torch.tensor(float(epoch))
        mask = regularizer("dense_sparse_dense")(mask, params, now, 10, LAYOUT, **settings)
        sparse = largest(sample(LAYOUT.size, seed=4), LAYOUT, 0.5)
        assert torch.equal(mask.double(), sparse.double() if 4 <= epoch < 7 else one.double())


def test_the_last_phase_has_its_own_rate():
    """lr_factor multiplies the schedule from the first step of the last phase."""
    rate = regularizer("dense_sparse_dense").traits.rate
    settings = {"sparsity": 0.5, "sparse_from": 0.4, "dense_from": 0.7, "lr_factor": 0.1}
    found = [rate(Clock(np.arange(3) + 3 * e, 3, 30), **settings)[0] for e in range(10)]
    assert found == [1.0] * 7 + [0.1] * 3


def test_a_run_goes_through_three_phases():
    """Half of each weight is zero in the sparse epochs and there alone; the rate falls to a tenth at last."""
    records = train(tiny(CHANGES), tiny_data()).members[0].records
    layers = ["all", "hidden.0.linear.weight", "output.linear.weight"]
    for name in layers:
        assert [record[f"zeros/{name}"] for record in records] == [0, 0, 0.5, 0.5, 0, 0]
    assert [round(record["optimizer.lr"], 9) for record in records] == [0.2] * 4 + [0.02] * 2


@pytest.mark.slow
@pytest.mark.parametrize("updates", exhaustive_after(3, [4, 10, 16, 2, 6, 8, 12, 14]))
def test_a_run_resumes_in_every_phase(updates):
    """Interrupted anywhere, in and between phases, it ends with the bytes of one that was not."""
    config = tiny(CHANGES)
    whole = train(config, tiny_data())
    resumed = train(config, tiny_data(), resume=train(config, tiny_data(), interrupt_after=updates))
    assert resumed.bytes() == whole.bytes()


@pytest.mark.slow
@pytest.mark.parametrize("updates", exhaustive_after(1, [7, 3, 12, 16]))
@pytest.mark.parametrize("name", ["swa", "snapshot_ensemble", "lookahead"])
def test_averages_and_snapshots_resume_anywhere(name, updates):
    """Beside batch normalization, whose statistics go with them."""
    config = tiny({"regularizer": ["batch_norm", name], "trainer.max_epochs": 6})
    resumed = train(config, tiny_data(), resume=train(config, tiny_data(), interrupt_after=updates))
    assert resumed.bytes() == train(config, tiny_data()).bytes()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sparse_from": 0.1}, "set it to 10"),
        ({"dense_from": 0.45}, "set it to 7"),
        ({"dense_from": 0.3}, "sparse_from 0.4 is not below dense_from 0.3"),
        ({"sparse_from": 0.0}, "sparse_from: found 0, expected more"),
    ],
)
def test_a_phase_without_an_epoch_is_refused(changes, said):
    """With the cause: an order that is none, or the least number of epochs that has all three phases."""
    prefix = "regularizer.dense_sparse_dense."
    with pytest.raises(ConfigError) as caught:
        tiny(CHANGES | {prefix + name: value for name, value in changes.items()})
    assert said in str(caught.value)
