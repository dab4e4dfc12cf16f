"""Losses against torch.nn.functional and scikit-learn, example by example; scores; packs."""

from pathlib import Path

import numpy as np
import pytest
import sklearn.metrics as sk
import torch
import torch.nn.functional as F
from omegaconf import OmegaConf
from scipy import special, stats

from sampling import slow_after
from slipstream.core.errors import ConfigError
from slipstream.core.registry import component, components
from slipstream.core.types import Target
from slipstream.losses import choose

CONFIGS = Path(__file__).parents[1] / "configs"
N = 37  # odd, so that vectorised kernels have left-over elements
TARGETS = {
    "binary": Target("binary", classes=("no", "yes")),
    "multiclass": Target("multiclass", classes=("a", "b", "c", "d")),
    "multilabel": Target("multilabel", names=("x", "y", "z")),
    "regression": Target("regression", names=("u", "v", "w")),
}
LOSSES = sorted(set(components("loss")) - {"auto"})
CASES = [(name, task) for name in LOSSES for task in component("loss", name).traits.tasks]


def yaml(name):
    return {
        k: v
        for k, v in OmegaConf.to_container(OmegaConf.load(CONFIGS / "loss" / f"{name}.yaml")).items()
        if k != "name"
    }


def targets_of(task, generator):
    if task == "regression":
        return torch.randn(N, 3, generator=generator)
    if task == "multilabel":
        return torch.randint(0, 2, (N, 3), generator=generator).float()
    return torch.randint(0, len(TARGETS[task].classes), (N,), generator=generator)


def problem(name, task, seed=0):
    """Outputs [N, C] as the loss asks for them, and targets."""
    generator = torch.Generator().manual_seed(seed)
    targets = targets_of(task, generator)
    count = component("loss", name).traits.outputs(TARGETS[task], **yaml(name))
    if name == "poisson_nll":
        targets = targets.abs().round()
    return 2 * torch.randn(N, count, generator=generator), targets


def signs(targets):
    return 2.0 * targets - 1


def crammer_singer(outputs, targets, margin):
    rows = []
    for row, y in zip(outputs.tolist(), targets.tolist(), strict=True):
        rows.append(max(0.0, margin + max(v for k, v in enumerate(row) if k != y) - row[y]))
    return torch.tensor(rows)


def focal(p_true, gamma):
    return -((1 - p_true) ** gamma) * p_true.log()


