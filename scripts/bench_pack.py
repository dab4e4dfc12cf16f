"""Time per member and step of packs, by their size: digits, an MLP of two hidden layers, batch 64, Adam.

    python scripts/bench_pack.py [--widths 16 128] [--sizes 1 2 8 32 128] [--compiled]

One process, one size after the other; the median of 5 epochs (20 updates each) after warming up. A pack
pays where its time falls below that of one member alone (size 1).
"""

from __future__ import annotations

import argparse
import os
import statistics
import time

import torch

import slipstream
from slipstream.config import Config, validate
from slipstream.data import Data, load
from slipstream.training.engine import Engine


def seconds_per_member_step(configs: list[Config], data: Data) -> tuple[float, float]:
    """The time of a member's step, and of the first epoch (with its compilation)."""
    engine = Engine([config.for_target(data.target) for config in configs], data, torch.device("cpu"))
    state, steps, times = engine.start(), engine.batching.steps, []
    for epoch in range(7):
        began = time.perf_counter()
        plan, counts = engine.plan(epoch), engine.counts(epoch * steps, steps)
        rates = engine.rates([[1e-3] * steps for _ in configs])
        arguments = list(zip(rates, counts, strict=True))
        for i in range(0, steps, engine.stride):
            here = slice(i, i + engine.stride)
            state, _, _ = engine.advance(state, plan.batches[here], arguments[here])
        times.append(time.perf_counter() - began)
    return statistics.median(times[2:]) / steps / len(configs), times[0]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--widths", type=int, nargs="+", default=[16, 128])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 2, 8, 32, 128])
    parser.add_argument("--compiled", action="store_true")
    arguments = parser.parse_args()
    torch.set_flush_denormal(True)
    print(
        f"{os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"load {os.getloadavg()[0]:.2f}, {'compiled' if arguments.compiled else 'eager'}"
    )
    print(f"{'width':>6}{'members':>9}{'us a member-step':>18}{'first epoch, s':>16}")
    for width in arguments.widths:
        common = [f"model.width={width}", f"trainer.compile={str(arguments.compiled).lower()}"]
        base = slipstream.compose(*common, "trainer.metrics=[accuracy]", "logger=none")
        data = load({"name": base["data"]["name"], **validate(base).data.settings})
        for size in arguments.sizes:
            configs = [validate({**base, "seed": seed}) for seed in range(size)]
            each, first = seconds_per_member_step(configs, data)
            print(f"{width:>6}{size:>9}{each * 1e6:>18.0f}{first:>16.1f}", flush=True)


if __name__ == "__main__":
    main()
