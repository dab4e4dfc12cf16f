"""What every contestant of bench_sweep.py is given, and how it reports: no imports but the standard library.

The task stands in a JSON file that the environment names; a line is appended to the file of marks
whenever a member has ended. What the members share is read in `Task`, not measured apart: a
contestant's time is the wall time of its process.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VARIABLE = "SLIPSTREAM_BENCH_TASK"


@dataclass(frozen=True)
class Task:
    """Which members to train, on what, and where their files go."""

    data: str  # an .npz with x, y (train) and xv, yv (validation): float32 [N, 64], int64 [N]
    folder: str
    rates: list[float]
    seeds: int
    width: int
    epochs: int
    batch_size: int
    device: str  # cpu | cuda

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
        """The data as tensors, by name."""
        import torch

        # A CPU is many times slower on the subnormal numbers that moments decay into; everyone is spared.
        torch.set_flush_denormal(True)
        return {name: torch.from_numpy(array) for name, array in self.arrays().items()}

    def ended(self, accuracy: float) -> None:
        """Note that a member has ended, and its last accuracy on the validation rows."""
        with (Path(self.folder) / "marks.jsonl").open("a") as file:
            file.write(json.dumps({"time": time.time(), "accuracy": float(accuracy)}) + "\n")


def read() -> Task:
    """The task of this process."""
    return Task(**json.loads(Path(os.environ[VARIABLE]).read_text()))
