"""The catalogue of faults, row by row, with the outcomes of its tests.

    python scripts/fault_report.py [--table]

Runs the tests that docs/reliability.md names, each once, and prints the table with their outcomes. Exit code
1 if a test fails or is missing, or if a row has none. --table prints the rows and their tests without running
anything.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COUNTS = {"P": 13, "N": 10, "D": 20, "C": 13, "K": 11, "S": 8, "E": 9}
ROWS = [f"{letter}{number}" for letter, count in COUNTS.items() for number in range(1, count + 1)]


@dataclass(frozen=True)
class Row:
    """A row of the document: its numbers in the catalogue, the fault, and its tests as file::name."""

    numbers: tuple[str, ...]
    fault: str
    tests: tuple[str, ...]


def rows() -> list[Row]:
    """Return the rows of the tables in docs/reliability.md that name tests."""
    found = []
    for line in (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        numbers = tuple(re.findall(r"\b[PNDCKSE]\d+\b", cells[0]))
        if line.startswith("|") and len(cells) == 4 and numbers:
            found.append(Row(numbers, cells[1], tuple(tests_of(cells[3]))))
    return found


def tests_of(cell: str) -> list[str]:
    """Return the tests that a cell names: `file.py: `a`, `b`; other.py: `c``, or a file alone."""
    found, file = [], ""
    for word in re.findall(r"[\w/]+\.py|`test_\w+`", cell):
        if word.startswith("`"):
            found.append(f"tests/{file}::{word.strip('`')}")
        else:
            file = word
            if not re.search(re.escape(word) + r":", cell):
                found.append(f"tests/{word}")
    return found


def run(tests: list[str]) -> dict[str, list[str]]:
    """Run tests and return the outcomes of each, one for each of its parameters."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", f"--junitxml={report}", *tests]
        subprocess.run(command, cwd=ROOT, check=False, stdout=subprocess.DEVNULL)
        cases = ElementTree.parse(report).iter("testcase") if report.exists() else []
        outcomes: dict[str, list[str]] = {}
        for case in cases:
            name = (
                f"{case.get('classname', '').replace('.', '/')}.py::{case.get('name', '').partition('[')[0]}"
            )
            outcome = next((e.tag for e in case if e.tag in ("failure", "error", "skipped")), "passed")
            for key in (name, name.partition("::")[0]):
                outcomes.setdefault(key, []).append(outcome)
    return outcomes


def said(outcomes: list[str] | None) -> str:
    """Return how often a test passed, or what else happened."""
    if not outcomes:
        return "missing"
    bad = [outcome for outcome in outcomes if outcome != "passed"]
    return f"{len(bad)} of {len(outcomes)} {bad[0]}" if bad else f"passed x{len(outcomes)}"


def main() -> int:
    """Print the table and return the exit code, 0 if all is well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--table", action="store_true")
    asked, document = parser.parse_args(), rows()
    tests = sorted({test for row in document for test in row.tests})
    outcomes = {} if asked.table else run(tests)
    good = True
    print("| row | fault | test | outcome |\n| --- | --- | --- | --- |")
    for number in ROWS:
        here = [row for row in document if number in row.numbers]
        named = [(row.fault, test) for row in here for test in row.tests]
        good &= bool(named)
        for fault, test in named or [("", "none")]:
            outcome = "not run" if asked.table else said(outcomes.get(test))
            good &= asked.table or outcome.startswith("passed")
            print(f"| {number} | {fault} | {test.removeprefix('tests/')} | {outcome} |")
    covered = sum(any(number in row.numbers and row.tests for row in document) for number in ROWS)
    print(f"\n{covered} of {len(ROWS)} rows have tests, {len(tests)} in all")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
