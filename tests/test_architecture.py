"""The house: imports run one way, without circles; one name is one thing."""

import ast
import re
import subprocess
import sys
from collections import Counter
from functools import cache
from graphlib import TopologicalSorter

import pytest

from sampling import slow_after
from source_files import NAMES, SOURCE, nodes, tree

# From the ground up. A floor imports itself and the floors below; all config groups stand on one.
FLOORS = [
    {"core"},
    {"activations", "initializers", "losses", "metrics", "schedulers", "early_stopping", "optimizers"}
    | {"regularizers", "augmentations", "data"},
    {"models", "loggers", "testing"},
    {"config"},
    {"training"},
    {"runs"},
    {"sweeps"},
    {"inference"},
    {"diagnosis"},
    {"cli"},
    {"__main__"},
]
# Modules and classes of one name. The taxonomy of tasks is one in losses and metrics; a package of a room
# is read with its room.
SHARED_NAMES = {"classification", "regression"}
# `random` is one in jax and numpy, `types` in torch and jax: they are always read with `core`.
LIKE_THE_STANDARD_LIBRARY = {"random", "types"}

# What only these may import, at any depth.
KNOWN_TO = {
    "hydra": {"config", "sweeps.plan", "cli"},
    "omegaconf": {"config", "sweeps.plan", "cli"},
    "tensorboard": {"loggers"},
}


def imports(tree, types=False):
    """Full names of what a module imports when it runs, inside functions too; with `types`, for types too."""
    left = [tree]
    while left:
        node = left.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            # `from package import name` may name a module of the package, or something inside it.
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING" and not types:
            left += node.orelse
        elif not isinstance(node, ast.expr):  # imports are statements, and no expression holds one
            left += ast.iter_child_nodes(node)


def floor(name):
    """The number of the floor on which a module's room stands, None outside the house."""
    return next((number for number, rooms in enumerate(FLOORS) if name.split(".")[0] in rooms), None)


def inside(imported):
    """The module of the package that an imported name belongs to, None outside it."""
    name = imported.removeprefix("slipstream.")
    while name and name not in NAMES:
        name = name.rpartition(".")[0]
    return name if imported.startswith("slipstream.") and name else None


@cache
def imported_by(name, types=False):
    """All that a module imports."""
    return frozenset(imports(tree(NAMES[name]), types))


@pytest.mark.slow
def test_imports_run_one_way():
    """Every module stands in a room, and imports nothing of a higher floor, types included."""
    assert [f"{name} stands in no room of FLOORS" for name in NAMES if floor(name) is None] == []
    used = {(name, inside(imported)) for name in NAMES for imported in imported_by(name, types=True)}
    found = [(name, other) for name, other in used if other is not None and floor(other) > floor(name)]
    assert [f"{name} imports {other}" for name, other in sorted(found)] == []


def test_no_files_import_each_other():
    """There is no circle of files, types included."""
    graph = {}
    for name, file in NAMES.items():
        found = {inside(imported) for imported in imported_by(name, types=True)}
        package = file.name == "__init__.py"  # hands on names of its own modules
        graph[name] = {o for o in found if o and o != name and not (package and o.startswith(f"{name}."))}
    list(TopologicalSorter(graph).static_order())  # raises CycleError with the circle


def test_packages_only_hand_names_on():
    """An __init__.py has a docstring and imports."""
    for name in [name for name, file in NAMES.items() if file.name == "__init__.py"]:
        body = tree(NAMES[name]).body
        assert all(isinstance(node, ast.ImportFrom) for node in body[1:]), name
        assert ast.get_docstring(ast.Module(body, [])), name


@pytest.mark.slow
def test_one_name_is_one_thing():
    """No two modules and no two classes of the package have one name, and none has a standard module's."""
    named, classes = Counter(name.split(".")[-1] for name in NAMES), Counter()
    for file in NAMES.values():
        classes.update(node.name for node in nodes(file) if _is_class(node))
    assert {name for name, count in named.items() if count > 1} == SHARED_NAMES
    assert [name for name, count in classes.items() if count > 1] == []
    assert set(named) & sys.stdlib_module_names == LIKE_THE_STANDARD_LIBRARY


