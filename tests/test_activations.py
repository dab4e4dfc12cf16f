"""Activations against torch's own, their gains against closed forms, and packs against lone members."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from omegaconf import OmegaConf

from sampling import slow_after
from slipstream.core.registry import component, components

CONFIGS = Path(__file__).parents[1] / "configs"
X = torch.linspace(-12, 12, 602).view(2, 7, 43)[..., :42]  # no zero, where torch's kinks differ
# A rounding or two in float32; the functions are computed by other operations than torch's.
TOLERANCE = {"rtol": 2e-6, "atol": 1e-6}

REFERENCES = [
    ("identity", {}, lambda x: x),
    ("sigmoid", {}, lambda x: 1 / (1 + torch.exp(-x))),
    ("tanh", {}, lambda x: 2 / (1 + torch.exp(-2 * x)) - 1),
    ("hard_tanh", {}, F.hardtanh),
    ("softsign", {}, lambda x: x / (1 + x.abs())),
    ("relu", {}, F.relu),
    ("leaky_relu", {"negative_slope": 0.2}, lambda x: F.leaky_relu(x, 0.2)),
    ("leaky_relu", {"negative_slope": -1.0}, torch.abs),
    ("softplus", {"beta": 0.5}, lambda x: F.softplus(x, 0.5)),
    ("elu", {"alpha": 0.7}, lambda x: F.elu(x, 0.7)),
    ("celu", {"alpha": 0.7}, lambda x: F.celu(x, 0.7)),
    ("selu", {}, F.selu),
    ("maxout", {"pieces": 3}, lambda x: x.view(2, 7, 3, 14).amax(-2)),
    ("gelu", {"approximate": "none"}, F.gelu),
    ("gelu", {"approximate": "tanh"}, lambda x: F.gelu(x, approximate="tanh")),
    ("silu", {}, lambda x: x * torch.sigmoid(x)),
    ("mish", {}, lambda x: x * torch.tanh(F.softplus(x))),
    ("relu6", {}, F.relu6),
    ("hard_sigmoid", {}, F.hardsigmoid),
    ("hard_swish", {}, F.hardswish),
    ("log_sigmoid", {}, lambda x: torch.log(torch.sigmoid(x))),
    ("squareplus", {"b": 4.0}, lambda x: (x + torch.sqrt(x**2 + 4)) / 2),
    # In float64: autograd's own sigmoid (1 - sigmoid) is coarse in float32 where the gate is open.
    ("glu", {}, lambda x: (x[..., :21] * torch.sigmoid(x[..., 21:].double())).float()),
    ("softmax", {}, lambda x: F.softmax(x, -1)),
    ("softmin", {}, lambda x: F.softmin(x, -1)),
]


def yaml(name):
    return {k: v for k, v in OmegaConf.load(CONFIGS / "activation" / f"{name}.yaml").items() if k != "name"}


def value_and_slope(function, x):
    x = x.clone().requires_grad_()
    y = function(x)
    (slope,) = torch.autograd.grad(y.square().sum(), x)
    return y.detach(), slope


def call(name, x, settings):
    """The activation of x; a learned parameter takes its initial value."""
    part = component("activation", name)
    learned = [torch.as_tensor(settings[s]) for s in part.traits.learned.values()]
    return part(x, *learned, **settings)


@pytest.mark.parametrize(("name", "settings", "reference"), REFERENCES)
def test_equals_its_formula_and_has_its_gradient(name, settings, reference):
    """Values and gradients are those of torch's function, or of the formula where torch has none."""
    ours = value_and_slope(lambda x: call(name, x, settings), X)
    theirs = value_and_slope(reference, X)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=5e-6)  # two formulas, 1 - tiny apart


def test_every_activation_has_a_reference():
    """No activation goes untested: all but prelu, which has its own test, stand in the table."""
    assert {name for name, *_ in REFERENCES} | {"prelu"} == set(components("activation"))


