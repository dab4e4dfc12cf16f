"""Inlining of a module's slipstream imports, so that it is one independent Python file."""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Iterator
from types import ModuleType

PACKAGE = "slipstream"


def standalone(module: ModuleType) -> str:
    """Return the source of a module with its imports from slipstream inlined.

    The exported loader therefore reads words by the same functions as slipstream. Only definitions that are
    used are copied, in their order, along with the imports that they need.
    """
    source = inspect.getsource(module)
    tree = ast.parse(source)
    wanted = [node for node in tree.body if isinstance(node, ast.ImportFrom) and _inside(node.module)]
    taken = _Taken()
    for node in wanted:
        for alias in node.names:
            taken.take(str(node.module), alias.name)
    rows = source.splitlines(keepends=True)
    first, last = wanted[0].lineno - 1, wanted[-1].end_lineno
    own = {line.strip() for line in rows}
    imports = [line for line in sorted(taken.imports) if line not in own]
    plain = [line for line in imports if line.startswith("import ")]
    rest = [line for line in imports if line not in plain]
    made = "\n".join([*plain, *rest, "", *("\n" + text for text in taken.texts()), "", ""])
    return "".join(rows[:first]) + made + "".join(rows[last:])


def _inside(name: str | None) -> bool:
    return (name or "").split(".")[0] == PACKAGE


class _Taken:
    """Definitions to copy, by module and name, and the imports that they need."""

    def __init__(self) -> None:
        self.found: dict[str, dict[str, tuple[int, str]]] = {}
        self.order: list[str] = []
        self.imports: set[str] = set()
        self.home: dict[str, str] = {}

    def take(self, name: str, definition: str) -> None:
        """Add a definition of a module and everything that it uses."""
        if definition in self.found.setdefault(name, {}):
            return
        if self.home.setdefault(definition, name) != name:
            raise AssertionError(f"{definition} is in {name} and in {self.home[definition]}")
        source = inspect.getsource(importlib.import_module(name))
        defined: dict[str, ast.stmt] = {}
        imported: dict[str, ast.Import | ast.ImportFrom] = {}
        for node in ast.parse(source).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                imported |= {(alias.asname or alias.name).split(".")[0]: node for alias in node.names}
            defined |= dict.fromkeys(_names(node), node)
        node = defined[definition]
        begin = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
        text = "\n".join(source.splitlines()[begin - 1 : node.end_lineno])
        self.found[name][definition] = begin, text
        for used in dict.fromkeys(_used(node)):
            if used in defined:
                self.take(name, used)
            elif used in imported:
                home = imported[used]
                if isinstance(home, ast.ImportFrom) and _inside(home.module):
                    self.take(str(home.module), used)
                elif isinstance(home, ast.ImportFrom):
                    self.imports.add(f"from {home.module} import {used}")
                else:
                    alias = next(a for a in home.names if (a.asname or a.name).split(".")[0] == used)
                    self.imports.add(ast.unparse(ast.Import([alias])))
        if name not in self.order:
            self.order.append(name)

    def texts(self) -> Iterator[str]:
        """Yield the definitions; a definition comes before the ones that use it."""
        for name in self.order:
            yield from dict.fromkeys(text for _, text in sorted(self.found[name].values()))


def _names(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.Assign):
        for target in node.targets:
            names = target.elts if isinstance(target, ast.Tuple) else [target]
            yield from (one.id for one in names if isinstance(one, ast.Name))
    elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        yield node.target.id


def _used(node: ast.AST) -> Iterator[str]:
    """Yield the names that a definition uses when it runs. Annotations are not evaluated."""
    if isinstance(node, ast.Name):
        yield node.id
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _used(child)
