"""Observations against plain numpy and torch, alone and in packs."""

import copy
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from harness import engine_of, tiny, tiny_data, train
from sampling import exhaustive_after, slow_after
from slipstream.core import registry
from slipstream.core.registry import register
from slipstream.models.functional import put_tensors
from slipstream.models.layers import Activity
from slipstream.training.observations import probe_rows
from slipstream.training.quantities import (
    at_ends,
    by_unit,
    course,
    lost,
    norm_of,
    rank,
    sample_places,
    saturated,
    similarity,
    statistics_gap,
)
from slipstream.training.step import StepOutput


def observed(configs, data=None):
    """Name and values [K] of what the start of a pack looks like; the parameters before are 0."""
    configs = configs if isinstance(configs, list) else [configs]
    engine = engine_of(configs, data)
    state = engine.start()
    zero = torch.zeros(engine.pack.size).squeeze()
    seen = [StepOutput(zero, zero + 2.0, zero + 1.0), StepOutput(zero, zero + 4.0, zero + 0.5)]
    values = engine.observe(state, torch.zeros_like(state.params), seen).values
    return (
        engine,
        state,
        dict(zip(engine.observer.names, values.t() if len(configs) > 1 else values, strict=True)),
    )


class Own(torch.nn.Module):
    """A network as anybody writes it: an activation in place, batch normalization, dropout."""

    def __init__(self, size, outputs):
        super().__init__()
        layers = torch.nn.Linear(size, 6), torch.nn.BatchNorm1d(6), torch.nn.ReLU(inplace=True)
        self.backbone = torch.nn.Sequential(*layers, torch.nn.Dropout(0.3), torch.nn.Linear(6, 5))
        self.act, self.head = torch.nn.Tanh(), torch.nn.Linear(5, outputs)

    def forward(self, x):
        return self.head(self.act(self.backbone(x)))


class Shared(torch.nn.Module):
    """One activation called twice, one never, and a recurrent layer of torch's."""

    def __init__(self, size, outputs):
        super().__init__()
        self.first, self.second = torch.nn.Linear(size, 4), torch.nn.Linear(4, 6)
        self.act, self.unused = torch.nn.Sigmoid(), torch.nn.ReLU()
        self.cell, self.head = torch.nn.GRU(6, 3, batch_first=True), torch.nn.Linear(3, outputs)

    def forward(self, x):
        x = self.act(self.second(self.act(self.first(x))))
        return self.head(self.cell(x[:, None])[0][:, -1])


@pytest.fixture(scope="module", autouse=True)
def registered():
    """The own networks of this file as model=test_own and model=test_shared, and gone afterwards."""
    register("model", "test_own")(lambda form, outputs: Own(form.size, outputs))
    register("model", "test_shared")(lambda form, outputs: Shared(form.size, outputs))
    yield
    for name in ("test_own", "test_shared"):
        del registry._components["model"][name]


MODELS = {
    "mlp": ("vector", {"model": "mlp", "model.depth": 2, "activation": "relu"}),
    "batch_norm": (
        "vector",
        {"model": "mlp", "model.depth": 2, "activation": "sigmoid", "regularizer": ["batch_norm"]},
    ),
    "perceptron": ("vector", {"model": "perceptron", "activation": "identity"}),
    "realmlp": ("vector", {"model": "realmlp", "activation": "mish"}),
    "tabm": ("vector", {"model": "tabm", "model.ensemble": 2, "activation": "relu"}),
    "convnet": ("image", {"model": "convnet", "model.channels": 4, "activation": "relu"}),
    "resnet": (
        "image",
        {"model": "resnet", "model.blocks": 1, "model.channels": 4, "regularizer": ["batch_norm"]},
    ),
    "simple": ("sequence", {"model": "rnn", "model.cell": "simple"}),
    "single operations": ("sequence", {"model": "rnn", "model.cell": "simple", "activation": "sigmoid"}),
    "lstm": ("sequence", {"model": "rnn", "model.cell": "lstm"}),
    "gru": ("sequence", {"model": "rnn", "model.cell": "gru", "regularizer": ["layer_norm"]}),
    "both ways": ("sequence", {"model": "rnn", "model.depth": 2, "model.bidirectional": True}),
    "tokens": ("tokens", {"model": "rnn", "model.cell": "lstm"}),
    "own": ("vector", {"model": "test_own", "activation": "relu"}),
}
every_model = pytest.mark.parametrize("name", slow_after(2, exhaustive_after(6, MODELS)))


