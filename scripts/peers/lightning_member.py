"""One member with Lightning: validation every epoch, TensorBoard; no checkpoints, no progress bar.

Left out beside ours: checkpoints and best weights, the norms of gradients and updates, histograms,
the evaluation at the end. As a program it trains the members of its task one after another.
"""

from __future__ import annotations

import logging
import warnings

import lightning as L
import task
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from networks import network
from task import Clock, Task
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler, TensorDataset

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", message=".*does not have many workers.*")


class Network(L.LightningModule):
    """The network of the task."""

    def __init__(self, task: Task, lr: float) -> None:
        super().__init__()
        self.save_hyperparameters("lr")
        self.layers = network(task)

    def _loss(self, batch: tuple[Tensor, Tensor], part: str) -> Tensor:
        inputs, targets = batch
        logits = self.layers(inputs)
        loss = cross_entropy(logits, targets)
        accuracy = (logits.detach().argmax(1) == targets).float().mean()
        values = {f"{part}/loss": loss, f"{part}/accuracy": accuracy}
        self.log_dict(values, on_step=False, on_epoch=True, batch_size=len(targets))
        return loss

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        return self._loss(batch, "train")

    def validation_step(self, batch: tuple[Tensor, Tensor]) -> None:
        self._loss(batch, "val")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.hparams["lr"], fused=True)


class Epochs(L.Callback):
    """Note when epochs end."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.clock.epoch()


def loader(inputs: Tensor, targets: Tensor, size: int, shuffle: bool) -> DataLoader:
    """Whole batches by one index each: several times faster than collecting 64 rows one by one."""
    rows = TensorDataset(inputs, targets)
    order = RandomSampler(rows) if shuffle else SequentialSampler(rows)
    return DataLoader(rows, sampler=BatchSampler(order, size, drop_last=False), batch_size=None)


def fit(mine: Task, data: dict[str, Tensor], lr: float, seed: int, folder: str) -> float:
    """Train it; its last accuracy on the validation rows."""
    L.seed_everything(seed, verbose=False)
    clock = Clock(mine)
    train = loader(data["x"], data["y"], mine.batch_size, shuffle=True)
    trainer = L.Trainer(
        max_epochs=mine.epochs,
        accelerator="gpu" if mine.device == "cuda" else "cpu",
        devices=1,
        logger=TensorBoardLogger(folder, name="", version=""),
        log_every_n_steps=len(train),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=[Epochs(clock)],
    )
    validation = loader(data["xv"], data["yv"], len(data["xv"]), shuffle=False)
    trainer.fit(Network(mine, lr), train, validation)
    accuracy = float(trainer.callback_metrics["val/accuracy"])
    clock.ended(accuracy, trainer.global_step)
    return accuracy


def main() -> None:
    """Train all members."""
    mine = task.read()
    data = mine.tensors()
    for number, (rate, seed) in enumerate(mine.members):
        fit(mine, data, rate, seed, f"{mine.folder}/{number}")


if __name__ == "__main__":
    main()
