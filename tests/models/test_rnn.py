"""Recurrent networks: cells against torch's, packs against one alone, and padding that changes nothing."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from harness import engine_of, tiny, tiny_data, train
from sampling import exhaustive_after, slow_after
from slipstream.config import for_target
from slipstream.core.errors import ConfigError
from slipstream.core.registry import component
from slipstream.core.types import InputSpec
from slipstream.models.layer_factory import LayerFactory
from slipstream.models.recurrence import recur, recur_over
from slipstream.models.recurrent import _unrolled
from slipstream.training.backend.memory import predict

CELLS = ("tanh", "relu", "lstm", "gru")
CLOSE = {"rtol": 1e-5, "atol": 1e-5}  # float32, sums of up to 35 products over up to 9 steps
SETTINGS = {
    "cell": "lstm",
    "depth": 1,
    "width": 5,
    "bidirectional": False,
    "pooling": "last",
    "head": [],
    "embedding": None,
    "recurrent_initializer": "orthogonal",
    "forget_bias": None,
    "output_activation": "identity",
}
RNN = {"model": "rnn", "model.width": 5, "data": "adding_problem", "data.batch_size": 12}


def twin(cell, features, width, **settings):
    """torch's network of that cell."""
    kind = {"lstm": nn.LSTM, "gru": nn.GRU}.get(cell, nn.RNN)
    more = {} if cell in ("lstm", "gru") else {"nonlinearity": cell}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return kind(features, width, **more, **settings)


def ours(cell, weight, recurrent, bias, second):
    """torch's two biases as ours, of which only gru's candidate has two."""
    width = recurrent.shape[1]
    if cell != "gru":
        return weight, bias + second, recurrent, None
    joined = torch.cat([(bias + second)[: 2 * width], bias[2 * width :]])
    return weight, joined, recurrent, second[2 * width :]


def draw(*shape, seed=0, **settings):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), **settings)


def over_projection(cell, x, parameters):
    weight, bias, recurrent, inner = ours(cell, *parameters)
    return recur_over(cell, nn.functional.linear(x, weight, bias), recurrent, inner)


def by_operations(cell, x, parameters):
    weight, bias, recurrent, inner = ours(cell, *parameters)
    bend = torch.relu if cell == "relu" else torch.tanh
    kind = "simple" if cell in ("tanh", "relu") else cell
    return _unrolled(kind, nn.functional.linear(x, weight, bias), recurrent, inner, bend, bend)


def at_once(cell, x, parameters):
    return recur(cell, x, *ours(cell, *parameters))


@pytest.mark.parametrize("way", [at_once, over_projection, by_operations])
@pytest.mark.parametrize("steps", [1, 9])
@pytest.mark.parametrize("cell", CELLS)
def test_every_cell_is_torchs_forward_and_backward(cell, steps, way):
    """States, and gradients of inputs and of every weight and bias, are those of nn.RNN, LSTM and GRU."""
    network = twin(cell, 3, 5)
    parameters = list(network.parameters())
    x, grad = draw(steps, 4, 3, requires_grad=True), draw(steps, 4, 5, seed=1)
    theirs, states = network(x)[0], way(cell, x, parameters)
    torch.testing.assert_close(states, theirs, **CLOSE)
    expected = torch.autograd.grad(theirs, [x, *parameters], grad)
    for made, wanted in zip(torch.autograd.grad(states, [x, *parameters], grad), expected, strict=True):
        torch.testing.assert_close(made, wanted, **CLOSE)


@pytest.mark.parametrize("way", [at_once, over_projection])
@pytest.mark.parametrize("cell", CELLS)
def test_a_loops_gradient_is_that_of_finite_differences(cell, way):
    """In float64, of inputs and weights."""
    parameters = [p.detach().double().requires_grad_() for p in twin(cell, 2, 3).parameters()]
    x = draw(4, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, *p: way(cell, x, p), (x, *parameters))