def test_prelu_learns_its_slope():
    """prelu equals torch's, and so does the gradient of its slope."""
    slope = torch.tensor(0.3, requires_grad=True)
    y = component("activation", "prelu")(X, slope, init=0.25)
    (mine,) = torch.autograd.grad(y.square().sum(), slope)
    weight = torch.tensor([0.3], requires_grad=True)
    theirs = F.prelu(X, weight)
    (reference,) = torch.autograd.grad(theirs.square().sum(), weight)
    torch.testing.assert_close(y, theirs)
    torch.testing.assert_close(mine, reference[0], rtol=1e-5, atol=0)  # a sum of 588 terms


@pytest.mark.parametrize("name", sorted(components("activation")))
def test_no_gradient_is_nan_far_out(name):
    """At plus and minus 1000, and at 0, values and gradients are finite."""
    x = torch.tensor([-1000.0, -100.0, 0.0, 0.0, 100.0, 1000.0])
    for tensor in value_and_slope(lambda x: call(name, x, yaml(name)), x):
        assert tensor.isfinite().all()


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("leaky_relu", {"negative_slope": (0.0, 0.01, 0.5)}),
        ("prelu", {"init": (0.0, 0.25, 0.5)}),
        ("softplus", {"beta": (0.5, 1.0, 5.0)}),
        ("elu", {"alpha": (0.5, 1.0, 2.0)}),
        ("celu", {"alpha": (0.5, 1.0, 2.0)}),
        ("squareplus", {"b": (0.1, 1.0, 4.0)}),
    ],
)
def test_a_pack_of_numbers_equals_its_members(name, settings):
    """Members with different numbers have in a pack the values and gradients they have alone."""
    (key, values), x = *settings.items(), X.flatten()

    def member(number):
        slope = torch.func.grad(lambda x: call(name, x, {key: number}).square().sum())
        return call(name, x, {key: number}), slope(x)

    packed = torch.vmap(member)(torch.tensor(values))
    for k, value in enumerate(values):
        for a, b in zip(packed, member(value), strict=True):
            torch.testing.assert_close(a[k], b, **TOLERANCE)


@pytest.mark.parametrize("name", sorted(components("activation")))
def test_every_activation_works_in_a_pack(name):
    """Under vmap, values and gradients are those of each member alone."""

    def member(x):
        slope = torch.func.grad(lambda x: call(name, x, yaml(name)).square().sum())
        return call(name, x, yaml(name)), slope(x)

    packed = torch.vmap(member)(X)
    for k, x in enumerate(X):
        for a, b in zip(packed, member(x), strict=True):
            torch.testing.assert_close(a[k], b, **TOLERANCE)


@pytest.mark.parametrize("name", sorted(components("activation")))
@pytest.mark.parametrize("width", slow_after(1, [6, 2, 14, 66, 100]))
def test_a_members_bytes_depend_neither_on_the_pack_nor_on_its_place(name, width):
    """Values and gradients of two members are the same bytes in packs of 2 and 7, first or last."""
    x = 3 * torch.randn(7, 5, width, generator=torch.Generator().manual_seed(0))

    def member(x):
        slope = torch.func.grad(lambda x: call(name, x, yaml(name)).square().sum())
        return call(name, x, yaml(name)), slope(x)

    packed = torch.vmap(member)(x)
    for pair in (slice(0, 2), slice(5, 7)):
        for a, b in zip(packed, torch.vmap(member)(x[pair]), strict=True):
            assert torch.equal(a[pair], b)


@pytest.mark.slow
def test_all_compile_in_a_pack_as_one_graph():
    """torch.compile takes the vmapped gradient of every activation without a graph break."""
    parts = [(part.function, yaml(name), part.traits) for name, part in components("activation").items()]

    def total(x):
        sizes = []
        for function, settings, traits in parts:
            learned = [x.new_tensor(settings[s]) for s in traits.learned.values()]
            sizes.append(function(x, *learned, **settings).square().sum())
        return sum(sizes)

    def member(x):
        return torch.func.grad(total)(x)

    compiled = torch.compile(torch.vmap(member), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(X), torch.vmap(member)(X), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("name", "settings"), [("maxout", {"pieces": 2}), ("glu", {}), ("softmax", {})])
