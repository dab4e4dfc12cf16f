"""Wording of messages: counts with nouns, and values and overrides as typed on the command line."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path, PurePath

from slipstream.core.types import Plain

# Strings that Hydra parses as strings without quotes, also inside lists.
PLAIN = re.compile(
    r"(?!(?:null|true|false|nan|inf)$)(?:[a-z_/]|\.\.?/)[\w./@%+*?|-]*", re.IGNORECASE | re.ASCII
)
# Words that need no quotes in bash, zsh and cmd.
BARE = re.compile(r"[\w./@+:,=~-]*", re.ASCII)
# Characters that bash expands inside double quotes.
LIVE = re.compile(r'["$`\\!]')
SHRINKING = ("stride", "pool_size", "pool_every")  # model settings whose larger values shrink the model
KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*|0|[1-9][0-9]*")  # what Hydra accepts as part of a key
CHECKOUT = Path(__file__).parents[3]


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun in the singular or plural.

    >>> counted(1, "row"), counted(1200, "row"), counted(2, "class"), counted(0, "entry", "entries")
    ('1 row', '1,200 rows', '2 classes', '0 entries')
    """
    many = plural or f"{noun}{'es' if noun.endswith(('s', 'x', 'tch', 'sh')) else 's'}"
    return f"{number:,} {noun if number == 1 else many}"


def spell(value: Plain) -> str:
    """Format a plain value for an override such that Hydra parses it back to the same value.

    >>> spell(["dropout", None, 1e-05]), spell("0.1"), spell("it's")
    ('[dropout,null,1e-05]', "'0.1'", "'it\\\\'s'")
    """
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, PurePath):
        value = str(value)
    if isinstance(value, str):
        return value if PLAIN.fullmatch(value) else _quoted(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{spell(key)}:{spell(item)}" for key, item in value.items()) + "}"
    if isinstance(value, Sequence):
        return "[" + ",".join(spell(item) for item in value) + "]"
    return repr(value)


def _quoted(word: str) -> str:
    # Backslashes are special only before a quote and at the end.
    escaped = re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), word)
    return f"'{escaped}'"


def typed(key: str, value: Plain) -> str:
    """Format an override for a shell, with double quotes if they suffice, since cmd has no single quotes.

    >>> typed("optimizer.lr", 0.1), typed("data.target", "my column"), typed("regularizer", ["l2"])
    ('optimizer.lr=0.1', '"data.target=\\'my column\\'"', '"regularizer=[l2]"')
    """
    return shell(f"{key}={spell(value)}")


def entry(key: str, name: str, value: Plain) -> str:
    """Format the override of one entry of a mapping, whatever characters its name has.

    >>> print(entry("data.kinds", "rooms", "category"), entry("data.kinds", "a.b (c)", "ignore"))
    data.kinds.rooms=category "data.kinds={'a.b (c)':ignore}"
    """
    return typed(f"{key}.{name}", value) if KEY.fullmatch(name) else typed(key, {name: value})


def shell(word: str) -> str:
    """Quote one word of a command line if bash, zsh or cmd would split or expand it.

    >>> shell("a=1"), shell("a=b c"), shell("a=$b")
    ('a=1', '"a=b c"', "'a=$b'")
    """
    if word and BARE.fullmatch(word):
        return word
    return shlex.quote(word) if LIVE.search(word) else f'"{word}"'


def axes(shape: Sequence[int]) -> str:
    """Format the shape of N examples.

    >>> axes((1, 16, 16))
    '[N, 1, 16, 16]'
    """
    return f"[{', '.join(['N', *map(str, shape)])}]"


def sizes(settings: Mapping[str, Plain]) -> str:
    """Return the settings that determine the size of a model, as overrides.

    >>> sizes({"depth": 1, "width": [16, 32], "stride": 2}), sizes({})
    ('model.depth=1, "model.width=[16,32]"', 'the inputs')
    """
    large = {k: v for k, v in settings.items() if type(v) is int or (v and isinstance(v, list))}
    return ", ".join(typed(f"model.{k}", v) for k, v in large.items() if k not in SHRINKING) or "the inputs"


def install(extra: str) -> str:
    """Return the command that installs the packages of an extra, for a checkout or an installed wheel.

    It lists the packages, because slipstream is not on PyPI and pip would not find slipstream[extra].
    """
    needed: list[str] = []
    with suppress(metadata.PackageNotFoundError):
        marked = re.compile(rf"(.*?)\s*;.*extra == ['\"]{extra}['\"]")
        lines = metadata.requires("slipstream") or []
        needed = [found[1] for found in map(marked.fullmatch, lines) if found]
    if not needed:  # a checkout that is not installed, or was before the extra was there
        project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        needed = project["optional-dependencies"][extra]
    return " ".join(["pip install", *map(shell, needed)])
