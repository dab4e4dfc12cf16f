"""Every regularizer of the lectures on 200 handwritten digits: test accuracy over seeds, paired with none.

    python scripts/compare_regularizers.py [--seeds 20] [--trials 200] [--epochs 100]

All runs have the same 200 training examples, the same network (64-128-128-10) and the same number of
epochs; runs of one seed start from the same weights. A strength is chosen by the mean validation
accuracy over all seeds, the test part is looked at once. The last row is the best mix that a search
found on one seed, trained again on all of them. Prints a table in markdown.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from dataclasses import dataclass
from typing import Any

from scipy.stats import ttest_1samp

import slipstream
from slipstream.sweeps.plan.job import Outcome

# 1,797 digits: 300 validate and 1,297 test.
DATA = ("data.validation=0.167", "data.test=0.7217", "data.batch_size=50")
QUIET = ("logger=none", "trainer.metrics=[accuracy]", "trainer.monitor=val/accuracy", "trainer.mode=max")
STAY = ("early_stopping=none", "early_stopping.restore_best=false")


@dataclass(frozen=True)
class Contestant:
    """A row of the table: what is chosen, and the settings among which validation chooses."""

    name: str
    overrides: tuple[str, ...] = ()
    key: str | None = None
    values: tuple[Any, ...] = ()
    stops: bool = False


CONTESTANTS = (
    Contestant("none"),
    Contestant("l1", ("regularizer=[l1]",), "regularizer.l1.strength", (1e-5, 1e-4, 3e-4, 1e-3)),
    Contestant("l2", ("regularizer=[l2]",), "regularizer.l2.strength", (1e-4, 1e-3, 3e-3, 1e-2)),
    Contestant(
        "elastic_net",
        ("regularizer=[elastic_net]",),
        "regularizer.elastic_net.strength",
        (1e-5, 1e-4, 3e-4, 1e-3),
    ),
    Contestant("dropout", ("regularizer=[dropout]",), "regularizer.dropout.rate", (0.1, 0.25, 0.5, 0.7)),
    Contestant("batch_norm", ("regularizer=[batch_norm]",)),
    Contestant(
        "augmentation (shift, rotation)",
        ("augmentation=[translation,rotation]", "augmentation.rotation.degrees=10"),
        "augmentation.translation.fraction",
        (0.05, 0.1, 0.15),
    ),
    Contestant("early stopping", ("early_stopping=patience", "early_stopping.patience=20"), stops=True),
    Contestant(
        "dense_sparse_dense",
        ("regularizer=[dense_sparse_dense]",),
        "regularizer.dense_sparse_dense.sparsity",
        (0.3, 0.5, 0.7),
    ),
)

MIXES = {
    "regularizer": [
        *([], ["l2"], ["dropout"], ["batch_norm"], ["l1", "dropout"], ["l2", "dropout"]),
        *(["l2", "batch_norm"], ["dropout", "batch_norm"], ["l2", "dropout", "ema"]),
    ],
    "regularizer.l1.strength": {"low": 1e-6, "high": 1e-3, "log": True},
    "regularizer.l2.strength": {"low": 1e-5, "high": 1e-2, "log": True},
    "regularizer.dropout.rate": {"low": 0.05, "high": 0.7},
    "augmentation": [[], ["translation"], ["translation", "rotation"]],
    "augmentation.translation.fraction": {"low": 0.02, "high": 0.2},
    "augmentation.rotation.degrees": {"low": 3.0, "high": 25.0},
    "optimizer.lr": {"low": 3e-4, "high": 1e-2, "log": True},
}


def trained(space: dict[str, Any], *overrides: str, **settings: Any) -> list[Outcome]:
    """The members of a sweep in a folder that goes."""
    with tempfile.TemporaryDirectory() as folder:
        base = (*DATA, *QUIET)
        return list(slipstream.sweep(space, *base, *overrides, directory=f"{folder}/s", **settings).runs)


@dataclass(frozen=True)
class Row:
    """What a contestant came to: the chosen setting, and the test accuracy of every seed."""

    name: str
    chosen: str
    accuracies: dict[int, float]


def row(one: Contestant, seeds: int, epochs: int) -> Row:
    """The contestant with the setting that validates best."""
    fixed = one.overrides if one.stops else (*STAY, *one.overrides)
    space: dict[str, Any] = {"seed": list(range(seeds))}
    if one.key:
        space[one.key] = list(one.values)
    by_value: dict[Any, list[Outcome]] = {}
    for run in trained(space, f"trainer.max_epochs={epochs}", *fixed):
        by_value.setdefault(run.values.get(one.key or ""), []).append(run)
    chosen = max(by_value, key=lambda value: statistics.fmean(metric(run, "val") for run in by_value[value]))
    said = f"{one.key.rpartition('.')[2]} {chosen:g}" if one.key else ""
    return Row(one.name, said, {run.seed: metric(run, "test") for run in by_value[chosen]})


def metric(run: Outcome, part: str) -> float:
    """A run's accuracy; one that diverged has learned nothing."""
    return run.best.get(f"{part}/accuracy") or 0.0


def searched(trials: int, seeds: int, epochs: int) -> Row:
    """The best mix that a search finds on one seed, trained on all seeds."""
    length = f"trainer.max_epochs={epochs}"
    best = max(trained(MIXES, length, *STAY, "sweep=tpe", trials=trials), key=lambda run: metric(run, "val"))
    space = {key: [value] for key, value in best.values.items() if key != "seed"}
    again = trained({"seed": list(range(seeds)), **space}, length, *STAY)
    said = ", ".join(f"{key.removeprefix('regularizer.')} {_short(v)}" for key, v in best.values.items())
    return Row(f"the best of a search of {trials}", said, {run.seed: metric(run, "test") for run in again})


def _short(value: Any) -> str:
    return f"{value:.2g}" if isinstance(value, float) else f"{value}".replace("'", "")


def main() -> None:
    """Train everything and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=100)
    asked = parser.parse_args()
    rows = [row(one, asked.seeds, asked.epochs) for one in CONTESTANTS]
    rows.append(searched(asked.trials, asked.seeds, asked.epochs))
    print(f"\n{asked.seeds} seeds, {asked.epochs} epochs, 200 training digits; accuracy in percent\n")
    print("| regularizer | chosen by validation | test | std | against none | p (paired t) | |")
    print("|---|---|---|---|---|---|---|")
    for found in rows:
        print(line(found, rows[0]))


def line(found: Row, none: Row) -> str:
    """A row of the table: mean, spread, and the paired comparison with training without a regularizer."""
    seeds = sorted(found.accuracies)
    values = [100 * found.accuracies[seed] for seed in seeds]
    gains = [value - 100 * none.accuracies[seed] for value, seed in zip(values, seeds, strict=True)]
    gain = statistics.fmean(gains)
    p = float(ttest_1samp(gains, 0.0).pvalue) if any(gains) else 1.0
    word = "" if found is none else "tie" if p >= 0.05 else "better" if gain > 0 else "worse"
    mean, spread = statistics.fmean(values), statistics.stdev(values)
    paired = "| |" if found is none else f"{gain:+.2f} | {p:.2g} |"
    return f"| {found.name} | {found.chosen} | {mean:.2f} | {spread:.2f} | {paired} {word} |"


if __name__ == "__main__":
    main()
