"""A check before training that the monitored metric can be defined for the targets."""

from __future__ import annotations

import torch
from torch import Tensor

from slipstream.config.run_config import Config
from slipstream.core.errors import ConfigError
from slipstream.core.registry import component
from slipstream.core.types import Target
from slipstream.data import Data

DRAWS = 8


def require_defined(config: Config, data: Data, monitor: str) -> None:
    """Raise ConfigError if the monitored metric is undefined for all predictions.

    The metric is evaluated on several random draws of predictions, because in a few rows all of one draw may
    be equal by chance. If it is undefined for every draw, the targets are the cause.
    monitor: split/metric.
    """
    part, _, name = monitor.partition("/")
    if name == "loss":
        return
    split = data.train if part == "train" else data.validation
    metric, target = component("metric", name), data.target
    truth = split.targets if split.metric_targets is None else split.metric_targets
    counts = split.weights if split.counts is None else split.counts
    generator = torch.Generator().manual_seed(0)
    if all(metric(_drawn(truth, target, generator), truth, counts).isnan() for _ in range(DRAWS)):
        key = "trainer.monitor" if config.trainer.monitor == monitor else "early_stopping.metric"
        whole = {"train": "training", "val": "validation"}[part]
        raise ConfigError(
            [
                f"{key}: {monitor} is undefined for all predictions: {_why(truth, target)} of the "
                f"{whole} split; use {key}={part}/loss, or change the split"
            ]
        )


def _drawn(truth: Tensor, target: Target, generator: torch.Generator) -> Tensor:
    """Return random scores that are valid for every metric."""
    if target.task == "regression":
        return truth + torch.rand(truth.shape, generator=generator)
    columns = len(target.classes)
    scores = torch.rand(len(truth), columns, generator=generator)
    return scores if target.task == "multilabel" else scores / scores.sum(-1, keepdim=True)


def _why(truth: Tensor, target: Target) -> str:
    """Explain why a metric is undefined for these targets."""
    rows = "the only row" if len(truth) == 1 else f"the {len(truth):,} rows"
    if target.task == "regression":
        zero = bool((truth == 0).any())
        return f"a target is 0 in {rows}" if zero else f"a target is constant in {rows}"
    if target.task == "multilabel":
        return f"no label is both 0 and 1 in {rows}"
    return f"only {target.classes[int(truth[0])]!r} occurs in {rows}"
