"""Convolutional networks against torch.nn's, alone and in packs; what does not fit is refused."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional

from harness import engine_of, tiny, tiny_data, train
from sampling import exhaustive_after
from slipstream.core.errors import ConfigError
from slipstream.models.convolution import Convolution, Pooling, TokenEmbedding, one_by_one
from slipstream.runs.setup import warnings
from slipstream.training.backend.compile_choice import can_compile, compile_pays
from slipstream.training.pack import Pack

IMAGE = {"data": "digits", "data.batch_size": 12, "model": "convnet", "model.channels": 4}
SEQUENCE = IMAGE | {"data": "adding_problem"}


def changed(base, changes):
    return base | {key.replace("__", "."): value for key, value in changes.items()}


def network(base=IMAGE, form="image", **changes):
    """Program and start of a network on tiny data; keys with `__` for dots."""
    engine = engine_of(tiny(changed(base, changes)), tiny_data(form=form))
    return engine.program, engine.start()


def outputs(program, state, x):
    return program.infer(program.views(state.params), state.buffers, x)[0]


def drawn(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


def sizes(program):
    return dict(zip(program.layout.names, program.layout.shapes, strict=True))


def twin(program, state, *layers):
    """torch's layers with the same parameters, in the same order."""
    made = nn.Sequential(*layers)
    with torch.no_grad():
        for theirs, ours in zip(made.parameters(), program.views(state.params), strict=True):
            theirs.copy_(ours.view(theirs.shape))
    return made


