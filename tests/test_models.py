"""Networks: their shapes, the order of their layers, and that they are plain functions of their parts."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from harness import engine_of, tiny, tiny_data
from slipstream.config import validate
from slipstream.core.errors import ConfigError
from slipstream.core.registry import component
from slipstream.core.types import InputSpec
from slipstream.models.initialize import initialize, layout_of
from slipstream.training.step import gradient_alone, make_step


def network(**changes):
    """Program and start of a network; keys with `__` for dots."""
    engine = engine_of(tiny({key.replace("__", "."): value for key, value in changes.items()}))
    return engine.program, engine.start()


def outputs(program, state, x):
    return program.infer(program.views(state.params), state.buffers, x)[0]


def shapes(program):
    return dict(zip(program.layout.names, program.layout.shapes, strict=True))


def test_an_mlp_is_linear_layers_with_activations_between():
    """Two hidden layers of 5 and the output, against torch's Sequential with the same weights."""
    program, state = network(model__depth=2, model__width=5)
    twin = nn.Sequential(
        *(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 3)),
    )
    with torch.no_grad():
        for theirs, ours in zip(twin.parameters(), program.views(state.params), strict=True):
            theirs.copy_(ours)
    x = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(outputs(program, state, x), twin(x))  # the same kernels on the same numbers


def test_widths_can_differ_by_layer():
    """model.width=[7,4] gives layers of 7 and 4; a list of another length is refused with both numbers."""
    program, _ = network(model__depth=2, model__width=[7, 4])
    weights = [shape for name, shape in shapes(program).items() if name.endswith("weight")]
    assert weights == [(7, 3), (4, 7), (3, 4)]
    with pytest.raises(ConfigError, match="2 widths for 3 hidden layers"):
        network(model__depth=3, model__width=[7, 4])


def test_depth_zero_and_the_perceptron_are_one_linear_map():
    """Both have one matrix and one bias, and with the same seed the same outputs."""
    none, one = network(model__depth=0), network(model="perceptron", activation="identity")
    for program, _ in (none, one):
        assert list(shapes(program).values()) == [(3, 3), (3,)]
    x = torch.ones(2, 3)
    assert torch.equal(outputs(*none, x), outputs(*one, x))


def test_a_perceptron_ends_with_its_activation():
    """y = sigmoid(W x + b)."""
    engine = engine_of(
        tiny({"model": "perceptron", "activation": "sigmoid", "loss": "mse"}), tiny_data("binary")
    )
    state = engine.start()
    weight, bias = engine.program.views(state.params)
    x = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    expected = torch.sigmoid(x @ weight.t() + bias)
    # Our sigmoid is exp(logsigmoid), in float32.
    torch.testing.assert_close(outputs(engine.program, state, x), expected, rtol=1e-5, atol=1e-6)


def test_a_residual_layer_adds_its_input():
    """h + tanh(W h + b) where the widths agree; the first layer, 3 to 5, stays plain."""
    program, state = network(model__depth=2, model__width=5, model__residual=True)
    w1, b1, w2, b2, w3, b3 = program.views(state.params)
    x = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    h = torch.tanh(nn.functional.linear(x, w1, b1))
    h = h + torch.tanh(nn.functional.linear(h, w2, b2))
    assert torch.equal(outputs(program, state, x), nn.functional.linear(h, w3, b3))


@pytest.mark.parametrize(("activation", "factor"), [("maxout", 2), ("glu", 2), ("tanh", 1)])
def test_an_activation_that_joins_features_gets_a_wider_layer(activation, factor):
    """The layer in front of maxout and glu is twice as wide, the one behind is as wide as asked."""
    program, _ = network(activation=activation)
    assert shapes(program)["hidden.0.linear.weight"] == (5 * factor, 3)
    assert shapes(program)["output.linear.weight"] == (3, 5)


def test_the_order_in_a_hidden_layer_is_linear_norm_activation_noise():
    """Whatever order the configuration has."""
    program, _ = network(regularizer=["dropout", "batch_norm"])
    assert list(program.module.hidden[0]._modules) == ["linear", "batch_norm", "activation", "dropout"]


def test_noise_on_the_inputs_stands_before_all_layers():
    """gaussian_noise is in `inputs`, dropout in every hidden layer and in no other place."""
    program, _ = network(regularizer=["dropout", "gaussian_noise"], model__depth=2)
    noisy = {name for name, _ in program.module.named_modules() if name.endswith(("dropout", "noise"))}
    assert noisy == {"inputs.gaussian_noise", "hidden.0.dropout", "hidden.1.dropout"}


