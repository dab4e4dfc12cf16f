"""One step, and a run of many, against plain PyTorch written out."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from harness import engine_of, tiny, tiny_data, train
from sampling import slow_after
from slipstream.training.engine import Engine

OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.05, eps=1e-10),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.05, alpha=0.99, eps=1e-8),
    "adadelta": lambda p: torch.optim.Adadelta(p, lr=0.05, rho=0.9, eps=1e-6),
    "adam": lambda p: torch.optim.Adam(p, lr=0.05),
    "amsgrad": lambda p: torch.optim.Adam(p, lr=0.05, amsgrad=True),
    "nadam": lambda p: torch.optim.NAdam(p, lr=0.05),
}


def twin(engine: Engine, state) -> nn.Sequential:
    """The same network in torch's words, with the weights of our state."""
    shapes = [shape for shape in engine.program.layout.shapes if len(shape) == 2]
    layers = [part for out, into in shapes for part in (nn.Linear(into, out), nn.Tanh())][:-1]
    module = nn.Sequential(*layers)
    with torch.no_grad():
        for ours, theirs in zip(engine.program.views(state.params), module.parameters(), strict=True):
            theirs.copy_(ours)
    return module


def batches(engine: Engine, epochs: int):
    """The rows of every batch, each row once: the plan's indices where its weight is not zero."""
    for epoch in range(epochs):
        for batch in engine.plan(epoch).batches:
            indices, weights = torch.cat(batch.indices), torch.cat(batch.weights)
            yield indices[weights > 0]


def descend(module: nn.Module, rule, engine: Engine, data, epochs: int, l2: float = 0.0) -> torch.Tensor:
    """A plain PyTorch training loop; its parameters, flat."""
    weights = [p for p in module.parameters() if p.ndim == 2]
    for rows in batches(engine, epochs):
        loss = nn.functional.cross_entropy(module(data.train.inputs[rows]), data.train.targets[rows])
        loss = loss + l2 * sum((w * w).sum() for w in weights)
        rule.zero_grad()
        loss.backward()
        rule.step()
    return torch.cat([p.detach().flatten() for p in module.parameters()])


@pytest.mark.parametrize("l2", slow_after(1, [0.03, 0.0]))
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_run_equals_a_plain_pytorch_loop(optimizer, l2):
    """30 steps of an MLP from the same weights on the same batches end at the same parameters."""
    changes = {"optimizer": optimizer, "optimizer.lr": 0.05, "trainer.max_epochs": 10, "model.depth": 2}
    if l2:
        changes |= {"regularizer": ["l2"], "regularizer.l2.strength": l2}
    data = tiny_data()
    run = train(tiny(changes), data)
    module = twin(run.engine, run.engine.start())
    expected = descend(module, OPTIMIZERS[optimizer](module.parameters()), run.engine, data, 10, l2)
    # float32 over 30 steps, with the loss's mean and the rule's factors rounded in another order;
    # rules that divide by the root of a small square enlarge that.
    torch.testing.assert_close(run.progress.state.params, expected, rtol=2e-4, atol=2e-5)


