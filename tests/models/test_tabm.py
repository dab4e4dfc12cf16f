"""TabM: against as many plain MLPs, its first values, and that the ensemble is what is trained."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import linear

from harness import engine_of, tiny, tiny_data, train

E, H, C = 4, 5, 3


def start(kind, task="multiclass", **more):
    changes = {"model": "tabm", "model.kind": kind, "model.ensemble": E, "model.width": H, "model.depth": 2}
    engine = engine_of(tiny(changes | {"activation": "relu"} | more), tiny_data(task))
    state = engine.start()
    drawn = torch.randn(len(state.params), generator=torch.Generator().manual_seed(3))
    return engine, state, state._replace(params=state.params + 0.3 * drawn)


def named(engine, state):
    return dict(zip(engine.program.layout.names, engine.program.views(state.params), strict=True))


def outputs(engine, state, x):
    return engine.program.infer(engine.program.views(state.params), state.buffers, x)[0]


def one_member(w, kind, e, x):
    """Member e as a plain MLP with its own copies of all weights."""
    if kind != "packed":
        x = x * w["inputs.members.factors"].view(E, -1)[e]
    for i in range(2):
        weight, bias = w[f"hidden.{i}.linear.weight"], w[f"hidden.{i}.linear.bias"]
        if kind == "packed":
            weight, bias = weight.view(E, H, -1)[e], bias.view(E, H)[e]
        if kind == "tabm":
            r = w.get(f"hidden.{i}.linear.r", torch.ones(E * x.shape[1])).view(E, -1)[e]
            weight = w[f"hidden.{i}.linear.s"].view(E, -1)[e][:, None] * weight * r
            bias = bias.view(E, H)[e]
        x = torch.relu(linear(x, weight, bias))
    return linear(x, w["output.linear.weight"].view(E, C, H)[e], w["output.linear.bias"].view(E, C)[e])


@pytest.mark.parametrize("kind", ["tabm", "mini", "packed"])
def test_every_member_is_an_mlp(kind):
    """Output e of [N, E, C] is an MLP with the weights s_e W r_e, with W, or with its own."""
    engine, _, state = start(kind)
    x, w = tiny_data().test.inputs, named(engine, state)
    found = outputs(engine, state, x)
    assert found.shape == (len(x), E, C)
    for e in range(E):  # sums in another order
        torch.testing.assert_close(found[:, e], one_member(w, kind, e, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["tabm", "mini", "packed"])
def test_what_is_shared_is_held_once(kind):
    """Hidden weights are one matrix but in packed; r, s, b a vector a member; heads always separate."""
    engine, _, _ = start(kind)
    sizes = dict(zip(engine.program.layout.names, engine.program.layout.sizes, strict=True))
    times = E if kind == "packed" else 1
    assert sizes["hidden.0.linear.weight"] == times * H * 3
    assert sizes["hidden.1.linear.weight"] == times * H * H
    assert sizes["output.linear.weight"] == E * C * H
    assert sizes["hidden.1.linear.bias"] == (H if kind == "mini" else E * H)
    assert ("hidden.1.linear.s" in sizes) == (kind == "tabm")
    assert "hidden.0.linear.r" not in sizes  # it stands at the inputs


def test_first_values_are_the_papers():
    """Factors of the inputs are random signs, all others 1; no two members start alike; none is penalized."""
    engine, state, _ = start("tabm")
    w = named(engine, state)
    factors = w["inputs.members.factors"]
    assert set(factors.tolist()) == {-1.0, 1.0}
    for name in ("hidden.1.linear.r", "hidden.0.linear.s", "hidden.1.linear.s"):
        assert (w[name] == 1).all()
    heads = w["output.linear.weight"].view(E, -1)
    assert len({tuple(head.tolist()) for head in heads}) == E
    penalized = dict(zip(engine.program.layout.names, engine.program.layout.penalized, strict=True))
    assert {name for name, weight in penalized.items() if weight} == {
        name for name in w if name.endswith("weight")
    }


@pytest.mark.slow
def test_with_an_embedding_the_first_factors_are_alike_in_a_column():
    """Normal, one number for each member and column."""
    engine, state, _ = start("mini", **{"model.embedding": {"bins": 3, "size": 4}})
    factors = named(engine, state)["inputs.members.factors"].view(E, 3, 4)
    assert (factors == factors[:, :, :1]).all()
    assert len(set(factors[..., 0].flatten().tolist())) == 3 * E


@pytest.mark.parametrize("task", ["multiclass", "binary", "regression"])
def test_loss_and_prediction_are_means_over_members(task):
    """The loss is the mean of the members' losses, scores the mean of their probabilities or values."""
    engine, _, state = start("tabm", task)
    data, program, numbers = tiny_data(task), engine.program, {"loss": {}}
    x, y = data.test.inputs, data.test.targets
    found = outputs(engine, state, x)
    members = [found[:, e] for e in range(E)]
    losses = torch.stack([program.losses(member, y, numbers) for member in members]).mean(0)
    torch.testing.assert_close(program.losses(found, y, numbers), losses)
    scores = torch.stack([program.scores(member, numbers) for member in members]).mean(0)
    torch.testing.assert_close(program.scores(found, numbers), scores)


