"""Validation: from a plain nested mapping to a typed, frozen configuration."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from slipstream.config import meant, rules
from slipstream.config import metric_rules as metric_rules  # registers its rules
from slipstream.config.files import defaults, listed, of_all, paths
from slipstream.config.run_config import Choice, Config
from slipstream.config.schema import CHOICES, GROUPS, Seed, Trainer, Unusable, check, options, settings, show
from slipstream.core import contracts, registry
from slipstream.core.errors import ConfigError, did_you_mean, nearest
from slipstream.core.registry import LISTS
from slipstream.core.types import Plain
from slipstream.core.wording import typed

if TYPE_CHECKING:
    from slipstream.core.types import Target


# A function that returns the hint for an unknown key and its value, or None.
Hint = Callable[[str, Plain], str | None]
# The keys outside all groups.
TOP: dict[str, Plain] = {"name": str, "seed": Seed, "resume": str | None}


def compose(*overrides: str | Sequence[str]) -> dict[str, Plain]:
    """Compose the configuration of a command line and validate it.

    Args:
        overrides: strings as on the command line, or lists of strings.

    Returns:
        Nested dicts and lists with all references resolved, for `train` and `train_pack`.

    Raises:
        ConfigError: the configuration is invalid. The message lists every problem: unknown keys and options,
            values of the wrong type or out of range, settings that contradict each other, and `resume` and
            `hydra` keys, which work only on the command line.

    Example:
        >>> import slipstream
        >>> config = slipstream.compose("optimizer=sgd", "optimizer.lr=0.1")
        >>> config["optimizer"]["name"], config["optimizer"]["lr"]
        ('sgd', 0.1)
    """
    texts: list[str] = []
    for item in overrides:
        texts += [item] if isinstance(item, str) or not isinstance(item, Sequence) else item
    problems = [sentence for text in texts for sentence in _not_for_python(text)]
    if problems:
        raise ConfigError(problems)
    return composed(texts)


def _not_for_python(override: Plain) -> Iterator[str]:
    """Yield problems with overrides that have no effect in Python: a run's folder and `resume`."""
    if not isinstance(override, str):
        yield f"{override!r}: expected a string, such as 'optimizer.lr=0.1'"
    elif override.startswith("resume="):
        yield f"{override}: resume runs on the command line with python train.py {override}"
    elif override.lstrip("+~").startswith(("hydra.", "hydra/")):
        yield f"{override}: works only on the command line; use slipstream.train(config, directory)"


def composed(overrides: Sequence[str]) -> dict[str, Plain]:
    """Compose for the command line: `resume=DIR` replays that run's overrides before the others."""
    from slipstream.config import composition, provenance, replay

    plain, problems = composition.screen(overrides)
    try:
        config = validate(plain)
    except ConfigError as error:
        # A key that could not be read is not also reported as missing.
        told = {sentence.partition("=")[0].strip() for sentence in problems}
        found = [sentence for sentence in error.problems if sentence.partition(":")[0] not in told]
        raise ConfigError([*problems, *provenance.traced(found, overrides)]) from None
    if problems:
        raise ConfigError(problems)
    if config.resume is not None:
        replay.check_resume(Path(config.resume), config.raw)
    return plain


def validate(mapping: Mapping[str, Plain]) -> Config:
    """Return the typed configuration of a plain nested mapping.

    Raises ConfigError, which lists every problem: unknown and missing keys, values of the wrong type or out
    of range, and settings that contradict each other.
    """
    if not isinstance(mapping, Mapping):
        raise ConfigError([f"expected a mapping, as slipstream.compose() returns, found {show(mapping)}"])
    own = {"resume": None} | {key: value for key, value in mapping.items() if key not in GROUPS}
    unknown = [key for key in own if key not in TOP]
    hint = functools.partial(meant.key, chosen=meant.chosen(mapping))
    problems = [
        f"{key}: no such key, {hint(str(key), own[key]) or did_you_mean(str(key), [*TOP, *GROUPS])}"
        for key in unknown
    ]
    plain, found = check(TOP, {key: own[key] for key in own if key in TOP}, "", "a run")
    problems += found
    parts: dict[str, Plain] = {}
    broken = {sentence.partition(":")[0] for sentence in problems}

    def section(key: str, result: tuple[Plain, list[str]]) -> Plain:
        value, faults = result
        if faults:
            problems.extend(faults)
            broken.add(key.partition(".")[0])
        return value

    for group in CHOICES:
        parts[group] = section(group, _choice(group, mapping.get(group), hint))
    of_trainer = settings("trainer", "default")
    trainer = section(
        "trainer", check(of_trainer, mapping.get("trainer"), "trainer", "the trainer", meant=hint)
    )
    lists = {group: section(group, _list(group, listed(mapping.get(group, {})), hint)) for group in LISTS}
    raw = {
        **{key: plain.get(key) for key in ("name", "seed")},
        **{group: {"name": choice.name, **choice.settings} for group, choice in parts.items()},
        **lists,
        "trainer": trainer,
    }
    for key in paths(raw["data"]):  # a run can be resumed from any directory
        raw["data"][key] = os.path.abspath(raw["data"][key])
    if isinstance(weights := raw["model"].get("weights"), str):
        raw["model"]["weights"] = os.path.abspath(weights)
    config = Config(
        name=plain.get("name", ""),
        seed=plain.get("seed", 0),
        resume=plain.get("resume"),
        augmentations=lists["augmentation"],
        regularizers=lists["regularizer"],
        loggers=lists["logger"],
        trainer=Trainer(**trainer) if "trainer" not in broken else trainer,
        raw=raw,
        **parts,
    )
    problems += rules.problems(config, rules.known_task(config), frozenset(broken))
    if problems:
        raise ConfigError(problems)
    return config


