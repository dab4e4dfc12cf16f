"""scikit-learn's MLPClassifier, an epoch to a call of `partial_fit`, a member at a time.

Left out beside ours: validation (but for one look at the end), every metric but the training loss,
TensorBoard, checkpoints and best weights. Its penalty, which is not zero by default, is set to zero.
"""

from __future__ import annotations

import numpy as np
import task
from sklearn.neural_network import MLPClassifier

mine = task.read()
data = mine.arrays()
for rate, seed in mine.members:
    clock = task.Clock(mine)
    net = MLPClassifier(
        (mine.width, mine.width),
        alpha=0.0,
        batch_size=mine.batch_size,
        learning_rate_init=rate,
        random_state=np.random.RandomState(seed),  # a number would shuffle every epoch alike
    )
    for _ in range(mine.epochs):
        net.partial_fit(data["x"], data["y"], classes=np.arange(mine.outputs))
        clock.epoch()
    clock.ended(net.score(data["xv"], data["yv"]), net._optimizer.t)
