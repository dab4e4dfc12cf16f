"""Initial weights from a safetensors file: what fits is taken, what does not is named."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from harness import engine_of, tiny, train
from slipstream.core import registry
from slipstream.core.errors import ConfigError, UserError
from slipstream.core.registry import register
from slipstream.models.weights_file import load_weights
from slipstream.runs.resuming import begin


class Tied(nn.Module):
    def __init__(self, size, outputs):
        super().__init__()
        self.norm, self.first = nn.BatchNorm1d(size), nn.Linear(size, size, bias=False)
        self.second, self.head = nn.Linear(size, size, bias=False), nn.Linear(size, outputs)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.head(self.second(torch.tanh(self.first(self.norm(x)))))


def tied(form, outputs):
    return Tied(form.size, outputs)


def config(**changes):
    return tiny({"model": "test_tied", "activation": "relu", **changes})


@pytest.fixture
def saved(tmp_path):
    """A file of the network's weights, with the tied one under its second name as transformers writes it."""
    torch.manual_seed(3)
    named = Tied(3, 3).state_dict()
    named.pop("first.weight")
    path = tmp_path / "weights.safetensors"
    save_file(named, path)
    return str(path), named


@pytest.mark.slow
def test_a_network_starts_from_the_file(saved):
    """Parameters, running statistics and the count of batches, and a tied weight under either name."""
    path, named = saved
    state = engine_of(config(**{"model.weights": path})).start()
    found = engine_of(config()).program.layout.unflatten(state.params) | state.buffers
    assert torch.equal(found.pop("first.weight"), named["second.weight"])
    assert all(torch.equal(found[name], named[name]) for name in found)
    assert set(found) == set(named) - {"second.weight"}


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_16_bits_become_float32(saved, tmp_path, kind):
    """Each value is the 16-bit one."""
    _, named = saved
    path = str(tmp_path / "half.safetensors")
    save_file({n: v.to(kind) if v.is_floating_point() else v for n, v in named.items()}, path)
    engine = engine_of(config(**{"model.weights": path}))
    head = engine.program.layout.unflatten(engine.start().params)["head.weight"]
    assert torch.equal(head, named["head.weight"].to(kind).float())


@pytest.mark.slow
def test_members_of_a_pack_start_from_it(saved):
    """All from one file, with bytes that depend on no other member."""
    path, _ = saved
    configs = [config(seed=seed, **{"model.weights": path}) for seed in range(3)]
    state = engine_of(configs).start()
    assert torch.equal(state.params[0], state.params[2])
    three, two = train(configs), train([configs[2], configs[0]])
    assert three.bytes(2)["weights/head.weight"] == two.bytes(0)["weights/head.weight"]


@pytest.mark.slow
def test_our_models_start_from_a_runs_file(tmp_path):
    """From weights.safetensors of another run; its keys and rates stay those of this configuration."""
    before = train(tiny({"regularizer": ["batch_norm", "dropout"]}))
    path = str(tmp_path / "weights.safetensors")
    save_file(before.saved[0][0]["weights"], path)
    chosen = tiny(
        {
            "regularizer": ["batch_norm", "dropout"],
            "regularizer.dropout.rate": 0.1,
            "seed": 9,
            "model.weights": path,
        }
    )
    state = engine_of(chosen).start()
    tensors = before.tensors()
    assert torch.equal(state.params, before.progress.state.params)
    for name in engine_of(chosen).program.running:
        assert torch.equal(state.buffers[name], tensors[f"weights/{name}"])


def changed(saved, tmp_path, **changes):
    """A file with some tensors renamed (None: left out) or replaced."""
    named = dict(saved[1])
    for name, value in changes.items():
        tensor = named.pop(name.replace("__", "."), None)
        if isinstance(value, str):
            named[value] = tensor
        elif value is not None:
            named[name.replace("__", ".")] = value
    path = str(tmp_path / "changed.safetensors")
    save_file(named, path)
    return path


@pytest.mark.slow
def test_what_does_not_fit_is_named_and_can_be_left_out(saved, tmp_path):
    """Missing and unexpected names with the nearest one; the printed setting works as it is printed."""
    path = changed(saved, tmp_path, head__weight="heads.weight", head__bias="heads.bias")
    with pytest.raises(ConfigError) as raised:
        engine_of(config(**{"model.weights": path})).start()
    said = str(raised.value)
    assert "lacks head.weight, head.bias (is head.weight what the file calls heads.weight?)" in said
    assert "has heads.bias, heads.weight, which this network does not have" in said
    assert "model.weights_skip=[head.*,heads.*] leaves these out" in said
    partly = config(**{"model.weights": path, "model.weights_skip": ["head.*", "heads.*"]})
    engine = engine_of(partly)
    named = engine.program.layout.unflatten(engine.start().params)
    assert torch.equal(named["first.weight"], saved[1]["second.weight"])
    random = engine_of(config())
    assert torch.equal(
        named["head.weight"], random.program.layout.unflatten(random.start().params)["head.weight"]
    )


@pytest.mark.parametrize(
    ("changes", "skip", "said"),
    [
        (
            {"head__weight": torch.zeros(4, 3)},
            [],
            r"the shape of head.weight is \[4, 3\], in this network \[3, 3\]",
        ),
        ({"head__bias": torch.full((3,), float("nan"))}, [], "head.bias holds NaN or infinity"),
        ({}, ["haed.*"], r"model.weights_skip: no parameter is called 'haed.\*', did you mean head"),
        ({"norm__running_mean": None}, [], "lacks norm.running_mean"),
    ],
)
def test_files_that_do_not_fit_are_refused(saved, tmp_path, changes, skip, said):
    """With the name, what was found and what was expected."""
    path = changed(saved, tmp_path, **changes)
    with pytest.raises(ConfigError, match=said):
        load_weights(Tied(3, 3), path, skip, own=True)


def test_files_that_are_none_are_refused(tmp_path):
    """Pickles, missing files, and files of another format."""
    (tmp_path / "a.safetensors").write_text("no tensors")
    for path, said in (
        ("model.pth", "pickled files can run code and are not read; convert it: safetensors.torch.save_file"),
        ("missing.safetensors", "no safetensors file can be read"),
        ("a.safetensors", "no safetensors file can be read"),
    ):
        with pytest.raises(ConfigError, match=said):
            load_weights(Tied(3, 3), str(tmp_path / path), [], own=True)
    with pytest.raises(ConfigError, match=r"missing.safetensors: No such file or directory"):
        engine_of(config(**{"model.weights": str(tmp_path / "missing.safetensors")}))


@pytest.mark.slow
def test_a_run_goes_on_only_with_the_file_it_began_with(saved, tmp_path):
    """The hash is kept beside the checkpoint's conditions; another file is refused."""
    path, named = saved
    engine = engine_of(config(**{"model.weights": path}))
    digest = engine.weights_digest
    assert len(digest) == 64
    save_file(named | {"head.bias": torch.ones(3)}, path)
    later = train(config(**{"model.weights": path}))
    entry = later.saved[0][0], later.saved[0][1] | {"weights": digest}
    with pytest.raises(UserError, match=f"the run began with another file of weights .SHA-256 {digest}"):
        begin(later.engine, later.members, [entry])


@pytest.fixture(autouse=True, scope="module")
def registered():
    """The models of this file, which no other test shall see."""
    functions = (tied,)
    for function in functions:
        register("model", f"test_{function.__name__}")(function)
    yield
    for function in functions:
        del registry._components["model"][f"test_{function.__name__}"]
