"""How long the command line takes before it does anything."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.contest import FOLDER, Contestant, Group, Values

IMPORT = "import torch"
WRONG = "optimizer=adan"


def start(options: Namespace, folder: Path) -> Iterator[Group]:
    """Help, an error, a run of one epoch; beside importing torch."""
    train = [sys.executable, "train.py"]
    run = [f"hydra.run.dir={FOLDER}/run", f"trainer.device={options.device}"]
    contestants = [
        Contestant(IMPORT, [sys.executable, "-c", "import torch"]),
        Contestant("--help", [*train, "--help"]),
        Contestant(f"an error: {WRONG}", [*train, WRONG, *run], code=2),
        Contestant("a run of one epoch", [*train, "trainer.max_epochs=1", *run]),
    ]

    def read(contestant: Contestant, wall: float, line: dict[str, Any]) -> Values:
        return {"seconds": wall}

    title = "the command line on digits, from start to exit, imports included"
    yield Group("start", title, contestants, read, IMPORT)
