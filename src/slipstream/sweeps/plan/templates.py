"""Templates: composing the many configurations of a sweep with as few calls of Hydra as possible.

Composing takes 60 ms, so a thousand members would take a minute. Here, Hydra composes only choices: group
options, and everything else that is not a plain value of a plain key. An option whose file affects only its
own section is composed once, with the first options of the other groups, and combinations of such options are
assembled from their sections. Values of plain keys are set on a copy, and references such as
${trainer.monitor} are resolved afterwards, as Hydra does.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence

from omegaconf import DictConfig, OmegaConf

from slipstream.config import composition, hints
from slipstream.config.files import completed, folder
from slipstream.config.schema import CHOICES, Unusable
from slipstream.core.registry import LISTS
from slipstream.core.types import Plain

Tree = dict[str, Plain]
Combination = tuple[int, ...]  # the index of a choice for every axis

_REFERENCE = re.compile(r"\$\{(\w[\w.]*)\}")
# References that no swept key can change are resolved when Hydra composes.
_SETTLED = re.compile(r"\$\{(hydra|now|oc\.env):[^${}]*\}")
_PLAIN_KEY = re.compile(r"\w+(\.\w+)*")


class Templates:
    """Compositions by choice.

    lines: the overrides of every composition in order, None for an axis. axes: for every such key, its
    choices as overrides. context: overrides for Hydra and for the sweep itself.
    """

    def __init__(
        self,
        lines: Mapping[str, str | None],
        axes: Mapping[str, Sequence[str]],
        context: Sequence[str] = (),
    ) -> None:
        self.lines, self.axes, self.context = dict(lines), dict(axes), list(context)
        self.composed: dict[Combination, Tree] = {}
        self.problems: dict[Combination, list[str]] = {}
        self._merged: dict[Combination, Tree] = {}
        self._references: dict[int, list[tuple[Plain, ...]]] = {}
        self._reaching: dict[tuple[str, int], bool] = {}
        # A user's own files can do anything, such as setting two groups at once.
        own = any(line.lstrip("+").startswith("hydra.searchpath") for line in self.context)
        self.places = {
            key: {line.partition("=")[2]: n for n, line in enumerate(choices)}
            for key, choices in self.axes.items()
        }
        self._separable = composition.UserFolder.path is None and not own

    def overrides(self, combination: Combination) -> list[str]:
        """Return the command line of a combination, without overrides for Hydra or the sweep."""
        places = dict(zip(self.axes, combination, strict=True))
        lines = []
        for key, line in self.lines.items():
            lines.append(self.axes[key][places[key]] if line is None else line)
        return lines

    def tree(self, combination: Combination) -> Tree:
        """Return the configuration of a combination, with references as text. Do not modify it."""
        if combination in self.composed:
            return self.composed[combination]
        if combination not in self._merged:
            merged = self._merge(combination)
            if merged is None:
                return self._compose(combination)
            self._merged[combination] = merged
        return self._merged[combination]

    @property
    def first(self) -> Combination:
        """Return the first choice of every axis."""
        return (0,) * len(self.axes)

    def combinations(self, keys: Sequence[str]) -> Iterator[tuple[Combination, dict[str, int]]]:
        """Yield all choices of some axes, with the others at their first, and the indices of these axes."""
        for row in itertools.product(*(range(len(self.axes[key])) for key in keys)):
            places = dict(zip(keys, row, strict=True))
            yield tuple(places.get(key, 0) for key in self.axes), places

    def singles(self) -> Iterator[Combination]:
        """Yield every choice of every axis, with the others at their first choice."""
        yield self.first
        for key in self.axes:
            yield from (combination for combination, _ in self.combinations([key]))

    def _compose(self, combination: Combination) -> Tree:
        with composition.loading():
            composed, problems = composition.read([*self.context, *self.overrides(combination)], sweeps=True)
            tree = _unresolved(composed)
        self.composed[combination] = tree
        self.problems[combination] = problems
        return tree

    def _merge(self, combination: Combination) -> Tree | None:
        """Assemble a combination from the sections of its options; None if Hydra must compose it."""
        base = tuple(
            place if self._reaches(key, place) else self._home(key)
            for key, place in zip(self.axes, combination, strict=True)
        )
        changed = [n for n, place in enumerate(combination) if place != base[n]]
        if len(changed) < 2:
            return None
        tree = self.tree(base)
        merged = dict(tree)
        for n in changed:
            single = self.tree((*base[:n], combination[n], *base[n + 1 :]))
            own = list(self.axes)[n]
            if any(repr(single.get(key)) != repr(tree.get(key)) for key in {**tree, **single} if key != own):
                return None
            merged[own] = single[own]
        return merged

    def _home(self, key: str) -> int:
        """Return the first choice of an axis that affects only its own section."""
        return next(n for n in range(len(self.axes[key])) if not self._reaches(key, n))

    def _reaches(self, key: str, place: int) -> bool:
        """Return True if a choice may change sections other than its own."""
        if (key, place) not in self._reaching:
            self._reaching[key, place] = not self._separable or _may_reach(self.axes[key][place])
        return self._reaching[key, place]

    def plain(self, combination: Combination, values: Sequence[tuple[str, Plain]]) -> tuple[Tree, list[str]]:
        """Return the plain configuration with these values set, as `composition.screen` returns it."""
        tree = self.tree(combination)
        if id(tree) not in self._references:
            self._references[id(tree)] = list(_open_leaves(tree))
        copy, problems = _copy(tree), []
        for key, value in values:
            if (problem := _set(copy, key, value)) is not None:
                problems.append(problem)
        try:
            _fill_in(copy, self._references[id(tree)])
        except _Unclear:
            return composition.to_plain(DictConfig(copy)), problems
        copy.pop("sweep", None)
        return copy, problems

    def to_json(self) -> dict[str, Plain]:
        """Return data from which `from_json` restores the same compositions, even if YAML files change."""
        return {
            "lines": self.lines,
            "axes": {key: list(choices) for key, choices in self.axes.items()},
            "context": self.context,
            # The notes about the files at that time.
            "reaching": [
                [key, n] for key in self.axes for n in range(len(self.axes[key])) if self._reaches(key, n)
            ],
            # YAML, unlike JSON, keeps keys that are not strings.
            "composed": [
                [list(combination), OmegaConf.to_yaml(OmegaConf.create(tree))]
                for combination, tree in self.composed.items()
            ],
        }

    @classmethod
    def from_json(cls, saved: Mapping[str, Plain]) -> Templates:
        """Restore templates from their `to_json`."""
        made = cls(saved["lines"], saved["axes"], saved["context"])
        reaching = {(key, place) for key, place in saved["reaching"]}
        for key, choices in made.axes.items():
            made._reaching |= {(key, n): (key, n) in reaching for n in range(len(choices))}
        for combination, text in saved["composed"]:
            tree = OmegaConf.to_container(OmegaConf.create(text), resolve=False)
            assert isinstance(tree, dict)
            made.composed[tuple(combination)] = completed(tree)  # type: ignore[arg-type]  # the root is a mapping
        return made


def is_plain(key: str, value: Plain) -> bool:
    """Return True if a value can be set on a composed configuration without Hydra."""
    if not _PLAIN_KEY.fullmatch(key) or ("." not in key and key not in ("seed", "name")):
        return False
    items = value if isinstance(value, list) else [value]
    return all(
        item is None or isinstance(item, bool | int | float) or (isinstance(item, str) and _is_closed(item))
        for item in items
    )


def _is_closed(text: str) -> bool:
    return "${" not in text and text != "???"


def _unresolved(composed: DictConfig) -> Tree:
    tree = OmegaConf.to_container(composed, resolve=False)
    assert isinstance(tree, dict)
    tree.pop("hydra", None)
    for path in list(_open_leaves(tree)):
        if _SETTLED.search(str(_at(tree, path))) and str(_at(tree, path)).count("${") == 1:
            value = composition.to_plain(composed)
            for step in path:
                value = value[step]
            if not isinstance(value, Unusable):
                _at(tree, path[:-1])[path[-1]] = value
    return tree  # type: ignore[return-value]  # the root is a mapping


def _may_reach(override: str) -> bool:
    """Return True if an override's option is not shipped, or its file sets more than its own section."""
    group, _, chosen = override.partition("=")
    if group not in (*CHOICES, *LISTS):
        return True
    files = [
        folder() / group / f"{name.strip()}.yaml" for name in chosen.strip("[]").split(",") if name.strip()
    ]
    texts = [file.read_text(encoding="utf-8") if file.is_file() else "override" for file in files]
    return any("@package _global_" in text or "override" in text for text in texts)


