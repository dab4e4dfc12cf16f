"""Networks of a user's own making: state, randomness, freezing, rates, packs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from harness import engine_of, tiny, tiny_data, train
from ondisk import at_step, terminate
from slipstream.config import for_target
from slipstream.core import registry
from slipstream.core.errors import ConfigError
from slipstream.core.registry import register
from slipstream.runs.grouped import train_grouped
from slipstream.runs.session import OneByOne, _require_liftable, train_pack
from slipstream.training.lifting import DRAWS, why_alone, why_eager


class Stranger(nn.Module):
    """A network as anybody writes it: batch normalization, dropout, tied weights, a buffer nobody saves."""

    def __init__(self, size, outputs, width, dropout):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(size, width), nn.BatchNorm1d(width), nn.ReLU(inplace=True))
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)
        self.second.weight = self.first.weight
        self.drop, self.head = nn.Dropout(dropout), nn.Linear(width, outputs)
        self.register_buffer("gain", torch.tensor(0.5), persistent=False)

    def forward(self, x):
        x = self.backbone(x.flatten(1))
        x = torch.tanh(self.second(torch.tanh(self.first(x)))) * self.gain
        return self.head(self.drop(x))


def stranger(form, outputs, *, width: int = 6, dropout: float = 0.3):
    return Stranger(form.size, outputs, width, dropout)


def dense(form, outputs):
    return nn.Sequential(nn.Flatten(), nn.Linear(form.size, 5), nn.Tanh(), nn.Linear(5, outputs))


class Branching(nn.Linear):
    def forward(self, x):
        return super().forward(x) if x.sum() > 0 else -super().forward(x)


def branching(form, outputs):
    return Branching(form.size, outputs)


def config(dropout=0.3, **changes):
    return own("test_stranger", **{"model.width": 6, "model.dropout": dropout} | changes)


def why(config):
    """Why members of a configuration train alone, on the tiny data."""
    data = tiny_data()
    return why_alone(for_target(config, data.target), data)


def dense_config(**changes):
    return own("test_dense", **changes)


def own(model, **changes):
    """A tiny run of a network that brings its layers."""
    return tiny({"model": model, "activation": "relu", **changes})


@pytest.mark.slow
def test_training_is_that_of_a_plain_loop():
    """Without dropout, each update is torch's own: gradient through both tied places, running statistics."""
    trained = train(config(0.0, **{"trainer.max_epochs": 1, "optimizer.lr": 0.1}))
    engine = trained.engine
    torch.manual_seed(0)
    twin = Stranger(3, 3, 6, 0.0)
    start, names = engine.start(), dict(twin.named_parameters())
    with torch.no_grad():
        for name, value in engine.program.layout.unflatten(start.params).items():
            names[name].copy_(value)
    optimizer, data = torch.optim.SGD(twin.parameters(), lr=0.1), engine.parts["train"]
    for batch in engine.plan(0).batches:
        (rows,), (weights,) = batch.indices, batch.weights
        losses = nn.functional.cross_entropy(twin(data.inputs[rows]), data.targets[rows], reduction="none")
        optimizer.zero_grad()
        (losses @ weights).backward()
        optimizer.step()
    tensors = trained.tensors()
    for name, value in (*twin.named_parameters(), *twin.named_buffers()):
        # The same kernels, but a sum of gradients in another order.
        torch.testing.assert_close(tensors[f"weights/{name}"], value.detach(), rtol=1e-5, atol=1e-6)
    assert tensors["weights/backbone.1.num_batches_tracked"] == 3
    assert "weights/second.weight" not in tensors


def test_a_network_that_torch_cannot_transform_is_observed():
    """Its forward pass depends on the data; alone, plain autograd gives the gradients."""
    (member,) = train(own("test_branching")).members
    assert [seen["epoch"] for seen in member.observations] == [1, 2]
    assert member.observations[0]["layers/weight/gradient_norm"] > 0


@pytest.mark.slow
def test_branches_of_a_network_that_cannot_be_vectorized_train_one_by_one():
    configs = [replace(own("test_branching"), seed=seed) for seed in (1, 2)]
    ended = train_grouped(configs)
    assert [one.result.status for one in ended] == ["finished"] * 2
    assert not ended[0].trained.state["packed"]