def _is_class(node):
    return isinstance(node, ast.ClassDef)


@pytest.mark.slow
def test_few_know_hydra_and_one_knows_tensorboard():
    """Components, models and engine see plain values and plain records."""
    for name in NAMES:
        for imported in imported_by(name):
            rooms = KNOWN_TO.get(imported.partition(".")[0])
            known = rooms is None or any(f"{name}.".startswith(f"{room}.") for room in rooms)
            assert known, f"{name} imports {imported}"


def test_the_check_sees_what_it_should():
    """The reading of imports finds those in functions and skips those for types."""
    tree = ast.parse(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import a\nelse:\n    import b\n"
        "def f():\n    from slipstream.cli import entry\n    import hydra.utils\n"
    )
    found = set(imports(tree))
    assert {"b", "slipstream.cli.entry", "hydra.utils"} <= found
    assert "a" not in found
    assert {"a", "b"} <= set(imports(tree, types=True))
    assert floor("config.rules") < floor("training.step") < floor("sweeps.api") < floor("cli.entry")
    assert floor("nothing.known") is None
    assert inside("slipstream.core.registry.component") == "core.registry"
    assert inside("numpy.random") is None


def unexplained(text, nodes):
    """Lines that use Any with no comment beside them or above them."""
    lines = text.splitlines()
    used = {node.lineno for node in nodes if isinstance(node, ast.Name) and node.id == "Any"}
    return [
        n for n in sorted(used) if "  # " not in lines[n - 1] and not lines[n - 2].strip().startswith("#")
    ]


@pytest.mark.slow
def test_any_has_a_reason():
    """Any stands only where a comment says why; what comes out of YAML or JSON is core.types.Plain."""
    for name, file in NAMES.items():
        assert unexplained(file.read_text(encoding="utf-8"), nodes(file)) == [], name


def test_ignored_types_have_a_code_and_a_reason():
    """Every `type: ignore` names the error, and behind it why the error is none."""
    for name, file in NAMES.items():
        for line in file.read_text(encoding="utf-8").splitlines():
            if "# type: ignore" in line:
                assert re.search(r"# type: ignore\[[\w-]+\]  # (?!noqa)\w", line), f"{name}: {line}"


def test_an_any_without_a_reason_is_found():
    """Each line is judged by itself, and a docstring with the word Any is none."""
    text = '"""Any."""\nx: Any = 1\ny: Any = 2  # foreign\n# Foreign.\nz: list[Any] = []\nw: Any\n'
    assert unexplained(text, ast.walk(ast.parse(text))) == [2, 6]


def test_no_array_is_ever_unpickled():
    """Every numpy.load says allow_pickle=False, so that no later default and no habit can change it."""
    calls = [
        (name, node)
        for name, file in NAMES.items()
        for node in nodes(file)
        if isinstance(node, ast.Call)
        and getattr(node.func, "attr", "") == "load"  # unparsing takes long
        and ast.unparse(node.func) in ("np.load", "numpy.load")
    ]
    assert calls
    for name, call in calls:
        given = {word.arg: ast.unparse(word.value) for word in call.keywords}
        assert given.get("allow_pickle") == "False", f"{name}:{call.lineno}"


@pytest.mark.parametrize(
    "line",
    slow_after(
        2,
        [
            *(
                "import pickle",
                "import joblib",
                "import marshal",
                "import torch\ntorch.load('x')",
                "eval('1')",
            ),
            *("exec('1')", "import yaml\nyaml.load('x', yaml.Loader)", "from hydra.utils import instantiate"),
        ],
    ),
)
def test_the_linter_refuses_what_runs_code_from_files(line):
    """Each of them fails ruff with this project's settings, as a module of the package."""
    module = SOURCE / "example.py"
    command = ["ruff", "check", "--select", "S,TID251", "--stdin-filename", str(module), "-"]
    found = subprocess.run(
        [sys.executable, "-m", *command], input=line + "\n", capture_output=True, text=True, check=False
    )
    assert found.returncode == 1, found.stdout
