"""Kill runs and sweeps with SIGKILL, again and again, and compare what they come to.

    python scripts/torture.py --kills 200 single
    python scripts/torture.py --kills 200 sweep

Each chain is one run (or a sweep of six members in packs of four) that is killed six times, at random
instants and at operations inside a save, then comes to its end; weights, optimizer, best weights and
metrics.jsonl must have the bytes of an undisturbed one. Exit code 1 where any differs.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "faults")]

from chains import torture  # noqa: E402

from forking import Warm  # noqa: E402


def main() -> int:
    """Torture one kind and print the tally."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("kind", choices=("single", "sweep"))
    parser.add_argument("--kills", type=int, default=200)
    asked = parser.parse_args()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        warm = Warm(Path(folder))
        tally = torture(warm, asked.kind, Path(folder) / "chains", asked.kills)
        warm.close()
    seconds = time.perf_counter() - began
    print(
        f"{asked.kind}: {tally.kills} kills, {tally.in_saves} of them in saves, in {tally.chains} chains; "
        f"the shortest had {tally.shortest}; {tally.equal} of {tally.chains} ended with the bytes of an "
        f"undisturbed one ({seconds:.0f} s)"
    )
    return 0 if tally.equal == tally.chains else 1


if __name__ == "__main__":
    sys.exit(main())