@pytest.mark.slow
def test_runs_repeat_and_resume_to_the_byte():
    """Dropout is counted and statistics are saved: two runs, and one interrupted in an epoch, are equal."""
    whole = train(config()).bytes()
    torch.manual_seed(77)
    before = torch.get_rng_state()
    assert train(config()).bytes() == whole
    assert torch.equal(torch.get_rng_state(), before)
    first = train(config(), interrupt_after=4)
    assert train(config(), resume=first).bytes() == whole
    assert train(config(seed=1)).bytes() != whole
    assert train(config(0.6)).bytes() != whole


def test_the_first_values_are_the_networks_own_and_follow_the_seed():
    """They are what its constructor draws, another for each seed, whatever the process drew before."""
    starts = [engine_of(config(seed=seed)).start().params for seed in (0, 0, 1)]
    assert torch.equal(starts[0], starts[1])
    assert not torch.equal(starts[0], starts[2])
    bound = 3**-0.5  # of nn.Linear with three inputs
    assert starts[0][:18].abs().max() <= bound


def test_evaluation_neither_drops_nor_changes_statistics():
    """Predictions of one state are equal, and those of the module in evaluation mode."""
    trained = train(config())
    engine, best = trained.engine, trained.progress.best
    outputs = engine.predict(best, "val")
    assert torch.equal(outputs, engine.predict(best, "val"))
    assert not engine.program.infer.module.training
    assert engine.program.module.training


class Noisy(nn.Linear):
    def forward(self, x):
        return super().forward(x) + (float(np.random.rand()) if self.training else 0.0)


def noisy(form, outputs):
    return Noisy(form.size, outputs)


def test_numpys_generator_is_counted_too():
    """A network that draws from numpy repeats to the byte, and leaves numpy's generator as it was."""
    first = train(own("test_noisy")).bytes()
    np.random.seed(5)
    expected = np.random.RandomState(5).rand()
    assert train(own("test_noisy")).bytes() == first
    assert np.random.rand() == expected


def test_frozen_parameters_and_statistics_keep_their_bytes():
    """No gradient, no decay, no optimizer state: the vector that is trained has no place for them."""
    frozen = {"trainer.freeze": ["backbone.*"], "optimizer": "adamw", "optimizer.weight_decay": 0.1}
    trained = train(config(**frozen))
    start, tensors = trained.engine.start(), trained.tensors()
    for name in ("0.weight", "0.bias", "1.weight", "1.running_mean", "1.running_var"):
        assert torch.equal(tensors[f"weights/backbone.{name}"], start.buffers[f"backbone.{name}"]), name
    assert not torch.equal(tensors["weights/head.weight"], torch.zeros(3, 6))
    size = trained.engine.program.layout.size
    assert size == 36 + 6 + 6 + 21
    assert len(tensors["optimizer/rule.m"]) == size
    assert not any(layer.training for layer in trained.engine.program.module.backbone if "Norm" in str(layer))
    assert trained.bytes() == train(config(**frozen)).bytes()


def test_our_own_models_freeze_too():
    """A frozen hidden layer of an mlp keeps weights and the running statistics of batch_norm."""
    chosen = tiny({"regularizer": ["batch_norm"], "trainer.freeze": ["hidden.*"]})
    trained = train(chosen)
    start, tensors = trained.engine.start(), trained.tensors()
    kept = [name for name in start.buffers if name.startswith("hidden.")]
    assert {"hidden.0.linear.weight", "hidden.0.batch_norm.running_mean"} <= set(kept)
    for name in kept:
        assert torch.equal(tensors[f"weights/{name}"], start.buffers[name]), name
    assert [name.partition(".")[0] for name in trained.engine.program.layout.names] == ["output", "output"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"trainer.freeze": ["bakbone.*"]},
            r"trainer.freeze: no parameter is called 'bakbone.\*', did you mean backbone",
        ),
        ({"trainer.freeze": ["*"]}, "freezes all 9 parameter tensors"),
        ({"trainer.lr_factors": {"haed.weight": 2.0}}, "trainer.lr_factors: .* did you mean head.weight"),
        (
            {"trainer.freeze": ["head.*"], "trainer.lr_factors": {"head.*": 2.0}},
            "'head.\\*': all of it is frozen",
        ),
    ],
)
def test_patterns_that_have_no_effect_are_refused(changes, said):
    """With the nearest names."""
    with pytest.raises(ConfigError, match=said):
        engine_of(config(**changes))


