"""Benchmark: the rate that find-lr names, compared with a full sweep of all rates.

    python scripts/bench_find_lr.py FOLDER                   # the ten cases of docs/why.md
    python scripts/bench_find_lr.py FOLDER --developed       # the cases that find-lr was developed on
    python scripts/bench_find_lr.py FOLDER wine sine         # some of them

For each case, it prints the best rate of the full sweep (every rate of the grid to the last epoch, seeds 0 to
2, by the mean val/loss at the best epoch), the rates indistinguishable from it, the rate that find-lr
names with seed 0, the rate that a learning rate range test names (an exponential ramp over as many updates as
find-lr's longest branch, steepest slope, as in Lightning's and fastai's finders), and the processor time of
both. The sweep trains as packs in memory, without files. One thread, eager. FOLDER keeps the sweeps, which
take longest.
"""

from __future__ import annotations

import argparse
import ast
import csv
import json
import math
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

import slipstream
from slipstream.config.run_config import Config
from slipstream.config.validation import validate
from slipstream.diagnosis.learning_rates import RATES
from slipstream.runs import setup
from slipstream.runs.grouped import train_grouped
from slipstream.training.engine import Engine

SEEDS = 3
STEP = 2.1  # of the grid, whose rates are rounded to two digits
TIED = 2.92  # the quantile of Student's t at 95 %, one-sided, for three pairs
COMMON = ("early_stopping=none", "logger=[]", "trainer.observations=false", "trainer.compile=false")
NARROW = "model.width=64"
RNN = ("model=rnn", "data=adding_problem", "data.length=20", "data.rows=1500", "model.width=24")
SMALL = ("data=shapes", "data.rows=800", "model=convnet", "model.channels=8", "optimizer=momentum")
CASES = {
    "digits": ("data=digits", "optimizer=adam", NARROW),
    "breast_cancer": ("data=breast_cancer", "optimizer=sgd"),
    "wine": ("data=wine", "optimizer=momentum", NARROW),
    "diabetes": ("data=diabetes", "optimizer=adamw", NARROW),
    "two_moons": ("data=two_moons", "optimizer=sgd", NARROW, "regularizer=[batch_norm]"),
    "circles": ("data=circles", "optimizer=rmsprop", NARROW, "regularizer=[dropout]"),
    "sine": ("data=sine", "optimizer=adam", NARROW, "activation=tanh"),
    "shapes": (*SMALL, "trainer.max_epochs=20"),
    "docstrings": (
        *("docstrings", "model=rnn", "model.cell=gru", "model.width=24", "optimizer=adam"),
        "trainer.max_epochs=15",
    ),
    "waves": (
        *("waves", "model=rnn", "model.cell=simple", "model.width=32", "optimizer=sgd"),
        *("regularizer=[gradient_clipping]", "trainer.max_epochs=40"),
    ),
}
DEVELOPED = {
    "iris/adam": ("data=iris",),
    "linear/sgd": ("data=linear", "optimizer=sgd"),
    "spirals/adam": ("data=spirals", NARROW),
    "xor/sgd": ("data=xor", "optimizer=sgd", "model.width=32"),
    "parity/momentum": ("data=parity", "optimizer=momentum", NARROW),
    "adding/rnn": (*RNN, "trainer.max_epochs=30"),
    "friedman1/sgd": ("friedman1", "optimizer=sgd", NARROW),
    "friedman2/realmlp": ("friedman2", "model=realmlp", "model.width=32"),
    "noisy/adam": ("noisy", NARROW, "regularizer=[dropout]"),
    "quantiles/momentum": ("quantiles", "optimizer=momentum", NARROW),
    "hastie/nesterov": (
        *("hastie", "optimizer=nesterov", NARROW, "regularizer=[batch_norm]"),
        "trainer.max_epochs=30",
    ),
    "blobs/rmsprop": ("blobs", "optimizer=rmsprop", NARROW, "activation=tanh"),
    "friedman1/lion": ("friedman1", "optimizer=lion", NARROW),
    "noisy/sgd-l2": ("noisy", "optimizer=sgd", "model.width=32", "regularizer=[l2]"),
    "friedman1/adam": ("friedman1", "optimizer=adam", NARROW),
    "xor/adam": ("data=xor", "model.width=16", "activation=tanh"),
    "spirals/momentum": ("data=spirals", "optimizer=momentum", NARROW),
    "linear/adam-perceptron": ("data=linear", "model=perceptron", "optimizer=adam", "loss=mse"),
    "hastie/sgd-dropout": (
        *("hastie", "optimizer=sgd", NARROW, "regularizer=[dropout]"),
        "trainer.max_epochs=25",
    ),
    "quantiles/nadam": ("quantiles", "optimizer=nadam", NARROW, "trainer.max_epochs=25"),
    "blobs/sgd": ("blobs", "optimizer=sgd", NARROW),
}


