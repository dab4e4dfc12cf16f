"""Which network for which data: convolutions on shifted shapes, recurrent cells on long sequences.

    python scripts/compare_networks.py [--seeds 5]

Two tables in markdown. Shapes: an MLP and a convolutional network of about as many parameters, on
images whose shapes stand still or move about. Adding problem: what is left of the targets' variance
(1 is guessing the mean) with a simple, an LSTM and a GRU cell, for sequences of 50 and 200 steps.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from typing import Any

import slipstream
from slipstream.sweeps.plan.job import Outcome

QUIET = ("logger=none", "early_stopping.patience=10")
SHAPES = (*QUIET, "data=shapes", "data.classes=4", "trainer.max_epochs=40")
NETWORKS = {
    "mlp": ("model=mlp", "model.width=64", "model.depth=2"),
    "convnet": ("model=convnet",),
}
ADDING = (
    *("logger=none", "data=adding_problem", "data.rows=10000", "model=rnn", "model.width=32"),
    *("optimizer.lr=0.01", "regularizer=[gradient_clipping]", "trainer.max_epochs=20"),
    *("trainer.metrics=[r2]", "early_stopping=none"),
)
CELLS = ("simple", "lstm", "gru")


def trained(space: dict[str, Any], *overrides: str) -> tuple[list[Outcome], float]:
    """The members of a sweep in a folder that goes, and its seconds."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        runs = slipstream.sweep(space, *overrides, directory=f"{folder}/sweep").runs
    return list(runs), time.perf_counter() - began


def summary(runs: list[Outcome], metric: str) -> str:
    """Mean and deviation of a metric, in percent for accuracies."""
    values = [run.best.get(metric) or 0.0 for run in runs]
    return f"{statistics.fmean(values):.3f} ± {statistics.stdev(values):.3f}"


def shapes(seeds: list[int]) -> None:
    """A row for each network and amount of shift."""
    print("| shapes | network | test accuracy | seconds for all seeds |\n|---|---|---|---|")
    for shift in (0.0, 1.0):
        where = "shifted" if shift else "centered"
        for name, network in NETWORKS.items():
            runs, seconds = trained({"seed": seeds}, *SHAPES, *network, f"data.shift={shift}")
            print(f"| {where} | {name} | {summary(runs, 'test/accuracy')} | {seconds:.0f} |", flush=True)


def adding(seeds: list[int]) -> None:
    """A row for each length and cell."""
    print("\n| steps | cell | R2 on the test part | seconds for all seeds |\n|---|---|---|---|")
    for length in (50, 200):
        for cell in CELLS:
            runs, seconds = trained({"seed": seeds}, *ADDING, f"data.length={length}", f"model.cell={cell}")
            print(f"| {length} | {cell} | {summary(runs, 'test/r2')} | {seconds:.0f} |", flush=True)


def main() -> None:
    """Train everything and print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=5)
    seeds = list(range(parser.parse_args().seeds))
    shapes(seeds)
    adding(seeds)


if __name__ == "__main__":
    main()
