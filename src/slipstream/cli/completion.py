"""Tab completion of commands, options, run folders, groups, settings and their values.

argcomplete (`slipstream completion SHELL`) and Hydra (`python train.py -sc install=SHELL`) call this module.
Names come from the config files, because importing the components would be too slow for Tab.
"""

from __future__ import annotations

import os
import re
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain, islice, pairwise
from pathlib import Path

from slipstream.cli import commands
from slipstream.config.files import folder
from slipstream.core.registry import LISTS

FLAGS = ("--help", "--version", "--multirun", "-m", "--resolve", "--hydra-help", "--info")
RUN = "RUN"  # a metavar with this word takes run folders, one with OVERRIDES settings of their data
OVERRIDES = "data.KEY=VALUE"
SETTINGS = "| KEY=VALUE"  # in the metavar of words that may be settings of train.py, too
FILES = re.compile(r"data\.(\w+_)?(path|labels|cache)")  # settings that name a file or a folder
DEEPEST, MOST = 3, 300  # how deep below a folder to search for runs, and among how many entries


def answer() -> None:
    """Answer argcomplete's script, and end the process."""
    from argcomplete import autocomplete
    from argcomplete.lexers import split_line

    # The words between the program's name and the word being typed.
    before = split_line(os.environ["COMP_LINE"], int(os.environ["COMP_POINT"]))[3][1:]
    if before and before[0] in commands.COMMANDS:
        os.environ["_ARGCOMPLETE"] = "2"  # the parser's words begin after the command's name
        parser: ArgumentParser = commands.parser(before[0])
        for action in parser._actions:
            if RUN in str(action.metavar) or OVERRIDES in str(action.metavar):
                offered = partial(_of_run, before=before[1:], what=str(action.metavar))
                action.completer = _completer(offered)  # type: ignore[attr-defined]  # argcomplete's API
    else:
        parser = ArgumentParser("slipstream", add_help=False)
        for flag in FLAGS:
            parser.add_argument(flag, action="store_true")
        parser.add_argument("--cfg", choices=("job", "hydra", "all"))
        parser.add_argument("--config-dir", "-cd")
        words = parser.add_argument("words", nargs="*")
        words.completer = _completer(partial(offers, before))  # type: ignore[attr-defined]  # as above
    autocomplete(parser, always_complete_options=False)


def _completer(offered: Callable[[str], list[str]]) -> Callable[..., list[str]]:
    return lambda prefix, **_: offered(prefix)


def offers(before: Sequence[str], prefix: str) -> list[str]:
    """Return the completions of `prefix` after the words `before` of a command line.

    >>> offers(["optimizer=adam"], "scheduler=cos")
    ['scheduler=cosine', 'scheduler=cosine_restarts', 'scheduler=coslog']
    >>> offers(["optimizer=adam"], "optimizer.b")
    ['optimizer.beta1=', 'optimizer.beta2=']
    """
    if before[:1] == ["list"]:
        return _listed(before[1:], prefix)
    if before[:1] and before[0] in commands.COMMANDS:
        what = f"{RUN} {SETTINGS if before[0] == 'find-lr' else OVERRIDES}"
        return _of_run(prefix, before[1:], what)
    return _of_training(before, prefix, first=not before)


def _of_training(before: Sequence[str], prefix: str, *, first: bool) -> list[str]:
    """Return words of the command line of train.py; as the first one commands, too."""
    key, equals, value = prefix.partition("=")
    if equals:
        return [key + equals + found for found in _values(before, key, value)]
    return sorted(word for word in _keys(before, prefix, first=first) if word.startswith(prefix))


def _keys(before: Sequence[str], prefix: str, first: bool) -> Iterator[str]:
    """Yield words that end in `=` or `.`, and commands for the first word."""
    section, dot, _ = prefix.partition(".")
    if dot:
        for option in _chosen(section, before):
            path = f"{section}.{option}." if section in LISTS else f"{section}."
            yield from (f"{path}{name}=" for name in _settings(section, option, before))
        return
    if first:
        yield from (*commands.COMMANDS, "list", "train")
    yield from (f"{group}=" if group != "trainer" else "trainer." for group in groups())
    if prefix:  # otherwise each group would be listed twice
        yield from (f"{group}." for group in groups() if group not in ("experiment", "trainer"))
    yield from ("name=", "seed=", "resume=")


def _values(before: Sequence[str], key: str, value: str) -> Iterator[str]:
    """Yield the values of a key that begin with the typed text."""
    if key == "resume":
        yield from _paths(value, _has_runs)
    elif FILES.fullmatch(key):
        yield from _paths(value, lambda entry: True)
    else:
        typed = value[: max(map(value.rfind, "[,")) + 1]  # of a list, or of the values of a sweep
        used = re.split(r"[\[,]", typed)
        names = option_names(key, before) if "." not in key else _words(before, key)
        yield from (typed + name for name in names if name not in used and (typed + name).startswith(value))


def groups() -> list[str]:
    """Return the names of the config groups."""
    return sorted(path.name for path in folder().iterdir() if path.is_dir())


def option_names(group: str, before: Sequence[str]) -> list[str]:
    """Return the names of a group's options, those of --config-dir first."""
    found = [file.stem for place in _places(before) for file in sorted((place / group).glob("[!_]*.yaml"))]
    return list(dict.fromkeys(found))


def _places(before: Sequence[str]) -> list[Path]:
    """Return the config folders: that of --config-dir, and the shipped one."""
    return [*(Path(own) for flag, own in pairwise(before) if flag in ("--config-dir", "-cd")), folder()]


