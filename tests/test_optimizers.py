"""Update rules against torch.optim or a plain transcription of the paper, alone, in packs, compiled."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from sampling import exhaustive_after, slow_after
from slipstream.core.registry import Component, component, components
from slipstream.core.traits import OptimizerTraits
from slipstream.core.types import Layout, UpdateContext
from slipstream.optimizers import evaluated, initial_state, weights_only
from slipstream.optimizers.base import maximum, minimum
from slipstream.optimizers.layerwise import orthogonalized
from slipstream.testing import LAYOUT, check_optimizer, descend, quadratic

CONFIGS = Path(__file__).parents[1] / "configs" / "optimizer"
RULES = sorted(components("optimizer"))
START = torch.cos(torch.arange(LAYOUT.size, dtype=torch.float64))


def defaults(name: str) -> dict:
    content = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    content = content.get("optimizer", content)
    assert content.pop("name") == name
    return content


@pytest.mark.parametrize("name", slow_after(1, RULES))
def test_contract(name: str) -> None:
    """With the settings of its YAML every rule keeps the contract that users' rules are held to."""
    check_optimizer(component("optimizer", name), **defaults(name))


@pytest.mark.slow
def test_contract_finds_faults() -> None:
    """The contract test fails for a rule that ascends, that changes its input, or that gives NaN."""
    faults = {
        "rose": lambda g, state, at, *, lr: (g * lr, {}),
        "in place": lambda g, state, at, *, lr: (g.mul_(-lr), {}),
        "NaN": lambda g, state, at, *, lr: (-lr * g / g.norm(), {}),
        "shape": lambda g, state, at, *, lr: (-lr * g[:, None], {}),
        "state changed": lambda g, state, at, *, lr: (-lr * g, {"m": g}),
    }
    for message, rule in faults.items():
        with pytest.raises(AssertionError, match=message):
            check_optimizer(Component("optimizer", "faulty", rule, OptimizerTraits(init=())), lr=0.01)


@pytest.mark.slow
def test_contract_finds_a_rule_that_branches_on_a_number() -> None:
    """The contract test fails for a rule that works alone and not in a pack."""

    def rule(g, state, at, *, lr: float):
        return (-lr * g if lr > 0 else g), {}

    with pytest.raises(RuntimeError, match="control flow"):
        check_optimizer(Component("optimizer", "branching", rule, OptimizerTraits(init=())), lr=0.01)


DECAY = {"beta1": 0.8, "beta2": 0.95, "eps": 1e-6}
BETAS = {"betas": (0.8, 0.95), "eps": 1e-6}
# name, our settings, the torch class, its settings, where torch has no decay for biases
TORCH = [
    ("gradient_descent", {"lr": 0.3}, torch.optim.SGD, {}),
    ("sgd", {"lr": 0.3}, torch.optim.SGD, {}),
    ("momentum", {"lr": 0.1, "momentum": 0.8}, torch.optim.SGD, {"momentum": 0.8}),
    ("nesterov", {"lr": 0.1, "momentum": 0.8}, torch.optim.SGD, {"momentum": 0.8, "nesterov": True}),
    ("adagrad", {"lr": 0.1, "eps": 1e-6}, torch.optim.Adagrad, {"eps": 1e-6}),
    ("adadelta", {"lr": 0.9, "rho": 0.8, "eps": 1e-4}, torch.optim.Adadelta, {"rho": 0.8, "eps": 1e-4}),
    ("rmsprop", {"lr": 0.02, "alpha": 0.9, "eps": 1e-6}, torch.optim.RMSprop, {"alpha": 0.9, "eps": 1e-6}),
    ("adam", dict(lr=0.02, **DECAY), torch.optim.Adam, BETAS),
    ("adamw", dict(lr=0.02, weight_decay=0.1, **DECAY), torch.optim.AdamW, dict(weight_decay=0.1, **BETAS)),
    ("amsgrad", dict(lr=0.02, **DECAY), torch.optim.Adam, dict(amsgrad=True, **BETAS)),
    ("adamax", dict(lr=0.02, **DECAY), torch.optim.Adamax, BETAS),
    (
        "nadam",
        dict(lr=0.02, momentum_decay=0.01, **DECAY),
        torch.optim.NAdam,
        dict(momentum_decay=0.01, **BETAS),
    ),
    ("radam", dict(lr=0.02, **DECAY), torch.optim.RAdam, BETAS),
    (
        "rprop",
        {"lr": 0.05, "shrink": 0.4, "grow": 1.3, "min_step": 0.2, "max_step": 4.0},
        torch.optim.Rprop,
        {"etas": (0.4, 1.3), "step_sizes": (0.01, 0.2)},
    ),
    (
        "asgd",
        {"lr": 0.1, "decay": 0.01, "power": 0.6, "start_step": 10},
        torch.optim.ASGD,
        {"lambd": 0.01, "alpha": 0.6, "t0": 10},
    ),
    (
        "adafactor",
        {"lr": 0.05, "decay_power": 0.7, "clip": 1.0, "eps": 1e-4, "min_scale": 0.01},
        torch.optim.Adafactor,
        {"beta2_decay": -0.7, "d": 1.0, "eps": (1e-4, 0.01)},
    ),
]


