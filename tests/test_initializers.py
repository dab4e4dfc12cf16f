"""Initial weights against torch.nn.init: the same distribution, the exact properties exactly."""

from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from scipy import stats

from slipstream.core import random
from slipstream.core.registry import component, components, shared_function
from slipstream.initializers import fans

CONFIGS = Path(__file__).parents[1] / "configs"
SHAPE = (48, 16, 3, 5)
KEY = random.make_key(7, random.INIT)
GAIN = 1.3

# Name, settings, torch's own with the same meaning.
RANDOM = [
    ("auto", {}, lambda w: w.normal_(std=GAIN / 240**0.5)),
    ("normal", {"std": 0.3}, lambda w: torch.nn.init.normal_(w, std=0.3)),
    ("uniform", {"bound": 0.3}, lambda w: torch.nn.init.uniform_(w, -0.3, 0.3)),
    ("truncated_normal", {"std": 0.3}, lambda w: torch.nn.init.trunc_normal_(w, std=0.3, a=-0.6, b=0.6)),
    ("xavier_normal", {}, lambda w: torch.nn.init.xavier_normal_(w, gain=GAIN)),
    ("xavier_uniform", {}, lambda w: torch.nn.init.xavier_uniform_(w, gain=GAIN)),
    ("lecun_normal", {}, lambda w: torch.nn.init.kaiming_normal_(w, nonlinearity="linear")),
    # torch's kaiming takes the gain from the activation's name: relu's is sqrt(2).
    *(
        (f"kaiming_{kind}", {"mode": mode}, lambda w, k=kind, m=mode: _kaiming(w, k, m))
        for kind in ("normal", "uniform")
        for mode in ("fan_in", "fan_out")
    ),
]


def _kaiming(w, kind, mode):
    function = getattr(torch.nn.init, f"kaiming_{kind}_")
    return function(w, mode=mode, nonlinearity="relu").mul_(GAIN / 2**0.5)


def make(name, shape=SHAPE, key=KEY, gain=GAIN, **settings):
    return component("initializer", name)(key, shape, gain, **settings)


@pytest.mark.parametrize(("name", "settings", "reference"), RANDOM)
def test_is_distributed_as_torchs(name, settings, reference):
    """Mean and deviation agree to 5 standard errors, and Kolmogorov-Smirnov finds no difference."""
    ours = make(name, **settings).flatten()
    torch.manual_seed(0)
    theirs = reference(torch.empty(SHAPE)).flatten()
    n, std = ours.numel(), theirs.std()
    assert ours.dtype == torch.float32
    assert abs(ours.mean()) < 5 * std / n**0.5
    # Of a sample of n normal numbers the deviation has standard error std / sqrt(2 n); both vary.
    assert abs(ours.std() - std) < 5 * std / n**0.5
    assert stats.ks_2samp(ours.numpy(), theirs.numpy()).pvalue > 1e-3


def test_every_initializer_is_compared():
    """No initializer goes untested: the random ones stand in the table, the others have a test each."""
    own = {"zeros", "constant", "orthogonal", "lsuv"}
    assert {name for name, *_ in RANDOM} | own == set(components("initializer"))


def test_uniform_and_truncated_values_stay_within_their_bounds():
    """No value lies beyond the bound, and some come within a percent of it."""
    for name, setting, bound in (("uniform", {"bound": 0.3}, 0.3), ("truncated_normal", {"std": 0.3}, 0.6)):
        largest = make(name, (1000, 100), **setting).abs().max()
        assert 0.99 * bound < largest <= bound * (1 + 1e-6), name  # one rounding of the product


def test_constants_are_exact():
    """zeros, constant and the biases hold their value in every place."""
    assert torch.equal(make("zeros"), torch.zeros(SHAPE))
    assert torch.equal(make("constant", value=-0.5), torch.full(SHAPE, -0.5))
    assert torch.equal(shared_function("initializer")((5,), bias=0.25), torch.full((5,), 0.25))
    assert component("initializer", "zeros").traits.warns
    assert component("initializer", "constant").traits.warns


