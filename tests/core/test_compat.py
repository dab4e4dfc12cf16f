"""The private names of other libraries: all in one module, all there, none that has become public."""

import ast
from pathlib import Path

import pytest

import slipstream
from slipstream.core import compat
from source_files import nodes

SOURCE = Path(slipstream.__file__).parents[1]
LIBRARIES = ("torch", "hydra", "omegaconf", "tensorboard")


def root(node):
    """The name that dotted names begin with, empty for what is computed."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return getattr(node, "id", "")


def private(nodes):
    """Dotted names of torch's, Hydra's and TensorBoard's in a module that begin with one underscore."""
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.Attribute) and root(node) in LIBRARIES:
            names = [ast.unparse(node)]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] in LIBRARIES and any(p.startswith("_") and not p.startswith("__") for p in parts):
                yield name


@pytest.mark.slow
def test_one_module_touches_the_insides_of_libraries():
    """Besides `core.compat` no module names what a library keeps to itself."""
    found = {}
    for file in sorted(SOURCE.rglob("*.py")):
        names = set(private(nodes(file)))
        if names and file.name != "compat.py":
            found[str(file.relative_to(SOURCE))] = names
    assert found == {"slipstream/optimizers/adaptive.py": {"torch._fused_adam_"}}  # an operator, not a module


def test_the_search_sees_what_it_should():
    """Private modules, attributes and names are found, special ones and others' are not."""
    tree = ast.parse(
        "from torch._guards import tracing\nimport torch._inductor.config\ntorch.cpu._is_avx2()\n"
        "torch.__version__\nself._torch\nfrom numpy import _x\n"
    )
    assert set(private(ast.walk(tree))) == {
        "torch._guards.tracing",
        "torch._inductor.config",
        "torch.cpu._is_avx2",
    }


def as_slow_as_its_home(name):
    """A case for `parametrize`: inductor takes two seconds to import."""
    slow = [pytest.mark.slow] if "inductor" in compat.INTERNALS[name].home else []
    return pytest.param(name, marks=slow)


@pytest.mark.filterwarnings("ignore:.*script_method.*:DeprecationWarning")  # by torch, at an import
@pytest.mark.parametrize("name", [as_slow_as_its_home(name) for name in compat.INTERNALS])
def test_every_inside_is_there_with_its_reason(name):
    """The installed versions have it, and it says with which it was tried and why."""
    internal = compat.INTERNALS[name]
    assert getattr(compat, name) is compat.found(internal.home)
    assert internal.tried
    assert internal.reason


@pytest.mark.parametrize("name", [name for name, internal in compat.INTERNALS.items() if internal.public])
def test_none_has_become_public(name):
    """Where this fails the library has a public name: use it, and take the private one out of `compat`."""
    with pytest.raises((ImportError, AttributeError)):
        compat.found(compat.INTERNALS[name].public)


def test_other_names_are_refused():
    """As every module does."""
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        compat.nothing
