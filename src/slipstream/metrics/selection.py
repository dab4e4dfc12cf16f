"""Which metrics are computed: of every epoch, at the end, and all there are."""

from __future__ import annotations

from collections.abc import Sequence

from slipstream.core.registry import components

SHOWN = 5
# In the order of the table at the end, which has the first five that say something.
USUAL = {
    "binary": ("accuracy", "balanced_accuracy", "f1_macro", "roc_auc", "log_loss", "mcc"),
    "multiclass": ("accuracy", "balanced_accuracy", "f1_macro", "roc_auc", "log_loss", "mcc"),
    "multilabel": ("accuracy", "f1_macro", "roc_auc", "pr_auc", "log_loss", "f1_weighted"),
    "regression": ("rmse", "mae", "r2", "median_absolute_error", "spearman"),
}


def defaults(task: str) -> list[str]:
    """The names of the metrics cheap enough for every epoch."""
    return ["rmse", "r2"] if task == "regression" else ["accuracy"]


def final(task: str, n_classes: int, probabilistic: bool, asked: Sequence[str]) -> list[str]:
    """The names of the metrics at the end of a run: the five usual ones, then others that were asked for."""
    known = every(task, n_classes, probabilistic)
    usual = [name for name in USUAL[task] if name in known][:SHOWN]
    return list(dict.fromkeys([*usual, *asked]))


def every(task: str, n_classes: int, probabilistic: bool = True) -> list[str]:
    """The names of all metrics that say something.

    n_classes: 0 for multilabel and regression. probabilistic: whether the loss gives probabilities;
    without them log_loss, brier and ece are left out.
    """
    return [
        name
        for name, metric in components("metric").items()
        if task in metric.traits["tasks"]
        and n_classes >= metric.traits.get("min_classes", 0)
        and (probabilistic or not metric.traits.get("probabilistic", False))
    ]
