"""Metrics: `f(scores, targets, weights) -> scalar float64`, with fixed shapes and no synchronization.

  binary, multiclass  scores [N, C], targets int64 [N]; the largest score is the prediction
  multilabel          scores [N, L], targets float [N, L], 0 or 1; above 1/2 is a positive prediction
  regression          predictions [N, D], targets [N, D], both in original units
weights [N], at least 0: an example of weight k counts as k examples; weight 0 is padding and has no
effect. Sums are taken in float64. An undefined metric, such as any without examples, is NaN. Values per
class, label or column are averaged; "macro" means regardless of their sizes. Such a mean skips a class
or label without examples.
"""

from slipstream.metrics import classification as classification
from slipstream.metrics import regression as regression
from slipstream.metrics.classification import confusion_matrix as confusion_matrix
from slipstream.metrics.selection import defaults as defaults
from slipstream.metrics.selection import every as every
from slipstream.metrics.selection import final as final
