"""skorch: a NeuralNetClassifier with its TensorBoard callback, a member at a time.

It validates every epoch on the given rows. Left out beside ours: accuracy on the training rows,
checkpoints and best weights, the norms of gradients and updates, histograms, the evaluation at the end.
"""

from __future__ import annotations

import task
import torch
from skorch import NeuralNetClassifier
from skorch.callbacks import TensorBoard
from skorch.dataset import Dataset
from skorch.helper import predefined_split
from torch import nn
from torch.utils.tensorboard import SummaryWriter

mine = task.read()
torch.set_flush_denormal(True)
data = mine.arrays()
width = mine.width
for number, (rate, seed) in enumerate(mine.members):
    torch.manual_seed(seed)
    net = NeuralNetClassifier(
        nn.Sequential(
            nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10)
        ),
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        optimizer__fused=True,
        lr=rate,
        batch_size=mine.batch_size,
        max_epochs=mine.epochs,
        iterator_train__shuffle=True,
        iterator_valid__batch_size=len(data["xv"]),
        train_split=predefined_split(Dataset(data["xv"], data["yv"])),
        callbacks=[TensorBoard(SummaryWriter(f"{mine.folder}/{number}"))],
        callbacks__print_log=None,
        verbose=0,
        device=mine.device,
    )
    net.fit(data["x"], data["y"])
    mine.ended(net.history[-1, "valid_acc"])
