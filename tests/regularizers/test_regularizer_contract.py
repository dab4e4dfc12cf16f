"""Every regularizer alone, in packs and traced, and with its YAML."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import yaml
from regularizing import CONFIGS, KEY, defaults, regularizer, sample

from sampling import exhaustive_after, slow_after
from slipstream.core.registry import component, components, keyword_only
from slipstream.testing import LAYOUT

# What the engine calls each with: tensors of one member, and what is structure there.
X, VECTOR = sample(8, 5), sample(LAYOUT.size) * 3
CALLS: dict[str, tuple[tuple[Any, ...], tuple[Any, ...]]] = {
    "l1": ((VECTOR,), ()),
    "l2": ((VECTOR,), ()),
    "elastic_net": ((VECTOR,), ()),
    "activity_l2": ((X,), ()),
    "dropout": ((X, KEY), ()),
    "alpha_dropout": ((X, KEY), ()),
    "gaussian_noise": ((X, KEY), ()),
    "gaussian_dropout": ((X, KEY), ()),
    "spatial_dropout": ((X, KEY), ()),
    "drop_path": ((X, KEY), ()),
    "group_norm": ((sample(8, 16), sample(16, seed=1), sample(16, seed=2)), ()),
    "spectral_norm": ((X, sample(8, seed=1)), (True,)),
    "batch_norm": ((X, *(sample(5, seed=k).abs() for k in range(4))), (True,)),
    "layer_norm": ((X, sample(5, seed=1), sample(5, seed=2)), ()),
    "label_smoothing": ((torch.tensor([0, 2, 1]),), (3,)),
    "gradient_clipping": ((VECTOR,), ()),
    "gradient_noise": ((VECTOR, KEY, torch.tensor(3.0, dtype=torch.float64)), ()),
    "weight_decay": ((VECTOR, torch.tensor(0.1, dtype=torch.float64)), ()),
    "max_norm": ((VECTOR,), (LAYOUT,)),
    "unit_norm": ((VECTOR,), (LAYOUT,)),
    "lookahead": ((VECTOR, VECTOR.flip(0), torch.tensor(5.0)), ()),
    "swa": ((VECTOR, VECTOR.flip(0), torch.tensor(9.0)), (10, LAYOUT)),
    "snapshot_ensemble": ((VECTOR.repeat(5), VECTOR.flip(0), torch.tensor(3.0)), (10, LAYOUT)),
    "dense_sparse_dense": ((VECTOR, VECTOR.flip(0), torch.tensor(4.0)), (10, LAYOUT)),
    "ema": ((VECTOR, VECTOR.flip(0), torch.tensor(3.0, dtype=torch.float64)), ()),
}


def called_with(name: str) -> dict[str, Any]:
    """The settings that its function gets."""
    return {
        key: value for key, value in defaults(name).items() if key in keyword_only(regularizer(name).function)
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", exhaustive_after(4, CALLS))
def test_pack_equals_alone(name):
    """Members with different numbers, in one traced graph, equal themselves alone to 1e-6.

    The random numbers and one-hot targets are float32; all else here is float64.
    """
    settings = called_with(name)
    own = {
        n: torch.tensor([settings[n], settings[n] * 0.9, settings[n] * 0.5], dtype=torch.float64)
        for n in regularizer(name).numbers & set(settings)
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


@pytest.mark.parametrize("name", slow_after(3, CALLS))
def test_member_does_not_depend_on_its_pack(name):
    """Eagerly in float32 a member's bytes are the same at every place and in every size of a pack."""
    function, settings = regularizer(name), called_with(name)
    tensors, fixed = CALLS[name]
    # Odd sizes, so that vectorised kernels have left-over elements; other values for every member.
    if tensors[0] is X:
        size = 13 if name == "spectral_norm" else 7
        tensors = (sample(13, 7), *(t if t is KEY else sample(size, seed=5).abs() for t in tensors[1:]))

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


def test_every_regularizer_has_its_yaml_and_its_call():
    """Each has a YAML that nests under its own name and has its settings and no others, and a row above."""
    assert set(CALLS) == set(components("regularizer"))
    for name in CALLS:
        text = (CONFIGS / f"{name}.yaml").read_text()
        assert text.startswith(f"# @package regularizer.{name}\n")
        assert list(yaml.safe_load(text)) == list(component("regularizer", name).settings)
        assert component("regularizer", name).traits.place
