"""What the promises about bytes cost: an update in MKL's modes, and with portable kernels.

    python scripts/bench_bytes.py [--rounds 7] [--seconds 0.5] [--only dense]

A process for each mode, because MKL reads it once, and all of them stay for the whole measurement. In every
round each mode makes updates of a network for so many seconds, one mode after the other. One thread; times
are of the processor, so that what else runs disturbs little. The table has the least time of a member's
update without a mode, and the median ratio to it within a round. Portable, one network alone is two.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time

MODES = {"none": "", "AUTO,STRICT (usual)": "AUTO,STRICT", "AVX2,STRICT": "AVX2,STRICT", "portable": None}
DIGITS = ("data=digits", "model=mlp", "data.batch_size=64")
WIDE = ("data=digits", "model=mlp", "data.batch_size=512", "model.width=1024")
IMAGES = ("data=shapes", "data.size=32", "data.colour=true", "model=convnet", "data.batch_size=64")
NETWORKS = {  # overrides, members
    "dense 64-16-16-10": ((*DIGITS, "model.width=16"), 1),
    "dense 64-128-128-10": ((*DIGITS, "model.width=128"), 1),
    "dense 64-1024-1024-10, batch 512": (WIDE, 1),
    "convnet 8x8, 8 and 16 channels": (("data=digits", "model=convnet", "model.channels=8"), 1),
    "convnet 32x32x3, 16 and 32 channels": ((*IMAGES, "model.channels=16"), 1),
    "dense 64-16-16-10, 16 members": ((*DIGITS, "model.width=16"), 16),
    "dense 64-128-128-10, 16 members": ((*DIGITS, "model.width=128"), 16),
    "convnet 8x8, 8 and 16 channels, 16 members": (("data=digits", "model=convnet", "model.channels=8"), 16),
}


def serve(portable: bool) -> None:
    """Answer lines `seconds name` with the seconds of a member's update."""
    from bench_networks import configured, toolkit
    from slipstream.data import load
    from slipstream.runs.setup import portable_kernels

    updates: dict[str, tuple[object, int]] = {}
    with portable_kernels(configured("data=digits", f"trainer.portable={str(portable).lower()}")):
        for line in sys.stdin:
            seconds, _, name = line.strip().partition(" ")
            if name not in updates:
                overrides, members = NETWORKS[name]
                config = configured(*overrides, "trainer.compile=false")
                data = load({"name": config.data.name, **config.data.settings})
                beside = portable and members == 1
                update = toolkit(config, data, 2 if beside else members)
                updates[name] = update, update.each // (2 if beside else 1)
                update()
            update, each = updates[name]
            made, began = 0, time.process_time()
            while (passed := time.process_time() - began) < float(seconds):
                update()
                made += each
            print(passed / made, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.5, help="of a mode in a round")
    parser.add_argument("--only", default="", help="networks whose name has this")
    parser.add_argument("--serve", choices=("ordinary", "portable"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve == "portable")
        return
    from benchmarks.machine import described

    processes = {
        name: subprocess.Popen(
            [sys.executable, __file__, "--serve", "portable" if mode is None else "ordinary"],
            env={**os.environ, "OMP_NUM_THREADS": "1", "MKL_CBWR": mode or ""},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name, mode in MODES.items()
    }

    def ask(mode: str, network: str, seconds: float) -> float:
        process = processes[mode]
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{seconds} {network}\n")
        process.stdin.flush()
        return float(process.stdout.readline())

    print(f"{described('cpu')}\n")
    first, *others = MODES
    print(f"| network | {first}, us | {' | '.join(others)} |\n|{' --- |' * (len(MODES) + 1)}")
    for network in NETWORKS:
        if options.only not in network:
            continue
        for mode in MODES:
            ask(mode, network, 0.1)
        rounds = [
            {mode: ask(mode, network, options.seconds) for mode in MODES} for _ in range(options.rounds)
        ]
        ratios = [[each[mode] / each[first] for each in rounds] for mode in others]
        told = [f"{statistics.median(r):.2f} ({min(r):.2f} to {max(r):.2f})" for r in ratios]
        least = 1e6 * min(each[first] for each in rounds)
        print(f"| {network} | {' | '.join([f'{least:,.0f}', *told])} |", flush=True)
    for process in processes.values():
        assert process.stdin is not None
        process.stdin.close()
        process.wait()


if __name__ == "__main__":
    main()
