"""The outcomes or progress of a sweep's members, read from their folders."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

from slipstream.core.types import Plain
from slipstream.early_stopping import best_epoch, direction
from slipstream.runs.run_folder import CONFIG, SUMMARY
from slipstream.sweeps.plan.job import Job, Outcome
from slipstream.sweeps.report.aggregates import SOUND, is_number
from slipstream.training.member import METRICS, TIMINGS

ENDED = (*SOUND, "pruned", "diverged", "failed", "interrupted")


def outcomes(directory: Path, jobs: Sequence[Job]) -> list[Outcome]:
    """Return the outcome or progress of each member of a sweep. Damaged files count as missing."""
    return [_outcome(directory / str(job.number), job) for job in jobs]


def _outcome(folder: Path, job: Job) -> Outcome:
    data = job.config.data.settings
    fold = data["fold"] if data.get("folds") else None
    made = _ended(folder) or _begun(folder, job)
    return Outcome(
        job.number, job.trial, job.values, **made, seed=job.config.seed, fold=fold, directory=folder
    )


def _ended(folder: Path) -> dict[str, Plain] | None:
    """Read an outcome from the summary, or return None if there is no readable one."""
    try:
        found = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
        if found["status"] not in ENDED:
            return None
        best = {str(name): _finite(value) for name, value in found["best"].items()}
        test = {name: best.pop(name) for name in list(best) if name.startswith("test/")}
        return {
            "status": found["status"],
            "reason": str(found["reason"]),
            "value": _finite(found["value"]),
            "best_epoch": int(found["best_epoch"]),
            "epochs": int(found["epochs"]),
            "seconds": float(found["seconds"]),
            "best": best,
            "test": test,
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _begun(folder: Path, job: Job) -> dict[str, Plain]:
    """Read the progress of an unfinished member from its metrics."""
    records = lines(folder / METRICS)
    begun = records or (folder / CONFIG).exists()
    stopping = job.config.early_stopping.settings
    metric = stopping["metric"]
    values = [_finite(record.get(metric)) for record in records]
    sign = direction(metric, stopping["mode"])
    known = [math.nan if value is None else sign * value for value in values]
    at = best_epoch(known, stopping.get("warm_up", 0))
    timings = lines(folder / TIMINGS)
    return {
        "status": "running" if begun else "waiting",
        "reason": "",
        "value": None if at is None else values[at],
        "best_epoch": 0 if at is None else at + 1,
        "epochs": len(records),
        "seconds": _finite(timings[-1].get("seconds")) or 0.0 if timings else 0.0,
        "best": {} if at is None else {k: _finite(v) for k, v in records[at].items() if "/" in k},
    }


def lines(path: Path) -> list[dict[str, Plain]]:
    """Return the records of a file with one JSON object per line, up to the first damaged or partial one."""
    records: list[dict[str, Plain]] = []
    try:
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            record = json.loads(line)
            if not isinstance(record, dict):
                break
            records.append(record)
    except (OSError, ValueError):
        pass
    return records


def _finite(value: Plain) -> float | None:
    if not is_number(value) or not math.isfinite(value):
        return None
    return float(value)
