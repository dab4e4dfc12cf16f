"""The choice of metrics: those of every epoch, those of the final table, and all."""

from __future__ import annotations

from collections.abc import Sequence

from slipstream.core.registry import components

SHOWN = 5
# In the order of the final table, which shows the first five that are informative.
USUAL = {
    "binary": ("accuracy", "balanced_accuracy", "f1_macro", "roc_auc", "log_loss", "mcc"),
    "multiclass": ("accuracy", "balanced_accuracy", "f1_macro", "roc_auc", "log_loss", "mcc"),
    "multilabel": ("accuracy", "f1_macro", "roc_auc", "pr_auc", "log_loss", "f1_weighted"),
    "regression": ("rmse", "mae", "r2", "median_absolute_error", "spearman"),
}


def defaults(task: str) -> list[str]:
    """Return the names of the metrics that are cheap enough for every epoch."""
    return ["rmse", "r2"] if task == "regression" else ["accuracy"]


def final(task: str, n_classes: int, probabilistic: bool, asked: Sequence[str]) -> list[str]:
    """Return the names for the final table: the five usual metrics, then others that were requested."""
    known = every(task, n_classes, probabilistic)
    usual = [name for name in USUAL[task] if name in known][:SHOWN]
    return list(dict.fromkeys([*usual, *asked]))


def every(task: str, n_classes: int, probabilistic: bool = True) -> list[str]:
    """Return the names of all informative metrics.

    n_classes: 0 for multilabel and regression. probabilistic: True if the loss gives probabilities;
    otherwise log_loss, brier and ece are omitted.
    """
    return [
        name
        for name, metric in components("metric").items()
        if task in metric.traits.tasks
        and n_classes >= metric.traits.min_classes
        and (probabilistic or not metric.traits.probabilistic)
    ]
