"""Rules for stopping, on curves whose right answer is known or computed by an independent loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from slipstream.core.errors import UserError
from slipstream.core.registry import component, components
from slipstream.early_stopping import History, best_epoch, direction, reason_to_stop

CONFIGS = Path(__file__).parents[1] / "configs" / "early_stopping"
RULES = sorted(components("early_stopping"))
NAN = float("nan")


def defaults(name: str) -> dict[str, Any]:
    content = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    assert content.pop("name") == name
    return content


def history(
    values: list[float], train: list[float] | None = None, sign: int = 1, seconds: float = 0.0
) -> History:
    return History(values, sign, values if train is None else train, values, seconds)


def ask(name: str, seen: History, **settings: Any) -> str | None:
    return reason_to_stop(component("early_stopping", name), settings, seen)


def first_stop(
    name: str, values: list[float], train: list[float] | None = None, sign: int = 1, **settings: Any
):
    """The epoch, from 1, after which the rule first stops, or None."""
    train = values if train is None else train
    for n in range(len(values) + 1):
        if ask(name, history(values[:n], train[:n], sign), **settings):
            return n
    return None


PATIENCE = [
    # values, settings, epochs run
    ([3, 2, 1, 1, 1, 1], {"patience": 2}, 5),
    ([3, 2, 1, 1.5, 0.9, 1, 1], {"patience": 2}, 7),
    ([3, 2, 1, 0, -1], {"patience": 1}, None),
    # An improvement of exactly min_delta does not count; small steps together do, against the best.
    ([4, 3, 2, 1], {"patience": 1, "min_delta": 1.0}, 2),
    ([4, 3.5, 2.9, 2.4, 1.8], {"patience": 2, "min_delta": 1.0}, None),
    ([4, NAN, NAN, 5], {"patience": 2}, 3),
    ([NAN, NAN, NAN], {"patience": 3}, 3),
    # The best of the warm-up, 0, is forgotten.
    ([0, 5, 4, 3, 3, 3], {"patience": 2, "warm_up": 1}, 6),
    ([0, 5, 4, 3, 3, 3], {"patience": 2}, 3),
    ([], {"patience": 1}, None),
]


@pytest.mark.parametrize(("values", "settings", "expected"), PATIENCE)
def test_patience(values: list[float], settings: dict, expected: int | None) -> None:
    """Patience stops after the epoch worked out by hand, and for a larger-is-better metric likewise."""
    settings = {"min_delta": 0.0, "warm_up": 0} | settings
    assert first_stop("patience", values, **settings) == expected
    assert first_stop("patience", [-value for value in values], sign=-1, **settings) == expected


def keras(values: list[float], patience: int, min_delta: float, start_from_epoch: int) -> int | None:
    """keras.callbacks.EarlyStopping.on_epoch_end, mode min, its state written out."""
    best, wait = float("inf"), 0
    for epoch, current in enumerate(values):
        if epoch < start_from_epoch:
            continue
        wait += 1
        if current < best - min_delta:
            best, wait = current, 0
            continue
        if wait >= patience and epoch > 0:
            return epoch + 1
    return None


def test_patience_is_keras() -> None:
    """On random curves patience stops where Keras' counter does, at the first epoch that both fire."""
    generator = np.random.default_rng(0)
    stops = set()
    for k in range(60):
        values = (1 / np.arange(1, 41) + 0.05 * generator.normal(size=40)).tolist()
        patience, delta, warm_up = 1 + k % 7, 0.02 * (k % 3), k % 5
        expected = keras(values, patience, delta, warm_up)
        found = first_stop("patience", values, patience=patience, min_delta=delta, warm_up=warm_up)
        assert found == expected
        stops.add(found)
    assert len(stops) > 8


def prechelt(train: list[float], validation: list[float], alpha: float, k: int | None) -> int | None:
    """GL_alpha (k None) and PQ_alpha of Prechelt 1998, formula by formula."""
    for t in range(1, len(train) + 1):
        gl = 100 * (validation[t - 1] / min(validation[:t]) - 1)
        if k is None and gl > alpha:
            return t
        if k is not None and t % k == 0:
            strip = train[t - k : t]
            progress = 1000 * (sum(strip) / (k * min(strip)) - 1)
            if gl / progress > alpha:
                return t
    return None


def test_generalization_loss_and_progress_quotient_are_prechelts() -> None:
    """On random curves both stop where the paper's formulas, evaluated one by one, say."""
    generator = np.random.default_rng(1)
    stops = set()
    for alpha in (0.5, 2.0, 5.0, 8.0):
        for _ in range(10):
            n = np.arange(1, 61)
            train = (2 / n + 0.2 + 0.02 * generator.random(60)).tolist()
            validation = (2 / n + 0.3 + 0.002 * n + 0.02 * generator.random(60)).tolist()
            expected = prechelt(train, validation, alpha, None)
            assert first_stop("generalization_loss", validation, train, percent=alpha) == expected
            stops.add(expected)
            expected = prechelt(train, validation, alpha / 5, 5)
            assert first_stop("progress_quotient", validation, train, quotient=alpha / 5, strip=5) == expected
            stops.add(expected)
    assert len(stops) > 10


