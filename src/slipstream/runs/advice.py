"""Warnings about valid choices that have little or no effect, or the wrong one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from slipstream.config.files import defaults
from slipstream.config.run_config import Config
from slipstream.core.registry import component
from slipstream.core.types import InputSpec
from slipstream.core.wording import typed
from slipstream.schedulers import Clock, factors

# Optimizers with steps of about lr, regardless of the gradient's size.
ADAPTIVE = (
    *("adadelta", "adafactor", "adagrad", "adam", "adamax", "adamw", "amsgrad", "lamb", "lion", "muon"),
    *("nadam", "radam", "rmsprop", "rprop", "schedule_free"),
)
STANDSTILL = 0.001  # schedule factor below which weights no longer move
NEAR_MEDIAN = 0.05
FEW_ZEROS = 0.01  # strength below which such an optimizer gives almost no zeros


def advice(config: Config, form: InputSpec) -> Iterator[str]:
    """Yield a sentence for every such choice. form: the input spec of the examples."""
    yield from _averaging(config)
    yield from _zeros(config)
    yield from _colours(config, form)
    yield from _quantiles(config)


def _quantiles(config: Config) -> Iterator[str]:
    levels = config.loss.settings.get("quantiles", [0.5])
    nearest = min(levels, key=lambda level: abs(level - 0.5))
    if abs(nearest - 0.5) > NEAR_MEDIAN:
        yield (
            f"loss.quantiles: none of {', '.join(f'{level:g}' for level in levels)} is near the median: "
            f"predictions and metrics use the quantile {nearest:g}; set "
            f"{typed('loss.quantiles', sorted([*levels, 0.5]))}"
        )


def _averaging(config: Config) -> Iterator[str]:
    epochs, schedule = config.trainer.max_epochs, config.scheduler.name
    if "swa" in config.regularizers:
        start = config.regularizers["swa"]["start"]
        count = epochs - int(start * epochs + 1e-3)
        if count < 2:
            yield (
                f"regularizer.swa: averages only the last epoch (start {start} of "
                f"trainer.max_epochs={epochs}); raise trainer.max_epochs or lower regularizer.swa.start"
            )
        if (end := _end(config)) < STANDSTILL:
            yield (
                f"regularizer.swa: averaging needs weights that still move, but "
                f"scheduler={schedule} falls to "
                f"{end:g} of lr; use scheduler=constant, or a larger end if the schedule has one"
            )
    if "snapshot_ensemble" in config.regularizers and schedule != "constant":
        yield (
            "regularizer.snapshot_ensemble: its learning rate cycles are multiplied by those of "
            f"scheduler={schedule}; use scheduler=constant"
        )


def _end(config: Config) -> float:
    """Return the schedule's factor after the last step."""
    epochs = config.trainer.max_epochs
    clock = Clock(np.array([epochs]), steps_per_epoch=1, total_steps=epochs)
    settings = config.scheduler.settings | {"warmup_steps": 0}
    return float(factors(component("scheduler", config.scheduler.name), settings, clock)[0])


def _zeros(config: Config) -> Iterator[str]:
    if config.optimizer.name not in ADAPTIVE:
        return
    for name, settings in config.regularizers.items():
        if settings.get("proximal") and settings["strength"] < FEW_ZEROS:
            yield (
                f"regularizer.{name}: with optimizer={config.optimizer.name} a strength of "
                f"{settings['strength']:g} gives hardly any zeros; set for example "
                f"regularizer.{name}.strength=0.1"
            )


def _colours(config: Config, form: InputSpec) -> Iterator[str]:
    chosen = config.augmentations.get("color_jitter")
    if chosen is None or form.kind != "image" or form.shape[0] != 1:
        return
    shipped = defaults("augmentation", "color_jitter")
    for key in ("saturation", "hue"):
        if chosen[key] not in (0, shipped[key]):  # the shipped value was not set by the user
            yield f"augmentation.color_jitter.{key}: has no effect on grayscale images"
