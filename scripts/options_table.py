"""Write the README's table of options again, from the registry.

    python scripts/options_table.py [--check]

With --check nothing is written, and the exit code is 1 where the table is stale.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from slipstream.core.registry import MODULES, components

README = Path(__file__).resolve().parents[1] / "README.md"
BEGIN, END = "<!-- options: written by `just docs` -->\n", "<!-- options end -->\n"
# In the order in which a user meets them. Metrics are no config group.
GROUPS = (
    *("model", "activation", "initializer", "loss", "optimizer", "scheduler", "regularizer"),
    *("augmentation", "early_stopping", "data", "logger"),
)


def table() -> str:
    """A row for each config group, with the names of its options."""
    assert {*GROUPS} == {*MODULES} - {"metric"}, "a config group has no place in GROUPS"
    rows = [f"| `{group}` | {' '.join(sorted(components(group)))} |" for group in GROUPS]
    return "\n".join(["| group | options |", "| --- | --- |", *rows]) + "\n"


def rewritten(text: str) -> str:
    """The README with its table as it should be."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        marks = f"{BEGIN.strip()} and {END.strip()}"
        raise SystemExit(f"README.md: found no table between {marks}; put these two lines back")
    return before + begin + table() + end + after


def main() -> None:
    """Write the table, or check it."""
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 where it is stale")
    check = parser.parse_args().check
    text = README.read_text(encoding="utf-8")
    new = rewritten(text)
    if new == text:
        print("README.md: the table of options is up to date")
    elif check:
        sys.exit("README.md: the table of options is stale; run `just docs`")
    else:
        README.write_text(new, encoding="utf-8")
        print("README.md: wrote the table of options")


if __name__ == "__main__":
    main()
