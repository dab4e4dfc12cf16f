"""The configuration of a run inside the code: plain, typed and frozen."""

from __future__ import annotations

from dataclasses import dataclass, field

from slipstream.config.schema import Trainer
from slipstream.core.types import Plain


@dataclass(frozen=True)
class Choice:
    """A selected option: its name and the plain values of all its settings."""

    name: str
    settings: dict[str, Plain]


@dataclass(frozen=True)
class Config:
    """The whole configuration of a run, made by `validate`. No part of it is a Hydra or OmegaConf object.

    augmentations, regularizers, loggers: name -> settings, in the configuration's order. resume: the folder
    of the run that is continued. raw: the same as a plain nested dict, without `resume` and with absolute
    paths, as in config.yaml.
    """

    name: str
    seed: int
    data: Choice
    model: Choice
    activation: Choice
    initializer: Choice
    loss: Choice
    optimizer: Choice
    scheduler: Choice
    early_stopping: Choice
    augmentations: dict[str, dict[str, Plain]]
    regularizers: dict[str, dict[str, Plain]]
    trainer: Trainer
    loggers: dict[str, dict[str, Plain]]
    resume: str | None = None
    raw: dict[str, Plain] = field(default_factory=dict, repr=False, compare=False)
