"""Causes in the optimization: the rate, its schedule, the batch, momentum, clipping, precision."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from slipstream.core.console import number
from slipstream.core.registry import component
from slipstream.core.wording import counted, spell
from slipstream.diagnosis.evidence import Evidence
from slipstream.diagnosis.suspicion import Suspicion, suspect
from slipstream.schedulers import Clock, factors

BATCH = 32  # rows of an ordinary batch
TINY_BATCH, FEW_UPDATES = 4, 4
ROUGH = 0.3  # share of epochs in which the training loss rises
CLIPPED = 0.1  # factor that clipping leaves of the gradient


def learning_rate(run: Evidence) -> Iterator[Suspicion]:
    """A rate that is too high, or too low."""
    lr, usual = run.number("optimizer.lr"), run.usual("optimizer.lr")
    if not lr or not usual:
        return
    times = lr / usual
    rates = {_short(rate) for rate in (usual, lr / 100, lr / 10, lr * 10, lr * 100)}
    lower = [f"optimizer.lr={spell(rate)}" for rate in sorted(rates) if rate < lr * 0.7]
    higher = [f"optimizer.lr={spell(rate)}" for rate in sorted(rates) if lr * 1.4 < rate <= usual * 30]
    rough = roughness(run.curve("train/loss"))
    if run.status == "diverged":
        score, said = (0.75 if times > 3 else 0.55), f"the loss diverged at a rate of {lr:g}"
    elif times > 3:
        score, said = (
            min(0.5 + 0.12 * math.log10(times), 0.85),
            f"the rate {lr:g} is {number(times, 2)} times the usual {usual:g}",
        )
    else:
        score = 0.15 + 0.25 * rough
        said = f"the training loss rises in {rough:.0%} of the epochs"
    yield suspect("learning rate too high", score, said, *lower)
    if times < 1 / 3 and run.status != "diverged":
        score, said = (
            min(0.5 + 0.12 * math.log10(1 / times), 0.85),
            f"the rate {lr:g} is {number(times, 2)} times the usual {usual:g}",
        )
    else:
        score, said = 0.15, f"the rate is {lr:g}"
    if higher and run.status != "diverged":
        yield suspect("learning rate too low", score, said, *higher)


def schedule(run: Evidence) -> Iterator[Suspicion]:
    """A schedule that ends long before the run, or a warm-up that takes most of it."""
    total = run.steps * int(run.setting("trainer.max_epochs"))
    warm_up = run.number("scheduler.warmup_steps") or 0.0
    if warm_up > 0.15 * total:
        yield suspect(
            "warm-up too long",
            min(0.5 + 0.5 * warm_up / total, 0.9),
            f"the warm-up takes {warm_up:,.0f} of {counted(total, 'update')}",
            f"scheduler.warmup_steps={max(round(0.03 * total), 1)}",
            "scheduler.warmup_steps=0",
        )
    name = str(run.raw["scheduler"]["name"])
    if name == "constant":
        return
    shape = schedule_factors(run)
    half = float(np.median(shape)) if len(shape) else 1.0
    low = float((shape < 0.02).mean()) if len(shape) else 0.0
    score = 0.85 if low > 0.4 else 0.2
    yield suspect(
        "schedule ends too early",
        score,
        f"scheduler={name} leaves less than 2 % of the rate for {low:.0%} of the updates (median {half:.2g})",
        ("scheduler=constant", *([f"scheduler.warmup_steps={warm_up:.0f}"] if warm_up else [])),
    )


def schedule_factors(run: Evidence) -> np.ndarray:
    """Return the schedule's factor without warm-up at the start of every planned epoch."""
    epochs = int(run.setting("trainer.max_epochs"))
    settings = {k: v for k, v in run.raw["scheduler"].items() if k != "name"} | {"warmup_steps": 0}
    if str(run.raw["scheduler"]["name"]) == "reduce_on_plateau":
        rates = run.curve("optimizer.lr")
        return rates / max(float(run.setting("optimizer.lr")), 1e-300)
    clock = Clock(np.arange(epochs) * run.steps, steps_per_epoch=run.steps, total_steps=epochs * run.steps)
    return factors(component("scheduler", str(run.raw["scheduler"]["name"])), settings, clock)