def agree(program, state, reference, x):
    """Outputs and gradients agree; the kernels sum in another order."""
    params = [p.clone().requires_grad_() for p in program.views(state.params)]
    ours, _ = program.infer(params, state.buffers, x)
    theirs = reference(x)
    weights = drawn(*theirs.shape)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    mine = torch.autograd.grad((ours * weights).sum(), params)
    his = torch.autograd.grad((theirs * weights).sum(), list(reference.parameters()))
    for one, other in zip(mine, his, strict=True):
        torch.testing.assert_close(one, other.view(one.shape), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("packed", [False, True])
def test_a_convolution_is_that_of_torch_with_same_padding(kernel, stride, channels, packed):
    """conv2d of the image with zeros around it, the extra one of an even kernel at the right and below."""
    layer = Convolution(channels, 5, (kernel, kernel), (stride, stride), bias=True, packed=packed)
    x = drawn(4, channels, 7, 6)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(drawn(*parameter.shape))
    left, right = (kernel - 1) // 2, kernel // 2
    padded = functional.pad(x, (left, right, left, right))
    expected = functional.conv2d(padded, layer.weight, layer.bias, stride)
    # The order of the sums differs by layout and kernel.
    torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-5)
    assert layer(x).shape[2:] == (-(-7 // stride), -(-6 // stride))


@pytest.mark.parametrize("shared", [False, True])
def test_convolutions_of_a_pack_are_the_members_own(shared):
    """Under vmap and grad each member's output and gradients are those of conv2d, inputs shared or not."""
    x, weight, bias = drawn(3, 4, 2, 5, 5), drawn(3, 6, 2, 3, 3), drawn(3, 6)
    target = drawn(4, 6, 3, 3)

    def value(convolve, weight, bias, x):
        return (convolve(x, weight, bias, (2, 2), (1, 1)) * target).sum()

    x = x[0] if shared else x
    gradients = torch.func.grad(partial(value, one_by_one), argnums=(0, 1, 2))
    made = torch.vmap(gradients, in_dims=(0, 0, None if shared else 0))(weight, bias, x)
    for k in range(3):
        leaves = [weight[k], bias[k], x if shared else x[k]]
        leaves = [leaf.clone().requires_grad_() for leaf in leaves]
        expected = torch.autograd.grad(value(functional.conv2d, *leaves), leaves)
        for ours, theirs in zip(made, expected, strict=True):
            torch.testing.assert_close(ours[k], theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["max", "average"])
@pytest.mark.parametrize("window", [(2, 2), (1, 3), (3, 3)])
def test_pooling_is_that_of_torch_eager_and_compiled(kind, window, monkeypatch):
    """Windows side by side, what fills none left out; the form for a compiler gives the same."""
    x = drawn(2, 3, 7, 8).requires_grad_()
    reference = {"max": functional.max_pool2d, "average": functional.avg_pool2d}[kind]
    expected = reference(x, window)
    weights = drawn(*expected.shape)
    (gradient,) = torch.autograd.grad((expected * weights).sum(), x)
    for compiling in (False, True):
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda answer=compiling: answer)
        made = Pooling(kind, window, packed=True)(x)
        torch.testing.assert_close(made, expected)
        torch.testing.assert_close(torch.autograd.grad((made * weights).sum(), x)[0], gradient)


def test_a_convnet_is_convolution_activation_pooling():
    """Two of them, a dense layer behind: torch's Sequential with the same weights."""
    program, state = network(activation="relu")
    reference = twin(
        program,
        state,
        *(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(4, 3)),
    )
    agree(program, state, reference, drawn(5, 3, 6, 6))


def test_settings_of_a_layer_can_be_lists():
    """Channels, kernels and strides by layer; pooling after every second one; global pooling; a head."""
    program, state = network(
        model__depth=3,
        model__channels=[4, 6, 8],
        model__kernel_size=[3, 1, 5],
        model__stride=[1, 2, 1],
        model__pooling="average",
        model__pool_every=2,
        model__global_pooling="average",
        model__head=[7],
        activation="tanh",
    )
    reference = twin(
        program,
        state,
        *(nn.Conv2d(3, 4, 3, padding=1), nn.Tanh(), nn.Conv2d(4, 6, 1, 2), nn.Tanh(), nn.AvgPool2d(2)),
        *(nn.Conv2d(6, 8, 5, padding=2), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        *(nn.Linear(8, 7), nn.Tanh(), nn.Linear(7, 3)),
    )
    agree(program, state, reference, drawn(5, 3, 6, 6))


def test_a_sequence_is_convolved_along_time():
    """[N, T, C] as torch's Conv1d sees it, the mask being a channel like others."""
    program, state = network(SEQUENCE, "sequence", activation="tanh")
    reference = twin(
        program,
        state,
        *(nn.Conv1d(3, 4, 3, padding=1), nn.Tanh(), nn.MaxPool1d(2)),
        *(nn.Conv1d(4, 4, 3, padding=1), nn.Tanh(), nn.MaxPool1d(2)),
        *(nn.Flatten(), nn.Linear(4, 3)),
    )
    x = drawn(6, 5, 3)
    torch.testing.assert_close(outputs(program, state, x), reference(x.transpose(1, 2)), rtol=1e-4, atol=1e-5)


def test_tokens_become_vectors_and_padding_zeros():
    """A row of the table for every id, zeros for id 0, whose row has no gradient."""
    layer = TokenEmbedding(5, 4, torch.tensor([1, 2, 3, 4]))
    ids = torch.tensor([[2, 4, 0, 0]], dtype=torch.int16)
    made = layer(ids)
    assert torch.equal(made[0, :2], layer.weight[[2, 4]])
    assert not made[0, 2:].any()
    (gradient,) = torch.autograd.grad(made.sum(), layer.weight)
    assert gradient.any(1).tolist() == [False, False, True, False, True]


def test_a_residual_convolution_adds_its_input():
    """h + tanh(W * h + b) where channels and size stay; the first, 3 to 4 channels, stays plain."""
    program, state = network(model__residual=True, model__pooling="none", activation="tanh")
    w1, b1, w2, b2, w3, b3 = program.views(state.params)
    x = drawn(5, 3, 6, 6)
    h = torch.tanh(functional.conv2d(x, w1, b1, padding=1))
    h = h + torch.tanh(functional.conv2d(h, w2, b2, padding=1))
    expected = functional.linear(h.flatten(1), w3, b3)
    torch.testing.assert_close(outputs(program, state, x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_resnet_has_the_papers_layers():
    """6 n + 2 weight layers of the published sizes: ResNet-20 on CIFAR has 0.27 million parameters."""
    program, _ = network(model="resnet", model__channels=16, regularizer=["batch_norm"])
    found = sizes(program)
    weights = [shape for name, shape in found.items() if name.endswith("weight")]
    assert len(weights) == 20
    assert [w[0] for w in weights] == [16] * 7 + [32] * 6 + [64] * 6 + [3]
    assert sum(torch.Size(shape).numel() for shape in found.values()) == 269_722 + 3 * 65 - 650
    assert all(not name.endswith("linear.bias") for name in found if name.startswith("hidden"))


@pytest.mark.parametrize("pre", [False, True])
def test_a_resnet_block_is_the_papers(pre):
    """Behind: relu(h + W2 relu(W1 h)); pre-activation: h + W2 relu(W1 relu(h)). A new stage takes every
    second pixel and has zeros for the new channels."""
    program, state = network(
        model="resnet",
        model__channels=4,
        model__blocks=1,
        model__stages=2,
        model__pre_activation=pre,
        activation="relu",
    )
    w, b = program.views(state.params)[::2], program.views(state.params)[1::2]
    x = drawn(5, 3, 6, 6)
    relu, conv = torch.relu, lambda h, i, stride=1: functional.conv2d(h, w[i], b[i], stride, 1)
    if pre:
        h = conv(x, 0)
        h = h + conv(relu(conv(relu(h), 1)), 2)
        short = functional.pad(h[..., ::2, ::2], (0, 0, 0, 0, 0, 4))
        h = relu(short + conv(relu(conv(relu(h), 3, 2)), 4))
    else:
        h = relu(conv(x, 0))
        h = relu(h + conv(relu(conv(h, 1)), 2))
        short = functional.pad(h[..., ::2, ::2], (0, 0, 0, 0, 0, 4))
        h = relu(short + conv(relu(conv(h, 3, 2)), 4))
    expected = functional.linear(h.mean((2, 3)), w[5], b[5])
    torch.testing.assert_close(outputs(program, state, x), expected, rtol=1e-4, atol=1e-5)


def test_regularizers_stand_where_they_do_in_dense_layers():
    """Norms of channels in front of the activation, no bias before batch norm, dropout behind; dropped
    branches in blocks that keep their size."""
    program, _ = network(
        regularizer=["dropout", "batch_norm", "drop_path"], model__residual=True, model__pooling="none"
    )
    first, second = (list(program.module.hidden[i]._modules) for i in (1, 2))
    assert first == ["linear", "batch_norm", "activation", "dropout"]
    assert second == [*first, "drop_path"]
    assert "hidden.1.linear.bias" not in sizes(program)
    assert sizes(program)["hidden.1.batch_norm.scale"] == (4,)


@pytest.mark.parametrize(
    ("form", "changes", "sentence"),
    [
        ("image", {"model__depth": 3}, "3 x 6 x 6, and pooling number 3 finds 1 x 1"),
        ("sequence", {"model__depth": 3}, "5 x 3, and pooling number 3 finds 1 step,"),
        ("image", {"model__embedding": 4}, "image data, no tokens; set model.embedding=null"),
        ("image", {"model": "resnet", "model__stages": 4}, "needs 8 pixels a side; found 6 x 6"),
        ("image", {"model": "resnet", "activation": "glu"}, "take an activation that does"),
        ("image", {"model__channels": [4, 4, 4]}, "3 numbers for 2 convolutions"),
    ],
)
def test_what_leaves_nothing_or_has_no_effect_is_refused(form, changes, sentence):
    """The sentence says what was found and what to set."""
    with pytest.raises(ConfigError, match=sentence):
        network(SEQUENCE if form == "sequence" else IMAGE, form, **changes)


@pytest.mark.parametrize(("regularizer", "warned"), [([], True), (["batch_norm"], False)])
def test_a_resnet_without_a_normalization_is_warned_of(regularizer, warned):
    """The warning says what happens and names the option."""
    config = tiny(IMAGE | {"model": "resnet", "model.blocks": 1, "regularizer": regularizer})
    found = list(warnings(config, engine_of(config, tiny_data(form="image"))))
    assert any("grow from block to block; add regularizer=batch_norm" in one for one in found) == warned


def test_vectors_are_refused():
    """A table's rows have no neighbours."""
    with pytest.raises(ConfigError, match="takes images or sequences or texts, and data=spirals has rows"):
        tiny({"model": "convnet", "data": "spirals"})


VARIANTS = [
    {"model__channels": 5, "model__kernel_size": 2, "model__head": [6]},
    {"model__channels": 8, "model__pooling": "average", "model__global_pooling": "average"},
    {"regularizer": ["batch_norm", "dropout"], "model__residual": True},
    {"model": "resnet", "model__blocks": 1, "model__channels": 4, "regularizer": ["batch_norm"]},
]


@pytest.mark.slow
@pytest.mark.parametrize("changes", exhaustive_after(2, VARIANTS))
def test_a_members_bytes_do_not_depend_on_the_packs_size(changes):
    """Of packs of 2, 3 and 16: kernels may choose by the number of channels or groups, and must not."""
    same_in_packs(changed(IMAGE, changes))


@pytest.mark.exhaustive  # as training/test_compile.py, for other layers
@pytest.mark.filterwarnings("ignore")  # inductor's own, of many kinds
@pytest.mark.parametrize("changes", VARIANTS[1:])
def test_compiled_convnets_equal_eager_ones(changes):
    """Alone and in a pack within float32; and the compiled bytes do not depend on the pack's size."""
    torch.compiler.reset()
    base, data = changed(IMAGE, changes), tiny_data(form="image")
    if "regularizer" in base:  # without the noise of dropout, which is half of what is compiled
        base["regularizer"] = ["batch_norm"]
    made = [train(tiny(base | {"trainer.compile": True}, seed=0), data)]
    if base["model"] == "convnet":
        made.append(same_in_packs(base | {"trainer.compile": True}, sizes=(2, 3)))
    for key, tensor in train(tiny(base, seed=0), data).tensors().items():
        for other in made:
            # Fused operations round less often, and in another order.
            torch.testing.assert_close(other.tensors()[key], tensor, rtol=1e-3, atol=1e-5)


def test_a_pack_of_resnets_is_not_compiled():
    """Its bytes would depend on the pack's size: never by itself, and refused where it is asked for."""
    config = tiny(IMAGE | {"model": "resnet"})
    assert [can_compile(config, Pack(size)) for size in (1, 2)] == [True, False]
    with pytest.raises(ConfigError, match="cannot be compiled in a pack"):
        compile_pays(True, 1, Pack(2), able=False)


def same_in_packs(base, sizes=(2, 3, 16)):
    configs = [tiny(base, seed=seed) for seed in range(max(sizes))]
    data = tiny_data(form="image")
    packs = [train(configs[:size], data) for size in sizes]
    for k in range(3):
        found = [pack.bytes(k) for pack in packs if k < len(pack.members)]
        assert all(other == found[0] for other in found)
    return packs[-1]


@pytest.mark.slow
def test_half_precision_trains_packs_as_well():
    """Under bfloat16 a pack's convolutions run and stay near a member's own."""
    configs = [tiny(IMAGE | {"trainer.dtype": "bfloat16"}, seed=seed) for seed in (0, 1)]
    data = tiny_data(form="image")
    together, alone = train(configs, data).tensors(0), train(configs[0], data).tensors()
    for key, tensor in alone.items():
        # bfloat16 has 8 bits, and the two sum in another order.
        torch.testing.assert_close(together[key], tensor, rtol=0.1, atol=0.02)
