"""Schedules against torch.optim.lr_scheduler where it has them, and against their formulas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch.optim import lr_scheduler

from slipstream.core.registry import component, components
from slipstream.schedulers import Clock, factors

CONFIGS = Path(__file__).parents[1] / "configs" / "scheduler"
SCHEDULES = sorted(components("scheduler"))
PER_EPOCH, EPOCHS = 5, 12
TOTAL = PER_EPOCH * EPOCHS


def defaults(name: str) -> dict[str, Any]:
    content = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    assert content.pop("name") == name
    return content


def clock(start: int = 0, stop: int = TOTAL, history: tuple[float, ...] = ()) -> Clock:
    return Clock(np.arange(start, stop), PER_EPOCH, TOTAL, history)


def ours(name: str, **settings: Any) -> np.ndarray:
    return factors(component("scheduler", name), {"warmup_steps": 0} | settings, clock())


def by_torch(kind: Any, by_epoch: bool, **settings: Any) -> np.ndarray:
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    schedule = kind(optimizer, **settings)
    rates = []
    for i in range(TOTAL):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if i < TOTAL - 1 and (not by_epoch or i % PER_EPOCH == PER_EPOCH - 1):
            schedule.step()
    return np.array(rates)


TORCH = [
    ("step", {"every_epochs": 3, "factor": 0.3}, lr_scheduler.StepLR, True, {"step_size": 3, "gamma": 0.3}),
    (
        "multi_step",
        {"milestones_epochs": [7, 2, 7], "factor": 0.5},
        lr_scheduler.MultiStepLR,
        True,
        {"milestones": [7, 2, 7], "gamma": 0.5},
    ),
    (
        "linear",
        {"end": 0.1},
        lr_scheduler.LinearLR,
        False,
        {"start_factor": 1.0, "end_factor": 0.1, "total_iters": TOTAL},
    ),
    (
        "polynomial",
        {"power": 1.7, "end": 0.0},
        lr_scheduler.PolynomialLR,
        False,
        {"power": 1.7, "total_iters": TOTAL},
    ),
    ("cosine", {"end": 0.1}, lr_scheduler.CosineAnnealingLR, False, {"T_max": TOTAL, "eta_min": 0.1}),
    (
        "cosine_restarts",
        {"first_cycle_epochs": 2, "growth": 2.0, "end": 0.1},
        lr_scheduler.CosineAnnealingWarmRestarts,
        False,
        {"T_0": 2 * PER_EPOCH, "T_mult": 2, "eta_min": 0.1},
    ),
    (
        "cosine_restarts",
        {"first_cycle_epochs": 3, "growth": 1.0, "end": 0.0},
        lr_scheduler.CosineAnnealingWarmRestarts,
        False,
        {"T_0": 3 * PER_EPOCH},
    ),
    (
        "one_cycle",
        {"rise": 0.3, "start": 0.1, "end": 0.001},
        lr_scheduler.OneCycleLR,
        False,
        {
            "max_lr": 1.0,
            "total_steps": TOTAL,
            "div_factor": 10,
            "final_div_factor": 100,
            "cycle_momentum": False,
        },
    ),
]


@pytest.mark.parametrize(("name", "settings", "kind", "by_epoch", "theirs"), TORCH)
def test_equals_torch(name: str, settings: dict, kind: Any, by_epoch: bool, theirs: dict) -> None:
    """Every step's factor is torch's to 1e-12 (torch multiplies step by step, ours is closed)."""
    np.testing.assert_allclose(
        ours(name, **settings), by_torch(kind, by_epoch, **theirs), rtol=1e-12, atol=1e-12
    )


def test_exponential_equals_torch_at_epochs() -> None:
    """At the start of each epoch `exponential` is torch's ExponentialLR; within, it goes on falling."""
    found = ours("exponential", factor_per_epoch=0.8)
    expected = by_torch(lr_scheduler.ExponentialLR, True, gamma=0.8)
    np.testing.assert_allclose(found[::PER_EPOCH], expected[::PER_EPOCH], rtol=1e-12)
    assert (np.diff(found) < 0).all()


def test_formulas() -> None:
    """The schedules that torch lacks are their formulas, computed one step at a time."""
    stable = ours("warmup_stable_decay", decay=0.25, shape="linear", end=0.1)
    roots = ours("warmup_stable_decay", decay=0.25, shape="one_minus_sqrt", end=0.1)
    flat = ours("flat_cosine", flat=0.5, end=0.2)
    time = ours("inverse_time", decay_per_epoch=0.5)
    root = ours("inverse_sqrt", hold_steps=8)
    for i in range(TOTAL):
        late = max(0.0, (i - 45) / 15)
        assert stable[i] == pytest.approx(1 - 0.9 * late)
        assert roots[i] == pytest.approx(1 - 0.9 * late**0.5)
        half = max(0.0, (i - 30) / 30)
        assert flat[i] == pytest.approx(0.2 + 0.8 * (1 + np.cos(np.pi * half)) / 2)
        assert time[i] == pytest.approx(1 / (1 + 0.5 * i / PER_EPOCH))
        assert root[i] == pytest.approx(min(1.0, (8 / (i + 1)) ** 0.5))
    assert (ours("constant") == 1).all()


