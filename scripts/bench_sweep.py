"""A sweep of 256 members (16 learning rates x 16 seeds), from command to end: this toolkit and its peers.

    python scripts/bench_sweep.py [--width 16 128] [--peers PYTHON] [--rounds 3] [--only NAME ...]

MLP 64-16-16-10 on digits, batch 64, 50 epochs, the same rows for all. What is timed is the wall time
of fresh processes, imports and compilation included.

slipstream         `python train.py -m ...`: validation every epoch, TensorBoard, checkpoints, leaderboard;
                   cold: an empty compile cache; warm: the same command again
plain              the tuned plain loop in as many processes as there are cores, a thread each: no
                   validation, no logging. (Rows gathered once an epoch and fused Adam are its fastest form:
                   gathering by batch takes 1.1 times as long, foreach Adam 1.5, torch.compile 1.6.)
lightning_hydra    Lightning driven by Hydra's multirun with its basic launcher
lightning_optuna   Lightning under Optuna's GridSampler
keras              Keras on its torch backend
skorch             skorch's NeuralNetClassifier
packs              time per member and step of packs by their size: whole epochs with validation, curves and
                   histograms (in this process, compiled, the first epochs left out; few epochs mean
                   histograms more often)

The peers (Lightning twice, Keras, skorch) stand in scripts/peers/ and say there what they leave out: they
validate and write TensorBoard files every epoch, and save nothing. Whole batches are indexed at once
for Lightning (a DataLoader that collects rows takes 1.5 times as long). Each runs all its members in one
process of one thread: two are no faster at these widths. They train one member of SAMPLE (every
learning rate, fewer seeds), and the rest is scaled up: time of the process, plus the mean time of the
members after the first for each that was left out, so that the start is counted once.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

import slipstream
from benchmarks.export import export
from benchmarks.machine import HOW_TO, versions
from peers.task import VARIABLE, Task

ROOT = Path(__file__).resolve().parent.parent
PEERS = {
    "lightning_hydra": "lightning_hydra.py",
    "lightning_optuna": "lightning_optuna.py",
    "keras": "keras_loop.py",
    "skorch": "skorch_loop.py",
}
PACKAGES = ("torch", "lightning", "hydra-core", "optuna", "keras", "skorch")
WARM_UP = 5  # epochs of a pack left out: first touches, and compilation


@dataclass(frozen=True)
class Time:
    """What a contestant took in a round: `sweep` seconds for all members, `wall` for those that ran."""

    contestant: str
    members: int
    wall: float
    sweep: float
    accuracy: float  # the mean over members, on the validation rows, after the last epoch


def slipstream_sweep(task: Task) -> Iterator[Time]:
    """The real command line, with a cold and then with a warm compile cache."""
    caches = {
        "TORCHINDUCTOR_CACHE_DIR": f"{task.folder}/inductor",
        "XDG_CACHE_HOME": f"{task.folder}/cache",
    }
    for cache in ("cold", "warm"):
        folder = Path(task.folder) / cache
        command = [
            sys.executable,
            "train.py",
            "-m",
            "optimizer.lr=" + ",".join(map(repr, task.rates)),
            f"seed=range({task.seeds})",
            f"data.batch_size={task.batch_size}",
            f"model.width={task.width}",
            "early_stopping=none",
            f"trainer.max_epochs={task.epochs}",
            f"trainer.device={task.device}",
            f"hydra.sweep.dir={folder}",
        ]
        wall = timed([command], task, caches)
        accuracies = []
        for number in range(len(task.members)):
            summary = json.loads((folder / str(number) / "summary.json").read_text())
            if summary["status"] != "finished" or summary["epochs"] != task.epochs:
                sys.exit(f"member {number} did not finish: {summary['status']}, {summary['reason']}")
            accuracies.append(summary["last"]["val/accuracy"])
        yield Time(f"slipstream, {cache}", len(accuracies), wall, wall, statistics.fmean(accuracies))


def plain(task: Task) -> Iterator[Time]:
    """The plain loop, all members, in as many processes as there are cores."""
    cores = os.cpu_count() or 1
    program = str(ROOT / "scripts/peers/plain.py")
    commands = [[sys.executable, program, str(i), str(cores)] for i in range(cores)]
    wall = timed(commands, task, {"OMP_NUM_THREADS": "1"})
    accuracies = [accuracy for _, accuracy in marks(task)]
    yield Time(f"plain, {cores} processes", len(accuracies), wall, wall, statistics.fmean(accuracies))


def peer(name: str, python: str, task: Task, sample: int) -> Iterator[Time]:
    """One of the other toolkits: a sample of the members, scaled up."""
    total = len(task.members)
    task = replace(task, seeds=task.seeds // sample)
    command = [python, "-W", "ignore", str(ROOT / "scripts/peers" / PEERS[name])]
    if name == "lightning_hydra":
        rates = ",".join(map(repr, task.rates))
        command += ["-m", f"lr={rates}", f"seed=range({task.seeds})", f"hydra.sweep.dir={task.folder}/jobs"]
    wall = timed([command], task, {"OMP_NUM_THREADS": "1"})
    ends, accuracies = zip(*marks(task), strict=True)
    each = (ends[-1] - ends[0]) / (len(ends) - 1)
    sweep = wall + (total - len(ends)) * each
    yield Time(name, len(ends), wall, sweep, statistics.fmean(accuracies))


def timed(commands: list[list[str]], task: Task, environment: dict[str, str] | None = None) -> float:
    """Seconds from starting these processes, all at once, to the end of the last."""
    note = Path(task.folder) / "task.json"
    note.write_text(json.dumps(asdict(task)))
    environment = {**os.environ, VARIABLE: str(note), **(environment or {})}
    if task.device == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = ""
    logs = [Path(task.folder) / f"output{i}.log" for i in range(len(commands))]
    began = time.perf_counter()
    processes = []
    for command, log in zip(commands, logs, strict=True):
        with log.open("w") as file:
            processes.append(
                subprocess.Popen(command, cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT)
            )
    codes = [process.wait() for process in processes]
    wall = time.perf_counter() - began
    for command, log, code in zip(commands, logs, codes, strict=True):
        if code:
            sys.exit(f"{log.read_text()[-3000:]}\n{' '.join(command)}\nended with {code}; see above")
    return wall


def marks(task: Task) -> list[tuple[float, float]]:
    """When each member ended, and its accuracy; all must have."""
    lines = [json.loads(line) for line in (Path(task.folder) / "marks.jsonl").read_text().splitlines()]
    if len(lines) != len(task.members):
        sys.exit(f"{len(lines)} of {len(task.members)} members ended")
    return [(line["time"], line["accuracy"]) for line in lines]


def seconds_per_member_step(size: int, task: Task) -> float:
    """Of a pack of this many members: whole epochs, with validation and TensorBoard."""
    epochs = task.epochs + WARM_UP
    base = slipstream.compose(
        f"data.batch_size={task.batch_size}",
        f"model.width={task.width}",
        "early_stopping=none",
        f"trainer.max_epochs={epochs}",
        f"trainer.device={task.device}",
        "trainer.compile=true",
    )
    rates = [task.rates[i % len(task.rates)] for i in range(size)]
    configs = [
        {**base, "seed": i, "optimizer": {**base["optimizer"], "lr": rate}} for i, rate in enumerate(rates)
    ]
    folder = Path(task.folder) / "pack"
    slipstream.train_pack(configs, [folder / str(i) for i in range(size)])
    ends = [json.loads(line)["seconds"] for line in (folder / "0/timings.jsonl").read_text().splitlines()]
    steps = json.loads((folder / "0/summary.json").read_text())["steps"] / epochs
    shutil.rmtree(folder)
    return (ends[-1] - ends[WARM_UP - 1]) / task.epochs / steps / size


def measure(task: Task, arguments: argparse.Namespace) -> list[Time]:
    """One round: every contestant after the other, each in a folder that is removed behind it."""
    times: list[Time] = []
    for name in arguments.only:
        with tempfile.TemporaryDirectory(prefix="bench_sweep_") as folder:
            here = replace(task, folder=folder)
            if name == "slipstream":
                found = slipstream_sweep(here)
            elif name == "plain":
                found = plain(here)
            elif name in PEERS:
                found = peer(name, arguments.peers, here, arguments.sample)
            else:
                continue  # packs: after the rounds
            for row in found:
                times.append(row)
                print(f"  {row.contestant}: {row.members} members in {row.wall:.1f} s", flush=True)
    return times


def show(rounds: list[list[Time]], members: int) -> None:
    """The table: medians over rounds; ratios of a round to slipstream in the same round."""
    print(
        f"\n{'contestant':<20}{'ran':>5}{'wall s':>9}{f'{members} members, s':>17}{'accuracy':>10}"
        f"{'/ cold':>9}{'/ warm':>9}   range of / warm"
    )
    for column in zip(*rounds, strict=True):
        first = column[0]
        wall, sweep = (statistics.median(getattr(row, key) for row in column) for key in ("wall", "sweep"))
        line = f"{first.contestant:<20}{first.members:>5}{wall:>9.1f}{sweep:>17.1f}{first.accuracy:>10.3f}"
        for cache in ("cold", "warm"):
            own = f"slipstream, {cache}"
            ours = [row.sweep for times in rounds for row in times if row.contestant == own]
            ratios = [row.sweep / seconds for row, seconds in zip(column, ours, strict=False)]
            line += f"{statistics.median(ratios):>9.2f}" if ratios else f"{'-':>9}"
        print(line + (f"   {min(ratios):.2f} to {max(ratios):.2f}" if ratios else ""), flush=True)


def show_packs(task: Task, sizes: list[int], rounds: int) -> list[tuple[int, float]]:
    """The table of packs by their size."""
    print(f"\n{'members of a pack':<20}{'us a member-step':>17}   range", flush=True)
    rows = []
    for size in sizes:
        with tempfile.TemporaryDirectory(prefix="bench_sweep_") as folder:
            here = replace(task, folder=folder)
            each = [seconds_per_member_step(size, here) * 1e6 for _ in range(rounds)]
        print(f"{size:<20}{statistics.median(each):>17.1f}   {min(each):.1f} to {max(each):.1f}", flush=True)
        rows += [(size, micros) for micros in each]
    return rows


def parsed() -> argparse.Namespace:
    """What was asked for."""
    everyone = ["slipstream", "plain", *PEERS, "packs"]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, epilog=HOW_TO
    )
    parser.add_argument("--width", type=int, nargs="+", default=[16])
    parser.add_argument("--rates", type=int, default=16, help="learning rates, from 1e-4 to 0.1")
    parser.add_argument("--seeds", type=int, default=16, help="seeds of every learning rate")
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--sample", type=int, default=16, help="peers train one seed of this many")
    parser.add_argument("--rounds", type=int, default=3)
    sizes = [8, 16, 32, 64, 128, 256, 512]
    parser.add_argument("--sizes", type=int, nargs="+", default=sizes, help="members of packs")
    parser.add_argument("--only", nargs="+", choices=everyone, metavar="NAME", help=", ".join(everyone))
    parser.add_argument("--peers", metavar="PYTHON", help="interpreter of the peers' environment")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write every single measurement")
    arguments = parser.parse_args()
    if arguments.seeds % arguments.sample or arguments.rates < 2:
        parser.error("--sample must divide --seeds, and --rates be 2 or more")
    if arguments.only is None:
        arguments.only = [name for name in everyone if arguments.peers or name not in PEERS]
        if not arguments.peers:
            print(f"Without the other toolkits. {HOW_TO}\n")
    elif not arguments.peers and set(arguments.only) & set(PEERS):
        parser.error(f"--peers is missing. {HOW_TO}")
    return arguments


def main() -> None:
    """Measure and print."""
    arguments = parsed()
    peers = versions(arguments.peers, PACKAGES) if set(arguments.only) & set(PEERS) else "none"
    last = arguments.rates - 1
    rates = [float(f"{1e-4 * 1000 ** (i / last):.4g}") for i in range(arguments.rates)]
    device = torch.cuda.get_device_name() if arguments.device == "cuda" else "CPU"
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory(prefix="bench_sweep_") as folder:
        path = Path(folder) / "data.npz"
        _, rows_to_train = export([], path)
        steps = -(-rows_to_train // arguments.batch_size)
        print(
            f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads (plain and "
            f"peers: 1 a process), {device}, Python {platform.python_version()}, torch {torch.__version__}, "
            f"slipstream {slipstream.__version__}, load {os.getloadavg()[0]:.2f}\n"
            f"peers: {peers}; one member of {arguments.sample}, scaled up\n"
            f"{arguments.rounds} rounds; {arguments.rates} learning rates x {arguments.seeds} seeds, "
            f"{arguments.epochs} epochs of {steps} steps, digits, batch {arguments.batch_size}, Adam"
        )
        for width in arguments.width:
            task = Task(
                data=str(path),
                folder="",
                rates=rates,
                seeds=arguments.seeds,
                width=width,
                epochs=arguments.epochs,
                batch_size=arguments.batch_size,
                device=arguments.device,
            )
            print(f"\nMLP 64-{width}-{width}-10", flush=True)
            rounds = [measure(task, arguments) for _ in range(arguments.rounds)]
            if any(rounds):
                show(rounds, len(task.members))
            for i, times in enumerate(rounds):
                rows += [{"width": width, "round": i, **asdict(row)} for row in times]
            if "packs" in arguments.only:
                for size, micros in show_packs(task, arguments.sizes, arguments.rounds):
                    rows.append({"width": width, "contestant": "packs", "members": size, "us": micros})
    if arguments.csv:
        columns = ["width", "round", "contestant", "members", "wall", "sweep", "accuracy", "us"]
        with arguments.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