def words_of(case: Sequence[str], folder: Path) -> list[str]:
    """Return the command line of a case; the data without a source of their own are written first."""
    words = [w for word in case for w in ([word] if "=" in word else written(word, folder))]
    return [*words, *COMMON]


def written(name: str, folder: Path) -> list[str]:
    """Write a data set and return the words that choose it."""
    folder.mkdir(parents=True, exist_ok=True)
    if name == "docstrings":
        path = folder / "docstrings.tsv"
        path.write_text("package\ttext\n" + "".join(f"{a}\t{b}\n" for a, b in docstrings()), "utf-8")
        words = ["data=text", "data.text=text", "data.target=package", "data.max_length=25"]
    elif name == "waves":
        path = folder / "waves.csv"
        path.write_text("id,time,value,kind\n" + "".join(waves()))
        words = ["data=sequences", "data.id=id", "data.time=time", "data.target=kind"]
    else:
        path = folder / f"{name}.csv"
        x, y = generated(name)
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow([*(f"x{i}" for i in range(x.shape[1])), "y"])
            writer.writerows([*(f"{v:.5g}" for v in row), target] for row, target in zip(x, y, strict=True))
        words = ["data=table", "data.target=y"]
    return [words[0], f"data.path={path}", *words[1:]]


def generated(name: str) -> tuple[np.ndarray, list[str]]:
    """Return the inputs and targets of one of scikit-learn's generators."""
    from sklearn import datasets

    if name.startswith("friedman"):
        rows, noise = {"friedman1": (1200, 1.0), "friedman2": (1000, 20.0)}[name]
        x, y = getattr(datasets, f"make_{name}")(rows, noise=noise, random_state=1)
        return x, [f"{v:.5g}" for v in y]
    makers = {
        "noisy": lambda: datasets.make_classification(
            1500, 20, n_informative=8, n_classes=3, flip_y=0.15, random_state=1
        ),
        "quantiles": lambda: datasets.make_gaussian_quantiles(
            n_samples=1500, n_features=8, n_classes=4, random_state=1
        ),
        "hastie": lambda: datasets.make_hastie_10_2(2000, random_state=1),
        "blobs": lambda: datasets.make_blobs(1000, 6, centers=8, cluster_std=4.0, random_state=1),
    }
    x, y = makers[name]()
    return x, ["no" if v < 0 else "yes" if name == "hastie" else "abcdefgh"[int(v)] for v in y]


def waves() -> Iterator[str]:
    """Yield the steps of 900 noisy sines, slow, middle and fast."""
    draw = np.random.default_rng(1)
    for i in range(900):
        speed = (0.25, 0.4, 0.6)[i % 3] * draw.uniform(0.85, 1.15)
        phase, kind = draw.uniform(0, 6.28), ("slow", "middle", "fast")[i % 3]
        for t in range(24):
            yield f"{i},{t},{np.sin(speed * t + phase) + draw.normal(0, 0.5):.4f},{kind}\n"


def docstrings() -> list[tuple[str, str]]:
    """Return the first sentences of 500 docstrings of numpy, scipy and sklearn each, with their package."""
    import scipy
    import sklearn

    rows = []
    for module in (np, scipy, sklearn):
        home, own = Path(module.__file__).parent, set()
        for file in sorted(home.rglob("*.py")):
            if "test" in str(file.relative_to(home)):
                continue
            try:
                tree = ast.parse(file.read_text("utf-8"))
            except (SyntaxError, UnicodeDecodeError):
                continue
            for node in ast.walk(tree):
                text = ""
                if isinstance(node, ast.FunctionDef | ast.ClassDef) and (doc := ast.get_docstring(node)):
                    text = " ".join(doc.split("\n\n")[0].split())
                if 30 < len(text) < 200:
                    own.add((module.__name__, text.replace("\t", " ")))
        chosen = sorted(own)
        random.Random(1).shuffle(chosen)
        rows += chosen[:500]
    return rows


