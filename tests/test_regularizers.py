"""Regularizers against torch.nn, autograd and their formulas; alone, in packs, traced."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch.nn import functional as F

from slipstream.errors import UserError
from slipstream.random import NOISE, make_key
from slipstream.registry import component, components
from slipstream.regularizers import batch_norm, layer_norm
from slipstream.testing import LAYOUT

CONFIGS = Path(__file__).parents[1] / "configs" / "regularizer"
OWN = [
    "l1",
    "l2",
    "elastic_net",
    "dropout",
    "alpha_dropout",
    "gaussian_noise",
    "batch_norm",
    "layer_norm",
    "label_smoothing",
    "gradient_clipping",
    "weight_decay",
    "max_norm",
    "ema",
]
KEY = make_key(7, NOISE)


def defaults(name: str) -> dict[str, Any]:
    return yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())


def regularizer(name: str) -> Callable[..., Any]:
    return component("regularizer", name)


def sample(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


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


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 3, 4), (2, 5)])
def test_batch_norm_equals_torch(shape: tuple[int, ...]) -> None:
    """Outputs, gradients and running values are torch.nn.BatchNorm's in both modes, to 1e-12 in float64."""
    kind = torch.nn.BatchNorm1d if len(shape) == 2 else torch.nn.BatchNorm2d
    theirs = kind(shape[1], eps=1e-3, momentum=0.2, dtype=torch.float64)
    theirs.weight.data, theirs.bias.data = sample(shape[1], seed=1), sample(shape[1], seed=2)
    scale, shift = theirs.weight.detach().clone(), theirs.bias.detach().clone()
    mean, var = torch.zeros_like(scale), torch.ones_like(scale)
    for seed in range(3):
        x = sample(*shape, seed=seed).requires_grad_()
        y, mean, var = batch_norm(x, scale, shift, mean, var, True, momentum=0.2, eps=1e-3)
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
    y, same_mean, same_var = batch_norm(x, scale, shift, mean, var, False, momentum=0.2, eps=1e-3)
    torch.testing.assert_close(y, theirs(x), rtol=1e-12, atol=1e-12)
    assert same_mean is mean
    assert same_var is var


def test_batch_norm_refuses_a_batch_of_one() -> None:
    """N10: one example has no variance: an error that names the setting; in evaluation it is fine."""
    one, zero = torch.ones(3), torch.zeros(3)
    with pytest.raises(UserError, match=r"batch_norm.*one example.*data\.batch_size"):
        batch_norm(torch.ones(1, 3), one, zero, zero, one, True, momentum=0.1, eps=1e-5)
    y, _, _ = batch_norm(torch.ones(1, 3), one, zero, zero, one, False, momentum=0.1, eps=1e-5)
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


def test_label_smoothing_equals_torch() -> None:
    """Cross-entropy with the smoothed targets is torch's cross_entropy(label_smoothing=...)."""
    logits, targets = sample(6, 4).float(), torch.tensor([0, 3, 1, 2, 2, 0])
    smooth = regularizer("label_smoothing")(targets, 4, amount=0.2)
    assert smooth.dtype == torch.float32
    expected = F.cross_entropy(logits, targets, label_smoothing=0.2)
    torch.testing.assert_close(F.cross_entropy(logits, smooth), expected)
    twice = regularizer("label_smoothing")(F.one_hot(targets, 4).float(), 4, amount=0.2)
    torch.testing.assert_close(twice, smooth)


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


def test_ema() -> None:
    """Without warm-up it is torch's AveragedModel average; with it the memory is (1 + t) / (10 + t) first."""
    average = expected = sample(5)
    theirs = torch.optim.swa_utils.get_ema_avg_fn(0.9)
    for t in range(1, 30):
        params = sample(5, seed=t)
        average = regularizer("ema")(average, params, t, decay=0.9, warmup=False)
        expected = theirs(expected, params, torch.tensor(t))
    torch.testing.assert_close(average, expected)
    zero, one = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    for t in (1, 10, 1000):
        found = regularizer("ema")(zero, one, t, decay=0.99, warmup=True)
        torch.testing.assert_close(found, one - min(0.99, (1 + t) / (10 + t)))


