"""Throw anything at everything that reads from outside, for as long as you like.

    python scripts/fuzz.py [--minutes 10] [TARGET ...]

Every target gets an equal share of the time, in a process of its own with 2 GB of memory above what its
imports take. An exception other than a sentence for the user, ten seconds for one example, or more memory
ends it with the smallest example that hypothesis finds. Exit code 1 where there was any.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
import warnings
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "fuzz"))

from hypothesis import HealthCheck, given, settings
from targets import TARGETS

from slipstream.core.errors import UserError

MEMORY = 2 * 2**30


def fuzz(name: str, seconds: float) -> int:
    """Examples of one target until the time is over; how many there were."""
    target, end, tried = TARGETS[name], time.monotonic() + seconds, 0
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    @settings(max_examples=200, deadline=10_000, database=None, suppress_health_check=list(HealthCheck))
    @given(target.given)
    def read(content: object) -> None:
        nonlocal tried
        tried += 1
        with suppress(UserError):
            target.reads(content)
        grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
        assert grown < MEMORY, f"{grown / 2**30:.1f} GB"

    warnings.simplefilter("ignore")
    while time.monotonic() < end:
        read()
    return tried


def main() -> int:
    """Fuzz each target in a process of its own, or in a child, one."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="all, or some of: " + ", ".join(TARGETS))
    asked = parser.parse_args()
    asked.targets = asked.targets or list(TARGETS)
    if asked.here:
        print(f"{asked.targets[0]}: {fuzz(asked.targets[0], 60 * asked.minutes):,} examples, no crash")
        return 0
    codes = []
    for name in asked.targets:
        share = asked.minutes / len(asked.targets)
        command = [sys.executable, __file__, "--here", "--minutes", str(share), name]
        codes.append(subprocess.run(command, check=False, timeout=60 * share + 120).returncode)
    return int(any(codes))


if __name__ == "__main__":
    sys.exit(main())