def test_coslog_is_cycles_of_twice_the_length() -> None:
    """It is 0 at the edges (2^k - 1) / (2^cycles - 1) of the training and 1 at the peaks between them."""
    schedule, total = component("scheduler", "coslog"), 1500
    share = lambda k: np.round((2.0**k - 1) / 15 * total).astype(int)  # noqa: E731
    found = factors(schedule, {"cycles": 4, "warmup_steps": 0}, Clock(np.arange(total), 10, total))
    np.testing.assert_allclose(found[share(np.arange(4))], 0, atol=1e-12)
    # Half a step beside a peak, the shortest of 41 steps, the cosine has lost up to 1e-3.
    np.testing.assert_allclose(found[share(np.arange(4) + 0.5)], 1, atol=2e-3)
    lowest = np.flatnonzero((found[1:-1] < found[:-2]) & (found[1:-1] < found[2:])) + 1
    assert lowest.tolist() == share(np.arange(1, 4)).tolist()


def test_inverse_sqrt_with_warm_up_is_the_transformers() -> None:
    """hold_steps = warmup_steps is min(t^-1/2, t w^-3/2) of Vaswani et al., scaled to a peak of 1."""
    t, w = np.arange(1, TOTAL + 1), 8
    expected = np.minimum(t**-0.5, t * w**-1.5) * w**0.5
    np.testing.assert_allclose(ours("inverse_sqrt", hold_steps=w, warmup_steps=w), expected, rtol=1e-12)


@pytest.mark.parametrize("name", SCHEDULES)
def test_warm_up_multiplies_every_schedule(name: str) -> None:
    """Warm-up is torch's LinearLR from 1/w to 1 over w steps, times the schedule."""
    plain = ours(name, **defaults(name) | {"warmup_steps": 0})
    warm = ours(name, **defaults(name) | {"warmup_steps": 7})
    rise = by_torch(lr_scheduler.LinearLR, False, start_factor=1 / 7, total_iters=6)
    np.testing.assert_allclose(warm, plain * rise, rtol=1e-12)


@pytest.mark.parametrize("name", SCHEDULES)
def test_epoch_by_epoch_is_the_whole(name: str) -> None:
    """Factors asked for epoch by epoch, in any order, are those of the whole training to the byte."""
    schedule, settings = component("scheduler", name), defaults(name)
    whole = factors(schedule, settings, clock())
    for start in reversed(range(0, TOTAL, PER_EPOCH)):
        part = factors(schedule, settings, clock(start, start + PER_EPOCH))
        assert part.tobytes() == whole[start : start + PER_EPOCH].tobytes()


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("total", [1, 2, 3, 7])
def test_short_trainings(name: str, total: int) -> None:
    """A training of a few steps, and steps past the planned end, have finite factors in [0, 1]."""
    settings = defaults(name)
    found = factors(component("scheduler", name), settings, Clock(np.arange(total + 3), 3, total, (1.0, 2.0)))
    assert found.shape == (total + 3,)
    assert found.dtype == np.float64
    assert np.isfinite(found).all()
    assert (found >= 0).all()
    assert (found <= 1).all()


def plateau_by_torch(values: list[float], mode: str, **settings: Any) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    schedule = lr_scheduler.ReduceLROnPlateau(optimizer, mode=mode, **settings)
    rates = [1.0]
    for value in values:
        schedule.step(value)
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize(("patience", "cooldown", "threshold"), [(0, 0, 0.0), (2, 0, 0.01), (1, 3, 0.05)])
def test_plateau_equals_torch(mode: str, patience: int, cooldown: int, threshold: float) -> None:
    """From the history alone `reduce_on_plateau` gives what torch's stateful one gave step by step."""
    generator = np.random.default_rng(3)
    values = [1 + 1 / (1 + 0.3 * i) + 0.1 * float(x) for i, x in enumerate(generator.normal(size=60))]
    values[10] = float("nan")
    if mode == "max":
        values = [4 - value for value in values]
    theirs = plateau_by_torch(
        values, mode, factor=0.7, patience=patience, cooldown=cooldown, threshold=threshold, min_lr=0.01
    )
    assert 2 < len(set(theirs)) < 40
    schedule = component("scheduler", "reduce_on_plateau")
    settings = {
        "factor": 0.7,
        "patience": patience,
        "cooldown": cooldown,
        "threshold": threshold,
        "end": 0.01,
    }
    sign = 1 if mode == "min" else -1
    for epoch, expected in enumerate(theirs):
        history = tuple(sign * value for value in values[:epoch])
        found = factors(schedule, settings | {"warmup_steps": 0}, clock(0, PER_EPOCH, history))
        np.testing.assert_allclose(found, np.full(PER_EPOCH, expected), rtol=1e-12)


def test_every_schedule_has_its_yaml() -> None:
    """Every schedule has a YAML, every YAML a schedule, with its settings and no others."""
    assert sorted(path.stem for path in CONFIGS.glob("*.yaml")) == SCHEDULES
    for name in SCHEDULES:
        assert list(defaults(name)) == list(component("scheduler", name).settings), name
