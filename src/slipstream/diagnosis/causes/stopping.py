"""Causes in the length of a run and the choice of its weights."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from slipstream.core.wording import counted
from slipstream.diagnosis.evidence import Evidence
from slipstream.diagnosis.suspicion import Suspicion, suspect
from slipstream.early_stopping import direction
from slipstream.runs.symptoms import fall_at_end

LEAST_EPOCHS = 25
PATIENT = 30
LONG = 10.0  # seconds


def epochs(run: Evidence) -> Iterator[Suspicion]:
    """Too few epochs: the run ends while its loss still falls."""
    planned = int(run.setting("trainer.max_epochs"))
    if run.status != "finished" or run.epochs < planned:
        return
    fall, tenth = fall_at_end(run.curve(f"{run.split}/loss"))
    slope = 1.0 if math.isnan(fall) else fall
    last = "the last epoch" if tenth == 1 else f"the last {tenth} epochs"
    said = f", and the loss still falls: by {fall:.1%} in {last}" if fall > 0 else ""
    score = 0.8 if planned <= 5 else 0.45 if planned <= 15 else 0.15
    score = min(score + (0.15 if slope > 0.05 else 0.0), 0.9)
    if planned > 5 and slope <= 0:
        score = 0.1
    yield suspect(
        "too few epochs",
        score,
        f"the run ends after {counted(planned, 'epoch')}{said}",
        f"trainer.max_epochs={max(LEAST_EPOCHS, (5 if run.seconds < LONG else 2) * planned)}",
    )


def patience(run: Evidence) -> Iterator[Suspicion]:
    """Early stopping that gives up too soon, or ignores small improvements."""
    if run.raw["early_stopping"]["name"] != "patience" or run.status != "stopped_early":
        return
    waits, least = run.number("early_stopping.patience") or 0.0, run.number("early_stopping.min_delta") or 0.0
    if least > 0:
        values = run.curve(str(run.setting("early_stopping.metric")))
        span = float(np.nanmax(values) - np.nanmin(values)) if np.isfinite(values).any() else 0.0
        score = 0.85 if least > 0.02 * max(span, 1e-12) else 0.3
        yield suspect(
            "min_delta too high",
            score,
            f"only improvements above {least:g} count; over the whole run the metric changes by {span:.3g}",
            "early_stopping.min_delta=0",
        )
    score = 0.8 if waits <= 3 else 0.25 if waits <= 10 else 0.1
    yield suspect(
        "early stopping too impatient",
        score,
        f"the run stopped after {counted(run.epochs, 'epoch')} of {run.setting('trainer.max_epochs')}, "
        f"{waits:g} of them without improvement",
        f"early_stopping.patience={max(PATIENT, round(3 * waits))}",
    )


def monitor(run: Evidence) -> Iterator[Suspicion]:
    """A monitored metric or a direction that does not match the goal."""
    metric = str(run.setting("early_stopping.metric"))
    mode = str(run.setting("early_stopping.mode", "auto"))
    if mode != "auto" and (direction(metric, mode) > 0) != (direction(metric, "auto") > 0):
        better = "smaller" if direction(metric, "auto") > 0 else "larger"
        yield suspect(
            "wrong monitor",
            0.95,
            f"mode={mode} keeps the worst epoch of {metric}, where {better} is better",
            ("trainer.mode=auto", "early_stopping.mode=auto"),
        )
    elif metric != f"{run.split}/loss":
        score = 0.5 if metric.startswith("train/") and run.split == "val" else 0.2
        yield suspect(
            "wrong monitor",
            score,
            f"the best epoch is chosen by {metric}",
            (f"trainer.monitor={run.split}/loss", f"early_stopping.metric={run.split}/loss"),
        )


def averages(run: Evidence) -> Iterator[Suspicion]:
    """Averages of the weights that lag behind them."""
    for name in ("ema", "swa", "lookahead"):
        if name not in run.regularizers:
            continue
        decay = run.number(f"regularizer.{name}.decay")
        length = 1 / max(1 - decay, 1e-9) if decay is not None else 0.0
        updates = run.steps * run.epochs
        yield suspect(
            "average lags",
            0.85 if length > 0.5 * updates else 0.15,
            f"{name} averages over about {counted(round(length), 'update')}; the run has {updates:,}"
            if length
            else f"{name} averages the weights",
            run.without("regularizer", name),
        )


CAUSES = (epochs, patience, monitor, averages)
