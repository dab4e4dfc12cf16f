"""Hints for options and keys that cannot be composed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from omegaconf import DictConfig, OmegaConf

from slipstream.config import grammar, meant
from slipstream.config.schema import GROUPS, options
from slipstream.config.synonyms import COMMANDS
from slipstream.core.errors import did_you_mean, nearest
from slipstream.core.registry import LISTS
from slipstream.core.types import Plain
from slipstream.core.wording import entry, shell, typed

# Hints for "none" in groups that have no such option.
NOTHING = {
    "regularizer": "write regularizer=[]",
    "augmentation": "write augmentation=[]",
    "logger": "write logger=[]",
    "scheduler": "did you mean constant?",
    "activation": "did you mean identity?",
}


QUOTES = "'\""
EMPTY_ITEM = re.compile(r"(?<=[\[,])(?=[,\]])")  # of a list, which Hydra does not read
ENDINGS = (".csv", ".tsv", ".gz", ".parquet", ".txt")  # file names that data=table reads


def no_option(group: str, name: str, offered: Sequence[str]) -> str:
    """Return the sentence for an unknown option."""
    if group in GROUPS and name in options(group):
        file = f"{group}/{name}.yaml"
        return f"{group}={name}: is registered but has no YAML; create DIR/{file} and add --config-dir DIR"
    hint = NOTHING.get(group) if name == "none" else _elsewhere(group, name)
    return f"{group}={name}: no such option, {hint or meant.option(group, name, offered)}"


def written_out(group: str, value: Mapping[Plain, Plain]) -> str:
    """Return advice to write names and settings of a mapping as separate overrides."""
    names = {str(key): inner for key, inner in value.items() if isinstance(inner, dict)}
    if not names or (group not in LISTS and len(names) > 1):
        below = f"{group}.OPTION.SETTING" if group in LISTS else f"{group}.SETTING"
        return f"set each setting by itself, {below}=VALUE"
    words = [f"{group}=[{','.join(names)}]" if group in LISTS else f"{group}={next(iter(names))}"]
    for name, inner in names.items():
        below = f"{group}.{name}" if group in LISTS else group
        words += [f"{below}.{key}={setting}" for key, setting in inner.items()]
    return f"write {' '.join(words)}"


def _elsewhere(group: str, name: str) -> str | None:
    """Find the option in another group: regularizer=mixup is augmentation=[mixup]."""
    if group in LISTS and name in LISTS:
        return f"it is a group of its own: {name}=[...]"
    if group in LISTS and name in GROUPS:
        return f"it is a group of its own: {name}=OPTION; slipstream list {name} lists the options"
    if group == "data" and name.endswith(ENDINGS):
        return f"did you mean data=table {typed('data.path', name)}?"
    others = [other for other in LISTS if group in LISTS and other != group and name in options(other)]
    return f"it is an option of {others[0]}: {others[0]}=[{name}]" if others else None


def no_section(key: str, value: Plain, composed: DictConfig) -> str:
    """Return the sentence for a key, with its value, below something that has no keys."""
    group, _, rest = key.partition(".")
    if group in LISTS:
        return f"{key}: {_unchosen(group, rest, value, list(composed[group]))}"
    parent = key.rpartition(".")[0]
    found = OmegaConf.select(composed, parent)
    if found is not None:
        return f"{key}: no such key, {parent} is {found}; set {parent} itself"
    chosen = meant.chosen(composed)
    hint = meant.key(key, value, chosen) or meant.key(parent, None, chosen)
    return f"{key}: no such key" + (f", {hint}" if hint else "")


def no_key(key: str, value: Plain, composed: DictConfig | None, line: str) -> str:
    """Return the sentence for an override whose first word is not a group."""
    hint = meant.key(key, value, composed and meant.chosen(composed))
    groups = [*GROUPS, "experiment", "name", "seed", "resume"]
    return f"{line}: no such group or key, {hint or did_you_mean(key.partition('.')[0], groups)}"


def _unchosen(group: str, rest: str, value: Plain, chosen: Sequence[str]) -> str:
    """Explain how to use settings of an option that is not in the list. rest: the key below the group."""
    name = rest.partition(".")[0]
    if name not in options(group):
        other = next((other for other in LISTS if other != group and name in options(other)), None)
        if other is not None:
            return f"{name} is an option of {other}, did you mean {other}.{rest}?"
        hint = meant.key(rest, value, {group: chosen}) if "." in rest else None
        return f"no such option, {hint or meant.option(group, name, options(group))}"
    said = f"{name} is not among the selected {group}s ({', '.join(chosen) or 'none'}); add it: "
    hint = meant.key(rest, value, {group: chosen})
    return said + (hint.removeprefix("did you mean ").rstrip("?") if hint else typed(group, [*chosen, name]))


def without_blanks(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the words except those split by a space next to `=`, and a sentence for each of the latter.

    >>> without_blanks(["seed=1", "optimizer.lr", "=", "0.1"])[0]
    ['seed=1']
    """
    kept, problems, rest = [], [], [*words]
    while rest:
        pieces = [rest.pop(0)]
        if "=" not in pieces[0] and rest and rest[0].startswith("="):
            pieces.append(rest.pop(0))
        if pieces[-1].endswith("=") and rest and "=" not in rest[0]:
            pieces.append(rest.pop(0))
        if len(pieces) == 1 or pieces[0][:1] in ("", "-", "="):
            kept += pieces
        else:
            problems.append(_blank_beside(" ".join(pieces), "".join(pieces)))
    return kept, problems