@pytest.mark.slow
@pytest.mark.parametrize("way", [at_once, over_projection])
@pytest.mark.parametrize("cell", CELLS)
def test_a_members_gradient_has_the_same_bytes_in_every_pack(cell, way):
    """Packs of 2, 3 and 8, whatever the companions and places; alone it is the same within rounding."""
    starts = [[p.detach() * (1 + k / 9) for p in twin(cell, 3, 7).parameters()] for k in range(8)]
    x = draw(8, 6, 5, 3)

    def loss(parameters, x):
        states = way(cell, x, parameters)
        return states[-1].square().sum() + states.sum()

    step = torch.func.grad_and_value(loss)
    first = {}
    for chosen in ([*range(8)], [2, 0], [5, 2, 0], [*reversed(range(8))]):
        stacked = [torch.stack([starts[k][i] for k in chosen]) for i in range(4)]
        gradients, values = torch.vmap(step)(stacked, x[chosen])
        for place, k in enumerate(chosen):
            found = [tensor[place].numpy().tobytes() for tensor in (values, *gradients)]
            assert first.setdefault(k, found) == found
    alone, _ = step(starts[0], x[0])
    stacked = [torch.stack([start[i] for start in starts]) for i in range(4)]
    for one, of_pack in zip(alone, torch.vmap(step)(stacked, x)[0], strict=True):
        torch.testing.assert_close(of_pack[0], one, **CLOSE)


def network(form, *, regularizers=(), activation=("tanh", {}), alone=True, seed=3, **settings):
    """A network for examples of that form, with random biases, in evaluation mode."""
    parts = LayerFactory(form, activation, {name: {} for name in regularizers}, seed, alone=alone)
    made = component("model", "rnn")(form, 2, parts, **SETTINGS | settings)
    for number, parameter in enumerate(made.parameters()):
        parameter.data = draw(*parameter.shape, seed=number) * 0.4
    return made.eval()


def padded(steps, kind):
    """Four examples of 1, 3, 4 and 5 steps, padded to so many."""
    present = torch.arange(steps) < torch.tensor([1, 3, 4, 5])[:, None]
    if kind == "tokens":
        ids = torch.randint(1, 9, (4, 5), generator=torch.Generator().manual_seed(0))
        return nn.functional.pad(ids, (0, steps - 5)) * present, InputSpec("tokens", (steps,), vocabulary=9)
    x = nn.functional.pad(draw(4, 5, 2), (0, 0, 0, steps - 5)) * present[..., None]
    return torch.cat([x, present[..., None]], 2), InputSpec("sequence", (steps, 3), masked=True)


@pytest.mark.parametrize("kind", ["sequence", "tokens"])
@pytest.mark.parametrize("pooling", slow_after(1, ["last", "mean", "max"]))
@pytest.mark.parametrize("bidirectional", slow_after(1, [True, False]))
@pytest.mark.parametrize("cell", ["simple", "lstm", "gru"])
def test_padding_never_changes_an_examples_output(cell, bidirectional, pooling, kind):
    """The same examples padded to 5 and to 8 steps, and each for itself without padding."""
    settings = {"cell": cell, "bidirectional": bidirectional, "pooling": pooling, "depth": 2}
    short, form = padded(5, kind)
    long, longer = padded(8, kind)
    expected = network(form, **settings)(short)
    close = {"rtol": 1e-5, "atol": 1e-6}  # products over more steps are blocked otherwise
    torch.testing.assert_close(network(longer, **settings)(long), expected, **close)
    for example, (one, length) in enumerate(zip(short, [1, 3, 4, 5], strict=True)):
        cut = InputSpec(kind, (length, *form.shape[1:]), form.vocabulary, form.masked)
        found = network(cut, **settings)(one[None, :length])
        torch.testing.assert_close(found[0], expected[example], **close)


@pytest.mark.parametrize("cell", ["simple", "lstm", "gru"])
def test_two_layers_in_both_directions_are_torchs_on_a_packed_sequence(cell):
    """Lengths as nn's pack_padded_sequence has them; the pooled states are torch's last ones."""
    kind = "tanh" if cell == "simple" else cell
    x, form = padded(5, "sequence")
    made = network(form, cell=cell, depth=2, bidirectional=True, forget_bias=0 if cell == "lstm" else None)
    theirs = twin(kind, 2, 5, num_layers=2, bidirectional=True, batch_first=True)
    with torch.no_grad():
        for layer, name in ((made.hidden[i], f"_l{i}") for i in (0, 1)):
            for direction, end in zip(layer.directions, ("", "_reverse"), strict=True):
                own = {part: getattr(theirs, f"{part}{name}{end}") for part in PARTS}
                own["weight_ih"].copy_(direction.linear.weight)
                own["weight_hh"].copy_(direction.recurrent.weight)
                own["bias_ih"].copy_(direction.linear.bias)
                own["bias_hh"].zero_()
                if cell == "gru":
                    own["bias_hh"][10:].copy_(direction.inner)
        lengths = x[..., -1].sum(1).long()
        packed = pack_padded_sequence(x[..., :2], lengths, batch_first=True, enforce_sorted=False)
        states = theirs(packed)[1]
    last = (states[0] if cell == "lstm" else states)[-2:]  # of the upper layer, forward and backward
    torch.testing.assert_close(made.hidden(made.inputs(x)), torch.cat([*last], 1), **CLOSE)


PARTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


@pytest.mark.parametrize("how", ["last", "mean", "max"])
def test_pooling_is_over_an_examples_own_steps(how):
    """The last step, the mean and the maximum of the states of each example cut to its length."""
    x, form = padded(6, "sequence")
    made = network(form, pooling=how, cell="gru")
    states = made.hidden[0](made.inputs(x)).steps
    for example, length in enumerate([1, 3, 4, 5]):
        own = states[:length, example]
        expected = {"last": own[-1], "mean": own.mean(0), "max": own.amax(0)}[how]
        torch.testing.assert_close(made.hidden(made.inputs(x))[example], expected, rtol=1e-6, atol=1e-7)


def test_torchs_kernel_serves_an_lstm_alone_and_gives_what_our_loop_gives():
    """Value and gradients within 1e-5; in a pack the kernel is not called."""
    form, x = InputSpec("sequence", (7, 3)), draw(4, 7, 3)
    one, other = network(form, alone=True), network(form, alone=False)
    torch.testing.assert_close(one(x), other(x), **CLOSE)
    for network_ in (one, other):
        network_(x).square().sum().backward()
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, **CLOSE)
    kernels = [any("Mkldnn" in name for name in _functions(made(x).grad_fn)) for made in (one, other)]
    assert kernels == [torch.backends.mkldnn.is_available(), False]


def _functions(node):
    """Names of all that the gradient goes through."""
    if node is not None:
        yield type(node).__name__
        for before, _ in node.next_functions:
            yield from _functions(before)


def start(**changes):
    """The named parameters of a network before its first step."""
    engine = engine_of(tiny(RNN | changes), tiny_data(form="sequence"))
    return engine.program.layout.unflatten(engine.start().params)


@pytest.mark.slow
def test_every_gate_has_a_matrix_of_its_own():
    """Recurrent blocks are orthogonal each for itself, input blocks as the initializer has them."""
    named = start(initializer="xavier_uniform", activation="tanh")
    blocks = named["hidden.0.directions.0.recurrent.weight"].view(4, 5, 5)
    for block in blocks:
        # QR in float32
        torch.testing.assert_close(block @ block.t(), torch.eye(5), rtol=1e-5, atol=1e-5)
    assert not torch.equal(blocks[0], blocks[1])
    bound = 5 / 3 * (6 / (2 + 5)) ** 0.5  # of a block of 5 units and 2 inputs, with tanh's gain
    largest = named["hidden.0.directions.0.linear.weight"].abs().view(4, -1).amax(1)
    assert ((largest > 0.5 * bound) & (largest <= bound)).all()


def test_the_recurrent_matrix_can_be_the_identity_or_the_initializers():
    """IRNN's identity; configured gives what initializer gives, here constants."""
    identity = start(**{"model.recurrent_initializer": "identity", "model.cell": "simple"})
    assert torch.equal(identity["hidden.0.directions.0.recurrent.weight"], torch.eye(5))
    changes = {"initializer": "constant", "initializer.value": 0.25}
    given = start(**changes, **{"model.recurrent_initializer": "configured"})
    assert (given["hidden.0.directions.0.recurrent.weight"] == 0.25).all()


def test_the_forget_gate_starts_open():
    """forget_bias is added to the forget gate's bias, by default 1, and is no parameter."""
    form, x = InputSpec("sequence", (6, 2)), draw(3, 6, 2)
    made, without = network(form), network(form, forget_bias=0.0)
    assert not torch.allclose(made(x), without(x))
    without.hidden[0].directions[0].linear.bias.data[5:10] += 1
    torch.testing.assert_close(made(x), without(x), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("changes", "form", "message"),
    [
        ({"regularizer": ["batch_norm"]}, "sequence", "padding would enter the statistics; use layer_norm"),
        ({"model.embedding": 4}, "sequence", "model.embedding: found 4, and the data are no tokens"),
        ({"model.cell": "gru", "model.forget_bias": 1.0}, "sequence", "cell=gru has no forget gate"),
        ({"model.depth": 2, "model.width": [3]}, "sequence", "1 width for 2 recurrent layers"),
    ],
)
def test_what_would_have_no_effect_or_a_wrong_one_is_refused(changes, form, message):
    """With what was found and what to set."""
    with pytest.raises(ConfigError, match=message):
        engine_of(tiny(RNN | changes), tiny_data(form=form))


