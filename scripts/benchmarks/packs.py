"""Time of a member's step in packs, beside the plain loop and the same products by torch.bmm."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.contest import Contestant, Group, Values
from benchmarks.export import export
from benchmarks.training import BARE, PLAIN, PROGRAMS, ceiling, per_epoch, plain
from peers.task import Task


def pack(options: Namespace, folder: Path) -> Iterator[Group]:
    """Packs of several sizes and widths: digits, batch 64."""
    overrides = ["data=digits", "model=mlp"]
    (features,), rows = export(overrides, folder / "digits.npz")
    steps = -(-rows // 64)
    for width in options.widths:
        task = Task(
            data=str(folder / "digits.npz"),
            folder="",
            rates=[1e-3],
            seeds=1,
            width=width,
            epochs=options.epochs or 50,
            batch_size=64,
            device=options.device,
            shape=[features],
            seconds=options.seconds or 4.0,
            overrides=[*overrides, f"model.width={width}"],
        )
        contestants = [contestant for contestant in plain(task) if not contestant.task.compile]
        contestants = [replace(contestant, ceiling="") for contestant in contestants]
        for size in options.sizes:
            contestants += members(replace(task, seeds=size), compiled=options.compiled)

        def read(contestant: Contestant, wall: float, line: dict[str, Any]) -> Values:
            seeds = contestant.task.seeds
            return {
                "us a member-step": per_epoch(line["times"]) / steps / seeds * 1e6,
                "first epoch, s": line["times"][1] - line["times"][0],
                "process, s": wall,
                "epochs": line["updates"] / steps,
                "accuracy": line["accuracy"],
            }

        title = f"digits, MLP {features}-{width}-{width}-10, batch 64, {steps} updates an epoch"
        yield Group("pack", title, contestants, read, PLAIN)


def members(task: Task, *, compiled: bool) -> list[Contestant]:
    """A pack of so many, and its ceiling."""
    limit = replace(ceiling(task), name=f"ceiling of {task.seeds}")
    command = [sys.executable, str(PROGRAMS / "own_pack.py")]
    kinds = [("eager", ""), ("compiled", "compiled")][: 1 + compiled]
    packs = [
        Contestant(
            f"pack of {task.seeds}, {name}", command, replace(task, compile=how), BARE, ceiling=limit.name
        )
        for name, how in kinds
    ]
    return [*packs, limit]
