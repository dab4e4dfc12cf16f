"""Rules for metrics and monitoring: they must exist, support the task, and have data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from slipstream.config import meant
from slipstream.config.rules import loss_of, rule
from slipstream.config.synonyms import VALUES
from slipstream.core import contracts
from slipstream.core.errors import folded
from slipstream.core.registry import component, components
from slipstream.core.types import Target
from slipstream.core.wording import counted, typed

if TYPE_CHECKING:
    from slipstream.config.run_config import Config


@rule("trainer")
def metrics_are_known(config: Config, task: str | None) -> Iterator[str]:
    """Check that the metrics and the monitored metric exist and support the task."""
    if isinstance(config.trainer.metrics, list):
        for name in config.trainer.metrics:
            yield from _metric_problems("trainer.metrics", name, task)
    yield from _monitor_problems("trainer.monitor", config.trainer.monitor, task)


@rule("trainer", "early_stopping")
def stopping_metric_is_known(config: Config, task: str | None) -> Iterator[str]:
    """Check that the metric of early stopping exists and supports the task."""
    metric = config.early_stopping.settings.get("metric")
    if metric is not None and metric != config.trainer.monitor:
        yield from _monitor_problems("early_stopping.metric", metric, task)


@rule("trainer", "loss", "data")
def metrics_of_probabilities_have_some(config: Config, task: str | None) -> Iterator[str]:
    """Check that metrics of probabilities have a loss that provides probabilities."""
    target = Target(task) if task else None
    loss, known = loss_of(config, target), components("metric")
    if loss.traits.auto or loss.traits.probabilistic:
        return
    metrics = config.trainer.metrics if isinstance(config.trainer.metrics, list) else []
    asked = dict.fromkeys(metrics, "trainer.metrics")
    asked[config.trainer.monitor.partition("/")[2]] = "trainer.monitor"
    for name, key in asked.items():
        if name in known and known[name].traits.probabilistic:
            yield (
                f"{key}: {name} needs probabilities, which loss={loss.name} does not provide; use another "
                "metric, or a loss such as cross_entropy"
            )


@rule("trainer", "early_stopping", "data")
def monitored_part_exists(config: Config, task: str | None) -> Iterator[str]:
    """Check that there is a validation split if it is monitored."""
    if config.data.settings.get("validation") != 0:
        return
    # It selects the best epoch under every early stopping rule, including `none`.
    metric = config.early_stopping.settings.get("metric", "")
    key = "trainer.monitor" if metric == config.trainer.monitor else "early_stopping.metric"
    if metric.startswith("val/"):
        yield f"{key}: {metric} needs a validation split, but data.validation is 0; use {key}=train/loss"
    stopping = component("early_stopping", config.early_stopping.name)
    if stopping.traits.validates:
        cure = "use early_stopping=patience"
        yield f"early_stopping={stopping.name}: needs val/loss, but data.validation is 0; {cure}"


@rule("early_stopping", "trainer")
def some_epoch_is_looked_at(config: Config, task: str | None) -> Iterator[str]:
    """Check that early stopping considers at least one epoch."""
    warm_up, epochs = config.early_stopping.settings.get("warm_up", 0), config.trainer.max_epochs
    if warm_up >= epochs:
        yield (
            f"early_stopping.warm_up: the first {counted(warm_up, 'epoch is', 'epochs are')} ignored, but "
            f"trainer.max_epochs is {epochs}; lower the former or raise the latter"
        )


def _monitor_problems(key: str, monitor: str, task: str | None) -> Iterator[str]:
    split, slash, name = monitor.partition("/")
    if not slash or split not in ("train", "val"):
        right = VALUES["trainer.monitor"].get(folded(monitor), "val/loss")
        yield f"{key}: found {monitor!r}, expected train/ or val/ followed by a metric, such as {right}"
    elif name != "loss":
        yield from _metric_problems(key, name, task, f"{split}/")


def _metric_problems(key: str, name: str, task: str | None, split: str = "") -> Iterator[str]:
    """Check one metric. split: the prefix of the metric, such as `val/`, if the key has one."""
    known = components("metric")
    if name not in known:
        right = meant.option_named("metric", name, known)
        if right and split:
            hint = f"did you mean {typed(key, split + right)}?"
        else:
            hint = meant.option("metric", name, ["loss", *known])
        yield f"{key}: found {split + name!r}, no such metric, {hint}"
    elif broken := list(contracts.problems(known[name])):
        yield from broken
    elif task is not None and task not in known[name].traits.tasks:
        fitting = [metric for metric, part in known.items() if task in part.traits.tasks]
        supported = ", ".join(split + m for m in sorted(fitting))
        yield f"{key}: {name} does not support {task} data; one of: {supported}"
