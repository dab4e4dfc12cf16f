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

from slipstream.metrics import classification as classification
from slipstream.metrics import regression as regression
from slipstream.metrics.classification import confusion_matrix as confusion_matrix
from slipstream.metrics.selection import defaults as defaults
from slipstream.metrics.selection import every as every
from slipstream.metrics.selection import final as final