def warm_up(run: Evidence) -> Iterator[Suspicion]:
    """No warm-up, where the first updates at the full rate are too large."""
    rough = roughness(run.curve("train/loss"))
    if run.setting("scheduler.warmup_steps") or not (run.status == "diverged" or rough > ROUGH):
        return
    total = run.steps * int(run.setting("trainer.max_epochs"))
    yield suspect(
        "no warm-up",
        0.5 if run.status == "diverged" else 0.35,
        f"the training loss rises in {rough:.0%} of the epochs, and the first update has the full rate",
        f"scheduler.warmup_steps={max(round(0.1 * total), 1)}",
    )


def batch(run: Evidence) -> Iterator[Suspicion]:
    """A batch that gives too few updates, too much noise, or too few rows for batch norm."""
    size = run.batch
    if size > BATCH:
        score = 0.75 if run.steps <= FEW_UPDATES else 0.3 if run.steps <= 3 * FEW_UPDATES else 0.1
        yield suspect(
            "batch too large",
            score,
            f"batches of {counted(size, 'row')} give {counted(run.steps, 'update')} per epoch",
            f"data.batch_size={BATCH}",
        )
    if size > TINY_BATCH:
        return
    if "batch_norm" in run.regularizers:
        yield suspect(
            "batch norm with tiny batches",
            0.85,
            f"batch norm takes its mean and deviation from {counted(size, 'row')}",
            f"data.batch_size={BATCH}",
            run.without("regularizer", "batch_norm"),
        )
    yield suspect(
        "batch too small",
        0.7,
        f"batches of {counted(size, 'row')} give noisy gradients",
        f"data.batch_size={BATCH}",
    )


def momentum(run: Evidence) -> Iterator[Suspicion]:
    """Momentum that averages over too many updates."""
    for key in ("optimizer.momentum", "optimizer.beta1"):
        value, usual = run.number(key), run.usual(key)
        if value is not None and value > 0.93:
            score = 0.4 + 0.45 * (value >= 0.98)
            yield suspect(
                "momentum too high",
                score,
                f"{key}={value:g} averages over about {counted(round(1 / max(1 - value, 1e-9)), 'update')}",
                f"{key}={spell(usual)}",
            )


def clipping(run: Evidence) -> Iterator[Suspicion]:
    """Clipping that removes nearly all of the gradient."""
    if "gradient_clipping" not in run.regularizers:
        return
    left = run.observed("updates/gradient_left_by_clipping")
    most = run.number("regularizer.gradient_clipping.max_norm") or 0.0
    tight = left < CLIPPED or (math.isnan(left) and most < 1e-3)
    shown = "" if math.isnan(left) else f", which leaves {left:.2%} of the gradient"
    yield suspect(
        "gradient clipping too tight",
        0.85 if tight else 0.1,
        f"gradients are clipped to a norm of {most:g}{shown}",
        "regularizer.gradient_clipping.max_norm=5",
        run.without("regularizer", "gradient_clipping"),
    )


def precision(run: Evidence) -> Iterator[Suspicion]:
    """Bfloat16, whose 8 significant bits round small differences away."""
    if run.setting("trainer.dtype") == "bfloat16":
        yield suspect(
            "bfloat16 too coarse", 0.6, "products are rounded to 8 significant bits", "trainer.dtype=float32"
        )


def frozen(run: Evidence) -> Iterator[Suspicion]:
    """Parameters that are frozen, or trained with a rate of nearly 0."""
    if run.setting("trainer.freeze"):
        yield suspect(
            "frozen parameters",
            0.6,
            f"trainer.freeze={spell(run.setting('trainer.freeze'))}",
            "trainer.freeze=[]",
        )
    if run.setting("trainer.lr_factors"):
        yield suspect("frozen parameters", 0.3, "trainer.lr_factors are set", "trainer.lr_factors={}")


def roughness(curve: np.ndarray) -> float:
    """Return the share of steps of a curve that rise by more than 1 % of its range."""
    known = curve[np.isfinite(curve)]
    if len(known) < 3:
        return 0.0
    span = float(known.max() - known.min())
    return float((np.diff(known) > 0.01 * span).mean()) if span else 0.0


def _short(value: float) -> float:
    return float(f"{value:.3g}")


CAUSES = (learning_rate, schedule, warm_up, batch, momentum, clipping, precision, frozen)