def _blank_beside(text: str, right: str) -> str:
    return f"{text}: there must be no space next to =, did you mean {shell(right)}?"


def unreadable(text: str) -> str:
    """Return the sentence for an override that Hydra cannot read."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        hint = bare(text)
        if hint == f"did you mean {text}?":
            return f"{text}: has no value, expected {text}=VALUE"
        return f"{text}: expected key=value{hint and f', {hint}'}"
    if key != key.strip() and grammar.parsed(right := f"{key.strip()}={value.strip()}"):
        return _blank_beside(text, right)
    if choice := inline_settings(key, value):
        return f"{text}: write the option and its settings as separate overrides: {choice}"
    group, *rest = key.split(".", 2)
    if len(rest) == 2 and group not in LISTS and grammar.takes_any_key(key) and grammar.parsed(f"k={value}"):
        right = entry(f"{group}.{rest[0]}", rest[1], grammar.value_of(value))
        return f"{text}: {rest[1]} must be in quotes, did you mean {right}?"
    ends, quoted = grammar.left_open(value), typed(key, value.strip(QUOTES))
    if ends and grammar.parsed(text + ends):
        return f"{text}: a bracket is not closed, did you mean {shell(text + ends)}?"
    whole = EMPTY_ITEM.sub("''", value)
    if whole != value and grammar.parsed(f"{key}={whole}"):
        return f"{text}: an item is empty; did you mean {shell(f'{key}={whole}')}, with an empty text?"
    if not ends and (wrong := _unreadable_signs(value)):
        return f"{text}: {' '.join(wrong)} must be in quotes, did you mean {quoted}?"
    what = "a bracket is not closed" if ends else "the value cannot be parsed"
    return f"{text}: {what}; write a text that contains , [ ] {{ }} = # or quotes as {quoted}"


def _unreadable_signs(value: str) -> list[str]:
    """Return the characters that Hydra reads only in quotes, such as letters outside ASCII."""
    return [sign for sign in dict.fromkeys(value) if grammar.parsed(f"key=a{sign}a") is None]


def bare(word: str) -> str:
    """Return the hint for a word without `=`, such as adam, lr or lst, or an empty string."""
    if word in COMMANDS:
        return COMMANDS[word]
    if nearest(word, ["list"]):
        return "or did you mean slipstream list?"
    if word.lower().endswith(ENDINGS):
        return f"did you mean data=table {typed('data.path', word)}?"
    key, colon, value = word.partition(":")
    if colon and key and value:
        return f"did you mean {typed(key, value)}?"
    if len(key) < 2 or key.startswith(("-", "=")):
        return ""
    if key in GROUPS:
        return f"such as {key}={next((o for o in meant.USUAL if o in options(key)), options(key)[0])}"
    return meant.key(key, None) or ""


def flag(word: str, value: Plain) -> str:
    """Return the sentence for an option in another tool's style: --lr 0.1, --optimizer=adam, --gpu."""
    key = word.lstrip("-").replace("-", "_")
    if key in GROUPS and value is not None:
        hint: str | None = f"did you mean {typed(key, value)}?"
    elif key in meant.TOP or "." in key:
        hint = f"did you mean {typed(key, value) if value is not None else f'{key}=VALUE'}?"
    else:
        hint = meant.key(key, value)
    return f"{word}: no such flag; write settings as key=value" + (f", {hint}" if hint else "")


def inline_settings(group: str, value: str) -> str:
    """Split optimizer=adam,lr=0.1 into overrides; return an empty string for anything else."""
    name, *pairs = value.split(",")
    pieces = [pair.partition("=") for pair in pairs]
    if group not in GROUPS or name not in options(group) or not pieces or not all(p[1] for p in pieces):
        return ""
    below = f"{group}.{name}" if group in LISTS else group
    settings = [shell(f"{below}.{key.strip()}={setting.strip()}") for key, _, setting in pieces]
    return " ".join([f"{group}={name}", *settings])