@pytest.mark.slow
def test_adamw_decays_weights_and_leaves_biases_alone():
    """AdamW is torch's with two parameter groups: weights decay, biases do not."""
    data = tiny_data()
    changes = {"optimizer": "adamw", "optimizer.lr": 0.05, "optimizer.weight_decay": 0.1}
    run = train(tiny(changes | {"trainer.max_epochs": 10}), data)
    module = twin(run.engine, run.engine.start())
    groups = [
        {"params": [p for p in module.parameters() if p.ndim == 2], "weight_decay": 0.1},
        {"params": [p for p in module.parameters() if p.ndim == 1], "weight_decay": 0.0},
    ]
    expected = descend(module, torch.optim.AdamW(groups, lr=0.05), run.engine, data, 10)
    # As above: float32, 30 steps.
    torch.testing.assert_close(run.progress.state.params, expected, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("regularizers", [[], ["l2"]])
def test_accumulated_micro_batches_equal_one_large_batch(regularizers):
    """Two micro-batches of 6 make the updates of one batch of 12, the last partial one included."""
    large = train(tiny({"regularizer": regularizers, "data.batch_size": 12}))
    small = train(tiny({"regularizer": regularizers, "data.batch_size": 6, "trainer.accumulate": 2}))
    assert large.engine.batching.steps == small.engine.batching.steps == 3
    # Two sums of 6 in place of one of 12, in float32.
    torch.testing.assert_close(small.progress.state.params, large.progress.state.params, rtol=1e-5, atol=1e-6)


def test_the_loss_of_an_epoch_counts_every_example_once():
    """With a rate too small to move anything, the epoch's training loss is the plain mean over all 28
    rows, although the last of its batches holds 4 of 12."""
    data = tiny_data()
    run = train(tiny({"optimizer.lr": 1e-12, "trainer.metrics": ["accuracy"]}), data)
    outputs = twin(run.engine, run.engine.start())(data.train.inputs)
    expected = nn.functional.cross_entropy(outputs, data.train.targets).item()
    hits = (outputs.argmax(-1) == data.train.targets).double().mean().item()
    for record in run.members[0].records:
        assert record["train/loss"] == pytest.approx(expected, rel=1e-6)  # one float32 mean, two orders
        assert record["train/accuracy"] == pytest.approx(hits, rel=1e-12)


def test_gradient_and_update_norms_are_what_they_say():
    """gradient_norm is the mean over the epoch of the whole gradient's length before clipping, and
    update_norm the length of the epoch's last update."""
    clip = {"regularizer": ["gradient_clipping"], "regularizer.gradient_clipping.max_norm": 0.01}
    data = tiny_data()
    run = train(tiny(clip | {"trainer.max_epochs": 1, "optimizer.lr": 0.5}), data)
    module = twin(run.engine, run.engine.start())
    lengths = []
    for rows in batches(run.engine, 1):
        module.zero_grad()
        nn.functional.cross_entropy(module(data.train.inputs[rows]), data.train.targets[rows]).backward()
        whole = torch.cat([p.grad.flatten() for p in module.parameters()])
        lengths.append(whole.norm().item())
        with torch.no_grad():
            for p in module.parameters():
                p -= 0.5 * p.grad * (0.01 / whole.norm())
    record = run.members[0].records[0]
    assert record["train/gradient_norm"] == pytest.approx(sum(lengths) / len(lengths), rel=1e-5)  # float32
    assert record["train/update_norm"] == pytest.approx(0.5 * 0.01, rel=1e-3)  # a difference of weights


@pytest.mark.slow
def test_dropout_counts_its_masks_by_seed_and_step():
    """Two runs of one seed drop the same units, another seed others, and no two steps the same."""
    changes = {"regularizer": ["dropout"], "optimizer.lr": 1e-12, "trainer.max_epochs": 1}
    first, again, other = (train(tiny(changes, seed=seed)) for seed in (3, 3, 4))
    assert first.bytes() == again.bytes()
    assert first.members[0].records != other.members[0].records
    engine = first.engine
    state, outputs = engine.start(), []
    batch = engine.plan(0).batches[0]
    for t in (1, 2):
        state, seen = engine.step(state, batch, 1e-12, t)
        outputs.append(seen.outputs)
    assert not torch.allclose(*outputs)


def test_a_step_changes_none_of_its_arguments():
    """The state, the batch and the data before a step are what they were after it."""
    engine = engine_of(tiny({"optimizer": "adam", "regularizer": ["batch_norm", "ema"]}))
    state, batch = engine.start(), engine.plan(0).batches[0]
    given = [
        state.params,
        *state.buffers.values(),
        *state.opt_state.values(),
        *state.regularizer_state.values(),
    ]
    given += [*batch.indices, *batch.weights, *engine.parts["train"].examples]
    before = [tensor.clone() for tensor in given]
    engine.step(state, batch, 0.1, 1)
    assert all(torch.equal(a, b) for a, b in zip(given, before, strict=True))