def by_torch(
    optimizer: type, settings: dict, lr: float, decays: bool
) -> tuple[torch.Tensor, torch.optim.Optimizer]:
    parts = {k: v.clone().requires_grad_() for k, v in LAYOUT.unflatten(START).items()}
    groups = [{"params": [parts[n]]} for n in LAYOUT.names]
    if decays:
        groups[1]["weight_decay"] = 0.0
    steps = optimizer(groups, lr=lr, **settings)
    for _ in range(50):
        steps.zero_grad()
        quadratic(torch.cat([p.flatten() for p in parts.values()])).backward()
        steps.step()
    return torch.cat([p.detach().flatten() for p in parts.values()]), steps


@pytest.mark.parametrize(("name", "settings", "optimizer", "theirs"), TORCH, ids=[row[0] for row in TORCH])
def test_equals_torch(name: str, settings: dict, optimizer: type, theirs: dict) -> None:
    """50 updates are torch.optim's to 1e-10 in float64 (the same arithmetic in another order)."""
    tolerance = 1e-8 if name in ("nadam", "asgd") else 1e-10  # torch keeps some of their numbers in float32
    rule = component("optimizer", name)
    params, state = descend(rule, settings, START)
    expected, steps = by_torch(optimizer, theirs, settings["lr"], decays="weight_decay" in settings)
    torch.testing.assert_close(params, expected, rtol=tolerance, atol=tolerance)
    assert (params - START).abs().max() > 0.05
    if name == "asgd":
        average = torch.cat([steps.state[g["params"][0]]["ax"].flatten() for g in steps.param_groups])
        torch.testing.assert_close(
            evaluated(rule, params, state, settings), average, rtol=tolerance, atol=tolerance
        )
        assert (average - params).abs().max() > 1e-3


# Transcriptions of papers in numpy, tensor by tensor: w and the gradient function at w.


def lion_paper(w, gradient, weights, *, lr, beta1, beta2, weight_decay):
    m = np.zeros_like(w)
    for _ in range(50):
        g = gradient(w)
        c = beta1 * m + (1 - beta1) * g
        w = w - lr * (np.sign(c) + weight_decay * w * weights)
        m = beta2 * m + (1 - beta2) * g
    return w


def lamb_paper(w, gradient, weights, *, lr, beta1, beta2, eps, weight_decay):
    m, v = np.zeros_like(w), np.zeros_like(w)
    edges = np.cumsum(LAYOUT.sizes)[:-1]
    for t in range(1, 51):
        g = gradient(w)
        m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g**2
        r = (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + eps) + weight_decay * w * weights
        parts = zip(np.split(w, edges), np.split(r, edges), LAYOUT.penalized, strict=True)
        w = np.concatenate(
            [a - lr * (np.linalg.norm(a) / np.linalg.norm(b) if kind else 1) * b for a, b, kind in parts]
        )
    return w


def schedule_free_paper(w, gradient, weights, *, lr, beta1, beta2, eps, weight_decay):
    z, x, v, total = w, w, np.zeros_like(w), 0.0
    for t in range(1, 51):
        y = (1 - beta1) * z + beta1 * x
        g = gradient(y)
        v = beta2 * v + (1 - beta2) * g**2
        z = z - lr * g / (np.sqrt(v / (1 - beta2**t)) + eps) - lr * weight_decay * y * weights
        total += lr**2
        x = (1 - lr**2 / total) * x + lr**2 / total * z
    return x


