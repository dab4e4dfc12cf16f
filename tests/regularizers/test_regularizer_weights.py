"""Decay, constraints and spectral normalization against torch."""

from __future__ import annotations

import pytest
import torch
from regularizing import regularizer, sample

from harness import engine_of, tiny, tiny_data, train
from slipstream.regularizers.weights import spectral_norm
from slipstream.testing import LAYOUT


def test_max_norm_equals_renorm() -> None:
    """Rows of weight matrices are torch.renorm's; biases, and rows of zeros, stay."""
    params = sample(LAYOUT.size) * 2
    params[:3] = 0
    found = LAYOUT.unflatten(regularizer("max_norm")(params, LAYOUT, limit=1.5))
    for name, part in LAYOUT.unflatten(params).items():
        expected = part if name == "bias" else torch.renorm(part, 2, 0, 1.5)
        # renorm divides by norm + 1e-7
        torch.testing.assert_close(found[name], expected, rtol=1e-6, atol=0)
        if name != "bias":
            assert found[name].norm(dim=1).max() <= 1.5 * (1 + 1e-12)


def test_unit_norm():
    """Every row of every weight is torch's normalize of it; biases, and rows of zeros, stay."""
    params = sample(LAYOUT.size) * 2
    params[:3] = 0
    found = LAYOUT.unflatten(regularizer("unit_norm")(params, LAYOUT))
    for name, part in LAYOUT.unflatten(params).items():
        expected = part if name == "bias" else torch.nn.functional.normalize(part, dim=1)
        torch.testing.assert_close(found[name], expected)
    assert (found["first"][0] == 0).all()
    run = train(tiny({"regularizer": ["unit_norm"]}), tiny_data())
    for part in run.engine.program.layout.unflatten(run.progress.state.params).values():
        if part.dim() > 1:
            torch.testing.assert_close(part.norm(dim=1), torch.ones(len(part)))


@pytest.mark.parametrize("shape", [(4, 7), (5, 3, 2, 2)])
def test_spectral_norm_equals_torch(shape):
    """Weight and u after each call, and the gradient, are those of torch's parametrization, to 1e-12, in both
    modes; torch's v is what ours makes of u."""
    from torch.nn.utils.parametrizations import spectral_norm as theirs

    layer = torch.nn.Linear(7, 4) if len(shape) == 2 else torch.nn.Conv2d(3, 5, 2)
    layer = layer.double()
    weight = sample(*shape)
    layer.weight.data = weight.clone()
    theirs(layer, n_power_iterations=2)
    part = layer.parametrizations.weight[0]
    u = part._u.clone()
    for training in (True, True, False):
        layer.train(training)
        part._v.copy_(torch.nn.functional.normalize(weight.flatten(1).T @ part._u, dim=0))
        expected = layer.weight
        leaf = weight.clone().requires_grad_()
        found, u = spectral_norm(leaf, u, training, iterations=2)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(u, part._u, rtol=1e-12, atol=1e-12)
        slopes = torch.autograd.grad((found**3).sum(), leaf)
        raw = layer.parametrizations.weight.original
        torch.testing.assert_close(
            *slopes, *torch.autograd.grad((expected**3).sum(), raw), rtol=1e-9, atol=1e-9
        )
        assert not u.requires_grad


def test_spectral_norm_finds_the_largest_singular_value():
    """After many iterations no direction is stretched by more than 1; a weight of zeros stays zero."""
    weight = sample(6, 9)
    found, _ = spectral_norm(weight, sample(6, seed=1), True, iterations=500)
    torch.testing.assert_close(torch.linalg.matrix_norm(found, 2), torch.tensor(1.0, dtype=torch.float64))
    zero, u = spectral_norm(0 * weight, sample(6, seed=1), True, iterations=3)
    assert (zero == 0).all()
    assert u.isfinite().all()


@pytest.mark.slow
def test_spectral_norm_acts_in_every_hidden_layer_and_not_in_the_last():
    """Networks have a vector u for each hidden layer, drawn from the seed, which moves in training."""
    config = tiny({"regularizer": ["spectral_norm"], "model.depth": 2})
    run = train(config, tiny_data())
    first, last = run.engine.start().buffers, run.progress.state.buffers
    assert [name for name in first if name.endswith(".u")] == ["hidden.0.linear.u", "hidden.1.linear.u"]
    assert all(not torch.equal(first[name], last[name]) for name in first)
    other = engine_of(tiny({"regularizer": ["spectral_norm"], "model.depth": 2}, seed=9)).start().buffers
    assert not torch.equal(first["hidden.0.linear.u"], other["hidden.0.linear.u"])
    assert not torch.equal(first["hidden.0.linear.u"], first["hidden.1.linear.u"])