def test_ratios_at_zero() -> None:
    """A loss above a minimum of 0 is infinitely above it; a loss that stays at 0 is not above it."""
    assert ask("generalization_loss", history([0.0, 0.1]), percent=5.0)
    assert ask("generalization_loss", history([0.0, 0.0]), percent=0.0) is None
    assert ask("progress_quotient", history([1.0, 2.0], train=[1.0, 1.0]), quotient=3.0, strip=2)
    assert ask("progress_quotient", history([2.0, 1.0], train=[1.0, 1.0]), quotient=3.0, strip=2) is None


def test_ratios_refuse_negative_losses() -> None:
    """A negative loss is an error that names the epoch and another rule, not a wrong ratio."""
    with pytest.raises(UserError, match=r"validation loss, which is -1 in epoch 1.*early_stopping=patience"):
        ask("generalization_loss", history([1.0, -1.0]), percent=5.0)
    with pytest.raises(UserError, match="training loss, which is -2 in epoch 0"):
        ask("progress_quotient", history([1.0], train=[-2.0]), quotient=1.0, strip=1)


def test_nan_loss_does_not_stop_by_ratio() -> None:
    """A NaN is neither a minimum nor above one."""
    assert ask("generalization_loss", history([1.0, NAN]), percent=5.0) is None
    assert ask("generalization_loss", history([NAN, NAN]), percent=5.0) is None
    assert ask("generalization_loss", history([NAN, 1.0, 1.2]), percent=5.0)
    assert ask("progress_quotient", history([1.0, 2.0], train=[1.0, NAN]), quotient=0.0, strip=2) is None


def test_time_limit() -> None:
    """The limit stops from its second on."""
    assert ask("time_limit", history([1.0], seconds=9.9), seconds=10.0) is None
    assert ask("time_limit", history([1.0], seconds=10.0), seconds=10.0)


def test_target() -> None:
    """A target is reached from above where smaller is better, from below where larger is."""
    assert first_stop("target", [0.3, 0.2, 0.1], value=0.2) == 2
    assert first_stop("target", [0.5, NAN, 0.97, 0.99], sign=-1, value=0.98) == 4
    assert ask("target", history([0.97], sign=-1), value=0.98) is None
    assert (
        ask("target", history([0.99], sign=-1), value=0.98)
        == "the monitored metric reached 0.99, the target is 0.98"
    )


def test_reason_gives_the_metric_in_its_own_units() -> None:
    """The reason shows accuracy as accuracy, without the changed sign."""
    reason = ask("patience", history([0.5, 0.9, 0.8], sign=-1), patience=1, min_delta=0.0, warm_up=0)
    assert reason == "no improvement on 0.9 for 1 epoch"


def test_patience_calls_nothing_best_that_is_not() -> None:
    """The reason names the value that had to be beaten by min_delta, though a better one came after it."""
    seen = history([1.0, 0.6, 0.55, 0.52])
    reason = ask("patience", seen, patience=2, min_delta=0.1, warm_up=0)
    assert reason == "no improvement on 0.6 by more than 0.1 for 2 epochs"
    assert seen.raw[best_epoch(seen.values)] == 0.52
    reason = ask("patience", history([NAN, NAN]), patience=2, min_delta=0.1, warm_up=0)
    assert reason == "the monitored metric had no value for 2 epochs"


@pytest.mark.parametrize("name", RULES)
def test_empty_history(name: str) -> None:
    """Before the first epoch no rule stops."""
    assert reason_to_stop(component("early_stopping", name), defaults(name), history([])) is None


def test_best_epoch() -> None:
    """The best epoch is the first smallest finite value; without one there is none."""
    assert best_epoch([3.0, 1.0, 1.0, 2.0]) == 1
    assert best_epoch([NAN, 2.0, float("-inf"), 1.0, NAN]) == 3
    assert best_epoch([NAN, float("inf")]) is None
    assert best_epoch([]) is None


def test_direction() -> None:
    """auto knows losses and every registered metric; min and max are taken at their word."""
    assert direction("val/loss", "auto") == 1
    for name, metric in components("metric").items():
        assert direction(f"val/{name}", "auto") == (-1 if metric.traits.mode == "max" else 1)
    assert direction("val/accuracy", "auto") == -1
    assert direction("val/accuracy", "min") == 1
    assert direction("val/loss", "max") == -1


def test_every_rule_has_its_yaml() -> None:
    """Every rule has a YAML, every YAML a rule, with its settings and no others."""
    assert sorted(path.stem for path in CONFIGS.glob("*.yaml")) == RULES
    for name in RULES:
        assert list(defaults(name)) == list(component("early_stopping", name).settings), name
