"""Hints for unknown keys, options and values, from other tools' names and from the nearest known name."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache
from typing import NamedTuple

from slipstream.config import schema
from slipstream.config.files import folder
from slipstream.config.schema import CHOICES, GROUPS
from slipstream.config.synonyms import ANSWERS, LEFT_OUT, OPTIONS, SETTINGS, VALUES
from slipstream.core import registry
from slipstream.core.errors import did_you_mean, folded, nearest
from slipstream.core.registry import LISTS
from slipstream.core.types import Plain
from slipstream.core.wording import entry, spell, typed

Chosen = Mapping[str, Sequence[str]]  # group -> its chosen options

# If several options have a setting, the option that is suggested.
USUAL = ("table", "mlp", "convnet", "adam", "adamw", "momentum", "patience", "step", "dropout", "l2", "tpe")
TOP: Mapping[str, Plain] = {"name": str, "seed": schema.Seed, "resume": str}


class Section(NamedTuple):
    """The settings below one key. first: the override that selects the option, if it is not selected yet."""

    path: str
    settings: Mapping[str, Plain]
    first: tuple[str, ...] = ()


def option(group: str, name: str, offered: Collection[str]) -> str:
    """Return the hint for an unknown option of the group: `did you mean adam?`, or all options."""
    other = OPTIONS.get(group, {}).get(folded(name), "")
    if other.partition(" ")[0] not in offered:
        return did_you_mean(name, offered)
    return f"did you mean {f'{group}={other}' if ' ' in other else other}?"


def chosen(values: Mapping[Plain, Plain]) -> dict[str, list[str]]:
    """Return the options that a possibly invalid configuration selects."""
    found: dict[str, list[str]] = {}
    for group in (*CHOICES, *LISTS):
        section = values.get(group)
        if isinstance(section, Mapping):
            names = list(section) if group in LISTS else [section.get("name")]
            found[group] = [name for name in names if name in schema.options(group)]
    return found


@cache
def shipped() -> Chosen:
    """Return the options that train.yaml selects."""
    import yaml

    content = yaml.safe_load((folder() / "train.yaml").read_text(encoding="utf-8"))
    pairs = [pair for entry in content["defaults"] if isinstance(entry, dict) for pair in entry.items()]
    found = {group: [name] if isinstance(name, str) else name for group, name in pairs}
    return {group: names for group, names in found.items() if group in (*CHOICES, *LISTS)}


def key(path: str, found: Plain, chosen: Chosen | None = None) -> str | None:
    """Return the hint for an unknown key, `did you mean optimizer.lr=0.1?`, or None.

    found: its value. chosen: the selected options of the configuration, by default those of train.yaml.
    """
    chosen = chosen or shipped()
    head, _, rest = path.partition(".")
    word = path.rpartition(".")[2]
    tries = (
        _left_out(path, found, chosen),
        _within(path, found, chosen),
        _misspelt_group(head, rest, found, chosen),
        _of_option(head, rest, found, chosen) if rest else [],
        _answer(word),
        _group_or_setting(word, found, chosen),
        _of_option(word, "", found, chosen, LISTS),
        _anywhere(word, found, _unchosen(chosen)),
        _of_option(word, "", found, chosen, CHOICES),
        _near(path, found, chosen),
    )
    return next((hint for hint in map(_said, tries) if hint), None)


def setting_of(group: str, name: str, found: Plain, chosen: Chosen) -> str:
    """Return the hint for a setting below a list group whose option is not in the list."""
    return _said(_anywhere(name, found, _unchosen(chosen, [group])))


def _said(overrides: Sequence[str] | str) -> str:
    if not overrides or isinstance(overrides, str):
        return str(overrides or "")
    return f"did you mean {' '.join(overrides)}?"


def _chosen_sections(chosen: Chosen) -> Iterator[Section]:
    yield Section("", TOP)
    yield Section("trainer", schema.settings("trainer", "default"))
    for group in CHOICES:
        for name in chosen.get(group, ()):
            yield Section(group, schema.settings(group, name))
    for group in LISTS:
        for name in chosen.get(group, ()):
            yield Section(f"{group}.{name}", schema.settings(group, name))
    yield Section("sweep", schema.settings("sweep", "grid"), ("-m",))


def _unchosen(chosen: Chosen, groups: Sequence[str] = (*CHOICES, *LISTS)) -> Iterator[Section]:
    for group in groups:
        for name in sorted(schema.options(group), key=lambda name: (name not in USUAL, name)):
            if name not in chosen.get(group, ()):
                yield _option_section(group, name, chosen)
    if len(groups) > 1:
        yield Section("sweep", schema.settings("sweep", "tpe"), ("-m", "sweep=tpe"))


def _option_section(group: str, name: str, chosen: Chosen) -> Section:
    path = f"{group}.{name}" if group in LISTS else group
    if name in chosen.get(group, ()):
        return Section(path, schema.settings(group, name))
    before = chosen.get(group, ()) if group in LISTS else ()
    names = [*before, name] if before else name
    return Section(path, schema.settings(group, name), (typed(group, names),))


def _names(word: str, settings: Mapping[str, Plain]) -> list[str]:
    """Return the settings that a word may mean, ignoring case and separators."""
    plain = {folded(name): name for name in settings}
    if folded(word) in plain:
        return [plain[folded(word)]]
    return [name for name in SETTINGS.get(folded(word), ()) if name in settings]


def _overrides(section: Section, names: Sequence[str], found: Plain) -> list[str]:
    """Return overrides that set all settings to a value, or each setting to its item of a list."""
    several = isinstance(found, list) and len(found) == len(names) > 1
    values = found if several else [found] * len(names)
    pairs = zip(names if several else names[:1], values, strict=False)
    return [*section.first, *(_override(section, name, value) for name, value in pairs)]


def _override(section: Section, name: str, found: Plain) -> str:
    path = f"{section.path}.{name}" if section.path else name
    annotation = section.settings[name]
    right = VALUES.get(path, {}).get(folded(str(found)))
    if right is None:
        right = found if schema.fits(annotation, found) else schema.mended(path, found, annotation)
    return path if right is None else typed(path, right)


def _within(path: str, found: Plain, chosen: Chosen) -> list[str]:
    """Search the section that the key names, then other options of its group: optimizer.learning_rate."""
    place, _, word = path.rpartition(".")
    own = next((section for section in _chosen_sections(chosen) if place and section.path == place), None)
    if own is None:
        return []
    near = _almost(word, own.settings)
    return (
        _anywhere(word, found, [own])
        or (_overrides(own, [near], found) if near else [])
        or _anywhere(word, found, _unchosen(chosen, [place] if place in CHOICES else []))
    )


def _left_out(path: str, found: Plain, chosen: Chosen) -> list[str]:
    """Find the kinds of columns that a setting of another tool leaves out: data.ignore=id."""
    place, _, word = path.rpartition(".")
    names = [name for name in (found if isinstance(found, list) else [found]) if isinstance(name, str)]
    kinds = any("kinds" in schema.settings("data", name) for name in chosen.get("data", ()))
    if not (kinds and names and place in ("", "data") and folded(word) in LEFT_OUT):
        return []
    several = typed("data.kinds", dict.fromkeys(names, "ignore"))
    return [entry("data.kinds", names[0], "ignore") if len(names) == 1 else several]


def _almost(word: str, settings: Mapping[str, Plain]) -> str | None:
    """Find a setting whose name differs by a character or two."""
    import difflib

    near = difflib.get_close_matches(folded(word), [folded(name) for name in settings], n=1, cutoff=0.8)
    return next((name for name in settings if [folded(name)] == near), None)


def _anywhere(word: str, found: Plain, sections: Iterator[Section] | Sequence[Section]) -> list[str]:
    for section in sections:
        if names := _names(word, section.settings):
            return _overrides(section, names, found)
    return []


def _misspelt_group(head: str, rest: str, found: Plain, chosen: Chosen) -> list[str]:
    """Correct misspelled groups, such as optimizr.lr and optim=adam."""
    groups = [*GROUPS, "sweep", "seed", "name", "resume", "experiment"]
    group = next((name for name in groups if folded(name) == folded(head)), None)
    group = group or _prefix_or_near(head, groups)
    if group is None or group == head:
        return []
    if not rest:
        return [typed(group, found)] if group in TOP else _choice(group, found)
    sections = [section for section in _chosen_sections(chosen) if section.path.partition(".")[0] == group]
    word = rest.rpartition(".")[2]
    exact = [s for s in sections if word in s.settings]
    return _anywhere(word, found, exact or sections) or [group + "." + rest]


def _prefix_or_near(head: str, groups: Sequence[str]) -> str | None:
    import difflib

    if len(head) < 3:
        return None
    longer = [group for group in groups if group.startswith(folded(head))]
    near = difflib.get_close_matches(folded(head), groups, n=1, cutoff=0.75)
    return next(iter([*longer, *near]), None)


def _choice(group: str, found: Plain) -> list[str]:
    """Return the override that selects the value in a group, or only the group if it has no such option."""
    names = found if isinstance(found, list) else [found]
    offered = schema.options(group) if group in GROUPS and group != "trainer" else []
    known = [str(name) if name in offered else option_named(group, spell(name), offered) for name in names]
    if group == "experiment":
        return [typed(group, found)]
    if not offered or not all(known) or not (known or group in LISTS):
        return [group]
    return [typed(group, known if group in LISTS and len(known) != 1 else known[0])]


def option_named(group: str, name: str, offered: Collection[str]) -> str | None:
    """Return the option meant by a name from another tool or a misspelled one."""
    other = OPTIONS.get(group, {}).get(folded(name))
    return other if other in offered else nearest(name, offered)


def _of_option(
    name: str, rest: str, found: Plain, chosen: Chosen, groups: Sequence[str] = (*LISTS, *CHOICES)
) -> list[str]:
    """Resolve an option's name in place of a key: dropout.p, l2=0.1, adam."""
    for group in groups:
        offered = schema.options(group)
        known = next((o for o in offered if folded(o) == folded(name)), None)
        known = known or (OPTIONS.get(group, {}).get(folded(name)) if group in LISTS else None)
        if known is None:
            continue
        section = _option_section(group, known, chosen)
        if rest:
            names = _names(rest, section.settings) or [n for n in [_almost(rest, section.settings)] if n]
            if names:
                return _overrides(section, names, found)
            continue
        fitting = [n for n in section.settings if schema.fits(section.settings[n], found)]
        if fitting and group in LISTS and found is not None and not isinstance(found, bool):
            return _overrides(section, fitting[:1], found)
        return list(section.first) or [typed(group, known)]
    return []


def _answer(word: str) -> str:
    return ANSWERS.get(folded(word), "")


def _group_or_setting(word: str, found: Plain, chosen: Chosen) -> list[str]:
    """Find a group, or a setting of another section: model.activation, trainer.batch_size, lr."""
    group = next((name for name in (*CHOICES, *LISTS) if folded(name) == folded(word)), None)
    if group is not None:
        return _choice(group, found)
    if folded(word) in ("metric", "metrics", "scoring"):
        return [typed("trainer.metrics", _metrics(found))]
    return _anywhere(word, found, _chosen_sections(chosen))


def _metrics(found: Plain) -> list[str]:
    known = registry.components("metric")
    names = [str(name) for name in (found if isinstance(found, list) else [found])]
    return [option_named("metric", name, known) or name for name in names]


def _near(path: str, found: Plain, chosen: Chosen) -> list[str]:
    """Find the nearest key in the whole configuration."""
    word = path.rpartition(".")[2]
    for section in _chosen_sections(chosen):
        if near := _almost(word, section.settings):
            return _overrides(section, [near], found)
    return []