def _choice(group: str, values: Plain, hint: Hint) -> tuple[Choice, list[str]]:
    nothing = Choice("", {})
    names = options(group)
    if not isinstance(values, Mapping):
        return nothing, [f"{group}: no option is selected, {did_you_mean('', names)}"]
    name = values.get("name")
    if isinstance(name, Unusable) or name in (None, "???"):
        return nothing, [f"{group}.name: has no value, {did_you_mean('', names)}"]
    if name not in names:
        said = meant.option(group, str(name), names) + _why_not(group, str(name), names)
        return nothing, [f"{group}.name: found {name!r}, no such option, {said}"]
    if breaches := _breaches(group, name):
        return Choice(name, {}), breaches
    own = of_all(group) | {key: value for key, value in values.items() if key != "name"}
    valid, problems = check(settings(group, name), own, group, f"{group}={name}", hint)
    return Choice(name, valid), problems or _own_problems(group, name, valid)


def _own_problems(group: str, name: str, valid: dict[str, Plain]) -> list[str]:
    """Return what a component, or the data package for all its sources, objects to in valid settings."""
    if group == "data":
        from slipstream import data

        return data.problems({"name": name, **valid})
    return registry.component(group, name).traits.problems(valid)


def _breaches(group: str, name: str) -> list[str]:
    """Return the breaches of contract of an option that a user registered."""
    return list(contracts.problems(registry.component(group, name)))


def _why_not(group: str, name: str, names: Sequence[str]) -> str:
    """Return the contract violations of the most likely intended option, in parentheses."""
    near = nearest(name, names)
    return "".join(f" ({sentence})" for sentence in (_breaches(group, near) if near else ()))


def _list(group: str, chosen: Plain, hint: Hint) -> tuple[dict[str, dict[str, Plain]], list[str]]:
    if not isinstance(chosen, Mapping):
        return {}, [f"{group}: expected names with their settings, such as {group}=[NAME]"]
    valid: dict[str, dict[str, Plain]] = {}
    problems = []
    for name, values in chosen.items():
        path = f"{group}.{name}"
        if name not in options(group):
            problems.append(f"{path}: no such option, {_meant(group, str(name), chosen)}")
            continue
        if breaches := _breaches(group, name):
            problems += breaches
            continue
        valid[name], found = check(settings(group, name), values, path, path, hint)
        problems += found or registry.component(group, name).traits.problems(valid[name])
    if group == "logger" and "none" in valid and len(valid) > 1:
        problems.append(f"logger: found {', '.join(valid)}, and none stands alone; leave it out")
    return valid, problems


def _meant(group: str, name: str, chosen: Mapping[Plain, Plain]) -> str:
    """Return the hint for an unknown option, which may be the name of a setting."""
    mine = [option for option in chosen if option in options(group) and name in settings(group, option)]
    if mine:
        return f"did you mean {' or '.join(typed(f'{group}.{o}.{name}', chosen[name]) for o in mine)}?"
    hint = meant.setting_of(group, name, chosen[name], meant.chosen({group: chosen}))
    return hint or meant.option(group, name, options(group))


def for_target(config: Config, target: Target) -> Config:
    """Return the configuration for data that have been read, with `loss=auto` replaced by the actual loss.

    Raises ConfigError if the loss, regularizers or metrics do not support the target.
    """
    problems = rules.problems(config, target.task)
    if problems:
        raise ConfigError(problems)
    name = rules.loss_of(config, target).name
    return config if name == config.loss.name else replace(config, loss=Choice(name, defaults("loss", name)))
