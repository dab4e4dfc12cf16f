"""Noise on inputs, hidden units and branches against its distribution."""

from __future__ import annotations

import pytest
import torch
from regularizing import KEY, regularizer, sample
from torch.nn import functional as F

from harness import tiny, tiny_data, train
from slipstream.core.errors import ConfigError
from slipstream.core.random import NOISE, make_key


@pytest.mark.slow
def test_dropout() -> None:
    """Units are zero at the given rate (5 standard errors), the others are scaled by 1 / (1 - rate)."""
    x = torch.ones(400, 500)
    for rate in (0.0, 0.3, 0.9):
        y = regularizer("dropout")(x, KEY, rate=rate)
        assert set(y.unique().tolist()) <= {0.0, float(torch.tensor(1 / (1 - rate)))}
        error = (rate * (1 - rate) / x.numel()) ** 0.5
        assert abs((y == 0).double().mean() - rate) <= 5 * error
    other = regularizer("dropout")(x, make_key(7, NOISE, time=1), rate=0.5)
    assert 0.49 < (other == regularizer("dropout")(x, KEY, rate=0.5)).double().mean() < 0.51


@pytest.mark.slow
def test_alpha_dropout() -> None:
    """Kept and dropped units take torch's two values, and SELU's mean 0 and variance 1 stay (1 %)."""
    torch.manual_seed(0)
    for rate in (0.1, 0.4):
        x = torch.full((1000,), 0.7)
        ours = regularizer("alpha_dropout")(x, KEY, rate=rate).unique()
        torch.testing.assert_close(ours, F.alpha_dropout(x, rate, training=True).unique())
        y = regularizer("alpha_dropout")(sample(1000, 300), KEY, rate=rate)
        assert abs(y.mean()) < 0.01
        assert abs(y.var() - 1) < 0.01


def test_gaussian_noise() -> None:
    """What is added has mean 0 and the given standard deviation (5 standard errors)."""
    x = sample(300, 400).float()
    added = regularizer("gaussian_noise")(x, KEY, std=0.2) - x
    assert abs(added.mean()) < 5 * 0.2 / x.numel() ** 0.5
    assert abs(added.std() - 0.2) < 5 * 0.2 / (2 * x.numel()) ** 0.5


def test_gaussian_dropout():
    """Units are multiplied by numbers of mean 1 and variance rate / (1 - rate) (5 standard errors)."""
    x = torch.full((300, 400), 2.0)
    for rate in (0.1, 0.5):
        factor = regularizer("gaussian_dropout")(x, KEY, rate=rate) / 2
        std = (rate / (1 - rate)) ** 0.5
        assert abs(factor.mean() - 1) < 5 * std / x.numel() ** 0.5
        assert abs(factor.std() - std) < 5 * std / (2 * x.numel()) ** 0.5
    assert torch.equal(regularizer("gaussian_dropout")(x, KEY, rate=0.0), x)


@pytest.mark.parametrize(("name", "axes"), [("spatial_dropout", 2), ("drop_path", 1)])
def test_what_shares_a_place_is_dropped_together(name, axes):
    """Whole channels, or whole examples, are zero at the rate (5 standard errors), or scaled alike."""
    x, rate = sample(500, 40, 3, 2).abs().float() + 0.1, 0.3
    factor = (regularizer(name)(x, KEY, rate=rate) / x).flatten(axes)
    first = factor[..., 0]
    torch.testing.assert_close(factor, first.unsqueeze(-1).expand_as(factor))
    assert abs((first == 0).double().mean() - rate) < 5 * (rate * (1 - rate) / first.numel()) ** 0.5
    torch.testing.assert_close(first[first > 0], torch.full_like(first[first > 0], 1 / (1 - rate)))


def test_spatial_dropout_of_a_dense_layer_is_dropout():
    """On [N, C] both have the same units and the same bytes."""
    x = sample(30, 20)
    found = regularizer("spatial_dropout")(x, KEY, rate=0.4)
    assert torch.equal(found, regularizer("dropout")(x, KEY, rate=0.4))


@pytest.mark.slow
def test_drop_path_leaves_out_residual_branches():
    """In training a dropped example passes a block unchanged; in evaluation every branch counts in full."""
    changes = {"model.residual": True, "model.depth": 2, "regularizer": ["drop_path"]}
    run = train(tiny(changes | {"regularizer.drop_path.rate": 0.6}), tiny_data())
    program, state = run.engine.program, run.progress.state
    block, x = program.module.hidden[1], sample(50, 5).float()
    program.module.load_state_dict(program.layout.unflatten(state.params) | state.buffers)
    with torch.no_grad():
        same = (block.train()(x) == x).all(dim=1)
        assert 10 < same.sum() < 45
        assert not (block.eval()(x) == x).all(dim=1).any()


def test_drop_path_needs_branches():
    """Where a network has no residual branches it is refused with a way to have them."""
    with pytest.raises(ConfigError, match=r"drop_path: drops residual branches.*model\.residual=true"):
        tiny({"regularizer": ["drop_path"]})