# (name, task): settings, and (outputs, targets) -> [N] by other means.
REFERENCES = {
    ("binary_cross_entropy", "binary"): (
        {},
        lambda o, t: torch.tensor(
            [sk.log_loss([y], [p], labels=[0, 1]) for y, p in zip(t, o.double().sigmoid()[:, 0])]
        ),
    ),
    ("binary_cross_entropy", "multilabel"): (
        {},
        lambda o, t: F.binary_cross_entropy(o.sigmoid(), t, reduction="none").mean(-1),
    ),
    ("cross_entropy", "binary"): (
        {},
        lambda o, t: -torch.from_numpy(special.log_softmax(o.numpy(), -1))[range(N), t],
    ),
    ("cross_entropy", "multiclass"): (
        {},
        lambda o, t: -torch.from_numpy(special.log_softmax(o.numpy(), -1))[range(N), t],
    ),
    ("kl_divergence", "binary"): ({}, lambda o, t: F.cross_entropy(o, t, reduction="none")),
    ("kl_divergence", "multiclass"): ({}, lambda o, t: F.cross_entropy(o, t, reduction="none")),
    ("focal", "binary"): (
        {"gamma": 1.5},
        lambda o, t: focal((o * (2 * t - 1)[:, None]).sigmoid()[:, 0], 1.5),
    ),
    ("focal", "multiclass"): ({"gamma": 1.5}, lambda o, t: focal(o.softmax(-1)[range(N), t], 1.5)),
    ("focal", "multilabel"): ({"gamma": 1.5}, lambda o, t: focal((o * (2 * t - 1)).sigmoid(), 1.5).mean(-1)),
    ("hinge", "binary"): ({"margin": 0.5}, lambda o, t: (0.5 - signs(t) * o[:, 0]).clamp(min=0)),
    ("hinge", "multiclass"): ({"margin": 0.5}, lambda o, t: crammer_singer(o, t, 0.5)),
    ("squared_hinge", "binary"): (
        {"margin": 1.0},
        lambda o, t: (1 - signs(t) * o[:, 0]).clamp(min=0) ** 2,
    ),
    ("squared_hinge", "multiclass"): ({"margin": 0.5}, lambda o, t: crammer_singer(o, t, 0.5) ** 2),
    ("mse", "binary"): ({"half": False}, lambda o, t: (o[:, 0] - t) ** 2),
    ("mse", "multiclass"): (
        {"half": True},
        lambda o, t: 0.5 * F.mse_loss(o, F.one_hot(t, 4).float(), reduction="none").mean(-1),
    ),
    ("mse", "multilabel"): ({"half": False}, lambda o, t: F.mse_loss(o, t, reduction="none").mean(-1)),
    ("mse", "regression"): ({"half": False}, lambda o, t: F.mse_loss(o, t, reduction="none").mean(-1)),
    ("mae", "regression"): ({}, lambda o, t: F.l1_loss(o, t, reduction="none").mean(-1)),
    ("huber", "regression"): (
        {"delta": 0.7},
        lambda o, t: F.huber_loss(o, t, reduction="none", delta=0.7).mean(-1),
    ),
    ("smooth_l1", "regression"): (
        {"beta": 0.7},
        lambda o, t: F.smooth_l1_loss(o, t, reduction="none", beta=0.7).mean(-1),
    ),
    ("log_cosh", "regression"): ({}, lambda o, t: (o - t).double().cosh().log().mean(-1)),
    ("poisson_nll", "regression"): ({}, lambda o, t: F.poisson_nll_loss(o, t, reduction="none").mean(-1)),
    ("gaussian_nll", "regression"): (
        {"eps": 0.1},
        lambda o, t: torch.from_numpy(-stats.norm.logpdf(t, o[:, :3], (o[:, 3:].exp() + 0.1).sqrt())).mean(
            -1
        ),
    ),
    ("quantile", "regression"): (
        {"quantiles": [0.2, 0.5]},
        lambda o, t: torch.tensor(
            [
                np.mean([sk.mean_pinball_loss(y, f[k::2], alpha=q) for k, q in enumerate([0.2, 0.5])])
                for y, f in zip(t.numpy(), o.numpy())
            ]
        ),
    ),
    ("cosine_similarity", "regression"): (
        {},
        lambda o, t: F.cosine_embedding_loss(o, t, torch.ones(N), reduction="none"),
    ),
}


def test_every_loss_has_a_reference_for_every_task():
    """No loss goes untested on a task that it accepts."""
    assert set(REFERENCES) == set(CASES)