# What the engine calls each with: tensors of one member, and what is structure there.
X, VECTOR = sample(8, 5), sample(LAYOUT.size) * 3
CALLS: dict[str, tuple[tuple[Any, ...], tuple[Any, ...]]] = {
    "l1": ((VECTOR,), ()),
    "l2": ((VECTOR,), ()),
    "elastic_net": ((VECTOR,), ()),
    "dropout": ((X, KEY), ()),
    "alpha_dropout": ((X, KEY), ()),
    "gaussian_noise": ((X, KEY), ()),
    "batch_norm": ((X, *(sample(5, seed=k).abs() for k in range(4))), (True,)),
    "layer_norm": ((X, sample(5, seed=1), sample(5, seed=2)), ()),
    "label_smoothing": ((torch.tensor([0, 2, 1]),), (3,)),
    "gradient_clipping": ((VECTOR,), ()),
    "weight_decay": ((VECTOR, torch.tensor(0.1, dtype=torch.float64)), ()),
    "max_norm": ((VECTOR,), (LAYOUT,)),
    "ema": ((VECTOR, VECTOR.flip(0), torch.tensor(3.0, dtype=torch.float64)), ()),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", OWN)
def test_pack_equals_alone(name: str) -> None:
    """Members with different numbers, in one traced graph, equal themselves alone to 1e-6.

    The random numbers and one-hot targets are float32; all else here is float64.
    """
    settings = defaults(name)
    own = {
        n: torch.tensor([settings[n], settings[n] * 0.9, settings[n] * 0.5], dtype=torch.float64)
        for n in component("regularizer", name).numbers
    }
    structure = {n: v for n, v in settings.items() if n not in own}
    tensors, fixed = CALLS[name]
    function = regularizer(name)

    def call(tensors: tuple, own: dict) -> Any:
        return function(*tensors, *fixed, **own, **structure)

    stacked = tuple(t.expand(3, *t.shape).clone() for t in tensors)
    torch.compiler.reset()
    packed = torch.compile(torch.vmap(call), fullgraph=True, backend="eager")(stacked, own)
    for k in range(3):
        member = {n: float(v[k]) for n, v in own.items()}
        alone = call(tensors, member)
        found = torch.utils._pytree.tree_map(lambda t, k=k: t[k], packed)
        torch.testing.assert_close(found, alone, rtol=1e-6, atol=1e-6, check_dtype=False)
    assert own, "every regularizer has a number"


@pytest.mark.parametrize("name", OWN)
def test_member_does_not_depend_on_its_pack(name: str) -> None:
    """Eagerly in float32 a member's bytes are the same at every place and in every size of a pack."""
    function, settings = regularizer(name), defaults(name)
    tensors, fixed = CALLS[name]
    # Odd sizes, so that vectorised kernels have left-over elements; other values for every member.
    if tensors[0] is X:
        tensors = (sample(13, 7), *(t if t is KEY else sample(7, seed=5).abs() for t in tensors[1:]))
    tensors = tuple(t.float() if t.is_floating_point() else t for t in tensors)
    members = [tuple(t if t is KEY or t.dim() == 0 else t.roll(k, 0) for t in tensors) for k in range(7)]

    def run(order: list[int]) -> torch.Tensor:
        stacked = [torch.stack([members[k][i] for k in order]) for i in range(len(tensors))]
        out = torch.vmap(lambda *t: function(*t, *fixed, **settings))(*stacked)
        parts = out if isinstance(out, tuple) else (out,)
        return torch.cat([part.reshape(len(order), -1) for part in parts], dim=1)

    whole = run(list(range(7)))
    for order in ([3, 0], [6, 3], [5, 6, 3], [1, 2, 4, 3, 0]):
        found = run(order)
        for place, k in enumerate(order):
            assert found[place].numpy().tobytes() == whole[k].numpy().tobytes(), (order, k)


def test_every_regularizer_has_its_yaml() -> None:
    """Each has a YAML that nests under its own name and has its settings and no others."""
    for name in OWN:
        text = (CONFIGS / f"{name}.yaml").read_text()
        assert text.startswith(f"# @package regularizer.{name}\n")
        assert list(yaml.safe_load(text)) == list(component("regularizer", name).settings)
        assert component("regularizer", name).traits["place"]
    assert set(OWN) <= set(components("regularizer"))
