"""What every contestant of bench.py and bench_sweep.py is given, and how it reports: standard library only.

The task stands in a JSON file that the environment names; a line is appended to the file of marks
whenever a member has ended.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

VARIABLE = "SLIPSTREAM_BENCH_TASK"


@dataclass(frozen=True)
class Task:
    """Which members to train, on what, and where their files go.

    The network is an MLP of two hidden layers or, where there are channels, a convnet. What only some
    contestants read: compile is "", compiled or graphs (CUDA's); seconds, for how long at least those
    train that are not given a number of epochs; overrides, this toolkit's name for all of it.
    """

    data: str  # an .npz with x, y (train) and xv, yv (validation): float32 [N, *shape], int64 [N]
    folder: str
    rates: list[float]
    seeds: int
    width: int
    epochs: int
    batch_size: int
    device: str  # cpu | cuda
    shape: list[int] = field(default_factory=lambda: [64])  # of an input: [features] or [channels, H, W]
    outputs: int = 10
    channels: list[int] = field(default_factory=list)
    dtype: str = "float32"  # float32 | bfloat16
    compile: str = ""
    seconds: float = 0.0
    overrides: list[str] = field(default_factory=list)

    @property
    def members(self) -> list[tuple[float, int]]:
        """Learning rate and seed of each."""
        return [(rate, seed) for rate in self.rates for seed in range(self.seeds)]

    def arrays(self) -> dict[str, Any]:
        """The data as NumPy arrays, by name."""
        import numpy as np

        with np.load(self.data) as file:
            return dict(file)

    def tensors(self) -> dict[str, Any]:
        """The data as tensors, by name; images with their channels last in memory."""
        import torch

        # A CPU is many times slower on the subnormal numbers that moments decay into; everyone is spared.
        torch.set_flush_denormal(True)
        data = {name: torch.from_numpy(array) for name, array in self.arrays().items()}
        if self.channels:
            data |= {name: data[name].contiguous(memory_format=torch.channels_last) for name in ("x", "xv")}
        return data


class Clock:
    """When a member began and when each of its epochs ended."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.times = [time.perf_counter()]

    def epoch(self) -> None:
        """Note the end of an epoch."""
        if self.task.device == "cuda" and "torch" in sys.modules:
            sys.modules["torch"].cuda.synchronize()
        self.times.append(time.perf_counter())

    def ended(self, accuracy: float, updates: int, **more: float) -> None:
        """Note that the member has ended, its last accuracy on the validation rows, its updates."""
        line = {
            "time": time.time(),
            "accuracy": float(accuracy),
            "updates": int(updates),
            "times": [moment - self.times[0] for moment in self.times],
            **more,
        }
        with (Path(self.task.folder) / "marks.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")


def read() -> Task:
    """The task of this process."""
    return Task(**json.loads(Path(os.environ[VARIABLE]).read_text()))
