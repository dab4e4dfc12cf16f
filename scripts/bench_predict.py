"""Time and memory of `slipstream predict` on a large CSV file, beside pandas and scikit-learn.

    python scripts/bench_predict.py [ROWS]

Both read the same file of 20 columns (15 numbers, 5 categories) in pieces, standardize, encode, run a network
of the same size, and write a line with the identifier and both probabilities for each row. Each runs in a
process of its own. Needs the extra `bench` (pandas).
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

TRAINED, WIDTH, DEPTH = 20_000, 64, 2
PIECE = 65_536  # rows that pandas reads at a time: the fastest of 2**14 to 2**18
NUMBERS, WORDS = [f"x{i}" for i in range(15)], [f"c{i}" for i in range(5)]

OURS = """
import sys, resource, time
from slipstream.inference.ensemble import open_run
from slipstream.inference.prediction_files import predict_file
begun = time.perf_counter()
predict_file(open_run(sys.argv[1]), sys.argv[2], sys.argv[3], "id")
print(time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""
THEIRS = """
import sys, resource, time
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
train, source, target, width, depth, piece = *sys.argv[1:4], *map(int, sys.argv[4:])
numbers, words = [f"x{i}" for i in range(15)], [f"c{i}" for i in range(5)]
columns = make_column_transformer(
    (StandardScaler(), numbers), (OneHotEncoder(handle_unknown="ignore", sparse_output=False), words)
)
model = make_pipeline(columns, MLPClassifier((width,) * depth, max_iter=2))
frame = pd.read_csv(train)
model.fit(frame[numbers + words], frame["y"])
begun = time.perf_counter()
for number, frame in enumerate(pd.read_csv(source, chunksize=piece)):
    found = model.predict_proba(frame[numbers + words])
    out = pd.DataFrame({"id": frame["id"], "prediction": model.classes_[found.argmax(1)]})
    for i, label in enumerate(model.classes_):
        out[f"probability {label}"] = found[:, i].astype("float32")
    out.to_csv(target, mode="a", header=number == 0, index=False)
print(time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def write(path: Path, rows: int, seed: int) -> None:
    """Write a table with an identifier and a target, a million rows at a time."""
    with path.open("wb") as file:
        for first in range(0, rows, 1_000_000):
            count = min(rows - first, 1_000_000)
            draw = np.random.default_rng([seed, first])
            x = draw.normal(0, 1, (15, count)).round(3)
            columns = {"id": np.arange(first, first + count)} | dict(zip(NUMBERS, x, strict=True))
            for i, name in enumerate(WORDS):
                columns[name] = draw.choice([f"v{j}" for j in range(4 + 3 * i)], count)
            label = x[0] + x[1] / 2 + 2 * (columns["c0"] == "v1") + draw.normal(0, 1, count) > 1
            columns["y"] = np.where(label, "a", "b")
            pl.DataFrame(columns).write_csv(file, include_header=first == 0)


def measured(code: str, *arguments: object) -> tuple[float, float]:
    """Return seconds and peak MiB of a process."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    seconds, mib = map(float, done.stdout.split())
    return seconds, mib


def main() -> None:
    """Make the files, train both, predict with both, and print what they took."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train, new = folder / "train.csv", folder / "new.csv"
        write(train, TRAINED, 0)
        write(new, rows, 1)
        import slipstream

        words = [f"data.path={train}", "data.target=y", "data.kinds={id: ignore}", f"model.width={WIDTH}"]
        words += [f"model.depth={DEPTH}", "trainer.max_epochs=2", "trainer.progress=none", "logger=none"]
        slipstream.train(slipstream.compose("data=table", *words), folder / "run")
        size = new.stat().st_size / 2**20
        print(f"{rows:,} rows x 20 columns, {size:,.0f} MiB of CSV, {os.cpu_count()} processors")
        begun = time.perf_counter()
        ours = measured(OURS, folder / "run", new, folder / "ours.csv")
        theirs = measured(THEIRS, train, new, folder / "theirs.csv", WIDTH, DEPTH, PIECE)
        for name, (seconds, mib) in (("slipstream predict", ours), ("pandas + scikit-learn", theirs)):
            print(f"{name:24}{seconds:8.1f} s {rows / seconds:12,.0f} rows/s {mib:8,.0f} MiB at most")
        print(f"ratio of times {theirs[0] / ours[0]:.2f}; all in {time.perf_counter() - begun:.0f} s")


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    main()
