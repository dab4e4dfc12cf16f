"""Time of a search: PackedSearchCV beside GridSearchCV around scikit-learn's MLPClassifier.

    python scripts/bench_search.py [EPOCHS] [WIDTH] [BATCH_SIZE]

Digits, 60 configurations (learning rates) x 5 folds. Both train the same work: one hidden layer of WIDTH,
BATCH_SIZE, all EPOCHS, Adam, the same learning rates, no penalty and no early stopping, on inputs scaled by
each fold's training rows. Each search runs in a process of its own, after a small one that imports and warms
up. Wall time and CPU time (children included) are printed, and their ratios to ours; on a busy machine only
those of CPU times mean something.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

COMMON = """
import json, os, resource, sys, time
import numpy as np
from sklearn.datasets import load_digits
kind, epochs, width, batch, jobs = sys.argv[1], *map(int, sys.argv[2:])
X, y = load_digits(return_X_y=True)
rates = list(np.geomspace(1e-4, 3e-2, 60))
def used():
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in both)
"""
OURS = """
import slipstream
def search(epochs, rates):
    network = slipstream.SlipstreamClassifier(width, 1, batch_size=batch, max_epochs=epochs, random_state=0)
    return slipstream.PackedSearchCV(network, {"lr": rates}, cv=5, refit=False)
"""
THEIRS = """
import warnings
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
warnings.filterwarnings("ignore")
os.environ["PYTHONWARNINGS"] = "ignore"
def search(epochs, rates):
    network = MLPClassifier(
        (width,), batch_size=batch, max_iter=epochs, n_iter_no_change=epochs, tol=0, alpha=0, random_state=0
    )
    grid = {"mlpclassifier__learning_rate_init": rates}
    return GridSearchCV(make_pipeline(StandardScaler(), network), grid, cv=5, refit=False, n_jobs=jobs)
"""
MEASURE = """
search(1, rates[:2]).fit(X[:500], y[:500])
begun, before = time.perf_counter(), used()
found = search(epochs, rates).fit(X, y)
wall = time.perf_counter() - begun
if jobs > 1:  # the CPU time of children counts when they have ended
    from joblib.externals.loky import get_reusable_executor
    get_reusable_executor().shutdown(wait=True)
best = float(found.cv_results_["mean_test_score"].max())
print(json.dumps({"wall": wall, "cpu": used() - before, "best": best}))
"""


def measured(kind: str, *numbers: int) -> dict[str, float]:
    """Return wall time, CPU time and the best score of a search in a process of its own."""
    code = COMMON + (OURS if kind == "ours" else THEIRS) + MEASURE
    command = [sys.executable, "-c", code, kind, *map(str, numbers)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Print a table of both, with the conditions."""
    given = [int(text) for text in sys.argv[1:]]
    epochs, width, batch = [*given, *(50, 32, 32)[len(given) :]]
    load = os.getloadavg()[0]
    cores = os.cpu_count()
    print(f"60 learning rates x 5 folds of digits, width {width}, batch size {batch}, {epochs} epochs")
    print(
        f"{cores} cores, load before {load:.1f}, OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'unset')}"
    )
    rows = {
        "PackedSearchCV": measured("ours", epochs, width, batch, 1),
        "GridSearchCV, MLPClassifier, n_jobs=2": measured("theirs", epochs, width, batch, 2),
        "GridSearchCV, MLPClassifier, n_jobs=1": measured("theirs", epochs, width, batch, 1),
    }
    ours = rows["PackedSearchCV"]
    for name, row in rows.items():
        times = (
            f"{kind} {row[key]:7.1f} s ({row[key] / ours[key]:5.1f})"
            for kind, key in (("wall", "wall"), ("CPU", "cpu"))
        )
        print(f"{name:38}", *times, f"best {row['best']:.4f}", sep="  ", flush=True)


if __name__ == "__main__":
    main()
