"""The pack axis: what can share a pack, and that a member does not notice with whom it does."""

from __future__ import annotations

import pytest
import torch

from harness import tiny, tiny_data, train
from sampling import exhaustive_after, slow_after
from slipstream.config.files import defaults
from slipstream.core.registry import component, components
from slipstream.data import load
from slipstream.optimizers.base import to_power
from slipstream.training.pack import Pack, signature

CPU = torch.device("cpu")
STRUCTURE = [
    {"model.width": 6},
    {"model.depth": 2},
    {"activation": "relu"},
    {"loss": "hinge"},
    {"optimizer": "adam"},
    {"initializer": "orthogonal"},
    {"data.batch_size": 13},
    {"data.rows": 41},
    {"regularizer": ["l2"]},
    {"trainer.accumulate": 2},
    {"trainer.max_epochs": 3},
    {"trainer.metrics": ["accuracy"]},
    {"early_stopping.metric": "train/loss"},
]
NUMBERS = [
    {"optimizer.lr": 0.7},
    {"seed": 4},
    {"name": "other"},
    {"initializer.bias": 0.1},
    {"scheduler": "cosine"},
    {"early_stopping": "none"},
    {"early_stopping.patience": 3},
    {"logger": ["tensorboard"]},
]


@pytest.mark.parametrize("changes", slow_after(3, STRUCTURE), ids=str)
def test_structure_separates(changes):
    """Whatever shapes the computation keeps two runs out of one pack."""
    assert signature(tiny(changes)) != signature(tiny())


@pytest.mark.parametrize("changes", NUMBERS, ids=str)
def test_numbers_seeds_and_what_the_host_does_do_not(changes):
    """Numbers, seeds, names, schedules, stopping and logging may differ within a pack."""
    assert signature(tiny(changes)) == signature(tiny())


@pytest.mark.slow
def test_the_order_of_regularizers_does_not_matter():
    """[a, b] and [b, a] are one structure and train to one result."""
    one, other = (tiny({"regularizer": names}) for names in (["l2", "dropout"], ["dropout", "l2"]))
    assert signature(one) == signature(other)
    assert train(one).bytes() == train(other).bytes()


@pytest.mark.slow
@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel", "regression"])
@pytest.mark.parametrize(
    "changes",
    exhaustive_after(
        1,
        [
            {"optimizer": "nadam", "activation": "glu", "regularizer": ["batch_norm", "dropout", "ema"]},
            {"optimizer": "adam", "activation": "gelu", "activation.approximate": "tanh"},
            {"optimizer": "adafactor", "activation": "mish", "regularizer": ["layer_norm", "gaussian_noise"]},
        ],
    ),
    ids=lambda changes: changes["optimizer"],
)
def test_a_members_bytes_do_not_depend_on_the_size_of_its_pack(task, changes):
    """In packs of 2, 5 and 40, first and last: the same bytes. 40 members of 5 units and 12 rows fill
    vector registers of every width, and leave rows at their ends, where some kernels round otherwise."""
    data = tiny_data(task)
    changes = changes | {"trainer.max_epochs": 8, "optimizer.lr": 0.05}
    crowd = [tiny(changes | {"optimizer.lr": 0.05 + 0.001 * k}, seed=k) for k in range(7)]
    one = crowd[0]
    expected = train([one, crowd[1]], data).bytes(0)
    assert train([*crowd[3:], one], data).bytes(4) == expected
    many = train([one, *(crowd[1:] * 7)[:38], one], data)
    assert many.bytes(0) == expected
    assert many.bytes(39) == expected


def values_and_gradients(function, x):
    x = x.clone().requires_grad_()
    y = function(x)
    (slopes,) = torch.autograd.grad(y.sum(), x)
    return y.detach(), slopes


