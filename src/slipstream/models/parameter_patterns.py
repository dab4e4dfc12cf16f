"""Parameters chosen by patterns of their names: frozen ones, and those with a learning rate of their own."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatchcase

from torch import nn

from slipstream.core.errors import ConfigError, did_you_mean
from slipstream.core.wording import counted
from slipstream.models.own_network import layers_with_statistics


def matches(patterns: Sequence[str], name: str) -> bool:
    """Return True if a name fits one of the patterns, in which * stands for any letters.

    >>> matches(["backbone.*"], "backbone.stem.weight"), matches(["*.bias"], "head.weight")
    (True, False)
    """
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def require_found(setting: str, patterns: Sequence[str], names: Collection[str]) -> None:
    """Raise ConfigError for patterns that fit no name, with the nearest names. setting: their key."""
    lost = [pattern for pattern in patterns if not any(fnmatchcase(name, pattern) for name in names)]
    if lost:
        raise ConfigError(
            f"{setting}: no parameter is called {pattern!r}, {_nearest(pattern, names)}" for pattern in lost
        )


def _nearest(pattern: str, names: Collection[str]) -> str:
    """Return the hint for a pattern that fits nothing: the nearest name, or pattern of a whole layer."""
    layers = {".".join(name.split(".")[: i + 1]) + ".*" for name in names for i in range(name.count("."))}
    return did_you_mean(pattern, layers if pattern.endswith("*") and layers else names)


def mark(network: nn.Module, freeze: Sequence[str], lr_factors: Mapping[str, float]) -> None:
    """Mark the parameters that are frozen, and those whose learning rate has a factor.

    freeze: patterns. lr_factors: pattern -> factor; of several that fit, the last one counts. Raises
    ConfigError for a pattern that fits nothing, and if nothing is left to train.
    """
    named = dict(network.named_parameters())
    require_found("trainer.freeze", freeze, named)
    require_found("trainer.lr_factors", list(lr_factors), named)
    for name, parameter in named.items():
        if matches(freeze, name):
            parameter.requires_grad_(False)
        if fitting := [factor for pattern, factor in lr_factors.items() if fnmatchcase(name, pattern)]:
            own = getattr(parameter, "lr_factor", 1.0)
            parameter.lr_factor = own * fitting[-1]  # type: ignore[attr-defined]  # our mark on a parameter
    if named and not any(parameter.requires_grad for parameter in named.values()):
        many = counted(len(named), "parameter tensor")
        raise ConfigError([f"trainer.freeze: freezes all {many}; leave some of them to train"])
    useless = [
        pattern
        for pattern in lr_factors
        if not any(p.requires_grad and fnmatchcase(name, pattern) for name, p in named.items())
    ]
    if useless:
        raise ConfigError(
            f"trainer.lr_factors: {pattern!r}: all of it is frozen; leave it out" for pattern in useless
        )


def rest(network: nn.Module, freeze: Sequence[str]) -> None:
    """Put frozen layers with running statistics into evaluation mode, where these no longer change.

    Frozen are those without a trained parameter; a layer without any parameter if a pattern fits its name.
    """
    for name, layer, _ in layers_with_statistics(network):
        own = list(layer.parameters())
        if not any(p.requires_grad for p in own) if own else matches(freeze, name):
            layer.eval()
