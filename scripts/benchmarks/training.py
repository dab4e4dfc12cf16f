"""Time of an update in whole runs: a small MLP, a wide one, a convnet."""

from __future__ import annotations

import statistics
import sys
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contest import ROOT, Contestant, Failed, Group, Values
from benchmarks.export import export
from peers.task import Task

PROGRAMS = ROOT / "scripts/peers"
STRETCHES = 5  # equal parts of the epochs after warming up, whose median counts
NOTHING = "nothing; it has validation and metrics every epoch, TensorBoard, checkpoints, best weights"
BARE = "validation, metrics, logs, checkpoints"
EXTRAS = "checkpoints, best weights, norms, histograms, most metrics, the evaluation at the end"
CEILING = "ceiling (torch.bmm)"
PLAIN = "plain loop"


def run(options: Namespace, folder: Path) -> Iterator[Group]:
    """One small run: digits, batch 64, MLPs of two widths."""
    overrides = ["data=digits", "model=mlp"]
    (features,), rows = export(overrides, folder / "digits.npz")
    for width in (16, 128):
        task = Task(
            data=str(folder / "digits.npz"),
            folder="",
            rates=[1e-3],
            seeds=1,
            width=width,
            epochs=options.epochs or 100,
            batch_size=64,
            device=options.device,
            shape=[features],
            seconds=1.0,
            overrides=[*overrides, f"model.width={width}"],
        )
        contestants = [*toolkit(task, ceiling=True), *plain(task), ceiling(task)]
        if options.peers:
            names = ["lightning", "keras torch", "keras jax", "skorch"]
            if options.device == "cpu":
                names.append("scikit-learn")
            contestants += [peer(name, task, options.peers) for name in names]
        yield group("run", f"digits, MLP {features}-{width}-{width}-10, batch 64", task, rows, contestants)


