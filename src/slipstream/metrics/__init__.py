"""Metrics: `f(scores, targets, weights) -> float64 without axes`, fixed shapes, no synchronisation.

  binary, multiclass  scores [N, C], targets int64 [N]; the largest score is the prediction
  multilabel          scores [N, L], targets float [N, L], 0 or 1; above 1/2 counts as a yes
  regression          predictions [N, D], targets [N, D], both in original units
weights [N], 0 or above, count an example as so many; 0 is padding and leaves no trace. Sums are
taken in float64. A metric that is undefined, as every one is without examples, is NaN. What is
taken per class, label or column is averaged over them; "macro" means without regard to their sizes.
A class or label of which there is no example is left out of such a mean.

Traits
  tasks          the tasks that the metric fits.
  mode           max or min: which way is better.
  probabilistic  needs scores that are probabilities.
  min_classes    says nothing for fewer classes.
  order_only     looks at the order of an example's class scores alone: logits serve as well.
"""

from __future__ import annotations

from collections.abc import Sequence

from slipstream.metrics import classification, regression
from slipstream.metrics.classification import confusion_matrix
from slipstream.registry import components

__all__ = ["classification", "confusion_matrix", "defaults", "every", "final", "regression"]

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
