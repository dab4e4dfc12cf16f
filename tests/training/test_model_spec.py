"""The program: the network's parameters from outside, which of them are weights, the first state."""

from __future__ import annotations

import torch
from torch.func import functional_call

from harness import engine_of, tiny, tiny_data
from slipstream.models.functional import Functional


def test_a_functional_call_is_torchs_and_leaves_the_module_as_it_was():
    """With parameters and buffers from outside, outputs are `functional_call`'s and the module keeps
    its own; new buffers come back."""
    engine = engine_of(tiny({"regularizer": ["batch_norm"]}))
    module, x = engine.program.module, engine.parts["train"].inputs
    own = {name: tensor.numpy().tobytes() for name, tensor in module.state_dict().items()}
    state = engine.start()
    named = engine.program.layout.unflatten(state.params)
    buffers = {name: buffer.clone() for name, buffer in state.buffers.items()}
    outputs, after = Functional(module)(list(named.values()), state.buffers, x)
    assert torch.equal(outputs, functional_call(module, named | buffers, (x,)))
    changed = {name for name in after if not torch.equal(after[name], state.buffers[name])}
    assert changed == {name for name in after if name.rpartition(".")[2].startswith("running")}
    assert own == {name: tensor.numpy().tobytes() for name, tensor in module.state_dict().items()}


def test_weights_are_penalized_and_biases_and_scales_are_not():
    """The mask is 1 for matrices alone."""
    program = engine_of(tiny({"regularizer": ["batch_norm"]})).program
    mask = program.layout.unflatten(program.mask(torch.device("cpu")))
    assert {name for name, part in mask.items() if part.all()} == {
        "hidden.0.linear.weight",
        "output.linear.weight",
    }
    assert all(part.all() or not part.any() for part in mask.values())


def test_the_start_depends_on_the_seed_alone():
    """One seed one start, another seed another; numbers such as a dropout rate do not enter the weights."""
    starts = [
        engine_of(tiny({"regularizer": ["dropout"], "regularizer.dropout.rate": rate}, seed=seed)).start()
        for seed, rate in ((1, 0.2), (1, 0.4), (2, 0.2))
    ]
    assert torch.equal(starts[0].params, starts[1].params)
    assert not torch.equal(starts[0].params, starts[2].params)
    assert [start.buffers["hidden.0.dropout.rate"].item() for start in starts[:2]] != [0.2, 0.2]


def test_the_number_of_outputs_is_the_losss():
    """One logit for a binary target, one a class, two numbers a column for a Gaussian."""
    for task, loss, outputs in (
        ("binary", "binary_cross_entropy", 1),
        ("binary", "cross_entropy", 2),
        ("multiclass", "hinge", 3),
        ("multilabel", "focal", 2),
        ("regression", "gaussian_nll", 4),
    ):
        program = engine_of(tiny({"loss": loss}), tiny_data(task)).program
        assert program.layout.shapes[-1] == (outputs,)


def test_an_average_is_what_is_evaluated():
    """With ema the parameters to evaluate with are the average, else the trained ones, else the rule's."""
    for changes in ({"regularizer": ["ema"]}, {}, {"optimizer": "schedule_free"}):
        engine = engine_of(tiny(changes))
        state, plan = engine.start(), engine.plan(0)
        for i in range(2):
            state, _ = engine.step(state, plan.batches[i], 0.5, i + 1)
        evaluated = engine.evaluated(state)[0]
        if "regularizer" in changes:
            assert torch.equal(evaluated, state.regularizer_state["ema"])
        assert torch.equal(evaluated, state.params) == (not changes)