@pytest.mark.parametrize("shape", [(6, 6), (4, 9), (9, 4), (3, 2, 5, 5), (50, 2, 3, 3)])
def test_orthogonal_rows_or_columns_are_orthonormal(shape):
    """W W' or W' W is gain^2 times the identity, whichever is smaller."""
    w = make("orthogonal", shape).flatten(1)
    square = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
    # float32 products of up to 50 terms
    torch.testing.assert_close(square, GAIN**2 * torch.eye(len(square)), rtol=0, atol=1e-5)


def test_orthogonal_equals_torchs_for_the_same_normal_numbers(monkeypatch):
    """Given the same normal draw, the weights are those of torch.nn.init.orthogonal_."""
    draw = random.normal(KEY, (9, 4))
    monkeypatch.setattr(torch.Tensor, "normal_", lambda self, *_, generator=None: self.copy_(draw))
    theirs = torch.nn.init.orthogonal_(torch.empty(9, 4), gain=GAIN)
    torch.testing.assert_close(make("orthogonal", (9, 4)), theirs)


@pytest.mark.slow
def test_orthogonal_matrices_have_no_preferred_sign():
    """The signs are free: over 400 draws each corner is as often positive as negative, to 5 errors."""
    keys = [random.make_key(seed, random.INIT) for seed in range(400)]
    signs = torch.stack([make("orthogonal", (3, 3), key).sign() for key in keys])
    assert signs.mean(0).abs().max() < 5 / 400**0.5


def test_lsuv_starts_orthogonal_whatever_the_gain():
    """lsuv leaves the scale to the data: its start is orthogonal with gain 1."""
    start = make("lsuv", (9, 4), gain=3.0, tolerance=0.1, max_iterations=10)
    assert torch.equal(start, make("orthogonal", (9, 4), gain=1.0))
    assert component("initializer", "lsuv").traits.data_dependent


def test_fans_are_torchs():
    """fan_in and fan_out are those that torch computes; a vector is no weight."""
    for shape in ((3, 4), (5, 2, 7), SHAPE):
        assert fans(shape) == torch.nn.init._calculate_fan_in_and_fan_out(torch.empty(shape))
    with pytest.raises(ValueError, match=r"\[out, in\], found shape \[4\]"):
        fans((4,))


def test_auto_fits_the_activation():
    """auto is He's initialization for relu and LeCun's for selu."""

    def weights(name, activation, **settings):
        return make(name, gain=component("activation", activation).traits.gain, **settings)

    assert torch.equal(weights("auto", "relu"), weights("kaiming_normal", "relu", mode="fan_in"))
    assert torch.equal(weights("auto", "selu"), weights("lecun_normal", "selu"))


@pytest.mark.parametrize("name", sorted(components("initializer")))
def test_a_pack_equals_its_members(name):
    """Members with different seeds, gains and numbers have in a pack the weights they have alone."""
    settings = dict(OmegaConf.load(CONFIGS / "initializer" / f"{name}.yaml"))
    del settings["name"]
    part, shape, seeds = component("initializer", name), (6, 4), range(3)
    structure = {k: settings[k] for k in part.own_settings if k not in part.numbers}
    numbers = {k: torch.tensor([settings[k] * (1 + i) for i in seeds]) for k in part.numbers}
    bias = numbers.pop("bias")
    keys = torch.stack([random.make_key(seed, random.INIT) for seed in seeds])
    gains = torch.tensor([1.0, 1.5, 2.0])

    def member(key, gain, numbers, bias):
        weight = part(key, shape, gain, **structure, **numbers)
        return weight, shared_function("initializer")((6,), bias=bias)

    packed = torch.vmap(member)(keys, gains, numbers, bias)
    for i in seeds:
        alone = member(keys[i], float(gains[i]), {k: float(v[i]) for k, v in numbers.items()}, float(bias[i]))
        for a, b in zip(packed, alone, strict=True):
            # A Python float scales in float64 before it is rounded, a tensor in float32.
            torch.testing.assert_close(a[i], b, rtol=1e-6, atol=1e-7)


def test_weights_depend_on_the_key_alone():
    """The same key gives the same bytes, whatever torch's own generator does; another key others."""
    first = make("normal", std=1.0)
    torch.manual_seed(123)
    assert torch.equal(first, make("normal", std=1.0))
    assert not torch.equal(first, make("normal", key=random.make_key(8, random.INIT), std=1.0))
