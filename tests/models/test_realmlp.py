"""RealMLP: its formula, its first values, what learns at which rate, and the presets."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import slipstream
from harness import engine_of, tiny, tiny_data, train
from slipstream.config import validate
from slipstream.core.errors import ConfigError
from slipstream.core.types import InputSpec

SMALL = {"model": "realmlp", "model.width": 6, "model.depth": 2, "activation": "selu"}


def start(data=None, **more):
    engine = engine_of(tiny(SMALL | more), data)
    state = engine.start()
    named = dict(zip(engine.program.layout.names, engine.program.views(state.params), strict=True))
    return engine, state, named


def outputs(engine, state, x):
    return engine.program.infer(engine.program.views(state.params), state.buffers, x)[0]


def test_it_is_the_papers_network():
    """Embedding, scale, twice W h / sqrt(D) + b with a parametric selu, and a last W h / sqrt(D) + b."""
    engine, state, w = start()
    moved = {
        name: value + 0.1 * torch.cos(torch.arange(value.numel())).view_as(value) for name, value in w.items()
    }
    state = state._replace(params=torch.cat([value.flatten() for value in moved.values()]))
    x = tiny_data().test.inputs
    e = {name.rpartition(".")[2]: v for name, v in moved.items() if ".embedding." in name}
    waves = torch.cos(2 * torch.pi * e["frequency"] * x[..., None] + e["phase"])
    embedded = torch.einsum("nif,ifs->nis", waves, e["weight"]) + e["bias"]
    h = torch.cat([x[..., None], embedded], dim=-1).flatten(1) * moved["inputs.scale.factor"]
    for i in range(2):
        weight, bias = moved[f"hidden.{i}.linear.weight"], moved[f"hidden.{i}.linear.bias"]
        z = h @ weight.T / weight.shape[1] ** 0.5 + bias
        h = z + moved[f"hidden.{i}.activation.share"] * (torch.nn.functional.selu(z) - z)
    weight, bias = moved["output.linear.weight"], moved["output.linear.bias"]
    expected = h @ weight.T / weight.shape[1] ** 0.5 + bias
    # three layers of sums in float32, in another order
    torch.testing.assert_close(outputs(engine, state, x), expected, rtol=1e-4, atol=1e-5)


def test_every_unit_begins_with_deviation_one_and_its_bend_among_the_data():
    """W h / sqrt(D) of the training part has deviation 1 in every unit, and -b lies between its extremes."""
    data = tiny_data()
    engine, state, w = start(data)
    module = engine.program.module
    seen = {}
    layers = {name: m for name, m in module.named_modules() if name.endswith("linear")}
    hooks = [
        m.register_forward_hook(lambda _m, _x, y, name=name: seen.__setitem__(name, y))
        for name, m in layers.items()
    ]
    module.eval()
    engine.program.forward(engine.program.views(state.params), state.buffers, data.train.inputs)
    for hook in hooks:
        hook.remove()
    assert len(seen) == 3
    for name, y in seen.items():
        bias = w[f"{name}.bias"]
        plain = y - bias
        torch.testing.assert_close(plain.std(0, correction=0), torch.ones(len(bias)), rtol=1e-4, atol=1e-4)
        assert (plain.min(0).values < -bias).all()
        assert (-bias < plain.max(0).values).all()
        assert bias.std() > 0.05


def test_a_reparametrized_layer_is_fitted_too():
    """Behind spectral_norm, a layer's first bias is placed among the data as well."""
    named = start(regularizer=["spectral_norm"])[2]
    biases = [value for name, value in named.items() if name.endswith("linear.layer.bias")]
    assert len(biases) == 2
    assert all((bias != 0).all() for bias in biases)


def test_rates_and_penalties_are_those_of_the_paper():
    """6 for the scale, 0.1 for biases, shares and embeddings, else 1; only biases are not penalized."""
    layout = start()[0].program.layout
    factors = dict(zip(layout.names, layout.lr_factors, strict=True))
    penalized = dict(zip(layout.names, layout.penalized, strict=True))
    for name, factor in factors.items():
        expected = 1.0 if name.endswith("linear.weight") else 6.0 if name == "inputs.scale.factor" else 0.1
        assert factor == expected, name
        assert penalized[name] == (not name.endswith("linear.bias")), name


def test_it_takes_tables_without_numbers():
    """Columns of 0 and 1 only: no embedding, and it trains, alone and in packs."""
    data = replace(tiny_data(), form=InputSpec("vector", (3,)))
    assert not any("embedding" in name for name in start(data)[0].program.layout.names)
    three = [tiny(SMALL, seed=seed) for seed in range(3)]
    pack, fewer = train(three, data), train([three[2], three[0]], data)
    assert fewer.bytes(0) == pack.bytes(2)


def test_first_values_depend_on_the_seed_alone():
    """The same seed gives the same parameters, another one others in every weight."""
    first, again, other = start(), start(), start(seed=1)[2]
    assert torch.equal(first[1].params, again[1].params)
    for name, value in first[2].items():
        assert name.endswith(("share", "factor")) or not torch.equal(value, other[name]), name


def test_an_initializer_is_refused():
    """RealMLP brings its own first values: another initializer would be ignored."""
    with pytest.raises(ConfigError, match="initializer=zeros: model=realmlp has its own initial weights"):
        tiny(SMALL | {"initializer": "zeros"})


def test_an_activation_that_joins_units_is_refused():
    """x + a (f(x) - x) needs one output a unit."""
    with pytest.raises(ConfigError, match="bends each unit by itself"):
        start(activation="maxout")


@pytest.mark.parametrize(
    ("experiment", "data"), [("realmlp", "wine"), ("realmlp_regression", "diabetes"), ("tabm", "wine")]
)
def test_presets_compose_and_take_changes(experiment, data):
    """The presets are valid with data of their task, and their lines can be changed."""
    raw = slipstream.compose(f"experiment={experiment}", f"data={data}", "optimizer.lr=0.003")
    config = validate(raw)
    assert config.model.name == experiment.partition("_")[0]
    assert config.optimizer.settings["lr"] == 0.003
    assert config.trainer.max_epochs in (256, 300)
