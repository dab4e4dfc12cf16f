"""Changes of the gradient against torch and their distribution."""

from __future__ import annotations

import pytest
import torch
from regularizing import KEY, regularizer, sample

from harness import tiny, tiny_data, train


@pytest.mark.slow
def test_gradient_clipping_equals_torch() -> None:
    """Both modes are torch.nn.utils.clip_grad_*_ (whose norm has 1e-6 added), below and above the bound."""
    for scale in (0.01, 10.0):
        g = sample(50) * scale
        for mode, theirs in (
            ("norm", torch.nn.utils.clip_grad_norm_),
            ("value", torch.nn.utils.clip_grad_value_),
        ):
            p = torch.zeros(50, dtype=torch.float64, requires_grad=True)
            p.grad = g.clone()
            theirs([p], 0.7)
            found = regularizer("gradient_clipping")(g, max_norm=0.7, mode=mode)
            torch.testing.assert_close(found, p.grad, rtol=2e-6, atol=0)
            assert torch.equal(found, g) == (scale == 0.01)


@pytest.mark.parametrize("mode", ["norm", "value"])
def test_gradient_clipping_at_the_edges(mode: str) -> None:
    """A zero gradient stays zero; a NaN is not clipped away."""
    zero = torch.zeros(3)
    assert torch.equal(regularizer("gradient_clipping")(zero, max_norm=1.0, mode=mode), zero)
    bad = regularizer("gradient_clipping")(torch.tensor([1.0, torch.nan]), max_norm=1.0, mode=mode)
    assert bad[1].isnan()


def test_gradient_noise_fades():
    """What is added has mean 0 and variance eta / t^gamma (5 standard errors), t as an int or a tensor."""
    g = sample(100_000)
    for t in (1, 10, torch.tensor(1000.0)):
        added = regularizer("gradient_noise")(g, KEY, t, eta=0.3, gamma=0.55) - g
        std = (0.3 / float(t) ** 0.55) ** 0.5
        assert abs(added.mean()) < 5 * std / len(g) ** 0.5
        assert abs(added.std() - std) < 5 * std / (2 * len(g)) ** 0.5
    assert torch.equal(regularizer("gradient_noise")(g, KEY, 3, eta=0.0, gamma=0.55), g)


@pytest.mark.slow
def test_gradient_noise_is_new_in_every_update_and_for_every_seed():
    """With no gradient to speak of, two updates of a run, and the first of two runs, move otherwise."""
    changes = {"regularizer": ["gradient_noise"], "regularizer.gradient_noise.gamma": 0.0}
    runs = [train(tiny(changes, seed=seed), tiny_data()) for seed in (0, 1)]
    engine = runs[0].engine
    state, numbers = engine.start(), engine.numbers
    key = numbers["keys"]["gradient_noise"]
    other = runs[1].engine.numbers["keys"]["gradient_noise"]
    assert key != other
    plan = engine.plan([0])
    after = [engine.step(state, plan.batches[0], 0.1, t)[0].params for t in (1, 2)]
    assert not torch.equal(*after)