def muon_paper(w, gradient, weights, *, lr, momentum, weight_decay, steps, beta1, beta2, eps):
    m, v, buffer = np.zeros_like(w), np.zeros_like(w), np.zeros_like(w)
    edges = np.cumsum(LAYOUT.sizes)[:-1]
    for t in range(1, 51):
        g = gradient(w)
        m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g**2
        delta = -lr * (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + eps)
        buffer = momentum * buffer + (1 - momentum) * g
        ahead = (1 - momentum) * g + momentum * buffer
        pieces = []
        for shape, d, u, p in zip(
            LAYOUT.shapes, *(np.split(a, edges) for a in (delta, ahead, w)), strict=True
        ):
            if len(shape) == 2:
                x = u.reshape(shape) / np.linalg.norm(u)
                for _ in range(steps):
                    a = x @ x.T
                    x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
                d = -lr * (0.2 * np.sqrt(max(shape)) * x.ravel() + weight_decay * p)
            pieces.append(d)
        w = w + np.concatenate(pieces)
    return w


PAPERS = [
    ("lion", lion_paper, {"lr": 0.01, "beta1": 0.8, "beta2": 0.9, "weight_decay": 0.1}),
    ("lamb", lamb_paper, dict(lr=0.02, weight_decay=0.1, **DECAY)),
    ("schedule_free", schedule_free_paper, dict(lr=0.05, weight_decay=0.1, **DECAY)),
    ("muon", muon_paper, dict(lr=0.02, momentum=0.9, weight_decay=0.1, steps=5, **DECAY)),
]


@pytest.mark.parametrize(("name", "paper", "settings"), PAPERS, ids=[row[0] for row in PAPERS])
def test_equals_the_paper(name: str, paper, settings: dict) -> None:
    """50 updates are those of the paper's algorithm, written out in numpy, to 1e-9 in float64."""
    rule = component("optimizer", name)
    params, state = descend(rule, settings, START)
    scale = np.linspace(0, 1, LAYOUT.size)

    def gradient(w):
        return (0.5 + 1.5 * scale) * (w - (2 * scale - 1))

    weights = np.concatenate(
        [np.full(n, float(p)) for n, p in zip(LAYOUT.sizes, LAYOUT.penalized, strict=True)]
    )
    expected = paper(START.numpy(), gradient, weights, **settings)
    # Newton-Schulz amplifies rounding by up to 3.44 an iteration.
    np.testing.assert_allclose(
        evaluated(rule, params, state, settings).numpy(), expected, rtol=1e-9, atol=1e-9
    )


def test_muon_points_where_torch_points() -> None:
    """On matrices our step is torch.optim.Muon's, up to the bfloat16 in which torch iterates (3%)."""
    layout = Layout(("w",), ((6, 9),), (True,))
    w = torch.cos(torch.arange(54.0))
    gradient = torch.sin(torch.arange(54.0) ** 2)
    settings = defaults("muon") | {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1}
    rule = component("optimizer", "muon")
    delta, _ = rule(
        gradient, initial_state(rule, w, layout, settings), UpdateContext(1, w, layout), **settings
    )
    theirs = w.view(6, 9).clone().requires_grad_()
    theirs.grad = gradient.view(6, 9)
    options = {"momentum": 0.9, "weight_decay": 0.1, "adjust_lr_fn": "match_rms_adamw"}
    torch.optim.Muon([theirs], lr=0.1, **options).step()
    expected = theirs.detach().flatten() - w
    assert (delta - expected).norm() < 0.03 * expected.norm()


def test_orthogonalized_keeps_directions() -> None:
    """Singular vectors stay, singular values come to lie between 0.6 and 1.3, tall or wide."""
    generator = torch.Generator().manual_seed(1)
    for shape in ((8, 5), (5, 8)):
        matrix = torch.randn(shape, generator=generator, dtype=torch.float64)
        u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
        inner = u.T @ orthogonalized(matrix, 5) @ vh.T
        values = inner.diagonal()
        assert ((values > 0.6) & (values < 1.3)).all()
        assert (inner - values.diag()).abs().max() < 1e-9