def test_rates_by_pattern_scale_the_updates():
    """One step of plain SGD moves a tensor with factor 3 three times as far; the last pattern counts."""
    plain, scaled = (
        engine_of(dense_config(**changes)) for changes in ({}, {"trainer.lr_factors": {"*": 0.5, "3.*": 3.0}})
    )
    moved = []
    for engine in (plain, scaled):
        state = engine.start()
        after, _ = engine.step(state, engine.plan(0).batches[0], 0.1, 1)
        moved.append(engine.program.layout.unflatten(after.params - state.params))
    for name, factor in {"1.weight": 0.5, "1.bias": 0.5, "3.weight": 3.0, "3.bias": 3.0}.items():
        torch.testing.assert_close(moved[1][name], moved[0][name] * factor, rtol=1e-4, atol=1e-7)


def test_rates_by_pattern_are_refused_where_they_would_mislead():
    """schedule_free evaluates an average that factors would not move."""
    with pytest.raises(ConfigError, match=r"trainer.lr_factors: optimizer=schedule_free"):
        dense_config(optimizer="schedule_free", **{"trainer.lr_factors": {"3.*": 3.0}})


@pytest.mark.parametrize(
    "changes", [{}, {"trainer.freeze": ["1.*"]}, {"trainer.lr_factors": {"1.*": 0.1}}], ids=str
)
def test_what_vmap_lifts_trains_in_packs(changes):
    """A member's bytes are the same in packs of two and three; alone it differs by rounding only."""
    configs = [dense_config(seed=seed, **changes) for seed in range(3)]
    assert why(configs[0]) is None
    three, two = train(configs), train([configs[2], configs[0]])
    assert three.bytes(0) == two.bytes(1)
    assert three.bytes(2) == two.bytes(0)
    for name, value in train(configs[2]).tensors().items():
        # Sums in another order, twice three updates long.
        torch.testing.assert_close(three.tensors(2)[name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("width", [6, 8])
def test_batch_normalization_is_lifted_where_bytes_do_not_depend_on_the_place(width):
    """Statistics are state of each member; torch's kernel may round by the place, which a try finds."""
    chosen = [config(0.0, seed=seed, **{"model.width": width}) for seed in range(3)]
    if reason := why(chosen[0]):
        assert reason == "its last digits would depend on its place in the pack"
        return
    three, two = train(chosen), train([chosen[2], chosen[0]])
    assert three.bytes(2) == two.bytes(0)
    means = [three.tensors(k)["weights/backbone.1.running_mean"] for k in range(3)]
    assert not torch.equal(means[0], means[1])


def test_what_cannot_be_lifted_says_why():
    """Dropout of torch's generator, and a branch on values: packs of one, and no compiling."""
    data = tiny_data()
    dropping, branching = (for_target(one, data.target) for one in (config(), own("test_branching")))
    assert why_alone(dropping, data) == why_eager(dropping, data) == DRAWS
    assert why_alone(branching, data) == "it branches on the values of a tensor"
    assert why_eager(branching, data) is not None
    assert why(tiny()) is None
    with pytest.raises(OneByOne, match="model=test_stranger trains one run after another: it draws"):
        _require_liftable(dropping, data, 2)
    portable = replace(dropping, trainer=replace(dropping.trainer, portable=True))
    with pytest.raises(ConfigError, match=r"trainer.portable: .* model=test_stranger cannot be one"):
        _require_liftable(portable, data, 1)
    with pytest.raises(ConfigError, match=r"trainer.compile: model=test_stranger: it draws"):
        engine_of(config(**{"trainer.compile": True}))


def test_a_signal_ends_the_runs_that_would_have_come_after():
    """One after another as in a pack, every run has a result: interrupted, the later ones at their start."""
    keep = []
    with at_step(2, terminate):
        results = train_pack([config(seed=seed) for seed in range(3)], keep=keep)
    assert [(result.status, result.exit_code) for result in results] == [("interrupted", 143)] * 3
    assert [one.state["steps_into_epoch"] for one in keep] == [2, 1, 1]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"activation": "gelu"}, "activation=gelu: model=test_stranger brings its layers"),
        ({"initializer": "zeros"}, "initializer=zeros: model=test_stranger brings"),
        ({"initializer.bias": 0.1}, "initializer=auto: model=test_stranger brings"),
        ({"regularizer": ["dropout", "l2"]}, r"regularizer.dropout: is a layer, .* regularizer=\[l2\]"),
        ({"regularizer": ["gaussian_noise"]}, "regularizer.gaussian_noise: is a layer"),
        ({"model.weights_skip": ["head.*"]}, "model.weights_skip: there is no file"),
    ],
)
def test_what_its_layers_would_ignore_is_refused(changes, said):
    """Nothing in a configuration is ignored."""
    with pytest.raises(ConfigError, match=said):
        config(**changes)


