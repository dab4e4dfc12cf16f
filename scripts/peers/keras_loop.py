"""Keras on the backend that KERAS_BACKEND names (torch, jax): `fit` with validation data, a member at a time.

Its TensorBoard callback needs TensorFlow, so a callback of a few lines writes the same scalars with
torch's writer. Left out beside ours: checkpoints and best weights, the norms of gradients and updates,
histograms, the evaluation at the end. Its random numbers are its own. Images stand as the backend likes
them: torch has their channels first, jax last.
"""

from __future__ import annotations

import os
import sys

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import task
import torch
from torch.utils.tensorboard import SummaryWriter


class Curves(keras.callbacks.Callback):
    """Write what an epoch reports."""

    def __init__(self, folder: str, clock: task.Clock) -> None:
        super().__init__()
        self.writer = SummaryWriter(folder)
        self.clock = clock

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        for name, value in (logs or {}).items():
            self.writer.add_scalar(name, value, epoch)
        self.clock.epoch()

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        self.writer.close()


def network(mine: task.Task) -> keras.Sequential:
    """The network of the task."""
    layers: list[keras.layers.Layer] = []
    if mine.channels:
        for channels in mine.channels:
            layers.append(keras.layers.Conv2D(channels, 3, padding="same", activation="relu"))
            layers.append(keras.layers.MaxPooling2D(2))
        layers.append(keras.layers.Flatten())
    else:
        layers += [keras.layers.Dense(mine.width, activation="relu") for _ in range(2)]
    return keras.Sequential([keras.Input(shape), *layers, keras.layers.Dense(mine.outputs)])


def finds_gpu() -> bool:
    """Whether the backend would train on one: without, it would silently train on the CPU."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.default_backend() == "gpu"
    return torch.cuda.is_available()


mine = task.read()
if mine.device == "cuda" and not finds_gpu():
    sys.exit(f"{keras.backend.backend()} finds no GPU")
torch.set_flush_denormal(True)
data, shape = mine.arrays(), tuple(mine.shape)
if mine.channels:
    first = keras.backend.backend() == "torch"
    keras.config.set_image_data_format("channels_first" if first else "channels_last")
    if not first:
        data |= {name: data[name].transpose(0, 2, 3, 1).copy() for name in ("x", "xv")}
        shape = (*shape[1:], shape[0])
for number, (rate, seed) in enumerate(mine.members):
    keras.utils.set_random_seed(seed)
    clock = task.Clock(mine)
    net = network(mine)
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
        callbacks=[Curves(f"{mine.folder}/{number}", clock)],
        verbose=0,
    )
    clock.ended(history.history["val_accuracy"][-1], int(net.optimizer.iterations))