@pytest.mark.parametrize("name", slow_after(2, components("activation")))
def test_an_activation_rounds_a_number_the_same_wherever_it_stands(name):
    """A row's values and gradients are the same bytes in a tensor of 512 rows and in one of its own,
    whose 18 numbers leave elements behind the last whole vector register."""
    part = component("activation", name)
    learned = [torch.tensor(0.25) for _ in part.traits.learned]
    settings = {
        key: torch.tensor(value) if key in part.numbers else value
        for key, value in defaults("activation", name).items()
    }
    rows = 4 * torch.randn(512, 18, generator=torch.Generator().manual_seed(0))

    def call(x):
        return part(x, *learned, **settings)

    together = values_and_gradients(call, rows)
    apart = zip(*(values_and_gradients(call, row[None]) for row in rows), strict=True)
    for whole, pieces in zip(together, apart, strict=True):
        assert torch.equal(whole, torch.cat(pieces))


@pytest.mark.slow
def test_powers_round_a_number_the_same_wherever_it_stands():
    """beta^t of 40 members is beta^t of 2, over 2000 steps, and near the power itself."""
    betas = torch.full((40,), 0.999)
    for t in torch.arange(1.0, 2000.0):
        power = to_power(betas, t)
        assert torch.equal(power[:2], to_power(betas[:2], t))
    assert to_power(0.999, 1999) == 0.999**1999
    # t log beta is rounded to float32 and has a size of 2 here.
    torch.testing.assert_close(power[0], torch.tensor(0.999) ** 1999, rtol=1e-6, atol=0)


def test_one_alone_has_no_pack_axis():
    """A single member is not lifted; stacking two and taking one out is the identity."""
    function = torch.sin
    assert Pack(1).vmap(function, 0) is function
    tree = {"a": torch.arange(3.0)}
    assert Pack(1).stack([tree]) is tree
    stacked = Pack(2).stack([tree, {"a": torch.ones(3)}])
    assert stacked["a"].shape == (2, 3)
    assert torch.equal(Pack(2).member(stacked, 0)["a"], tree["a"])


def test_where_takes_members_one_by_one():
    """Chosen members come from the new tree, the others from the old, for tensors of any rank."""
    new, old = {"a": torch.ones(3, 2), "b": torch.ones(3)}, {"a": torch.zeros(3, 2), "b": torch.zeros(3)}
    mixed = Pack(3).where([True, False, True], new, old)
    assert mixed["a"].tolist() == [[1, 1], [0, 0], [1, 1]]
    assert mixed["b"].tolist() == [1, 0, 1]
    assert Pack(1).where([True], new, old) is new
    assert Pack(1).where([False], new, old) is old


def test_numbers_are_floats_alone_and_tensors_in_a_pack():
    """Alone the members' numbers stay Python's; in a pack they are float32 [K]."""
    trees = [{"l2": {"strength": 0.1}}, {"l2": {"strength": 0.2}}]
    assert Pack(1).numbers(trees[:1], CPU, tensors=False) == trees[0]
    alone = Pack(1).numbers(trees[:1], CPU, tensors=True)["l2"]["strength"]
    assert (alone.shape, alone.dtype) == ((), torch.float32)
    packed = Pack(2).numbers(trees, CPU, tensors=False)["l2"]["strength"]
    assert torch.equal(packed, torch.tensor([0.1, 0.2]))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("width", "batch", "regularizers"),
    exhaustive_after(1, [(128, 64, ["batch_norm"]), (17, 33, ["dropout"])]),
)
def test_bytes_do_not_depend_on_the_pack_in_wide_networks(width, batch, regularizers):
    """The same on the digits in wide layers, whose batched products take other kernels: packs of 2, 9
    and 33, at both ends."""
    changes = {"model.width": width, "model.depth": 2, "data.batch_size": batch, "optimizer": "adam"}
    changes |= {"regularizer": regularizers, "trainer.metrics": ["accuracy"]}
    data = load({"name": "digits", **defaults("data", "digits")})
    one, other = tiny(changes), tiny(changes, seed=1)
    expected = train([one, other], data).bytes(0)
    for size, place in ((9, 8), (33, 0), (33, 32)):
        pack = [other] * size
        pack[place] = one
        assert train(pack, data).bytes(place) == expected