def test_adafactor_treats_kernels_as_matrices() -> None:
    """A kernel [4, 2, 3, 3] is updated as the matrix [4, 18] is, and its state is rows plus columns."""
    rule, settings = component("optimizer", "adafactor"), defaults("adafactor")
    w = torch.cos(torch.arange(72, dtype=torch.float64))
    kernel, matrix = Layout(("w",), ((4, 2, 3, 3),), (True,)), Layout(("w",), ((4, 18),), (True,))
    one, state = descend(rule, settings, w, kernel, steps=5)
    other, _ = descend(rule, settings, w, matrix, steps=5)
    assert torch.equal(one, other)
    assert sum(t.numel() for t in state.values()) == 4 + 18


def test_muon_leaves_vectors_to_adam() -> None:
    """Without matrices Muon is Adam, up to rounding: alone, Adam is torch's fused kernel."""
    layout = Layout(("a", "b"), ((3,), (4,)), (False, False))
    start, settings = START[:7], defaults("muon")
    ours, _ = descend(component("optimizer", "muon"), settings, start, layout)
    adam = {name: settings[name] for name in ("lr", "beta1", "beta2", "eps")}
    expected, _ = descend(component("optimizer", "adam"), adam, start, layout)
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=0)  # float64, 50 updates


def test_lamb_moves_from_zero() -> None:
    """A layer of zeros takes Adam's step: its trust ratio is 1, not 0 or NaN."""
    rule, settings = component("optimizer", "lamb"), defaults("lamb")
    zeros = torch.zeros(LAYOUT.size, dtype=torch.float64)
    state = initial_state(rule, zeros, LAYOUT, settings)
    delta, _ = rule(torch.ones_like(zeros), state, UpdateContext(1, zeros, LAYOUT), **settings)
    torch.testing.assert_close(delta, torch.full_like(zeros, -settings["lr"]), rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", ["asgd", "schedule_free"])
def test_averages_answer_before_the_first_update(name: str) -> None:
    """Before any update the parameters to evaluate with are the initial ones."""
    rule, settings = component("optimizer", name), defaults(name)
    state = initial_state(rule, START, LAYOUT, settings)
    torch.testing.assert_close(evaluated(rule, START, state, settings), START)


@pytest.mark.parametrize("name", RULES)
def test_lr_scales_the_update(name: str) -> None:
    """lr is what a schedule can scale: half of it gives half the first update (adafactor: of its cap)."""
    rule, settings = component("optimizer", name), defaults(name)
    gradient = torch.sin(7 * START)

    def first(lr: float) -> torch.Tensor:
        state = initial_state(rule, START, LAYOUT, settings)
        return rule(gradient, state, UpdateContext(1, START, LAYOUT), **settings | {"lr": lr})[0]

    torch.testing.assert_close(first(settings["lr"] / 2) * 2, first(settings["lr"]), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", RULES)
def test_nan_passes_through(name: str) -> None:
    """A NaN in the gradient is seen in the update or in the state (torch's sign of NaN is 0)."""
    rule, settings = component("optimizer", name), defaults(name)
    gradient = torch.full_like(START, torch.nan)
    state = initial_state(rule, START, LAYOUT, settings)
    delta, state = rule(gradient, state, UpdateContext(1, START, LAYOUT), **settings)
    assert any(tensor.isnan().any() for tensor in (delta, *state.values()))


def pack_step(name: str):
    """A packed step of three members in float32 and its arguments, every number a member's own."""
    rule, settings = component("optimizer", name), defaults(name)
    own = {n: torch.tensor([settings[n]] * 3) for n in rule.numbers}
    structure = {n: v for n, v in settings.items() if n not in own}
    params = START.float()
    state = initial_state(rule, params, LAYOUT, settings)
    state = {n: t.expand(3, *t.shape).clone() for n, t in state.items()}

    def update(params, state, t, own):
        gradient = torch.func.grad(quadratic)(params)
        delta, state = rule(gradient, state, UpdateContext(t, params, LAYOUT), **structure, **own)
        return params + delta, state

    return torch.vmap(update), (params.expand(3, -1).clone(), state, torch.ones(3), own)


@pytest.mark.parametrize("name", RULES)
def test_pack_in_float32_equals_alone(name: str) -> None:
    """In float32 a packed step is the lone step to 1e-4 of its length.

    1 - 0.999 has a relative error of 6e-8 / 1e-3 in float32, of 1e-16 as a Python number.
    """
    step, (params, state, t, own) = pack_step(name)
    packed, _ = step(params, state, t, own)
    alone, _ = descend(component("optimizer", name), defaults(name), START.float(), steps=1)
    # Relative to the step, with the rounding of the sum params + delta beside it.
    tolerance = 1e-4 * (alone - START.float()).norm() + 1e-6
    assert (packed - alone).norm(dim=1).max() < tolerance


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", exhaustive_after(2, sorted(RULES, key=lambda name: name not in ("adam", "muon")))
)
def test_one_graph(name: str) -> None:
    """A packed step is traced as one graph, and the traced step gives the bytes of the untraced."""
    torch.compiler.reset()
    step, arguments = pack_step(name)
    traced = torch.compile(step, fullgraph=True, backend="eager")
    torch.testing.assert_close(traced(*arguments), step(*arguments), rtol=0, atol=0)


@pytest.mark.exhaustive  # training/test_compile.py has nadam in a whole step
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # from torch's own import of inductor
@pytest.mark.parametrize("name", ["adafactor", "adam", "rprop", "muon", "schedule_free"])
def test_compiled(name: str) -> None:
    """Compiled to machine code a packed step is the eager step to 1e-5 (other rounding, as fused)."""
    torch.compiler.reset()
    step, arguments = pack_step(name)
    compiled = torch.compile(step, fullgraph=True)
    torch.testing.assert_close(compiled(*arguments), step(*arguments), rtol=1e-5, atol=1e-6)


def test_weights_only() -> None:
    """Biases become zero and weights stay."""
    kept = LAYOUT.unflatten(weights_only(torch.ones(LAYOUT.size), LAYOUT))
    assert [bool(part.all()) for part in kept.values()] == list(LAYOUT.penalized)
    assert not kept["bias"].any()


def test_larger_and_smaller() -> None:
    """They are max and min, for numbers and for tensors."""
    for a, b in ((1.0, 2.0), (2, 1), (-3.0, 5.0), (torch.tensor(4.0), 2)):
        assert maximum(a, b) == max(a, b)
        assert minimum(a, b) == min(a, b)


def test_every_rule_has_its_yaml() -> None:
    """Every rule has a YAML, every YAML a rule, with the rule's settings and no others."""
    assert sorted(path.stem for path in CONFIGS.glob("*.yaml")) == RULES
    for name in RULES:
        assert list(defaults(name)) == list(component("optimizer", name).settings), name


@pytest.mark.parametrize("name", slow_after(3, RULES))
def test_member_does_not_depend_on_its_pack(name: str) -> None:
    """Eagerly in float32 a member's bytes are the same at every place and in every size of a pack."""
    layout = Layout(("w", "b", "v"), ((23, 11), (7,), (3, 23)), (True, False, True))  # P is odd
    rule, settings = component("optimizer", name), defaults(name)
    structure = {n: v for n, v in settings.items() if n not in rule.numbers}
    generator = torch.Generator().manual_seed(0)
    start, gradients = (torch.randn(n, 7, layout.size, generator=generator) for n in (1, 4))

    def update(params, state, g, t, own):
        delta, state = rule(g, state, UpdateContext(t, params, layout), **structure, **own)
        return params + delta, state

    def run(order: list[int]) -> torch.Tensor:
        params, n = start[0, order], len(order)
        own = {k: torch.full((n,), settings[k]) for k in rule.numbers}
        states = [initial_state(rule, p, layout, settings) for p in params]
        state = {k: torch.stack([s[k] for s in states]) for k in states[0]}
        for t, g in enumerate(gradients, 1):
            params, state = torch.vmap(update)(params, state, g[order], torch.full((n,), float(t)), own)
        return torch.cat([params, *(s.reshape(n, -1) for s in state.values())], dim=1)

    whole = run(list(range(7)))
    for order in ([3, 0], [6, 3], [5, 6, 3], [1, 2, 4, 3, 0]):
        found = run(order)
        for place, k in enumerate(order):
            assert found[place].numpy().tobytes() == whole[k].numpy().tobytes(), (order, k)
