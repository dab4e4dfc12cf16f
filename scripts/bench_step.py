"""Time per training step on digits: this toolkit, metrics and logging on, beside a tuned plain loop.

    python scripts/bench_step.py [--rounds 7] [--epochs 60]

All contestants run in one process, one after the other in every round; the table has the median
over rounds and, for the ratio, the median of the ratios within a round with their range. Same
network, data, batches of 64, Adam. The plain loop neither validates nor logs nor saves.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

import slipstream
from slipstream.config import validate
from slipstream.data import load
from slipstream.run import run
from slipstream.training.inputs import ready

WARM_UP = 5  # epochs left out: first touches, and compilation


def plain(width: int, epochs: int) -> float:
    """Seconds a step of the tuned loop: no DataLoader, fused Adam, indexing on the device."""
    config = validate(slipstream.compose("logger=none"))
    data = load({"name": config.data.name, **config.data.settings})
    x = ready(data.train.inputs, data.form, replace(data.form, scaling=None)).flatten(1)
    y, n = data.train.targets, len(x)
    net = nn.Sequential(
        nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10)
    )
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, fused=True)
    loss_of = nn.CrossEntropyLoss()
    steps, began = 0, 0.0
    for epoch in range(epochs):
        if epoch == WARM_UP:
            steps, began = 0, time.perf_counter()
        for indices in torch.randperm(n).split(64):
            optimizer.zero_grad(set_to_none=True)
            loss_of(net(x[indices]), y[indices]).backward()
            optimizer.step()
            steps += 1
    return (time.perf_counter() - began) / steps


def toolkit(width: int, epochs: int, *, compiled: bool) -> float:
    """Seconds a step of a whole run: validation and metrics every epoch, TensorBoard, checkpoints."""
    overrides = [
        f"model.width={width}",
        f"trainer.max_epochs={epochs}",
        f"trainer.compile={str(compiled).lower()}",
        "trainer.progress=none",
        "early_stopping=none",
    ]
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "run"
        run(validate(slipstream.compose(*overrides)), directory)
        lines = [json.loads(line) for line in (directory / "timings.jsonl").read_text().splitlines()]
        last = json.loads((directory / "metrics.jsonl").read_text().splitlines()[-1])
    per_epoch = (lines[-1]["seconds"] - lines[WARM_UP - 1]["seconds"]) / (epochs - WARM_UP)
    return per_epoch * epochs / last["step"]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--epochs", type=int, default=60)
    arguments = parser.parse_args()
    # Subnormal numbers slow the plain loop as well; it gets the same setting.
    torch.set_flush_denormal(True)
    contestants: dict[str, Callable[[int, int], float]] = {
        "plain loop": plain,
        "slipstream eager": lambda width, epochs: toolkit(width, epochs, compiled=False),
        "slipstream compiled": lambda width, epochs: toolkit(width, epochs, compiled=True),
    }
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, "
        f"Python {platform.python_version()}, torch {torch.__version__}, load {os.getloadavg()[0]:.2f}; "
        f"{arguments.rounds} rounds of {arguments.epochs} epochs, digits, batch 64, Adam"
    )
    print(f"{'network':<16}{'contestant':<22}{'us a step':>10}{'ratio':>8}   range of the ratio")
    for width in (16, 128):
        times: dict[str, list[float]] = {name: [] for name in contestants}
        for _ in range(arguments.rounds):
            for name, contestant in contestants.items():
                times[name].append(contestant(width, arguments.epochs))
        for name, seconds in times.items():
            ratios = [a / b for a, b in zip(seconds, times["plain loop"], strict=True)]
            print(
                f"{f'64-{width}-{width}-10':<16}{name:<22}{statistics.median(seconds) * 1e6:>10.0f}"
                f"{statistics.median(ratios):>8.2f}   {min(ratios):.2f} to {max(ratios):.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
