"""Contestants in fresh processes, one after the other in every round, and the table of what they took."""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from peers.task import VARIABLE, Task

ROOT = Path(__file__).resolve().parents[2]
FOLDER = "{folder}"  # in a command: the contestant's own folder
Values = dict[str, float]  # what a process measured, by name; the first is what is compared


class Failed(Exception):
    """A contestant ended with another exit code than it should, or did other work than the rest."""


@dataclass(frozen=True)
class Contestant:
    """A program. without: what it leaves out of a whole run; ceiling: the name of the contestant that is
    the limit of what it does; code: the exit code that it should end with."""

    name: str
    command: Sequence[str]
    task: Task | None = None
    without: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    ceiling: str = ""
    code: int = 0


@dataclass(frozen=True)
class Group:
    """Contestants that one table compares. baseline: the one that ratios are taken to; read: from the wall
    time of a process and the line that it left in the file of marks to what is shown."""

    workload: str
    title: str
    contestants: Sequence[Contestant]
    read: Callable[[Contestant, float, dict[str, Any]], Values]
    baseline: str


Rounds = dict[str, list[Values]]  # by contestant


def measure(contestant: Contestant, group: Group) -> Values:
    """Run it once, in a folder that is removed behind it."""
    with tempfile.TemporaryDirectory(prefix="bench_") as folder:
        environment = {**os.environ, **contestant.environment}
        if contestant.task is not None:
            note = Path(folder) / "task.json"
            note.write_text(json.dumps(asdict(replace(contestant.task, folder=folder))))
            environment[VARIABLE] = str(note)
            if contestant.task.device == "cpu":
                environment["CUDA_VISIBLE_DEVICES"] = ""
        command = [part.replace(FOLDER, folder) for part in contestant.command]
        began = time.perf_counter()
        ended = subprocess.run(
            command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        wall = time.perf_counter() - began
        if ended.returncode != contestant.code:
            raise Failed("\n".join(ended.stdout.strip().splitlines()[-3:]) or f"exit code {ended.returncode}")
        marks = Path(folder) / "marks.jsonl"
        line = json.loads(marks.read_text()) if marks.exists() else {}
    return group.read(contestant, wall, line)


def play(group: Group, rounds: int) -> Rounds:
    """All rounds of a group. Who fails takes no further part, and the reason is printed."""
    print(f"\n{group.workload}: {group.title}", flush=True)
    for contestant in group.contestants:
        if contestant.without:
            print(f"  {contestant.name} leaves out {contestant.without}")
    found: Rounds = {contestant.name: [] for contestant in group.contestants}
    for _ in range(rounds):
        for contestant in group.contestants:
            if contestant.name in found:
                try:
                    found[contestant.name].append(measure(contestant, group))
                except Failed as failure:
                    del found[contestant.name]
                    print(f"  {contestant.name} is left out, it failed: {failure}", flush=True)
    return found


def show(group: Group, found: Rounds) -> None:
    """The table in markdown: medians over rounds with their range, ratios within a round to the baseline."""
    columns = list(dict.fromkeys(name for times in found.values() for values in times for name in values))
    if not columns:
        return
    first, *others = columns
    shares = {c.name: c.ceiling for c in group.contestants if c.ceiling in found and c.name in found}
    head = ["contestant", first, "range", f"/ {group.baseline}", "range"]
    head += ["share of the ceiling"] * bool(shares) + others
    print("\n| " + " | ".join(head) + " |\n|" + " --- |" * len(head))
    for name, times in found.items():
        row = [name, *_spread([values[first] for values in times])]
        row += _spread(_ratios(found, name, group.baseline, first))
        if shares:
            ratios = _ratios(found, shares[name], name, first) if name in shares else []
            row.append(f"{statistics.median(ratios):.0%}" if ratios else "")
        row += [_spread([values.get(column, math.nan) for values in times])[0] for column in others]
        print("| " + " | ".join(row) + " |", flush=True)


def _ratios(found: Rounds, name: str, other: str, column: str) -> list[float]:
    pairs = zip(found[name], found.get(other, []), strict=False)
    return [mine[column] / theirs[column] for mine, theirs in pairs]


def _spread(numbers: Sequence[float]) -> tuple[str, str]:
    """Median and range; nothing of nothing."""
    if not numbers or any(map(math.isnan, numbers)):
        return "", ""
    return number(statistics.median(numbers)), f"{number(min(numbers))} to {number(max(numbers))}"


def number(value: float) -> str:
    """Three digits, or all of those before the point."""
    if value == 0:
        return "0"
    return f"{value:,.{max(2 - math.floor(math.log10(abs(value))), 0)}f}"