def swept(words: Sequence[str], file: Path) -> tuple[np.ndarray, float]:
    """Return val/loss at the best epoch of every rate and seed [R, S], inf if diverged, and the seconds."""
    if file.exists():
        kept = json.loads(file.read_text())
    else:
        pairs = [(lr, seed) for lr in RATES for seed in range(SEEDS)]
        configs = [
            validate(slipstream.compose(*words, f"optimizer.lr={lr}", f"seed={seed}")) for lr, seed in pairs
        ]
        begun = time.process_time()
        ended = train_grouped(configs)
        seconds = time.process_time() - begun
        values = [e.result.best["val/loss"] if e.result.status != "diverged" else None for e in ended]
        kept = {"values": values, "seconds": seconds}
        file.write_text(json.dumps(kept))
    losses = np.array([math.inf if v is None else v for v in kept["values"]]).reshape(len(RATES), SEEDS)
    return losses, kept["seconds"]


def tied(losses: np.ndarray, best: int) -> list[float]:
    """Return the rates whose losses do not differ significantly from the best rate's in pairs of seeds."""
    found = []
    for lr, own in zip(RATES, losses, strict=True):
        apart = own - losses[best]
        if np.isfinite(apart).all():
            error = apart.std(ddof=1) / math.sqrt(SEEDS)
            if apart.mean() <= TIED * error:
                found.append(lr)
    return found


def ramped(config: Config, updates: int) -> float:
    """Return the rate that a range test names: an exponential ramp, the steepest fall of the smoothed loss.

    The smoothing is fastai's (0.98, without bias), the end is a loss of four times the lowest.
    """
    (data,), _ = setup.load_all([config])
    engine = Engine([setup.resolve(config, data)], data, torch.device("cpu"))
    rates = np.geomspace(RATES[0], RATES[-1], updates)
    state, losses, smooth = engine.start(), list[float](), 0.0
    for number, rate in enumerate(rates):
        epoch, step = divmod(number, engine.batching.steps)
        batch = engine.plan(epoch).batches[step]
        (lr,), (count,) = engine.rates([[float(rate)]]), engine.counts([number], 1)
        state, seen = engine.step(state, batch, lr, count)
        smooth = 0.98 * smooth + 0.02 * float(seen.objective)
        losses.append(smooth / (1 - 0.98 ** (number + 1)))
        if not math.isfinite(losses[-1]) or losses[-1] > 4 * min(losses):
            break
    known = np.array(losses[10:-1] if len(losses) > 14 else losses)
    slope = np.gradient(known) if len(known) > 1 else np.zeros(1)
    return float(rates[int(np.argmin(slope)) + (10 if len(losses) > 14 else 0)])


def main() -> None:
    """Measure and print."""
    asked = argparse.ArgumentParser()
    asked.add_argument("folder", type=Path)
    asked.add_argument("names", nargs="*")
    asked.add_argument("--developed", action="store_true")
    given = asked.parse_args()
    torch.set_num_threads(1)
    given.folder.mkdir(parents=True, exist_ok=True)
    slipstream.find_lr("data=xor", "model.width=8")  # imports
    cases = DEVELOPED if given.developed else CASES
    heads = (
        "case",
        "updates",
        "best of the sweep",
        "indistinguishable",
        "find-lr",
        "in a step",
        "against the best",
    )
    print(f"| {' | '.join([*heads, 'ramp', 'time'])} |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    counts, total = np.zeros(3, int), np.zeros(2)
    shown = {name: case for name, case in cases.items() if name in given.names or not given.names}
    for name, case in shown.items():
        words = words_of(case, given.folder / "data")
        losses, sweep = swept(words, given.folder / f"{name.replace('/', '-')}.json")
        best = int(np.argmin(losses.mean(axis=1)))
        equal = tied(losses, best)
        begun = time.process_time()
        found = slipstream.find_lr(*words)
        took = time.process_time() - begun
        ramp = ramped(validate(slipstream.compose(*words)), found.updates)
        good = [lr is not None and 1 / STEP < lr / RATES[best] < STEP for lr in (found.named, ramp)]
        counts += [good[0], good[0] or found.named in equal, good[1]]
        total += [took, sweep]
        cells = [name, f"{found.updates}", f"{RATES[best]:g}", f"{equal[0]:g} ... {equal[-1]:g}"]
        cells += [
            f"{found.named:g}",
            ["no", "yes"][good[0]],
            ["worse", "indistinguishable"][found.named in equal],
        ]
        cells += [f"{ramp:.2g}", f"{took:.1f} of {sweep:.0f} s, 1/{sweep / took:.0f}"]
        print(f"| {' | '.join(cells)} |", flush=True)
    took, sweep = total
    print(
        f"{len(shown)} cases: at most a step from the best: find-lr {counts[0]}, ramp {counts[2]};", end=" "
    )
    print(f"that or indistinguishable: {counts[1]}; {took:.0f} of {sweep:.0f} s, 1/{sweep / took:.0f}")


if __name__ == "__main__":
    main()
