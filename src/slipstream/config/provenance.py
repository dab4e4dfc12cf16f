"""The origin of an invalid choice that comes from an experiment instead of the command line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from slipstream.config.files import experiment_content, experiments
from slipstream.core.registry import LISTS
from slipstream.core.types import Plain


def traced(problems: Iterable[str], overrides: Sequence[str]) -> list[str]:
    """Return the problems. Those caused by a shipped experiment name it, and suggest another if one fits.

    overrides: the command line that caused them.
    """
    problems = list(problems)
    chosen = [text.partition("=")[2] for text in overrides if text.startswith("experiment=")]
    if len(chosen) != 1 or chosen[0] not in experiments():
        return problems
    typed = {text.partition("=")[0].lstrip("+~") for text in overrides}
    content = experiment_content(chosen[0])
    return [_traced(sentence, chosen[0], content, typed) for sentence in problems]


def _traced(sentence: str, name: str, content: Mapping[str, Plain], typed: set[str]) -> str:
    key = sentence.partition(":")[0].partition("=")[0]
    if key.partition(".")[0] in typed or key in typed or not _brings(content, key):
        return sentence
    others = [other for other in experiments() if other.startswith(f"{name}_")]
    meant = [other for other in others if other.removeprefix(f"{name}_") in sentence]
    cure = f": take experiment={meant[0]}" if meant else ""
    if (
        not meant
        and key.startswith("data.")
        and "data" not in typed
        and "override /data" not in str(content.get("defaults"))
    ):
        cure = ", which is meant for other data; add data=..., such as data=wine"
    return f"{sentence} ({key} comes from experiment={name}{cure})"


def _brings(content: Mapping[str, Plain], key: str) -> bool:
    """Return True if an experiment selects the option, or sets the value, that the key names."""
    chosen: dict[str, Plain] = {}
    for choice in content.get("defaults", []):
        chosen |= choice if isinstance(choice, Mapping) else {}
    group, *rest = key.split(".")
    options = chosen.get(f"override /{group}", [])
    if group in LISTS and rest:
        return rest[0] in options
    node: Plain = content
    for step in (group, *rest):
        node = node.get(step) if isinstance(node, Mapping) else None
    return node is not None or (not rest and bool(options))