def test_a_tokens_vector_is_learned_and_drawn_by_the_seed():
    """One vector an id, of the size asked for or by the vocabulary, N(0, 1) whatever the initializer."""
    form = InputSpec("tokens", (5,), vocabulary=40)
    parts = LayerFactory(form, ("tanh", {}), {}, 0)
    made = component("model", "rnn")(form, 2, parts, **SETTINGS | {"width": 50})
    assert made.inputs.table.shape == (40, 13)  # 1.6 * 40^0.56 = 12.6
    assert 0.8 < made.inputs.table.std() < 1.2
    other = component("model", "rnn")(form, 2, LayerFactory(form, ("tanh", {}), {}, 1), **SETTINGS)
    assert other.inputs.table.shape == (40, 5)
    assert not torch.equal(other.inputs.table, made.inputs.table[:, :5])


@pytest.mark.slow
@pytest.mark.parametrize("cell", exhaustive_after(1, ["gru", "simple", "lstm"]))
@pytest.mark.parametrize("activation", ["relu", "prelu", "maxout"])
def test_every_cell_takes_any_activation_in_a_pack(cell, activation):
    """Also one with a learned slope and one that joins features: the same bytes in two packs."""
    changes = RNN | {"model.cell": cell, "activation": activation}
    three = [tiny(changes, seed=k) for k in range(3)]
    data = tiny_data(form="sequence")
    assert train([three[2], three[0]], data).bytes(0) == train(three, data).bytes(2)


@pytest.mark.slow
@pytest.mark.parametrize("regularizer", exhaustive_after(1, ["dropout", "layer_norm", "gaussian_noise"]))
def test_regularizers_act_inside_a_recurrent_network_in_a_pack(regularizer):
    """On two layers in both directions with a dense head: the same bytes in two packs, and near one alone."""
    changes = RNN | {"model.depth": 2, "model.bidirectional": True, "model.head": [4]}
    three = [tiny(changes | {"regularizer": [regularizer]}, seed=k) for k in range(3)]
    data = tiny_data(form="sequence")
    pack = train(three, data)
    assert train([three[2], three[0]], data).bytes(0) == pack.bytes(2)
    for name, tensor in train(three[0], data).tensors().items():
        # As in test_every_option: alone, numbers are doubles and functions are not batched.
        torch.testing.assert_close(pack.tensors(0)[name], tensor, rtol=1e-4, atol=1e-6)


def test_a_normalization_stands_before_the_gates():
    """layer_norm over the gates of each step: W x + b has mean 0 over them, and a length no effect."""
    x, form = padded(5, "sequence")
    parts = LayerFactory(form, ("tanh", {}), {"layer_norm": {"eps": 1e-5}}, 0, alone=True)
    made = component("model", "rnn")(form, 2, parts, **SETTINGS)
    direction = made.hidden[0].directions[0]
    nn.init.normal_(direction.linear.weight, generator=torch.Generator().manual_seed(0))
    nn.init.ones_(direction.linear.bias)
    seen = []
    direction.norms.register_forward_hook(lambda _m, _x, y: seen.append(y))
    made(x)
    assert seen[0].shape == (5 * 4, 20)
    torch.testing.assert_close(seen[0].mean(1), torch.zeros(20), rtol=0, atol=1e-6)


def test_lsuv_leaves_recurrent_weights_alone():
    """The inputs' part of the gates has unit variance; the recurrent blocks stay orthogonal."""
    named = start(initializer="lsuv", **{"model.recurrent_initializer": "configured"})
    block = named["hidden.0.directions.0.recurrent.weight"][:5]
    torch.testing.assert_close(block @ block.t(), torch.eye(5), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("cell", ["simple", "lstm", "gru"])
def test_bfloat16_trains_near_float32(cell):
    """The loop itself computes in float32."""
    data, changes = tiny_data(form="sequence"), RNN | {"model.cell": cell}
    full = train(tiny(changes), data).tensors()
    half = train(tiny(changes, **{"trainer.dtype": "bfloat16"}), data).tensors()
    for name, tensor in full.items():
        if name.startswith("weights/"):
            # Six steps with products of 8 bits of mantissa around the loop.
            torch.testing.assert_close(half[name], tensor, rtol=0.05, atol=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("members", exhaustive_after(1, [3, 1]))
def test_what_a_run_will_need_of_memory_is_known_before(members):
    """The count of memory goes through the time loop; a longer sequence needs more."""
    config, data = tiny(RNN | {"model.width": 64}), tiny_data(form="sequence")
    config = for_target(config, data.target)
    few = predict(config, [data], members)
    many = predict(for_target(tiny(RNN | {"model.width": 128}), data.target), [data], members)
    assert 0 < few < many
