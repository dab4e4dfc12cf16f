"""A large table, from its file to the end of the first epoch."""

from __future__ import annotations

import math
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.contest import Contestant, Group, Values
from benchmarks.training import BARE, NOTHING, PROGRAMS
from peers.task import Task

NUMBERS, CATEGORIES, MISSING = 90, 10, 0.001  # columns; share of the categories
MATRIX, EPOCH = "matrix", "first epoch"


def table(options: Namespace, folder: Path) -> Iterator[Group]:
    """Numbers and categories with missing values, as CSV and as Parquet."""
    write(options.rows, folder)
    for kind in ("csv", "parquet"):
        path = folder / f"table.{kind}"
        task = Task(
            data=str(path),
            folder="",
            rates=[1e-3],
            seeds=1,
            width=64,
            epochs=1,
            batch_size=1024,
            device=options.device,
            outputs=2,
            overrides=["data=table", "data.target=target", "model=mlp"],
        )
        own = [sys.executable, str(PROGRAMS / "own_table.py")]
        contestants = [
            Contestant(f"slipstream, {MATRIX}", [*own, "read"], task, "training"),
            Contestant(f"slipstream, {EPOCH}", [*own, "epoch"], task, NOTHING),
        ]
        if options.peers:
            command = [options.peers, "-W", "ignore", str(PROGRAMS / "pandas_table.py")]
            for engine in ("c", "pyarrow") if kind == "csv" else ("pyarrow",):
                name = f"pandas ({engine}), sklearn"
                contestants += [
                    Contestant(f"{name}, {MATRIX}", [*command, "read", engine], task, "training"),
                    Contestant(f"{name}, {EPOCH}", [*command, "epoch", engine], task, BARE),
                ]

        def read(contestant: Contestant, wall: float, line: dict[str, Any]) -> Values:
            matrix = options.rows * line["features"] * 4 / 2**20 if "features" in line else math.nan
            return {
                "seconds": line["times"][-1],
                "memory, MB": line["memory"],
                "the matrix, MB": matrix,
                "memory / matrix": line["memory"] / matrix,
                "accuracy": line["accuracy"],
            }

        size = path.stat().st_size / 1e6
        columns = NUMBERS + CATEGORIES
        title = f"{options.rows:,} rows x {columns} columns, {size:,.0f} MB of {kind}, width 64, batch 1024"
        yield Group("table", title, contestants, read, f"slipstream, {MATRIX}")


def write(rows: int, folder: Path) -> None:
    """Both files: numbers, words for categories, and whether a sum of both is positive."""
    rng = np.random.default_rng(0)
    numbers = rng.standard_normal((rows, NUMBERS), np.float32)
    codes = rng.integers(0, np.arange(3, 3 + CATEGORIES), (rows, CATEGORIES))
    score = numbers @ rng.standard_normal(NUMBERS) + (codes @ rng.standard_normal(CATEGORIES))
    target = score + rng.standard_normal(rows) > np.median(score)
    absent = rng.random((rows, CATEGORIES)) < MISSING
    words = np.array([f"word{i}" for i in range(3 + CATEGORIES)], object)
    columns = {f"number{i}": numbers[:, i].round(5) for i in range(NUMBERS)}
    for i in range(CATEGORIES):
        columns[f"category{i}"] = np.where(absent[:, i], None, words[codes[:, i]])
    frame = pl.DataFrame({**columns, "target": target.astype(np.int64)})
    frame.write_csv(folder / "table.csv", float_precision=5)
    frame.write_parquet(folder / "table.parquet")