def test_every_noise_layer_has_its_own_key():
    """Two dropout layers do not drop the same units."""
    _, state = network(regularizer=["dropout"], model__depth=2)
    keys = [tuple(state.buffers[f"hidden.{i}.dropout.key"].tolist()) for i in (0, 1)]
    assert keys[0] != keys[1]


def test_images_are_flattened():
    """An input of any shape becomes one row of numbers."""
    data = tiny_data()
    for split in (data.train, data.validation, data.test):
        object.__setattr__(split, "inputs", split.inputs.repeat(1, 4).view(-1, 3, 2, 2))
    object.__setattr__(data, "form", InputSpec("image", (3, 2, 2)))
    engine = engine_of(tiny(), data)
    assert engine.program.layout.shapes[0] == (5, 12)
    assert engine.predict(engine.evaluated(engine.start()), "val").shape == (8, 3)


def test_prelu_learns_its_slope_from_its_first_value():
    """The slope is a parameter that starts as activation.init."""
    program, state = network(activation="prelu", activation__init=0.3)
    slope = program.layout.unflatten(state.params)["hidden.0.activation.slope"]
    assert slope.item() == pytest.approx(0.3)


@pytest.mark.parametrize("bias", [0.0, 0.01])
def test_the_initializer_gives_weights_and_biases_their_first_values(bias):
    """Weights by the initializer, every bias the configured constant, scales 1 and shifts 0."""
    program, state = network(
        initializer="constant", initializer__value=0.2, initializer__bias=bias, regularizer=["batch_norm"]
    )
    named = program.layout.unflatten(state.params)
    for name, tensor in named.items():
        expected = 0.2 if name.endswith("weight") else bias if name.endswith("bias") else None
        expected = {"scale": 1.0, "shift": 0.0}.get(name.rpartition(".")[2], expected)
        assert torch.equal(tensor, torch.full(tensor.shape, expected)), name


def test_lsuv_gives_every_layer_unit_variance():
    """Each linear layer's output on the first rows has variance one within the tolerance."""
    program, state = network(initializer="lsuv", model__depth=3, model__width=16)
    engine = engine_of(tiny({"initializer": "lsuv", "model.depth": 3, "model.width": 16}))
    seen = []
    for module in program.infer.module.modules():
        if isinstance(module, nn.Linear):
            module.register_forward_hook(lambda _m, _x, output: seen.append(output.var().item()))
    outputs(program, state, engine.parts["train"].inputs[:12])
    assert len(seen) == 4
    assert all(abs(variance - 1) < 0.1 for variance in seen)


def test_an_unknown_output_activation_is_refused():
    """The error names the key and the nearest right name."""
    raw = tiny().raw
    with pytest.raises(ConfigError, match=r"model.output_activation: found 'sigmod'.*did you mean sigmoid"):
        validate(raw | {"model": raw["model"] | {"output_activation": "sigmod"}})


def test_parameters_may_ask_for_their_own_treatment():
    """Attributes of a parameter say whether it is penalized, how fast it learns, and keep its first value."""
    module = nn.Linear(3, 4)
    module.weight.lr_factor, module.bias.penalized, module.weight.own_start = 6.0, True, True
    layout = layout_of(module)
    assert layout.penalized == (True, True)
    assert layout.lr_factors == (6.0, 1.0)
    before = module.weight.detach().clone()
    settings = {"bias": 0.5}
    initialize(module, (component("initializer", "zeros"), settings), 1.0, 0, torch.zeros(2, 3))
    assert torch.equal(module.weight, before)
    assert torch.equal(module.bias, torch.full((4,), 0.5))
    assert layout_of(nn.Linear(3, 4)).lr_factors == ()


def test_a_learning_rate_factor_multiplies_the_update():
    """A step of plain SGD moves a tensor with factor 3 three times as far."""
    engine = engine_of(tiny(), tiny_data())
    program, state = engine.program, engine.start()
    batch = engine.plan(0).batches[0]
    mask = program.mask(engine.device)
    factors = torch.ones(program.layout.size)
    factors[: program.layout.sizes[0]] = 3.0
    steps = [make_step(program, mask, gradient_alone, f) for f in (None, factors)]
    moved = [
        step(state, engine.parts["train"].examples, batch, 0.1, 1, engine.numbers)[0].params for step in steps
    ]
    plain, scaled = (params - state.params for params in moved)
    torch.testing.assert_close(scaled, plain * factors)
