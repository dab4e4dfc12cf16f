"""Runs and sweeps that are killed again and again, at random instants and in the middle of saves."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ondisk import bytes_of

KILLED = -signal.SIGKILL
OPERATIONS = 14, 24  # of a save at least, and of one that removes an older checkpoint as well
# What is killed: noise, running statistics and an average, so that much has to come back.
SINGLE = {
    "regularizer": ["dropout", "batch_norm", "ema"],
    "optimizer": "adam",
    "early_stopping": "none",
    "trainer.max_epochs": 60,
}
JOBS: dict[str, dict[str, Any]] = {"single": {"does": "train", "changes": SINGLE}, "sweep": {"does": "sweep"}}


@dataclass
class Tally:
    """The counts: chains, the fewest kills of one, kills, those in saves, chains with the right bytes."""

    chains: int = 0
    shortest: int = 1 << 30
    kills: int = 0
    in_saves: int = 0
    equal: int = 0


def results(kind: str, folder: Path) -> list[dict[str, bytes]]:
    """Return the bytes that must not change: those of the run, or of every member of the sweep."""
    if kind == "single":
        return [bytes_of(folder)]
    return [bytes_of(folder / str(k)) for k in range(len(list(folder.glob("*/config.yaml"))))]


def begin(warm: Any, kind: str, folder: Path, in_save: list[int] | None = None) -> int:
    """Start or resume the job and return its process ID."""
    job = dict(JOBS[kind])
    if in_save is not None:
        job["in_save"] = in_save
    return warm.start(job.pop("does"), folder, resume=(folder / "config.yaml").exists(), **job)


def chain(warm: Any, kind: str, folder: Path, kills: int, seconds: float, tally: Tally) -> None:
    """Kill a job `kills` times, let it finish, and count.

    seconds: what the job takes undisturbed; instants are drawn from so little of it that it seldom ends
    before its last kill. About every other kill waits for an operation of a save.
    """
    draw = random.Random(str(folder))
    made, ended = 0, False
    while made < kills and not ended:
        inside = draw.random() < 0.5
        save = draw.randint(1, 3)  # the third of a process has something to remove
        place = [save, draw.randint(1, OPERATIONS[save == 3])] if inside else None
        pid = begin(warm, kind, folder, place)
        if not inside:
            time.sleep(draw.uniform(0, seconds / kills))
            os.kill(pid, signal.SIGKILL)  # not yet waited for: the number is still this process's
        code, output = warm.wait(pid)
        assert code in (KILLED, 0), output
        ended = code == 0
        made += code == KILLED
        tally.kills += code == KILLED
        tally.in_saves += code == KILLED and inside
    tally.shortest = min(tally.shortest, made)
    if not ended:
        code, output = warm.wait(begin(warm, kind, folder))
        assert code == 0, output


def torture(warm: Any, kind: str, folder: Path, kills: int, each: int = 6) -> Tally:
    """Run chains of `each` kills until there are `kills`, and compare each with the undisturbed result."""
    whole, tally = folder / "whole", Tally()
    began = time.perf_counter()
    code, output = warm.wait(begin(warm, kind, whole))
    assert code == 0, output
    seconds = time.perf_counter() - began
    expected = results(kind, whole)
    while tally.kills < kills:
        here = folder / str(tally.chains)
        chain(warm, kind, here, min(each, kills - tally.kills), seconds, tally)
        tally.chains += 1
        tally.equal += results(kind, here) == expected
        shutil.rmtree(here)
    return tally