def wide(options: Namespace, folder: Path) -> Iterator[Group]:
    """One wide run: 64 features, batch 512, width 1,024, float32 and bfloat16."""
    path = folder / "wide_source.npz"
    rng = np.random.default_rng(0)
    x = rng.standard_normal((20 * 512 * 10 // 7, 64), np.float32)
    scores = np.tanh(x @ rng.standard_normal((64, 64), np.float32) / 8) @ rng.standard_normal((64, 10))
    np.savez(path, inputs=x, targets=scores.argmax(1))
    overrides = ["data=arrays", f"data.path={path}", "data.task=multiclass", "model=mlp", "model.width=1024"]
    (features,), rows = export(overrides, folder / "wide.npz")
    task = Task(
        data=str(folder / "wide.npz"),
        folder="",
        rates=[1e-3],
        seeds=1,
        width=1024,
        epochs=options.epochs or 40,
        batch_size=512,
        device=options.device,
        shape=[features],
        seconds=2.0,
        overrides=overrides,
    )
    contestants = []
    for dtype in ("float32", "bfloat16"):
        own = replace(task, dtype=dtype)
        those = [*toolkit(own, ceiling=True), *plain(own), ceiling(own)]
        if dtype != "float32":  # the plain loop in float32 is what all are compared with
            those = [
                replace(c, name=f"{c.name}, {dtype}", ceiling=c.ceiling and f"{c.ceiling}, {dtype}")
                for c in those
            ]
        contestants += those
    title = f"synthetic rows, MLP {features}-1024-1024-10, batch 512, float32 where nothing else is said"
    yield group("wide", title, task, rows, contestants)


def convnet(options: Namespace, folder: Path) -> Iterator[Group]:
    """One convnet: images of 32x32 in colour, 16 and 32 channels, batch 64."""
    overrides = ["data=shapes", "data.size=32", "data.colour=true", "model=convnet", "model.channels=[16,32]"]
    shape, rows = export(overrides, folder / "shapes.npz", flat=False)
    task = Task(
        data=str(folder / "shapes.npz"),
        folder="",
        rates=[1e-3],
        seeds=1,
        width=0,
        epochs=options.epochs or 20,
        batch_size=64,
        device=options.device,
        shape=shape,
        outputs=4,
        channels=[16, 32],
        overrides=overrides,
    )
    contestants = [*toolkit(task), *plain(task)]
    if options.peers:
        contestants += [peer(name, task, options.peers) for name in ("lightning", "keras torch", "keras jax")]
    yield group("convnet", "shapes, 32x32 in colour, convnet 16-32, batch 64", task, rows, contestants)


def toolkit(task: Task, *, ceiling: bool = False) -> list[Contestant]:
    """This toolkit, eager and compiled, everything on."""
    command = [sys.executable, str(PROGRAMS / "own.py")]
    limit = CEILING if ceiling else ""
    return [
        Contestant(f"slipstream, {name}", command, replace(task, compile=how), NOTHING, ceiling=limit)
        for name, how in (("eager", ""), ("compiled", "compiled"))
    ]


def plain(task: Task) -> list[Contestant]:
    """The tuned plain loop, eager and compiled and, on a GPU, as a CUDA graph."""
    kinds = [(PLAIN, ""), ("plain loop, compiled", "compiled")]
    if task.device == "cuda":
        kinds.append(("plain loop, CUDA graph", "graphs"))
    command = [sys.executable, str(PROGRAMS / "plain.py")]
    limit = "" if task.channels else CEILING
    return [Contestant(name, command, replace(task, compile=how), BARE, ceiling=limit) for name, how in kinds]


def ceiling(task: Task) -> Contestant:
    """The matrix products alone."""
    everything = "all but the matrix products"
    return Contestant(CEILING, [sys.executable, str(PROGRAMS / "ceiling.py")], task, everything)


def peer(name: str, task: Task, python: str) -> Contestant:
    """Another toolkit, in its environment."""
    program, without, environment = {
        "lightning": ("lightning_member.py", EXTRAS, {}),
        "keras torch": ("keras_loop.py", EXTRAS, {"KERAS_BACKEND": "torch"}),
        "keras jax": ("keras_loop.py", EXTRAS, {"KERAS_BACKEND": "jax"}),
        "skorch": ("skorch_loop.py", f"accuracy on the training rows, {EXTRAS}", {}),
        "scikit-learn": ("sklearn_loop.py", f"{BARE} (has the training loss)", {}),
    }[name]
    return Contestant(name, [python, "-W", "ignore", str(PROGRAMS / program)], task, without, {**environment})


def group(workload: str, title: str, task: Task, rows: int, contestants: list[Contestant]) -> Group:
    """A table of the time of an update."""
    steps = -(-rows // task.batch_size)

    def read(contestant: Contestant, wall: float, line: dict[str, Any]) -> Values:
        if contestant.name.startswith(CEILING):
            return {"us an update": per_epoch(line["times"]) / steps * 1e6}
        if line["updates"] != task.epochs * steps:
            raise Failed(f"made {line['updates']} updates, not {task.epochs} times {steps}")
        return {
            "us an update": per_epoch(line["times"]) / steps * 1e6,
            "first epoch, s": line["times"][1] - line["times"][0],
            "process, s": wall,
            "accuracy": line["accuracy"],
        }

    return Group(workload, f"{title}, {task.epochs} epochs of {steps} updates", contestants, read, PLAIN)


def per_epoch(times: list[float]) -> float:
    """Seconds of an epoch: the median over equal stretches, a tenth of the epochs left out to warm up.

    Stretches of several epochs, since one alone can be shorter than the log's milliseconds.
    """
    ends = times[max(len(times) // 10, 1) :]
    stretches = min(STRETCHES, len(ends) - 1)
    cuts = [round(i * (len(ends) - 1) / stretches) for i in range(stretches + 1)]
    return statistics.median((ends[b] - ends[a]) / (b - a) for a, b in pairwise(cuts))
