"""Losses: `f(outputs, targets, *, settings) -> [N]`, one value per example.

The engine takes their weighted mean; this is how class weights and sample weights enter.
outputs [N, C] come from the network. targets depend on the task:
  binary, multiclass  class indices int64 [N]; for `soft` losses also distributions, float [N, classes]
  multilabel          float [N, L], 0 or 1
  regression          float [N, D]
"""

from slipstream.losses import classification as classification
from slipstream.losses import regression as regression
from slipstream.losses.auto import choose as choose
