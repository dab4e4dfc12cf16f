"""Networks for tables beside scikit-learn's, everything out of the box: five folds of four small data sets.

    python scripts/compare_tables.py [--data wine diabetes] [--folds 5] [--seed 0]

Each fold is the test part once; no method sees it. Of the other rows slipstream's networks take 15 % to
choose the best epoch by; scikit-learn's have their defaults (MLP* on standardized inputs and, where numbers
are predicted, targets). Prints a table in markdown: mean and deviation over the folds, the best in bold, and
in italics what ties with it: a paired difference below two standard errors.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from sklearn import datasets
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.metrics import accuracy_score, root_mean_squared_error
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import slipstream

Parts = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # train x, y, test x, y
Method = Callable[[Parts, bool, int], float]

QUIET = ("logger=none", "trainer.progress=none", "trainer.checkpoint_seconds=600")


def ours(*overrides: str, regression: tuple[str, ...] = ()) -> Method:
    """A network of this configuration; `regression` instead where numbers are predicted."""

    def score(parts: Parts, classes: bool, seed: int) -> float:
        names = ("inputs", "targets", "inputs_test", "targets_test")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "fold.npz"
            np.savez(path, **dict(zip(names, parts, strict=True)))  # type: ignore[arg-type]
            chosen = overrides if classes else regression or overrides
            config = slipstream.compose(*chosen, "data=arrays", f"data.path={path}", f"seed={seed}", *QUIET)
            result = slipstream.train(config, Path(folder) / "run")
        return result.best["test/accuracy" if classes else "test/rmse"]

    return score


def theirs(classifier: Any, regressor: Any) -> Method:
    """A model of scikit-learn's."""

    def score(parts: Parts, classes: bool, seed: int) -> float:
        train_x, train_y, test_x, test_y = parts
        model = (classifier if classes else regressor)(seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its MLP warns where 200 epochs did not converge
            found = model.fit(train_x, train_y).predict(test_x)
        return accuracy_score(test_y, found) if classes else root_mean_squared_error(test_y, found)

    return score


def scaled(model: Any) -> Any:
    return make_pipeline(StandardScaler(), model)


METHODS: dict[str, Method] = {
    "mlp": ours("model=mlp"),
    "realmlp": ours("experiment=realmlp", regression=("experiment=realmlp_regression",)),
    "tabm": ours("experiment=tabm"),
    "sklearn MLP": theirs(
        lambda seed: scaled(MLPClassifier(random_state=seed)),
        lambda seed: TransformedTargetRegressor(
            scaled(MLPRegressor(random_state=seed)), transformer=StandardScaler()
        ),
    ),
    "sklearn HistGradientBoosting": theirs(
        lambda seed: HistGradientBoostingClassifier(random_state=seed),
        lambda seed: HistGradientBoostingRegressor(random_state=seed),
    ),
}
DATA = ("breast_cancer", "wine", "diabetes", "digits")


def cell(scores: list[float], best: list[float], classes: bool) -> str:
    """Mean and deviation, bold for the best, in italics for what ties with it."""
    form = "{:.2f} ± {:.2f}" if not classes else "{:.2%} ± {:.2%}"
    text = form.format(statistics.mean(scores), statistics.stdev(scores))
    if scores is best:
        return f"**{text}**"
    apart = [a - b for a, b in zip(scores, best, strict=True)]
    tie = abs(statistics.mean(apart)) < 2 * statistics.stdev(apart) / len(apart) ** 0.5 or not any(apart)
    return f"*{text}*" if tie else text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", nargs="+", choices=DATA, default=DATA)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print("| data | rows x columns | measure | " + " | ".join(arguments.methods) + " |")
    print("| --- " * (3 + len(arguments.methods)) + "|", flush=True)
    seconds = dict.fromkeys(arguments.methods, 0.0)
    for name in arguments.data:
        x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
        classes = name != "diabetes"
        kind = StratifiedKFold if classes else KFold
        folds = list(kind(arguments.folds, shuffle=True, random_state=arguments.seed).split(x, y))
        scores: dict[str, list[float]] = {method: [] for method in arguments.methods}
        for train, test in folds:
            for method in arguments.methods:
                start = time.perf_counter()
                parts = (x[train], y[train], x[test], y[test])
                scores[method].append(METHODS[method](parts, classes, arguments.seed))
                seconds[method] += time.perf_counter() - start
        best = (max if classes else min)(scores.values(), key=statistics.mean)
        cells = [cell(found, best, classes) for found in scores.values()]
        shape = f"{len(x):,} x {x.shape[1]}"
        print(
            f"| {name} | {shape} | {'accuracy' if classes else 'RMSE'} | " + " | ".join(cells) + " |",
            flush=True,
        )
    fits = len(arguments.data) * arguments.folds
    print("| seconds a fit | | | " + " | ".join(f"{seconds[m] / fits:.1f}" for m in arguments.methods) + " |")


if __name__ == "__main__":
    main()
