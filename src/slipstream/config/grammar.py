"""An extension of Hydra's grammar: mappings accept any key, and quoted keys may have any characters.

Hydra reads only unquoted keys of a few characters. A quoted text before a colon, as in `data.kinds={"a.b
(c)": category}`, is encoded in letters and digits for its grammar and decoded in the result. Without a +,
Hydra also rejects keys that no YAML file contains, such as data.kinds.rooms.
"""

from __future__ import annotations

import functools
import re
from copy import deepcopy

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, OverrideType, Quote, QuotedString
from hydra.errors import HydraException

from slipstream.config.schema import GROUPS, is_mapping, options, settings
from slipstream.core.registry import LISTS
from slipstream.core.types import Plain

MARK = "slipstream_quoted_"
QUOTED = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"", re.DOTALL)


def hide(text: str) -> str:
    """Encode the quoted keys of an override or a value in characters that Hydra accepts.

    >>> hide('data.kinds={"a": number, b: "c"}')
    'data.kinds={slipstream_quoted_61: number, b: "c"}'
    """
    if "{" not in text:
        return text
    made, open_, place = [], [""], 0
    while place < len(text):
        found = QUOTED.match(text, place)
        if found is None:
            letter = text[place]
            if letter in "{[(":
                open_.append(letter)
            elif letter in "}])" and len(open_) > 1:
                open_.pop()
            made.append(letter)
            place += 1
            continue
        place = found.end()
        before, after = "".join(made).rstrip()[-1:], text[place:].lstrip()[:1]
        is_key = open_[-1] == "{" and before in ("{", ",") and after == ":"
        made.append(MARK + _content(found[0]).encode().hex() if is_key else found[0])
    return "".join(made)


def _content(quoted: str) -> str:
    """Return the content of quotes. A backslash escapes only a quote, or itself at the end."""
    quote, inner = quoted[0], quoted[1:-1]
    return re.sub(
        rf"(\\+)({quote}|$)", lambda found: "\\" * (len(found[1]) // 2) + found[2], inner, flags=re.DOTALL
    )


def _shown(value: Plain) -> Plain:
    """Decode a parsed value: restore the keys as they were typed."""
    if isinstance(value, dict):
        return {_key(key): _shown(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_shown(item) for item in value]
    if isinstance(value, ChoiceSweep):
        value.list = _shown(value.list)
    return value


def _key(key: Plain) -> Plain:
    if key is None:  # OmegaConf does not accept None as a key
        return QuotedString("null", Quote.single)
    if not isinstance(key, str) or not key.startswith(MARK):
        return key
    return QuotedString(bytes.fromhex(key.removeprefix(MARK)).decode(), Quote.single)


def takes_any_key(key: str) -> bool:
    """Return True if a key names a setting that is a mapping, or an entry of one.

    >>> takes_any_key("data.kinds.rooms"), takes_any_key("data.kinds"), takes_any_key("data.path")
    (True, True, False)
    """
    group, *parts = key.split(".")
    if group not in GROUPS:
        return False
    return bool(parts[1 if group in LISTS else 0 :]) and parts[1 if group in LISTS else 0] in _mappings(group)


@functools.cache
def _mappings(group: str) -> frozenset[str]:
    """Return the settings of a group's options that are mappings."""
    return frozenset(
        name
        for option in options(group)
        for name, annotation in settings(group, option).items()
        if is_mapping(annotation)
    )


_parse_rule = OverridesParser.parse_rule


@functools.lru_cache(2**12)  # a command line is parsed several times, and ANTLR takes 1 ms per override
def _parsed(s: str, rule_name: str) -> Plain:
    return _parse_rule(_parser(), s, rule_name)


_parser = functools.cache(OverridesParser.create)


def _parse(self: OverridesParser, s: str, rule_name: str) -> Plain:
    found = deepcopy(_parsed(hide(s), rule_name))
    if not isinstance(found, Override):
        return _shown(found)
    found.input_line = s
    found._value = _shown(found._value)
    deep = isinstance(found._value, dict) or found.key_or_group.count(".") > 1
    if deep and found.type is OverrideType.CHANGE and takes_any_key(found.key_or_group):
        found.type = OverrideType.FORCE_ADD
    return found


def extend() -> None:
    """Extend Hydra's parser everywhere, as described in the module's docstring."""
    OverridesParser.parse_rule = _parse  # type: ignore[method-assign]  # replaced on purpose


def parsed(text: str) -> Override | None:
    """Parse an override as Hydra does; return None if it cannot be parsed."""
    try:
        return _parser().parse_override(text)
    except HydraException:
        return None


def value_of(text: str) -> Plain:
    """Parse text as the value of an override."""
    override = parsed(f"key={text}")
    return text if override is None or override.is_sweep_override() else override.value()


def left_open(value: str) -> str:
    """Return the closing brackets that a value lacks, ignoring brackets in quotes.

    >>> left_open("range(3"), left_open("[a,{b:1"), left_open("'('"), left_open("a)")
    (')', '}]', '', '')
    """
    ends = dict(zip("([{", ")]}", strict=True))
    missing: list[str] = []
    for sign in QUOTED.sub("", value):
        if sign in ends:
            missing.insert(0, ends[sign])
        elif missing and sign == missing[0]:
            missing.pop(0)
    return "".join(missing)