def double(form, outputs):
    return nn.Linear(form.size, outputs).double()


def empty(form, outputs):
    return nn.Flatten()


def lazy(form, outputs):
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(4), nn.Tanh(), nn.Linear(4, outputs))


@pytest.mark.parametrize(
    ("name", "said"),
    [("test_double", "weight is float64, expected float32"), ("test_empty", "the network has no parameters")],
)
def test_networks_that_cannot_be_trained_are_refused(name, said):
    """A type that the flat vector lacks, and nothing to train."""
    with pytest.raises(ConfigError, match=f"model={name}: .*{said}"):
        engine_of(own(name))


def test_lazy_layers_get_their_shapes():
    """As from a first call."""
    assert engine_of(own("test_lazy")).program.layout.shapes[0] == (4, 3)


class Words(nn.Module):
    def __init__(self, words, outputs):
        super().__init__()
        self.words, self.head = nn.Embedding(words, 4), nn.Linear(4, outputs)

    def forward(self, ids):
        return self.head(self.words(ids).mean(1))


def words(form, outputs):
    return Words(form.vocabulary, outputs)


def test_tokens_arrive_as_ids_of_64_bits():
    """Whatever they are stored in: an nn.Embedding takes no 16 bits."""
    data = tiny_data(form="tokens")
    for split in (data.train, data.validation, data.test):
        object.__setattr__(split, "inputs", split.inputs.short())
    trained = train(own("test_words"), data)
    assert trained.members[0].status == "finished"


def test_images_are_scaled_before_a_network_that_brings_its_layers():
    """(x - offset) * factor of the data's scaling: the network sees what ours see."""
    data = tiny_data(form="image")
    engine = engine_of(own("test_dense"), data)
    x = data.validation.inputs
    state = engine.start()
    params = engine.program.layout.unflatten(state.params)
    found = engine.predict(engine.evaluated(state), "val")
    with torch.no_grad():
        hidden = torch.tanh(((x - 0.5) * 2).flatten(1) @ params["1.weight"].T + params["1.bias"])
        wanted = hidden @ params["3.weight"].T + params["3.bias"]
    scaled = engine.program.form.scaling is None  # without augmentation the data are scaled once
    assert scaled or torch.allclose(found, wanted, atol=1e-5)


def test_an_average_of_weights_averages_the_statistics_too():
    """regularizer=ema evaluates with running statistics that are averaged along."""
    trained = train(config(0.0, regularizer=["ema"]))
    named = trained.tensors()
    assert not torch.equal(named["best/backbone.1.running_mean"], named["weights/backbone.1.running_mean"])


def test_a_function_call_changes_nothing_that_was_passed_in():
    """Buffers that torch writes in place are copied first: a rolled back epoch finds its own."""
    engine = engine_of(config())
    state = engine.start()
    before = {name: buffer.clone() for name, buffer in state.buffers.items()}
    engine.step(state, engine.plan(0).batches[0], 0.1, 1)
    assert all(torch.equal(before[name], buffer) for name, buffer in state.buffers.items())
    assert "backbone.1.running_mean" in engine.program.forward.nature.writes


def test_memory_is_counted_without_data():
    """The network moves to the meta device, on which an engine counts."""
    from slipstream.training.backend.memory import predict

    data = tiny_data()
    assert predict(for_target(config(), data.target), [data], 1) > 0


@pytest.fixture(autouse=True, scope="module")
def registered():
    """The models of this file, which no other test shall see."""
    functions = (words, stranger, dense, branching, noisy, double, empty, lazy)
    for function in functions:
        register("model", f"test_{function.__name__}")(function)
    yield
    for function in functions:
        del registry._components["model"][f"test_{function.__name__}"]
