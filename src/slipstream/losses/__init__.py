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

from slipstream.losses import classification as classification
from slipstream.losses import regression as regression
from slipstream.losses.auto import choose as choose