@pytest.mark.parametrize(("name", "task"), REFERENCES)
def test_equals_its_reference_example_by_example(name, task):
    """The loss of each example is that of torch, scikit-learn, scipy or the formula."""
    settings, reference = REFERENCES[name, task]
    part = component("loss", name)
    generator = torch.Generator().manual_seed(1)
    _, targets = problem(name, task)
    outputs = 2 * torch.randn(N, part.traits.outputs(TARGETS[task], **settings), generator=generator)
    losses = part(outputs, targets, **settings)
    assert losses.shape == (N,)
    # Float32 against formulas that lose a digit where probabilities are near 0 or 1.
    torch.testing.assert_close(losses.double(), reference(outputs, targets).double(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_the_mean_hinge_loss_is_scikit_learns(task):
    """With margin 1 the mean is scikit-learn's, whose multi-class form is Crammer and Singer's too."""
    outputs, targets = problem("hinge", task)
    reference = sk.hinge_loss(targets.numpy(), outputs.squeeze(-1).numpy())
    assert component("loss", "hinge")(outputs, targets, margin=1.0).mean() == pytest.approx(
        reference, rel=1e-5
    )


@pytest.mark.parametrize(("name", "task"), CASES)
def test_far_out_outputs_have_finite_losses_and_gradients(name, task):
    """Outputs of plus and minus 80 (in float32 a probability of 0 or 1) give no NaN and no infinity."""
    outputs, targets = problem(name, task)
    for scale in (0.0, 80.0):
        extreme = (outputs.sign() * scale).requires_grad_()
        losses = component("loss", name)(extreme, targets, **yaml(name))
        (gradient,) = torch.autograd.grad(losses.sum(), extreme)
        assert losses.isfinite().all()
        assert gradient.isfinite().all()


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
def test_focal_has_the_right_gradient_for_every_gamma(task, gamma):
    """Finite differences agree with autograd, for gamma below 1 too; gamma 0 is cross-entropy."""
    outputs, targets = problem("focal", task)
    part = component("loss", "focal")
    assert torch.autograd.gradcheck(
        lambda o: part(o, targets, gamma=gamma), outputs.double().requires_grad_()
    )
    if gamma == 0:
        name = "cross_entropy" if task == "multiclass" else "binary_cross_entropy"
        torch.testing.assert_close(
            part(outputs, targets, gamma=0.0), component("loss", name)(outputs, targets)
        )


@pytest.mark.parametrize(
    ("name", "task"),
    [c for c in CASES if component("loss", c[0]).traits.soft and c[1] in ("binary", "multiclass")],
)
def test_soft_targets_continue_hard_ones(name, task):
    """A one-hot distribution gives the loss of the class index, and mixtures interpolate cross-entropy."""
    outputs, targets = problem(name, task)
    part, one_hot = component("loss", name), F.one_hot(targets, len(TARGETS[task].classes)).float()
    torch.testing.assert_close(part(outputs, one_hot, **yaml(name)), part(outputs, targets, **yaml(name)))
    if name.endswith("cross_entropy"):
        mixed = part(outputs, 0.3 * one_hot + 0.7 * one_hot.roll(1, 0))
        expected = 0.3 * part(outputs, targets) + 0.7 * part(outputs, targets.roll(1))
        torch.testing.assert_close(mixed, expected)


def test_kl_divergence_is_torchs_for_soft_targets():
    """For distributions the loss is torch's kl_div, and it is zero where the prediction is the target."""
    outputs, _ = problem("kl_divergence", "multiclass")
    soft = torch.softmax(outputs.flip(0), -1)
    part = component("loss", "kl_divergence")
    reference = F.kl_div(outputs.log_softmax(-1), soft, reduction="none").sum(-1)
    torch.testing.assert_close(part(outputs, soft), reference)
    torch.testing.assert_close(part(outputs, outputs.softmax(-1)), torch.zeros(N), rtol=0, atol=1e-6)


def test_half_halves():
    """half=true is exactly half of the squared error."""
    outputs, targets = problem("mse", "regression")
    part = component("loss", "mse")
    assert torch.equal(2 * part(outputs, targets, half=True), part(outputs, targets, half=False))


# Scores


@pytest.mark.parametrize(("name", "task"), CASES)
def test_scores_have_the_shape_that_metrics_take(name, task):
    """A score per class or label, a value per target column; probabilities sum to 1."""
    outputs, _ = problem(name, task)
    traits = component("loss", name).traits
    scores = traits.predict(outputs, TARGETS[task], **yaml(name))
    assert scores.shape == (N, {"binary": 2, "multiclass": 4, "multilabel": 3, "regression": 3}[task])
    if traits.probabilistic:
        assert (scores >= 0).all()
        assert (scores <= 1).all()
        if task != "multilabel":
            torch.testing.assert_close(scores.sum(-1), torch.ones(N))


@pytest.mark.parametrize(
    ("name", "task"), slow_after(4, [c for c in CASES if c[1] in ("binary", "multiclass")])
)
def test_descending_the_loss_raises_the_right_score(name, task):
    """After gradient steps on the outputs alone, the largest score is the true class's."""
    outputs, targets = problem(name, task)
    part, settings = component("loss", name), yaml(name)
    for _ in range(200):
        gradient = torch.func.grad(lambda o: part(o, targets, **settings).sum())(outputs)
        outputs = outputs - 0.2 * gradient
    assert torch.equal(part.traits.predict(outputs, TARGETS[task], **settings).argmax(-1), targets)


def test_point_predictions():
    """poisson_nll predicts its rate, gaussian_nll its mean, quantile the level nearest to the median."""
    target, outputs = TARGETS["regression"], torch.randn(N, 6, generator=torch.Generator().manual_seed(0))

    def predict(name, outputs, **settings):
        return component("loss", name).traits.predict(outputs, target, **settings)

    assert torch.equal(predict("poisson_nll", outputs[:, :3]), outputs[:, :3].exp())
    assert torch.equal(predict("gaussian_nll", outputs, eps=1e-6), outputs[:, :3])
    assert torch.equal(predict("quantile", outputs, quantiles=[0.1, 0.6]), outputs[:, 1::2])


def test_small_probabilities_are_not_rounded_away():
    """A binary probability of 1e-9 is reported as such on either side."""
    predict = component("loss", "binary_cross_entropy").traits.predict
    scores = predict(torch.tensor([[-20.0], [20.0]]), TARGETS["binary"])
    torch.testing.assert_close(scores.amin(-1), torch.full((2,), 2.0611536e-09), rtol=1e-5, atol=0)


# Choice


def test_auto_chooses_the_usual_loss():
    """Each task has its usual loss, which accepts the task."""
    usual = {
        "binary": "binary_cross_entropy",
        "multiclass": "cross_entropy",
        "multilabel": "binary_cross_entropy",
        "regression": "mse",
    }
    assert component("loss", "auto").traits.auto
    for task, name in usual.items():
        assert component("loss", "auto")(TARGETS[task]) == choose(TARGETS[task]) == name
        assert task in component("loss", name).traits.tasks


def test_cosine_similarity_refuses_a_single_column():
    """Directions need two columns: with one the message says which loss to take."""
    with pytest.raises(ConfigError, match=r"loss=cosine_similarity: .* found 1; use loss=mse"):
        component("loss", "cosine_similarity").traits.outputs(Target("regression"))


# Packs


@pytest.mark.parametrize(("name", "task"), slow_after(3, CASES))
def test_a_pack_equals_its_members(name, task):
    """Members with different numbers have in a pack the losses and gradients they have alone."""
    part, settings = component("loss", name), yaml(name)
    numbers = {k: torch.tensor([settings[k] * (1 + 0.5 * i) for i in range(3)]) for k in part.numbers}
    structure = {k: v for k, v in settings.items() if k not in part.numbers}
    outputs = torch.stack([problem(name, task, seed)[0] for seed in range(3)])
    targets = torch.stack([problem(name, task, seed)[1] for seed in range(3)])

    def member(outputs, targets, numbers):
        def loss(o):
            return part(o, targets, **structure, **numbers)

        return loss(outputs), torch.func.grad(lambda o: loss(o).sum())(outputs)

    packed = torch.vmap(member)(outputs, targets, numbers)
    for k in range(3):
        alone = member(outputs[k], targets[k], {name: float(v[k]) for name, v in numbers.items()})
        for a, b in zip(packed, alone, strict=True):
            # Sums over classes may be taken in another order.
            torch.testing.assert_close(a[k], b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("name", "task"), slow_after(3, CASES))
def test_a_members_bytes_depend_neither_on_the_pack_nor_on_its_place(name, task):
    """Losses, gradients and scores of two members are the same bytes in packs of 2 and 5, first or last."""
    part, settings = component("loss", name), yaml(name)
    outputs = torch.stack([problem(name, task, seed)[0] for seed in range(5)])
    targets = torch.stack([problem(name, task, seed)[1] for seed in range(5)])

    def member(outputs, targets):
        def loss(o):
            return part(o, targets, **settings)

        scores = part.traits.predict(outputs, TARGETS[task], **settings)
        return loss(outputs), torch.func.grad(lambda o: loss(o).mean())(outputs), scores

    packed = torch.vmap(member)(outputs, targets)
    for pair in (slice(0, 2), slice(3, 5)):
        for a, b in zip(packed, torch.vmap(member)(outputs[pair], targets[pair]), strict=True):
            assert torch.equal(a[pair], b)


@pytest.mark.slow
def test_all_compile_in_a_pack_as_one_graph():
    """torch.compile takes the vmapped gradient of every loss on every task without a graph break."""
    parts = [(component("loss", n).function, *problem(n, t), yaml(n)) for n, t in CASES]

    def total(shift):
        return sum(function(o + shift, t, **settings).mean() for function, o, t, settings in parts)

    def member(shift):
        return torch.func.grad(total)(shift)

    compiled = torch.compile(torch.vmap(member), fullgraph=True, backend="aot_eager")
    shifts = torch.tensor([0.1, 0.2])
    torch.testing.assert_close(compiled(shifts), torch.vmap(member)(shifts), rtol=1e-4, atol=1e-4)