def of(name, **more):
    """The configuration and the data of a model of the table."""
    form, changes = MODELS[name]
    source = {"image": "digits", "sequence": "adding_problem", "tokens": "text"}.get(form, "spirals")
    small = {"data": source, "data.batch_size": 12} | (
        {"data.path": str(Path(__file__).parent)} if source == "text" else {}
    )
    if form != "image" and changes["model"] not in ("perceptron", "test_own"):
        changes = {"model.width": 5} | changes
    return tiny(small | changes, **more), tiny_data(form=form)


def plain(engine, state):
    """The network as a module of plain torch with its own parameters, in evaluation mode."""
    module = copy.deepcopy(engine.program.infer.module)
    named = zip(engine.program.layout.names, engine.program.views(state.params), strict=True)
    put_tensors(module, dict(named) | state.buffers)
    return module.eval()


def last(value):
    """A layer's values as [rows, units] in numpy."""
    value = value[0] if isinstance(value, tuple) else value
    value = value.movedim(1, -1) if value.dim() == 4 else value
    return value.detach().flatten(0, -2).double().numpy().copy()


def group(values, name):
    """The values of a layer, by quantity."""
    return {
        q.rpartition("/")[2]: float(v) for q, v in values.items() if q.rpartition("/")[0] == f"layers/{name}"
    }