def test_features_can_lie_on_any_axis(name, settings):
    """With `dim` the features may be the second axis of images as well as the last of rows."""
    part, images = component("activation", name), X[..., :12].reshape(2, 7, 2, 6).transpose(1, 3)
    last = part(images.movedim(1, -1), **settings).movedim(-1, 1)
    torch.testing.assert_close(part(images, 1, **settings), last)


@pytest.mark.parametrize("name", ["maxout", "glu"])
def test_the_width_factor_is_what_is_consumed(name):
    """width * factor features go in and width come out."""
    settings, factor = yaml(name), component("activation", name).traits.width_factor
    factor = factor(**settings) if callable(factor) else factor
    assert component("activation", name)(torch.ones(3, 5 * factor), **settings).shape == (3, 5)


# The gains


def gain(name, **settings):
    value = component("activation", name).traits.gain
    return value(**settings) if callable(value) else value


@pytest.mark.parametrize(
    ("name", "settings", "torch_name", "parameter"),
    [
        ("identity", {}, "linear", None),
        ("sigmoid", {}, "sigmoid", None),
        ("tanh", {}, "tanh", None),
        ("relu", {}, "relu", None),
        ("leaky_relu", {"negative_slope": 0.3}, "leaky_relu", 0.3),
        ("prelu", {"init": 0.3}, "leaky_relu", 0.3),
    ],
)
def test_customary_gains_are_torchs(name, settings, torch_name, parameter):
    """Where torch.nn.init.calculate_gain knows the activation, the gain is its."""
    assert gain(name, **settings) == pytest.approx(torch.nn.init.calculate_gain(torch_name, parameter))


def test_integrated_gains_meet_closed_forms():
    """1 / sqrt(E f(z)^2), known in closed form for five families."""

    def phi(z):
        return 0.5 * math.erfc(-z / 2**0.5)

    def elu(a):
        return (0.5 + a**2 * (math.e**2 * phi(-2) - 2 * math.e**0.5 * phi(-1) + 0.5)) ** -0.5

    assert gain("elu", alpha=1.5) == pytest.approx(elu(1.5), rel=1e-4)
    assert gain("celu", alpha=1.0) == pytest.approx(elu(1.0), rel=1e-4)
    assert gain("squareplus", b=4.0) == pytest.approx(1.5**-0.5, rel=1e-4)  # E = (2 E z^2 + b) / 4
    assert gain("maxout", pieces=2) == pytest.approx(1.0, rel=1e-4)
    assert gain("maxout", pieces=3) == pytest.approx((1 + 3**0.5 / (2 * math.pi)) ** -0.5, rel=1e-4)


@pytest.mark.parametrize("name", slow_after(3, sorted(components("activation"))))
def test_the_gain_keeps_the_signals_size(name):
    """Ten layers deep, the mean square before the activation stays near 1, custom and outputs apart."""
    if name in ("sigmoid", "tanh", "hard_sigmoid", "softmax", "softmin"):
        assert gain(name) in (1.0, 5 / 3)
        return
    part, settings = component("activation", name), yaml(name)
    factor = part.traits.width_factor
    factor = factor(**settings) if callable(factor) else factor
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(256, 512 * factor, generator=generator)
    for _ in range(10):
        std = gain(name, **settings) / 512**0.5
        x = call(name, x, settings) @ (torch.randn(512, 512 * factor, generator=generator) * std)
    # Finite width makes the size wander by some percent a layer; a gain wrong by 10 % gives 6.7.
    assert 0.6 < x.square().mean() < 1.6


def test_saturation_bounds_are_the_limits_of_the_output():
    """Outputs stay within `saturates` and come close to each finite bound."""
    x = torch.linspace(-2000, 2000, 40001)
    for name, part in components("activation").items():
        bounds = part.traits.saturates
        if bounds is None:
            continue
        y = call(name, x, yaml(name))
        low, high = bounds(**yaml(name)) if callable(bounds) else bounds
        assert y.min() >= low - 1e-6, name
        assert y.max() <= high + 1e-6, name
        for bound, reached in ((low, y.min()), (high, y.max())):
            assert math.isinf(bound) or abs(bound - reached) < 2e-3, name  # softsign is slow
