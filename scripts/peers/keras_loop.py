"""Keras on its torch backend: `fit` with validation data, a member at a time.

Its TensorBoard callback needs TensorFlow, so a callback of six lines writes the same scalars with
torch's writer. Left out beside ours: checkpoints and best weights, the norms of gradients and updates,
histograms, the evaluation at the end. Its random numbers are its own.
"""

from __future__ import annotations

import os

os.environ["KERAS_BACKEND"] = "torch"

import keras
import task
import torch
from torch.utils.tensorboard import SummaryWriter


class Curves(keras.callbacks.Callback):
    """Write what an epoch reports."""

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.writer = SummaryWriter(folder)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        for name, value in (logs or {}).items():
            self.writer.add_scalar(name, value, epoch)

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        self.writer.close()


mine = task.read()
torch.set_flush_denormal(True)
data = mine.arrays()
for number, (rate, seed) in enumerate(mine.members):
    keras.utils.set_random_seed(seed)
    net = keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(mine.width, activation="relu"),
            keras.layers.Dense(mine.width, activation="relu"),
            keras.layers.Dense(10),
        ]
    )
    net.compile(
        optimizer=keras.optimizers.Adam(rate),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    history = net.fit(
        data["x"],
        data["y"],
        batch_size=mine.batch_size,
        epochs=mine.epochs,
        validation_data=(data["xv"], data["yv"]),
        validation_batch_size=len(data["xv"]),
        callbacks=[Curves(f"{mine.folder}/{number}")],
        verbose=0,
    )
    mine.ended(history.history["val_accuracy"][-1])