def _chosen(group: str, before: Sequence[str]) -> list[str]:
    """Return the chosen options of a group: from a word, an experiment or the shipped defaults."""
    chosen = _said(group, before)
    if not chosen:
        for experiment in _said("experiment", before):
            chosen = _defaults(folder() / "experiment" / f"{experiment}.yaml", f"override /{group}")
    if group in LISTS:
        return chosen or option_names(group, before)
    return chosen or _defaults(folder() / "train.yaml", group)


def _said(group: str, before: Sequence[str]) -> list[str]:
    words = [word.partition("=")[2] for word in before if word.startswith(f"{group}=")]
    return [name for name in re.split(r"[\[\],]", words[-1]) if name] if words else []


def _defaults(file: Path, key: str) -> list[str]:
    """Return the options that a YAML file's defaults list chooses for a key."""
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    return re.findall(rf"^  - {re.escape(key)}: (\w+)", text, re.MULTILINE)


def _settings(group: str, option: str, before: Sequence[str]) -> list[str]:
    """Return the names of an option's settings, from its YAML, because the registry may import numpy."""
    files = [place / group / f"{option}.yaml" for place in _places(before)]
    text = next((file.read_text(encoding="utf-8") for file in files if file.is_file()), "")
    if text.startswith("# @package _global_"):  # it also sets keys of other groups
        own = re.search(rf"^{group}:\n((?:  .*\n)+)", text, re.MULTILINE)
        text = re.sub("^  ", "", own[1] if own else "", flags=re.MULTILINE)
    shared = [_settings(group, base, before) for base in re.findall(r"^  - (_\w+)$", text, re.MULTILINE)]
    names = [*re.findall(r"^(\w+):", text, re.MULTILINE), *chain(*shared), *_of_all_options(group)]
    return [name for name in dict.fromkeys(names) if name not in ("name", "defaults")]


def _of_all_options(group: str) -> list[str]:
    """Return the names of the settings that all options of a group have, from train.yaml."""
    text = (folder() / "train.yaml").read_text(encoding="utf-8")
    own = re.search(rf"^{group}:\n((?:  .*\n)+)", text, re.MULTILINE)
    return re.findall(r"^  (\w+):", own[1], re.MULTILINE) if own else []


def _words(before: Sequence[str], key: str) -> list[str]:
    """Return the words that a setting accepts: those of a Literal, true and false, null."""
    from slipstream.config.schema import GROUPS, fits, options, settings, words

    section, *path = key.split(".")
    for option in [path[0]] if section in LISTS else _chosen(section, before):
        if section in (*GROUPS, "sweep") and option in options(section):
            annotation = settings(section, option).get(path[-1])
            plain = {"true": True, "false": False, "null": None} if annotation is not None else {}
            return [*words(annotation), *(word for word, it in plain.items() if fits(annotation, it))]
    return []


def _listed(before: Sequence[str], prefix: str) -> list[str]:
    """Return the groups of `slipstream list`, or the options of one."""
    names = [*groups(), "metric"]
    if before[:1] == ["metric"]:
        from slipstream.core.registry import components

        names = list(components("metric"))
    elif before:
        names = option_names(before[0], ()) if before[0] in names else []
    return sorted(name for name in names if len(before) < 2 and name.startswith(prefix))


def _of_run(prefix: str, before: Sequence[str], what: str) -> list[str]:
    """Return run folders, and the data settings of a run that has already been named."""
    key, equals, value = prefix.partition("=")
    found: list[str] = []
    if SETTINGS in what:
        found = _of_training(before, prefix, first=False)
    elif equals and FILES.fullmatch(key):
        found = [f"{key}={path}" for path in _paths(value, lambda entry: True)]
    elif OVERRIDES in what:
        run = next((Path(word) for word in before if "=" not in word and not word.startswith("-")), None)
        files = [] if run is None else [run / "config.yaml", *islice(run.glob("*/config.yaml"), 1)]
        for file in [file for file in files if file.is_file()][:1]:
            source = re.search(r"^data:\n(?:  .*\n)*?  name: (\w+)", file.read_text("utf-8"), re.MULTILINE)
            names = [f"data.{name}=" for name in _settings("data", source[1] if source else "", ())]
            found = [name for name in names if name.startswith(prefix)]
    return found + (list(_paths(prefix, _has_runs)) if RUN in what else [])


def _paths(prefix: str, wanted: Callable[[os.DirEntry[str]], bool]) -> Iterator[str]:
    """Yield files and folders that begin with `prefix`; a folder that is not a run ends in a slash."""
    parent, name = os.path.split(prefix)
    try:
        entries = sorted(os.scandir(os.path.expanduser(parent) or "."), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        hidden = entry.name.startswith(".") and not name
        if entry.name.startswith(name) and not hidden and wanted(entry):
            slash = "/" if entry.is_dir() and not is_run(entry.path) else ""
            yield os.path.join(parent, entry.name) + slash


def is_run(path: str) -> bool:
    """Return True for the folder of a run, finished or not, or of a sweep."""

    def has(name: str) -> bool:
        return os.path.exists(os.path.join(path, name))

    return has("sweep.json") or (has("config.yaml") and (has("summary.json") or has("checkpoints")))


def _has_runs(entry: os.DirEntry[str]) -> bool:
    """Return True if a folder is a run, contains one, or is too large to search."""
    return entry.is_dir() and _found(entry.path, DEEPEST, [MOST])


def _found(path: str, depth: int, left: list[int]) -> bool:
    if is_run(path):
        return True
    try:
        below = [entry.path for entry in os.scandir(path) if entry.is_dir() and entry.name[0] != "."]
    except OSError:
        return False
    left[0] -= len(below)
    return left[0] < 0 or (depth > 1 and any(_found(inner, depth - 1, left) for inner in below))
