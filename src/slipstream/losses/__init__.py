"""Losses: `f(outputs, targets, *, settings) -> [N]`, one value per example.

The engine takes their weighted mean; this is how class weights and sample weights enter.
outputs [N, C] come from the network. targets depend on the task:
  binary, multiclass  class indices int64 [N]; for `soft` losses also distributions, float [N, classes]
  multilabel          float [N, L], 0 or 1
  regression          float [N, D]

Traits
  tasks           the tasks that the loss fits.
  outputs         (target, **settings) -> C, the number of outputs that the network needs.
  predict         (outputs, target, **settings) -> scores: [N, classes] for binary and multiclass,
                  [N, L] for multilabel, the predicted values [N, D] for regression.
  soft            takes distributions over the classes as targets (label smoothing, mixup).
  probabilistic   the scores are probabilities.
  expects_logits  applies its own sigmoid or softmax; one as output activation is refused.
  unscaled        the targets must stay in their original units.
  auto            not a loss but a function that chooses one: (target) -> name.
"""

from slipstream.losses import classification as classification
from slipstream.losses import regression as regression
from slipstream.losses.auto import choose as choose