def _copy(node: Plain) -> Plain:
    if isinstance(node, dict):
        return {key: _copy(value) for key, value in node.items()}
    return [_copy(value) for value in node] if isinstance(node, list) else node


def _set(tree: Tree, key: str, value: Plain) -> str | None:
    """Set a value, or return the problem if there is no such key. Validation names unknown keys."""
    *parents, last = key.split(".")
    node: Plain = tree
    for parent in parents:
        node = node.get(parent) if isinstance(node, dict) else None
    if not isinstance(node, dict):
        return hints.no_section(key, value, OmegaConf.create(tree))
    node[last] = _copy(value)
    return None


def _open_leaves(node: Plain, path: tuple[Plain, ...] = ()) -> Iterator[tuple[Plain, ...]]:
    """Yield the paths of strings that are references or mark a missing value."""
    if isinstance(node, dict | list):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield from _open_leaves(value, (*path, key))
    elif isinstance(node, str) and not _is_closed(node):
        yield path


def _at(node: Plain, path: Sequence[Plain]) -> Plain:
    for key in path:
        node = node[key]
    return node


class _Unclear(Exception):
    """OmegaConf must resolve a value: an escape, a function, or a reference to a section or to nothing."""


def _fill_in(tree: Tree, paths: Sequence[tuple[Plain, ...]]) -> None:
    found = []
    for path in paths:
        try:
            text = _at(tree, path)
        except (KeyError, IndexError, TypeError):
            continue  # a value has replaced it
        if isinstance(text, str) and not _is_closed(text):
            found.append((path, Unusable() if text == "???" else _value(tree, text, 0)))
    for path, value in found:
        _at(tree, path[:-1])[path[-1]] = value


def _value(tree: Tree, text: str, depth: int) -> Plain:
    whole = _REFERENCE.fullmatch(text)
    if whole:
        return _lookup(tree, whole[1], depth)
    filled = _REFERENCE.sub(lambda match: str(_lookup(tree, match[1], depth)), text)
    if "${" in _REFERENCE.sub("", text) or "\\" in text:
        raise _Unclear
    return filled


def _lookup(tree: Tree, key: str, depth: int) -> Plain:
    try:
        value = _at(tree, key.split("."))
    except (KeyError, IndexError, TypeError):
        raise _Unclear from None
    if isinstance(value, dict | list) or value == "???" or depth > 20:
        raise _Unclear
    return _value(tree, value, depth + 1) if isinstance(value, str) and "${" in value else value