def test_members_do_not_see_each_other():
    """A change of one member's head changes that member's outputs and no other's."""
    engine, _, state = start("tabm")
    x, before = tiny_data().test.inputs, None
    before = outputs(engine, state, x)
    changed = {n: v.clone() for n, v in named(engine, state).items()}
    changed["output.linear.bias"].view(E, C)[1] += 1
    after = outputs(engine, state._replace(params=torch.cat([v.flatten() for v in changed.values()])), x)
    assert torch.equal(after[:, [0, 2, 3]], before[:, [0, 2, 3]])
    torch.testing.assert_close(after[:, 1], before[:, 1] + 1)


@pytest.mark.parametrize("regularizer", ["batch_norm", "layer_norm", "max_norm"])
def test_layers_between_take_members_as_rows(regularizer):
    """Normalizations and constraints act on H features, whoever the row belongs to."""
    engine, _, state = start("tabm", regularizer=[regularizer])
    assert outputs(engine, state, tiny_data().test.inputs).isfinite().all()
    for name, shape in zip(engine.program.layout.names, engine.program.layout.shapes, strict=True):
        if name.endswith((".scale", ".shift")):
            assert shape == (H,)


@pytest.mark.exhaustive  # as training/test_compile.py, for other layers
@pytest.mark.filterwarnings("ignore")  # inductor's own, of many kinds
@pytest.mark.parametrize(
    "model",
    [
        {"model": "tabm", "model.width": 5, "model.embedding": {"bins": 3, "size": 4}},
        {"model": "realmlp", "model.width": 6, "activation": "selu"},
        {"model": "tabm", "model.width": 5, "model.kind": "packed", "model.ensemble": 3},
        {"model": "mlp", "model.embedding": {"frequencies": 4, "sigma": 0.1, "size": 3}},
    ],
    ids=["tabm with bins", "realmlp", "packed", "mlp with waves"],
)
def test_models_of_tables_compile(model):
    """One graph without breaks; a member has the same bytes in every pack, and nearly those of eager."""
    torch.compiler.reset()
    model = model | {"model.depth": 1}  # more layers are more of the same to compile
    configs = [tiny(model | {"trainer.compile": True}, seed=k) for k in range(3)]
    pack, fewer = train(configs), train([configs[2], configs[0]])
    assert pack.engine.compiled
    assert fewer.bytes(0) == pack.bytes(2)
    eager = train([tiny(model, seed=k) for k in range(3)])
    for key, tensor in eager.tensors(0).items():  # fused operations round less often, as in test_compile
        torch.testing.assert_close(pack.tensors(0)[key], tensor, rtol=1e-3, atol=1e-5)
