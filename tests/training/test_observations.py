"""Observations against plain numpy and torch, alone and in packs."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from harness import engine_of, tiny, tiny_data
from slipstream.models.functional import put_tensors
from slipstream.models.layers import Activity
from slipstream.training.observations import by_unit, probe_rows, rank, saturated, similarity
from slipstream.training.step import StepOutput


def observed(configs, data=None):
    """Name and values [K] of what the start of a pack looks like; the parameters before are 0."""
    configs = configs if isinstance(configs, list) else [configs]
    engine = engine_of(configs, data)
    state = engine.start()
    zero = torch.zeros(engine.pack.size).squeeze()
    seen = [StepOutput(zero, zero + 2.0, zero + 1.0), StepOutput(zero, zero + 4.0, zero + 0.5)]
    values = engine.observe(state, torch.zeros_like(state.params), seen)
    return (
        engine,
        state,
        dict(zip(engine.observer.names, values.t() if len(configs) > 1 else values, strict=True)),
    )


def test_values_of_a_dense_network_are_those_of_plain_torch():
    config = tiny({"model.depth": 2, "activation": "relu"})
    engine, state, values = observed(config)
    module = engine.program.module
    named = dict(module.named_parameters())
    flat, start = state.params, 0
    for parameter in named.values():
        parameter.data = flat[start : start + parameter.numel()].view(parameter.shape).clone()
        start += parameter.numel()
    train = engine.parts["train"]
    x, y = train.inputs, train.targets

    def gradients(rows):
        module.zero_grad()
        torch.nn.functional.cross_entropy(module(x[rows]), y[rows]).backward()
        return {name: p.grad.clone() for name, p in named.items()}

    first, second = gradients(slice(0, None, 2)), gradients(slice(1, None, 2))
    for name, weight in named.items():
        if not name.endswith("weight"):
            continue
        of = {q.rpartition("/")[2]: float(v) for q, v in values.items() if q.startswith(f"layers/{name}/")}
        mean, noise = (first[name] + second[name]) / 2, (first[name] - second[name]) / 2
        assert of["weight_norm"] == pytest.approx(float(weight.detach().norm()), rel=1e-5)
        assert of["gradient_norm"] == pytest.approx(float(mean.norm().detach()), rel=1e-4)
        assert of["gradient_noise"] == pytest.approx(float((noise.norm() / mean.norm()).detach()), rel=1e-3)
        w = weight.detach().numpy().astype(float)
        cosines = np.abs(np.corrcoef(w) if False else (w @ w.T) / np.outer(*[np.linalg.norm(w, axis=1)] * 2))
        np.fill_diagonal(cosines, 0)
        assert of["unit_similarity"] == pytest.approx(cosines.max(), rel=1e-5)
    hidden = module.get_submodule("hidden.0.linear")(x).detach().numpy()
    given = hidden.astype(float)
    made = np.maximum(given, 0)
    tap = {q.rpartition("/")[2]: float(v) for q, v in values.items() if q.startswith("layers/hidden.0/")}
    assert tap["dead"] == (made == 0).all(0).mean()
    assert tap["input_mean"] == pytest.approx(given.mean(), rel=1e-4, abs=1e-6)
    assert tap["input_std"] == pytest.approx(given.std(ddof=1), rel=1e-4)
    assert math.isnan(tap["saturated"])
    eigenvalues = np.linalg.eigvalsh(np.cov(made.T))
    assert {q[8:]: float(v) for q, v in values.items() if q.startswith("updates/")} == {
        "first_objective": 1.0,
        "mean_objective": 0.75,
        "last_objective": 0.5,
        "objective_change": 0.5,
        "mean_gradient_norm": 3.0,
        "largest_gradient_norm": 4.0,
        "clipped_share": 0.0,
        "gradient_left_by_clipping": 1.0,
    }
    assert tap["rank"] == pytest.approx(
        eigenvalues.sum() ** 2 / (eigenvalues**2).sum() / min(made.shape), rel=1e-4
    )


def test_all_rows_of_the_probe_count():
    """Loss, gradient and classes are those of all rows by plain torch, with weights, sorted by class."""
    data = tiny_data()
    train = data.train
    order = train.targets.argsort(stable=True)[:-1]  # an odd number
    weights = torch.rand(len(order), generator=torch.Generator().manual_seed(1)) + 0.1
    train = replace(train, inputs=train.inputs[order], targets=train.targets[order], weights=weights)
    engine, state, values = observed(tiny(), replace(data, train=train))
    params = state.params.clone().requires_grad_()
    x, y = train.inputs, train.targets
    outputs, _ = engine.program.infer(engine.program.views(params), state.buffers, x)
    loss = (torch.nn.functional.cross_entropy(outputs, y, reduction="none") * weights).sum() / weights.sum()
    loss.backward()
    assert float(values["probe/loss"]) == pytest.approx(float(loss.detach()), rel=1e-5)
    assert float(values["probe/gradient_norm"]) == pytest.approx(float(params.grad.norm()), rel=1e-4)
    probabilities = torch.softmax(outputs.detach(), 1).numpy()
    found = probabilities.argmax(1)
    assert float(values["probe/confidence"]) == pytest.approx(probabilities.max(1).mean(), rel=1e-5)
    assert float(values["probe/accuracy"]) == pytest.approx((found == y.numpy()).mean())
    assert float(values["probe/lowest_recall"]) == min(
        (found[y == c] == c).mean() for c in y.unique().numpy()
    )
    assert float(values["probe/predicted_classes"]) == pytest.approx(len(set(found)) / 3)


def test_the_penalty_on_activations_is_part_of_the_penalty():
    config = tiny({"regularizer": ["activity_l2", "l2"], "activation": "tanh"})
    engine, state, values = observed(config)
    train, module = engine.parts["train"], engine.program.infer.module
    put_tensors(
        module,
        dict(zip(engine.program.layout.names, engine.program.views(state.params), strict=True))
        | state.buffers,
    )
    hidden = []
    for layer in module.modules():
        if isinstance(layer, Activity):
            layer.register_forward_hook(lambda _, inputs, __: hidden.append(inputs[0].detach()))
    made = module(train.inputs)
    loss = float(torch.nn.functional.cross_entropy(made, train.targets).detach())
    settings = config.raw["regularizer"]
    penalty = settings["activity_l2"]["strength"] * sum(float(h.square().sum()) / len(h) for h in hidden)
    weights = [p for name, p in module.named_parameters() if name.endswith("weight")]
    penalty += settings["l2"]["strength"] * sum(float(w.detach().square().sum()) for w in weights)
    assert hidden
    assert float(values["probe/penalty_share"]) == pytest.approx(penalty / (loss + penalty), rel=1e-4)


@pytest.mark.parametrize(("mode", "share", "left"), [("norm", 0.5, 0.875), ("value", math.nan, math.nan)])
def test_norms_tell_of_clipping_by_norm_alone(mode, share, left):
    settings = {"regularizer.gradient_clipping.mode": mode, "regularizer.gradient_clipping.max_norm": 3.0}
    values = observed(tiny({"regularizer": ["gradient_clipping"], **settings}))[2]  # norms of 2 and 4
    assert float(values["updates/clipped_share"]) == pytest.approx(share, nan_ok=True)
    assert float(values["updates/gradient_left_by_clipping"]) == pytest.approx(left, nan_ok=True)


@pytest.mark.parametrize(
    ("form", "changes"),
    [
        ("vector", {"model.depth": 2}),
        ("vector", {"model": "perceptron", "activation": "identity"}),
        ("vector", {"model": "realmlp", "activation": "mish"}),
        ("vector", {"model": "tabm"}),
        ("image", {"data": "digits", "model": "convnet", "model.channels": 4}),
        ("image", {"data": "digits", "model": "resnet", "regularizer": ["batch_norm"]}),
        ("sequence", {"data": "adding_problem", "model": "rnn"}),
    ],
    ids=lambda value: value if isinstance(value, str) else value.get("model", "mlp"),
)
def test_a_member_of_a_pack_is_observed_as_alone(form, changes):
    configs = [tiny(changes, seed=seed) for seed in (1, 2)]
    data = tiny_data(form=form)
    packed = observed(configs, data)[2]
    for k, config in enumerate(configs):
        alone = observed(config, data)[2]
        assert list(alone) == list(packed)
        for name, value in alone.items():
            assert float(packed[name][k]) == pytest.approx(float(value), rel=1e-3, abs=1e-5, nan_ok=True), (
                name
            )


def test_symptoms_are_seen():
    dead = torch.zeros(10, 4)
    dead[:, 0] = torch.arange(10)
    assert float((dead == 0).all(0).double().mean()) == 0.75
    assert float(saturated(torch.tensor([0.0, 0.5, 0.999, 0.99]), (0.0, 1.0))) == 0.75
    assert float(similarity(torch.tensor([[1.0, 0.0], [-2.0, 0.0], [0.0, 1.0]]))) == pytest.approx(1.0)
    assert float(similarity(torch.ones(1, 5))) == 0.0
    assert float(rank(torch.ones(20, 3))) == 0.0
    line = torch.arange(20.0)[:, None] * torch.ones(3)
    assert float(rank(line)) == pytest.approx(1 / 3)
    assert by_unit(torch.zeros(2, 3, 4, 5)).shape == (40, 3)
    assert probe_rows(1000).tolist()[:3] == [0, 3, 7]
    assert probe_rows(3).tolist() == [0, 1, 2]


def test_an_own_change_of_the_gradient_needs_no_max_norm():
    engine = engine_of([tiny({"regularizer": ["gradient_clipping"]})])
    (clipping,) = engine.program.hooks["gradient"]
    engine.program.hooks["gradient"] = [replace(clipping, name="halving")]
    state = engine.start()
    seen = [StepOutput(torch.tensor(0.0), torch.tensor(2.0), torch.tensor(1.0))]
    numbers = {name: v for name, v in engine.numbers.items() if name != "gradient_clipping"}
    engine.numbers = numbers | {"halving": {"share": torch.tensor(0.5)}}
    found = engine.observe(state, state.params, seen)
    values = dict(zip(engine.observer.names, found.tolist(), strict=True))
    assert values["updates/clipped_share"] == 0
    assert values["updates/gradient_left_by_clipping"] == 1
