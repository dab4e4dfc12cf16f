"""The package's own files as syntax trees, parsed once for all the tests that hold rules over them."""

import ast
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1] / "src" / "slipstream"


def modules():
    """Every module's dotted name inside the package and its file, the package itself left out."""
    for file in sorted(SOURCE.rglob("*.py")):
        parts = file.relative_to(SOURCE).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        if name:
            yield name, file


NAMES = dict(modules())


@cache
def tree(file):
    """A module as it is parsed."""
    return ast.parse(file.read_text(encoding="utf-8"))


@cache
def nodes(file):
    """All of a module's nodes."""
    return list(ast.walk(tree(file)))
