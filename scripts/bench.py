"""Every benchmark of this toolkit beside its peers, in one command.

    python scripts/bench.py [WORKLOAD ...] [--peers PYTHON] [--rounds 5] [--csv FILE] [--plot FILE.png]

run       one small run, an MLP on digits, everything on: time of an update
wide      one wide run, width 1,024 and batch 512, float32 and bfloat16
pack      packs of 16 to 1,024 members at widths 16 to 256: time of a member's step
convnet   one convnet on images of 32x32 in colour
table     1,000,000 rows x 100 columns, from CSV and Parquet to the end of the first epoch
start     --help, an error, the first step
logging   metrics, histograms and checkpoints as a share of a run

Every contestant runs in a fresh process, one after the other in every round, with the same data, batches,
network, optimizer and epochs; what each leaves out is printed. Times of an update are those after the first
tenth of the epochs: start and compilation are not in them, the first epoch stands beside (its compilation
finds a warm cache from the second round on). The tables have medians over rounds with their range, and
ratios within a round. The contestants stand in scripts/peers/, the workloads in scripts/benchmarks/.
Whole sweeps: scripts/bench_sweep.py.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks import machine
from benchmarks.contest import Group, Rounds, play, show
from benchmarks.logs import logging
from benchmarks.packs import pack
from benchmarks.plot import draw
from benchmarks.start import start
from benchmarks.tables import table
from benchmarks.training import convnet, run, wide

Workload = Callable[[argparse.Namespace, Path], Iterator[Group]]
WORKLOADS: dict[str, Workload] = {
    "run": run,
    "wide": wide,
    "pack": pack,
    "convnet": convnet,
    "table": table,
    "start": start,
    "logging": logging,
}


def parsed() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, epilog=machine.HOW_TO
    )
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", help=f"{', '.join(WORKLOADS)}; all")
    parser.add_argument("--peers", metavar="PYTHON", help="interpreter of the peers' environment")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, help="of the runs; by workload 15 to 100")
    parser.add_argument("--seconds", type=float, help="pack: of a contestant, 4; logging: of a run, 10")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--widths", type=int, nargs="+", default=[16, 64, 128, 256], help="pack")
    parser.add_argument("--sizes", type=int, nargs="+", default=[16, 64, 256, 1024], help="pack: members")
    parser.add_argument("--compiled", action="store_true", help="pack: compiled packs too")
    parser.add_argument("--rows", type=int, default=1_000_000, help="table")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write every single measurement")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="draw the medians")
    arguments = parser.parse_args()
    if unknown := set(arguments.workloads) - set(WORKLOADS):
        parser.error(f"no such workload: {', '.join(sorted(unknown))}; there are {', '.join(WORKLOADS)}")
    if arguments.rounds < 1 or (arguments.epochs is not None and arguments.epochs < 3):
        parser.error("--rounds must be 1 or more, --epochs 3 or more")
    return arguments


def write(results: Sequence[tuple[Group, Rounds]], path: Path) -> None:
    """Every single measurement, a line each."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["workload", "title", "contestant", "round", "quantity", "value"])
        for group, found in results:
            for name, times in found.items():
                for number, values in enumerate(times):
                    for quantity, value in values.items():
                        writer.writerow([group.workload, group.title, name, number, quantity, value])


def main() -> None:
    """Measure, print, write and draw; files are renewed after every table."""
    arguments = parsed()
    print(machine.described(arguments.device))
    print(f"peers: {machine.versions(arguments.peers)}" if arguments.peers else machine.HOW_TO)
    print(f"{arguments.rounds} rounds")
    results: list[tuple[Group, Rounds]] = []
    for name in arguments.workloads or WORKLOADS:
        with tempfile.TemporaryDirectory(prefix="bench_") as folder:
            for group in WORKLOADS[name](arguments, Path(folder)):
                results.append((group, play(group, arguments.rounds)))
                show(*results[-1])
                if arguments.csv:
                    write(results, arguments.csv)
                if arguments.plot:
                    draw(results, arguments.plot)


if __name__ == "__main__":
    main()
