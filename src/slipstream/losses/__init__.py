"""Losses: `f(outputs, targets, *, settings) -> [N]`, one value per example.

The engine takes their weighted mean, which is how class weights and sample weights enter every one.
outputs [N, C] are the network's. targets depend on the task:
  binary, multiclass  class indices int64 [N]; for `soft` losses also a distribution float [N, classes]
  multilabel          float [N, L], 0 or 1
  regression          float [N, D]

Traits
  tasks           the tasks that the loss fits.
  outputs         (target, **settings) -> C, how many outputs the network needs.
  predict         (outputs, target, **settings) -> scores: [N, classes] for binary and multiclass,
                  [N, L] for multilabel, the predicted values [N, D] for regression.
  soft            takes distributions over the classes as targets (label smoothing, mixup).
  probabilistic   the scores are probabilities.
  expects_logits  applies its own sigmoid or softmax: another one as output activation is refused.
  unscaled        the targets must stay in their own units, unscaled.
  auto            the function is not a loss but chooses one: (target) -> name.
"""

from __future__ import annotations

from slipstream.losses import classification, regression
from slipstream.losses.targets import ALL
from slipstream.registry import register
from slipstream.types import Target

__all__ = ["choose", "classification", "regression"]


@register("loss", name="auto", auto=True, tasks=ALL)
def choose(target: Target) -> str:
    """The usual loss for the target.

    binary and multilabel: binary_cross_entropy; multiclass: cross_entropy; regression: mse, each
    with the settings of its own YAML.
    """
    usual = {"multiclass": "cross_entropy", "regression": "mse"}
    return usual.get(target.task, "binary_cross_entropy")
