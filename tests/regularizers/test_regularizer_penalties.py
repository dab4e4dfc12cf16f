"""Penalties and their proximal updates against formulas, autograd and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from regularizing import regularizer, sample
from sklearn.linear_model import ElasticNet

from harness import tiny, tiny_data, train


@pytest.mark.slow
def test_penalties_and_their_gradients() -> None:
    """Values are the formulas, gradients by autograd are those of the lectures; l1's at zero is zero."""
    w = torch.tensor([1.0, -2.0, 0.0, 4.0], dtype=torch.float64)
    cases = {
        "l1": ({"strength": 0.5}, 0.5 * 7, 0.5 * w.sign()),
        "l2": ({"strength": 0.5}, 0.5 * 21, w),
        "elastic_net": ({"strength": 0.5, "ratio": 3.0}, 0.5 * (3 * 21 + 7), 0.5 * (6 * w + w.sign())),
    }
    for name, (settings, value, slope) in cases.items():
        slopes, found = torch.func.grad_and_value(lambda x, n=name, s=settings: regularizer(n)(x, **s))(w)
        torch.testing.assert_close(found, torch.tensor(value, dtype=torch.float64))
        torch.testing.assert_close(slopes, slope)


def test_l2_is_weight_decay_of_twice_the_strength_for_sgd() -> None:
    """A step of plain SGD with `l2` is the step with `weight_decay` of twice the strength."""
    w, g, lr = sample(9), sample(9, seed=1), 0.1
    through_loss = -lr * (g + torch.func.grad(lambda x: regularizer("l2")(x, strength=0.3))(w))
    beside = -lr * g + regularizer("weight_decay")(w, lr, strength=0.6)
    torch.testing.assert_close(through_loss, beside)


@pytest.mark.slow
def test_proximal_updates_minimize_what_they_stand_for():
    """Each minimizes |w - z|^2 / (2 lr) + penalty, found by golden-section search; biases stay."""
    z, lr = torch.linspace(-1, 1, 41, dtype=torch.float64), 0.5
    one = torch.ones_like(z)
    cases = {"l1": {"strength": 0.6}, "elastic_net": {"strength": 0.6, "ratio": 0.7}}
    for name, settings in cases.items():
        proximal = regularizer(name).traits.proximal
        found = proximal(z, one, lr, **settings)
        grid = torch.linspace(-1.5, 1.5, 30_001, dtype=torch.float64)[:, None]
        terms = settings["strength"] * (settings.get("ratio", 0) * grid**2 + grid.abs())
        best = ((grid - z) ** 2 / (2 * lr) + terms).argmin(0)
        torch.testing.assert_close(found, grid[best, 0], rtol=0, atol=2e-4)  # two steps of the grid
        assert (found == 0).sum() > 10
        assert torch.equal(proximal(z, 0 * one, lr, **settings), z)


@pytest.mark.slow
def test_proximal_descent_finds_scikit_learns_elastic_net():
    """Gradient steps with the proximal update end where coordinate descent does, with the same zeros."""
    draw = np.random.default_rng(0)
    x = draw.standard_normal((80, 12))
    y = x[:, :3] @ np.array([2.0, -1.0, 0.5]) + 0.1 * draw.standard_normal(80)
    alpha, share = 0.2, 0.8
    theirs = ElasticNet(alpha=alpha, l1_ratio=share, fit_intercept=False, tol=1e-12, max_iter=10**5).fit(x, y)
    settings = {"strength": alpha * share, "ratio": (1 - share) / (2 * share)}
    inputs, targets, w = torch.from_numpy(x), torch.from_numpy(y), torch.zeros(12, dtype=torch.float64)
    for _ in range(3000):
        w = w - 0.1 * inputs.T @ (inputs @ w - targets) / 80
        w = regularizer("elastic_net").traits.proximal(w, torch.ones_like(w), 0.1, **settings)
    torch.testing.assert_close(w, torch.from_numpy(theirs.coef_), rtol=0, atol=1e-8)
    assert torch.equal(w == 0, torch.from_numpy(theirs.coef_ == 0))
    assert (w == 0).any()


@pytest.mark.slow
def test_a_run_with_proximal_l1_makes_zeros_and_logs_their_share():
    """More strength, more exact zeros; the record has their share, of all and by layer; no bias is one."""
    shares = []
    for strength in (0.01, 0.5):
        changes = {"regularizer": ["l1"], "regularizer.l1.proximal": True, "trainer.max_epochs": 5}
        run = train(tiny(changes | {"regularizer.l1.strength": strength, "optimizer.lr": 0.1}), tiny_data())
        record, layout = run.members[0].records[-1], run.engine.program.layout
        parts = layout.unflatten(run.progress.state.params)
        weights = torch.cat([part.flatten() for part in parts.values() if part.dim() > 1])
        assert record["zeros/all"] == (weights == 0).double().mean()
        for name, part in parts.items():
            if part.dim() > 1:
                assert record[f"zeros/{name}"] == (part == 0).double().mean()
            else:
                assert f"zeros/{name}" not in record
                assert (part != 0).all()
        shares.append(record["zeros/all"])
    assert shares[0] < shares[1]
    assert shares[1] > 0.5


@pytest.mark.parametrize(
    "average",
    [{"regularizer": ["l1", "ema"]}, {"optimizer": "schedule_free"}, {"regularizer": ["l1", "swa"]}],
)
def test_the_share_of_zeros_is_that_of_the_weights_that_are_kept(average):
    """Where an average is evaluated and kept, the record is of it and not of what is trained."""
    changes = {"regularizer": ["l1"], "regularizer.l1.proximal": True, "trainer.max_epochs": 5}
    run = train(
        tiny(changes | {"regularizer.l1.strength": 0.5, "optimizer.lr": 0.1} | average),
        tiny_data(),
    )
    member, layout = run.members[0], run.engine.program.layout
    assert member.best_epoch > 0

    def share(params):
        parts = layout.unflatten(params.flatten())
        weights = torch.cat([part.flatten() for part in parts.values() if part.dim() > 1])
        return float((weights == 0).double().mean())

    kept = share(run.progress.best[0])
    assert member.records[member.best_epoch - 1]["zeros/all"] == kept
    assert kept != share(run.progress.state.params)


def test_activity_l2_is_the_mean_square_length_of_hidden_layers():
    """Of one layer strength times the mean over examples; in a run every hidden layer adds its own."""
    h = sample(6, 4, 3)
    found = regularizer("activity_l2")(h, strength=0.3)
    assert abs(float(found) - 0.3 * float((h**2).sum(dim=(1, 2)).mean())) < 1e-6
    data = tiny_data()
    changes = {"regularizer": ["activity_l2"], "model.depth": 2, "regularizer.activity_l2.strength": 0.5}
    engine = train(tiny(changes), data).engine
    program, state = engine.program, engine.start()
    _, buffers = program.forward(program.views(state.params), state.buffers, data.train.inputs)
    seen = []
    for layer in program.module.modules():
        if type(layer).__name__ == "Activation":
            layer.register_forward_hook(lambda _m, _x, out: seen.append(out))
    program.forward(program.views(state.params), state.buffers, data.train.inputs)
    expected = sum(0.5 * float((h**2).sum()) / len(h) for h in seen)
    assert len(seen) == len(program.activities) == 2
    assert abs(float(sum(buffers[name] for name in program.activities)) - expected) < 1e-5
