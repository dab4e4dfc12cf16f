"""What metrics, histograms and checkpoints cost, as a share of a run."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.contest import Contestant, Group, Values, measure
from benchmarks.training import PROGRAMS, per_epoch
from peers.task import Task

EVERYTHING = "everything on"
NOWHERE = "none of it, no directory"
VARIANTS = {
    EVERYTHING: [],
    "no TensorBoard": ["logger=none"],
    "no histograms": ["logger.tensorboard.histograms=0"],
    "no picture of the network": ["logger.tensorboard.graph=false"],
    "no metrics but the loss": ["trainer.metrics=[]"],
    "no checkpoint before the end": ["trainer.checkpoint_seconds=1e9"],
    "a checkpoint every second": ["trainer.checkpoint_seconds=1"],
    NOWHERE: ["logger=none", "trainer.metrics=[]"],
}
CALIBRATION = 100  # epochs of a run that says how many take the seconds


def logging(options: Namespace, folder: Path) -> Iterator[Group]:
    """The default run, of so many seconds, with one thing after the other switched off."""
    seconds = options.seconds or 10.0
    task = Task(
        data="",
        folder="",
        rates=[1e-3],
        seeds=1,
        width=128,
        epochs=CALIBRATION,
        batch_size=64,
        device=options.device,
        overrides=["data=digits", "model=mlp", "model.width=128"],
    )
    command = [sys.executable, str(PROGRAMS / "own.py")]

    def epoch(contestant: Contestant, wall: float, line: dict[str, Any]) -> Values:
        return {"seconds": per_epoch(line["times"])}

    def read(contestant: Contestant, wall: float, line: dict[str, Any]) -> Values:
        return {"seconds": line["whole"], "accuracy": line["accuracy"]}

    trial = Contestant(EVERYTHING, command, task)
    each = measure(trial, Group("logging", "", [trial], epoch, ""))["seconds"]
    task = replace(task, epochs=options.epochs or max(round(seconds / each), 10))
    contestants = [
        Contestant(
            name,
            [*command, "nowhere"] if name == NOWHERE else command,
            replace(task, overrides=[*task.overrides, *overrides]),
        )
        for name, overrides in VARIANTS.items()
    ]
    title = f"digits, MLP 64-128-128-10, eager, {task.epochs} epochs; what lacks to a ratio of 1 is the share"
    yield Group("logging", title, contestants, read, EVERYTHING)
