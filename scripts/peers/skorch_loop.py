"""skorch: a NeuralNetClassifier with its TensorBoard callback, a member at a time.

It validates every epoch on the given rows. Left out beside ours: accuracy on the training rows,
checkpoints and best weights, the norms of gradients and updates, histograms, the evaluation at the end.
"""

from __future__ import annotations

from typing import Any

import task
import torch
from networks import network
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback, TensorBoard
from skorch.dataset import Dataset
from skorch.helper import predefined_split
from torch import nn
from torch.utils.tensorboard import SummaryWriter


class Epochs(Callback):
    """Note when epochs end."""

    def __init__(self, clock: task.Clock) -> None:
        self.clock = clock

    def on_epoch_end(self, net: NeuralNetClassifier, **_: Any) -> None:
        self.clock.epoch()


mine = task.read()
torch.set_flush_denormal(True)
data = mine.arrays()
for number, (rate, seed) in enumerate(mine.members):
    torch.manual_seed(seed)
    clock = task.Clock(mine)
    net = NeuralNetClassifier(
        network(mine),
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        optimizer__fused=True,
        lr=rate,
        batch_size=mine.batch_size,
        max_epochs=mine.epochs,
        iterator_train__shuffle=True,
        iterator_valid__batch_size=len(data["xv"]),
        train_split=predefined_split(Dataset(data["xv"], data["yv"])),
        callbacks=[
            ("curves", TensorBoard(SummaryWriter(f"{mine.folder}/{number}"))),
            ("epochs", Epochs(clock)),
        ],
        callbacks__print_log=None,
        verbose=0,
        device=mine.device,
    )
    net.fit(data["x"], data["y"])
    clock.ended(net.history[-1, "valid_acc"], sum(net.history[:, "train_batch_count"]))
