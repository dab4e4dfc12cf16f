"""Normalizations against torch.nn."""

from __future__ import annotations

import pytest
import torch
from regularizing import KEY, defaults, regularizer, sample
from torch.nn import functional as F

from harness import engine_of, tiny
from slipstream.core.errors import UserError
from slipstream.core.registry import component, keyword_only
from slipstream.regularizers.norms import batch_norm, group_norm, layer_norm


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 3, 4), (2, 5)])
@pytest.mark.parametrize("function", [batch_norm, component("regularizer", "batch_norm").traits.kernel])
def test_batch_norm_equals_torch(function, shape: tuple[int, ...]) -> None:
    """Outputs, gradients and running values are torch.nn.BatchNorm's in both modes, to 1e-12 in float64."""
    kind = torch.nn.BatchNorm1d if len(shape) == 2 else torch.nn.BatchNorm2d
    theirs = kind(shape[1], eps=1e-3, momentum=0.2, dtype=torch.float64)
    theirs.weight.data, theirs.bias.data = sample(shape[1], seed=1), sample(shape[1], seed=2)
    scale, shift = theirs.weight.detach().clone(), theirs.bias.detach().clone()
    mean, var = torch.zeros_like(scale), torch.ones_like(scale)
    for seed in range(3):
        x = sample(*shape, seed=seed).requires_grad_()
        y, mean, var = function(x, scale, shift, mean, var, True, momentum=0.2, eps=1e-3)
        expected = theirs(x)
        torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)
        slope = torch.autograd.grad((y**3).sum(), x)[0]
        torch.testing.assert_close(
            slope, torch.autograd.grad((expected**3).sum(), x)[0], rtol=1e-9, atol=1e-9
        )
        torch.testing.assert_close(mean, theirs.running_mean, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(var, theirs.running_var, rtol=1e-12, atol=1e-12)
        assert not mean.requires_grad
    theirs.eval()
    x = sample(*shape, seed=9)
    y, same_mean, same_var = function(x, scale, shift, mean, var, False, momentum=0.2, eps=1e-3)
    torch.testing.assert_close(y, theirs(x), rtol=1e-12, atol=1e-12)
    assert same_mean is mean
    assert same_var is var


@pytest.mark.parametrize("function", [batch_norm, component("regularizer", "batch_norm").traits.kernel])
def test_batch_norm_refuses_a_batch_of_one(function) -> None:
    """N10: one example has no variance: an error that names the setting; in evaluation it is fine."""
    one, zero = torch.ones(3), torch.zeros(3)
    with pytest.raises(UserError, match=r"batch_norm.*one example.*data\.batch_size"):
        function(torch.ones(1, 3), one, zero, zero, one, True, momentum=0.1, eps=1e-5)
    y, _, _ = function(torch.ones(1, 3), one, zero, zero, one, False, momentum=0.1, eps=1e-5)
    torch.testing.assert_close(y, torch.ones(1, 3), rtol=1e-4, atol=0)


def test_layer_norm_equals_torch() -> None:
    """On [N, C] it is F.layer_norm, on images F.group_norm with one group, to 1e-12 in float64."""
    scale, shift = sample(5, seed=1), sample(5, seed=2)
    x = sample(4, 5)
    expected = F.layer_norm(x, (5,), scale, shift, 1e-3)
    torch.testing.assert_close(layer_norm(x, scale, shift, eps=1e-3), expected, rtol=1e-12, atol=1e-12)
    x = sample(4, 5, 3, 2)
    expected = F.group_norm(x, 1, scale, shift, 1e-3)
    torch.testing.assert_close(layer_norm(x, scale, shift, eps=1e-3), expected, rtol=1e-12, atol=1e-12)


def test_half_precision_stays_half_precision() -> None:
    """bfloat16 activations come out as bfloat16, and normalization's statistics stay float32."""
    x = sample(64, 5).to(torch.bfloat16)
    for name in ("dropout", "alpha_dropout", "gaussian_noise"):
        assert regularizer(name)(x, KEY, **defaults(name)).dtype == torch.bfloat16
    one, zero = torch.ones(5), torch.zeros(5)
    y, mean, var = batch_norm(x, one, zero, zero, one, True, momentum=0.1, eps=1e-5)
    assert (y.dtype, mean.dtype, var.dtype) == (torch.bfloat16, torch.float32, torch.float32)
    assert layer_norm(x, one, zero, eps=1e-5).dtype == torch.bfloat16


@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 5), (4, 6, 3, 2)])
@pytest.mark.parametrize("groups", [1, 2, 3, 6])
def test_group_norm_equals_torch(shape, groups):
    """Values and gradients are F.group_norm's, to 1e-12 in float64 where a group has several values."""
    scale, shift = sample(6, seed=1), sample(6, seed=2)
    x = sample(*shape).requires_grad_()
    y, expected = (
        group_norm(x, scale, shift, groups=groups, eps=1e-3),
        F.group_norm(x, groups, scale, shift, 1e-3),
    )
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)
    slopes = [torch.autograd.grad((out**3).sum(), x)[0] for out in (y, expected)]
    torch.testing.assert_close(*slopes, rtol=1e-9, atol=1e-9)


def test_group_norm_names_the_groups_that_fit():
    """A layer that cannot be cut into so many groups is refused when the network is built."""
    changes = {"regularizer": ["group_norm"], "regularizer.group_norm.groups": 4, "model.width": 6}
    with pytest.raises(UserError, match=r"groups: 4 groups .* 6 channels; one of: 1, 2, 3, 6"):
        engine_of(tiny(changes))


@pytest.mark.parametrize("name", ["batch_norm", "layer_norm", "group_norm"])
def test_position_of_a_normalization(name):
    """`before` stands between weights and activation, `after` behind it; the default is before."""
    orders = {}
    for position in ("before", "after"):
        changes = {"regularizer": [name], f"regularizer.{name}.position": position, "model.width": 8}
        layers = dict(engine_of(tiny(changes)).program.module.hidden[0].named_children())
        orders[position] = [layer for layer in layers if layer in ("linear", "activation", name)]
    assert orders == {"before": ["linear", name, "activation"], "after": ["linear", "activation", name]}
    assert defaults(name)["position"] == "before"
    assert "position" not in keyword_only(regularizer(name).function)