@every_model
def test_values_are_those_of_plain_torch_with_hooks(name):
    """Each layer of each model: hooks and autograd of a plain module, quantities by numpy in float64."""
    config, data = of(name)
    engine, state, values = observed(config, data)
    module, train = plain(engine, state), engine.parts["train"]
    named, kept = dict(module.named_modules()), {}
    layers = {q.split("/")[1] for q in values if q.endswith("/dead")}
    for layer in layers:
        inside = named[
            layer
            if "directions" in layer
            else f"{layer}.activation"
            if f"{layer}.activation" in named
            else layer
        ]
        inside.inplace = False
        inside.register_forward_hook(lambda _, i, o, key=layer: kept.update({key: (last(i[0]), last(o))}))
    halves = []
    for half in (slice(0, None, 2), slice(1, None, 2)):
        outputs = module(train.inputs[half])
        targets = train.targets[half]
        if outputs.dim() == 3:
            targets, outputs = targets.repeat_interleave(outputs.shape[1]), outputs.flatten(0, 1)
        loss = torch.nn.functional.cross_entropy(outputs, targets)
        found = torch.autograd.grad(loss, [p for p in module.parameters() if p.requires_grad])
        halves.append(dict(zip(engine.program.layout.names, found, strict=True)))
    module(train.inputs)
    assert len([q for q in values if q.endswith("/weight_norm")]) > 0
    for weight in [q.split("/")[1] for q in values if q.endswith("/weight_norm")]:
        mine, parameter = group(values, weight), dict(module.named_parameters())[weight].detach()
        mean, noise = ((halves[0][weight] + sign * halves[1][weight]) / 2 for sign in (1, -1))
        # Sums of 28 rows in another order; noise and mean may cancel.
        assert mine["gradient_norm"] == pytest.approx(float(mean.norm()), rel=1e-3, abs=1e-6)
        assert mine["gradient_noise"] == pytest.approx(float(noise.norm() / mean.norm()), rel=1e-2)
        assert mine["weight_norm"] == pytest.approx(float(parameter.norm()), rel=1e-5)
        assert mine["weight_zeros"] == pytest.approx(float((parameter == 0).double().mean()))
        assert mine["unit_similarity"] == pytest.approx(
            cosine(parameter.flatten(1).double().numpy()), rel=1e-4, abs=1e-6
        )
        assert mine["update_lost"] == 0
    for layer in layers:
        mine, (given, made) = group(values, layer), kept[layer]
        assert mine["dead"] == (made == 0).all(0).mean()
        assert mine["input_mean"] == pytest.approx(given.mean(), rel=1e-3, abs=1e-6)
        assert mine["input_std"] == pytest.approx(given.std(ddof=1), rel=1e-4)
        bounds = {"sigmoid": (0, 1), "tanh": (-1, 1)}.get(
            "tanh" if layer == "act" else config.activation.name
        )
        if bounds is None or "directions" in layer:
            assert math.isnan(mine["saturated"])
        else:
            edge = 0.02 * (bounds[1] - bounds[0])
            flat = ((made < bounds[0] + edge) | (made > bounds[1] - edge)).mean()
            assert mine["saturated"] == pytest.approx(flat)
        eigenvalues = np.linalg.eigvalsh(np.cov(made[:: -(-len(made) // 256)].T).reshape(made.shape[1], -1))
        directions = eigenvalues.sum() ** 2 / (eigenvalues**2).sum()
        assert mine["rank"] == pytest.approx(directions / min(256, *made.shape), rel=1e-3)


def cosine(w):
    """The largest absolute cosine of two of at most 256 rows."""
    w = w[:: -(-len(w) // 256)]
    cosines = np.abs((w @ w.T) / np.outer(*[np.linalg.norm(w, axis=1)] * 2))
    np.fill_diagonal(cosines, 0)
    return cosines.max()


@pytest.mark.slow
@every_model
def test_a_member_of_a_pack_is_observed_as_alone(name):
    """The same names in the same order, and values up to the rounding of vectorized products."""
    config, data = of(name, seed=1)
    other = of(name, seed=2)[0]
    engine, _, packed = observed([config, other], data)
    for k, one in enumerate((config, other)):
        alone_engine, _, alone = observed(one, data)
        assert list(alone) == list(packed) == alone_engine.observer.names == engine.observer.names
        assert len(set(alone)) == len(alone)
        for quantity, value in alone.items():
            same = pytest.approx(float(value), rel=1e-3, abs=1e-5, nan_ok=True)
            assert float(packed[quantity][k]) == same, quantity


@pytest.mark.slow
@every_model
def test_a_resumed_run_observes_the_same(name):
    """Interrupted within the second epoch: that epoch's observation is the same to the bit."""
    config, data = of(name)
    whole = train(config, data).members[0].observations
    again = train(config, data, resume=train(config, data, interrupt_after=4)).members[0].observations
    assert [seen["epoch"] for seen in whole] == [1, 2]
    assert again == whole[1:]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # inductor's own, of many kinds
@pytest.mark.parametrize("members", [1, 3])
def test_a_compiled_run_is_observed_as_an_eager_one(members):
    """Alone and as a pack in blocks that overwrites its state; kernels that round in another way."""
    changes = {"model.depth": 2, "regularizer": ["batch_norm", "l2"]}
    seen = [
        [
            m.observations
            for m in train(
                [tiny(changes, seed=k, **{"trainer.compile": how}) for k in range(members)]
            ).members
        ]
        for how in (True, False)
    ]
    for compiled, eager in zip(*seen, strict=True):
        for one, other in zip(compiled, eager, strict=True):
            assert list(one) == list(other)
            for quantity, value in one.items():
                assert value == pytest.approx(other[quantity], rel=1e-2, abs=1e-4), quantity


def test_what_the_updates_of_an_epoch_tell():
    values = observed(tiny())[2]
    assert {q[8:]: float(v) for q, v in values.items() if q.startswith("updates/")} == {
        "first_objective": 1.0,
        "mean_objective": 0.75,
        "last_objective": 0.5,
        "objective_change": 0.5,
        "objective_slope": -0.5,
        "objective_turns": 0.0,
        "late_spread": 0.0,
        "mean_gradient_norm": 3.0,
        "largest_gradient_norm": 4.0,
        "clipped_share": 0.0,
        "gradient_left_by_clipping": 1.0,
        "unchanged_weights": 0.0,
    }


def test_the_course_of_objectives():
    falling, slope = torch.linspace(3, 1, 41), pytest.approx(-2.0)
    assert [float(v) for v in course(falling)] == [slope, 0.0, pytest.approx(np.std(falling.numpy()[-10:]))]
    zigzag = torch.tensor([1.0, 2.0] * 20)
    assert float(course(zigzag)[1]) == 1.0
    assert float(course(zigzag)[2]) == 0.5
    noise = torch.randn(4000, generator=torch.Generator().manual_seed(0))
    assert float(course(noise)[1]) == pytest.approx(2 / 3, abs=0.03)
    fitted = np.polyfit(np.linspace(0, 1, 4000), noise.numpy(), 1)[0]
    assert float(course(noise)[0]) == pytest.approx(fitted, abs=1e-4)
    assert [float(v) for v in course(torch.ones(1))] == [0, 0, 0]
    assert [float(v) for v in course(torch.tensor([1.0, 3.0]))] == [2, 0, 0]


@pytest.mark.parametrize("scale", [1e-12, 1e-25, 1e-35])
def test_vanishing_values_keep_their_ratios(scale):
    """Their squares are 0 in float32."""
    values = torch.randn(12, 5, 3, generator=torch.Generator().manual_seed(0))
    outputs = values.flatten(1)
    assert float(rank(outputs * scale)) == pytest.approx(float(rank(outputs)), rel=1e-4)
    assert float(norm_of(outputs * scale)) == pytest.approx(scale * float(outputs.norm()), rel=1e-4)
    begin, end = at_ends(values * scale)
    assert float((begin / end).sqrt()) == pytest.approx(float(values[0].norm() / values[-1].norm()), rel=1e-4)
    assert rank(torch.full((7, 5), 0.1) * scale) == 0


@pytest.mark.parametrize("cell", slow_after(1, ["simple", "lstm", "gru"]))
def test_how_much_gradient_reaches_the_first_step(cell):
    """Of the loss by the inputs of each step, by autograd: at the first over at each example's last."""
    config, data = (
        tiny({"data": "adding_problem", "model": "rnn", "model.cell": cell}),
        tiny_data(form="sequence"),
    )
    engine, state, values = observed(config, data)
    x = engine.parts["train"].inputs.clone().requires_grad_()
    torch.nn.functional.cross_entropy(plain(engine, state)(x), engine.parts["train"].targets).backward()
    gradient, lengths = x.grad[..., :-1], x[..., -1].sum(1).long()  # the last channel is the mask
    begin, end = gradient[:, 0].norm(), gradient[torch.arange(len(x)), lengths - 1].norm()
    (found,) = [float(v) for q, v in values.items() if q.endswith("/first_step_gradient")]
    assert found == pytest.approx(float(begin / end), rel=1e-3)
    assert 0 < found < 1


def test_running_statistics_are_held_against_the_probe():
    engine, state, values = observed(tiny({"regularizer": ["batch_norm"]}))
    given = plain(engine, state).get_submodule("hidden.0.linear")(engine.parts["train"].inputs)
    given = given.detach().double().numpy()  # the running mean is 0 and the variance 1
    expected = np.abs(given.mean(0)) + np.abs(np.log(given.std(0)))
    assert float(values["layers/hidden.0.batch_norm/statistics_gap"]) == pytest.approx(
        expected.mean(), rel=1e-3
    )
    agreed = statistics_gap(torch.randn(9, 2), torch.zeros(2), torch.ones(2))
    assert float(agreed) > 0
    x = torch.randn(9, 2)
    assert float(statistics_gap(x, x.mean(0), x.var(0, unbiased=False))) == pytest.approx(0, abs=1e-6)


@pytest.mark.slow
def test_updates_that_rounding_removes_and_weights_that_stay():
    """With a rate of 1e-12 no weight moves; a frozen one is counted too."""
    changes = {"model.depth": 2, "optimizer.lr": 1e-12, "trainer.freeze": ["hidden.0.*"]}
    seen = train(tiny(changes)).members[0].observations[-1]
    lost_shares = [value for name, value in seen.items() if name.endswith("/update_lost")]
    assert lost_shares == [1.0, 1.0]
    assert seen["updates/unchanged_weights"] == 3
    seen = train(tiny({"model.depth": 2, "trainer.freeze": ["hidden.0.*"]})).members[0].observations[-1]
    assert seen["updates/unchanged_weights"] == 1
    weight, gradient = torch.tensor([1.0, 0.0, 2.0, 3.0]), torch.tensor([1.0, 1.0, 0.0, 1.0])
    assert float(lost(weight, torch.tensor([1.0, 0.0, 2.0, 2.0]), gradient)) == 0.5


def test_statistics_of_averaged_weights():
    """schedule_free evaluates an average of the weights, with statistics of the weights that it trains."""
    changes = {"regularizer": ["batch_norm"], "optimizer": "schedule_free", "optimizer.lr": 1.0}
    run = train(tiny(changes))
    engine, (average, buffers) = run.engine, run.engine.evaluated(run.progress.state)
    module = plain(engine, run.progress.state._replace(params=average, buffers=buffers))
    given = module.get_submodule("hidden.0.linear")(engine.parts["train"].inputs).detach().double()
    mean, variance = (buffers[f"hidden.0.batch_norm.running_{of}"].double() for of in ("mean", "var"))
    shift = (given.mean(0) - mean).abs() / (variance + 1e-5).sqrt()
    stretch = 0.5 * ((given.var(0, unbiased=False) + 1e-5) / (variance + 1e-5)).log().abs()
    seen = run.members[0].observations[-1]
    found = seen["layers/hidden.0.batch_norm/average_statistics_gap"]
    assert found == pytest.approx(float((shift + stretch).mean()), rel=1e-3)
    assert found != pytest.approx(seen["layers/hidden.0.batch_norm/statistics_gap"], rel=1e-3)


@pytest.mark.parametrize(
    "changes",
    [
        {"regularizer": ["ema"]},
        {"regularizer": ["swa"], "regularizer.swa.start": 0.0},
        {"regularizer": ["lookahead"]},
        {"optimizer": "schedule_free"},
    ],
    ids=str,
)
def test_the_distance_of_averaged_weights(changes):
    run = train(tiny(changes | {"optimizer.lr": 0.5, "trainer.max_epochs": 4}))
    state = run.progress.state
    average, _ = run.engine.evaluated(state)
    expected = float((average - state.params).norm() / state.params.norm())
    assert run.members[0].observations[-1]["updates/average_distance"] == pytest.approx(expected, rel=1e-5)
    assert expected > 0


@pytest.mark.parametrize(
    "changes", [{}, {"regularizer": ["snapshot_ensemble"], "regularizer.snapshot_ensemble.cycles": 2}]
)
def test_without_one_average_there_is_no_distance(changes):
    assert "updates/average_distance" not in train(tiny(changes)).members[0].observations[0]


def test_the_rate_in_its_schedule():
    seen = train(tiny({"scheduler": "cosine", "trainer.max_epochs": 3})).members[0].observations
    factors = [line["updates/lr_factor"] for line in seen]
    assert 1 > factors[0] > factors[-1] > 0


@pytest.mark.slow
def test_samples_are_entries_of_the_tensors():
    """Gradients and last updates of each parameter, inputs and outputs of each layer; NaN fills them up."""
    config = tiny({"model.width": 3000, "activation": "relu"})
    engine = engine_of([config, replace(config, seed=3)])
    state = engine.start()
    zero = torch.zeros(2)
    found = engine.observe(
        state, state.params * 0.5, [StepOutput(zero, zero + 1, zero + 1)], samples=True
    ).samples[1]
    named = dict(zip(engine.observer.sampled, found, strict=True))
    params = engine.program.layout.unflatten(state.params[1])
    assert list(named) == [
        *(f"{kind}/{name}" for kind in ("gradients", "last_update") for name in params),
        *("layer_inputs/hidden.0", "layer_outputs/hidden.0"),
    ]
    for name, weight in params.items():
        drawn = named[f"last_update/{name}"]
        drawn = drawn[~drawn.isnan()]
        assert len(drawn) == min(weight.numel(), 2048)
        assert torch.isin(drawn, weight * 0.5).all()
    columns = set((sample_places(3000 * 1024, torch.device("cpu")) % 1024).tolist())
    assert len(columns) > 600  # not the same few units again and again
    made = named["layer_outputs/hidden.0"]
    assert (made >= 0).all()
    assert torch.equal(made, named["layer_inputs/hidden.0"].clamp(min=0))


def test_each_call_of_a_layer_is_observed():
    engine, state, values = observed(tiny({"model": "test_shared", "activation": "relu"}))
    layers = [q.split("/")[1] for q in values if q.endswith("/dead")]
    assert layers == ["act", "act.2", "cell"]
    module, x = plain(engine, state), engine.parts["train"].inputs
    first = module.first(x)
    assert float(values["layers/act/input_mean"]) == pytest.approx(float(first.mean().detach()), rel=1e-4)
    second = module.second(torch.sigmoid(first))
    assert float(values["layers/act.2/input_mean"]) == pytest.approx(float(second.mean().detach()), rel=1e-4)


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
    for c, name in enumerate("xyz"):
        assert float(values[f"probe/recall/{name}"]) == (found[y == c] == c).mean()
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
    assert float(values["probe/penalty"]) == pytest.approx(penalty, rel=1e-4)
    assert float(values["probe/penalty_share"]) == pytest.approx(penalty / (loss + penalty), rel=1e-4)


def test_clipping_by_norm_takes_from_updates():
    settings = {"regularizer.gradient_clipping.mode": "norm", "regularizer.gradient_clipping.max_norm": 3.0}
    values = observed(tiny({"regularizer": ["gradient_clipping"], **settings}))[2]  # norms of 2 and 4
    assert float(values["updates/clipped_share"]) == 0.5
    assert float(values["updates/gradient_left_by_clipping"]) == 0.875


def test_clipping_by_value_takes_from_entries_of_the_gradient():
    """Norms do not tell; the probe's gradient does."""
    settings = {"regularizer.gradient_clipping.mode": "value", "regularizer.gradient_clipping.max_norm": 0.05}
    engine, state, values = observed(tiny({"regularizer": ["gradient_clipping"], **settings}))
    module, part = plain(engine, state), engine.parts["train"]
    loss = torch.nn.functional.cross_entropy(module(part.inputs), part.targets)
    gradient = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(module.parameters()))])
    share = float((gradient.abs() > 0.05).double().mean())
    assert 0 < share < 1
    assert float(values["updates/clipped_share"]) == pytest.approx(share)
    left = float(gradient.clamp(-0.05, 0.05).norm() / gradient.norm())
    assert float(values["updates/gradient_left_by_clipping"]) == pytest.approx(left, rel=1e-4)


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
    found = engine.observe(state, state.params, seen).values
    values = dict(zip(engine.observer.names, found.tolist(), strict=True))
    assert values["updates/clipped_share"] == 0
    assert values["updates/gradient_left_by_clipping"] == 1
