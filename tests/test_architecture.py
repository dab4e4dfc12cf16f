"""Imports run one way: a module never imports one that stands further right."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "slipstream"

# From left to right. Modules of one layer may import each other; a package's name stands for all
# of its modules that are not named themselves.
LAYERS = [
    {"types", "random", "registry", "errors", "lazy", "kernels", "files", "folders", "wording"}
    | {"contracts", "drawing"},
    {"activations", "initializers", "losses", "metrics", "regularizers", "schedulers", "early_stopping"}
    | {"optimizers", "augmentations", "data"},
    {"models", "testing"},
    {"diagnostics"},
    {"training.probes", "training.program", "training.step", "training.evaluate"},
    {"packs", "checkpoints", "loggers"},
    {"training"},
    {"rundir", "progress", "augmenting", "recording", "resuming", "summary"},
    {"sweep.jobs", "sweep.space"},
    {"config"},
    {"advice", "monitoring", "preparing"},
    {"run", "prediction"},
    {"sweep"},
    {"listing", "multirun", "unexpected", "cli"},
    {"__main__"},
]

# What only these may import, at any depth.
KNOWN_TO = {"hydra": {"config", "cli"}, "omegaconf": {"config", "cli"}, "tensorboard": {"loggers"}}


def modules():
    """Every module's dotted name inside the package and its file, the package itself left out."""
    for file in sorted(SOURCE.rglob("*.py")):
        parts = file.relative_to(SOURCE).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        if name:
            yield name, file


def imports(tree):
    """Full names of what a module imports when it runs, inside functions too, not only for types."""
    if isinstance(tree, ast.Import):
        yield from (alias.name for alias in tree.names)
    elif isinstance(tree, ast.ImportFrom) and tree.module:
        # `from package import name` may name a module of the package, or something inside it.
        yield tree.module
        yield from (f"{tree.module}.{alias.name}" for alias in tree.names)
    for_types = isinstance(tree, ast.If) and getattr(tree.test, "id", "") == "TYPE_CHECKING"
    for node in tree.orelse if for_types else ast.iter_child_nodes(tree):
        yield from imports(node)


def layer(name):
    """The number of the module's layer: that of the longest of its names that a layer has."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        for number, layer in enumerate(LAYERS):
            if ".".join(parts[:length]) in layer:
                return number
    return None


NAMES = dict(modules())


@pytest.mark.parametrize("name", NAMES)
def test_imports_run_one_way(name):
    """Every module has its place, and nothing that it imports stands further right."""
    assert layer(name) is not None, f"give {name} a place in LAYERS"
    for imported in imports(ast.parse(NAMES[name].read_text())):
        inside = imported.removeprefix("slipstream.")
        if imported.startswith("slipstream.") and inside in NAMES:
            assert layer(inside) <= layer(name), f"{name} imports {inside}"


@pytest.mark.parametrize("name", NAMES)
def test_few_know_hydra_and_one_knows_tensorboard(name):
    """Components, models and engine see plain values and plain records."""
    for imported in imports(ast.parse(NAMES[name].read_text())):
        for library, allowed in KNOWN_TO.items():
            if library in imported.split("."):
                assert name.split(".")[0] in allowed, f"{name} imports {imported}"


def test_the_check_sees_what_it_should():
    """The reading of imports finds those in functions and skips those for types."""
    tree = ast.parse(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import a\nelse:\n    import b\n"
        "def f():\n    from slipstream import cli\n    import hydra.utils\n"
    )
    found = set(imports(tree))
    assert {"b", "slipstream.cli", "hydra.utils"} <= found
    assert "a" not in found
    assert layer("training.step") < layer("training.loop") < layer("config.rules") < layer("cli")
    assert layer("nothing.known") is None


def test_no_array_is_ever_unpickled():
    """Every numpy.load says allow_pickle=False, so that no later default and no habit can change it."""
    calls = [
        (name, node)
        for name, file in modules()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("np.load", "numpy.load")
    ]
    assert calls
    for name, call in calls:
        given = {word.arg: ast.unparse(word.value) for word in call.keywords}
        assert given.get("allow_pickle") == "False", f"{name}:{call.lineno}"


@pytest.mark.parametrize(
    "line",
    [
        *("import pickle", "import joblib", "import marshal", "import torch\ntorch.load('x')", "eval('1')"),
        *("exec('1')", "import yaml\nyaml.load('x', yaml.Loader)", "from hydra.utils import instantiate"),
    ],
)
def test_the_linter_refuses_what_runs_code_from_files(line):
    """Each of them fails ruff with this project's settings, as a module of the package."""
    module = SOURCE / "example.py"
    command = ["ruff", "check", "--select", "S,TID251", "--stdin-filename", str(module), "-"]
    found = subprocess.run(
        [sys.executable, "-m", *command], input=line + "\n", capture_output=True, text=True, check=False
    )
    assert found.returncode == 1, found.stdout
