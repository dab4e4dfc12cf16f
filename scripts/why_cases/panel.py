"""Baselines: the changes that people try, and AutoTrainer's rules.

AutoTrainer (Zhang et al., ICSE 2021, github.com/shiningrain/AUTOTRAINER) has five symptoms with fixed
thresholds. Here they are computed from what a run observes; dead units stand for gradients that are zero.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

Change = tuple[str, tuple[str, ...]]  # its name, its overrides


def panel(raw: Mapping[str, Any]) -> list[Change]:
    """Return the changes of a run of this configuration. Those that do not fit it are refused later."""
    rate, length, rows = raw["optimizer"]["lr"], raw["trainer"]["max_epochs"], raw["data"]["batch_size"]
    changes: list[Change] = [
        ("rate x10", (f"optimizer.lr={rate * 10:g}",)),
        ("rate /10", (f"optimizer.lr={rate / 10:g}",)),
        ("epochs x4", (f"trainer.max_epochs={length * 4}",)),
        ("dropout", ("regularizer=[dropout]", "regularizer.dropout.rate=0.2")),
        ("l2", ("regularizer=[l2]", "regularizer.l2.strength=0.001")),
        ("clipping", ("regularizer=[gradient_clipping]",)),
        ("adam", ("optimizer=adam", "optimizer.lr=0.003")),
        ("initializer auto", ("initializer=auto", "initializer.bias=0")),
        ("activation relu", ("activation=relu",)),
        ("activation tanh", ("activation=tanh",)),
        ("scaling standard", ("data.scaling=standard",)),
        ("target scaling", ("data.target_scaling=auto",)),
        ("loss auto", ("loss=auto",)),
    ]
    if raw["regularizer"]:
        changes.append(("no regularizer", ("regularizer=[]",)))
    key = next((k for k in ("width", "channels") if isinstance(raw["model"].get(k), int)), None)
    if key:
        units = raw["model"][key]
        changes += [
            (f"{key} x4", (f"model.{key}={units * 4}",)),
            (f"{key} /4", (f"model.{key}={max(units // 4, 1)}",)),
        ]
    if isinstance(rows, int):
        changes += [
            ("batch x8", (f"data.batch_size={rows * 8}",)),
            ("batch /8", (f"data.batch_size={max(rows // 8, 1)}",)),
        ]
    return changes


VANISHING, FIRST, EXPLODING, DEAD = (
    1e-3,
    1e-4,
    70.0,
    0.7,
)  # gradients of the first layer over the last's; zeros
SWING, SWINGS, STEP, GOAL = (
    0.03,
    0.2,
    0.01,
    0.7,
)  # accuracy: between extremes, share of epochs, best step, reached
RULES = {
    "exploding gradient": ("exploding gradients", "learning rate too high", "initialization too large"),
    "vanishing gradient": ("saturated units", "initialization too small"),
    "dying ReLU": ("dead ReLU units",),
    "oscillating loss": ("learning rate too high", "batch too small", "momentum too high"),
    "slow convergence": ("learning rate too low", "too few epochs"),
}  # symptoms in AutoTrainer's order, and the causes that its repairs of them mend


def old_rules(
    records: Sequence[Mapping[str, Any]], observations: Sequence[Mapping[str, Any]], status: str
) -> list[str]:
    """Return the symptoms of AutoTrainer that a run shows. records, observations: of its `Result`."""
    gradients = [_values(one, "gradient_norm") for one in observations]
    ratios = [norms[0] / norms[-1] for norms in gradients if len(norms) > 1 and norms[-1] > 0]
    best = max(
        (value for part in ("train", "val") for value in _column(records, f"{part}/accuracy")), default=None
    )
    steps = [b - a for part in ("train", "val") for a, b in _pairs(_column(records, f"{part}/accuracy"))]
    slow = bool(steps) and max(steps) < STEP
    bad = best is None or best < GOAL or slow  # rules about gradients ask for a run that does not converge
    found = []
    if status == "diverged" or (bad and any(ratio > EXPLODING for ratio in ratios)):
        found.append("exploding gradient")
    last = gradients[-1] if gradients else []
    if bad and len(last) > 1 and last[0] < FIRST and last[0] <= VANISHING * last[-1]:
        found.append("vanishing gradient")
    dead = _values(observations[-1], "dead") if observations else []
    if bad and dead and statistics.fmean(dead) >= DEAD:
        found.append("dying ReLU")
    if swinging(_column(records, "train/accuracy")):
        found.append("oscillating loss")
    if best is not None and best < GOAL and slow:
        found.append("slow convergence")
    return found


def swinging(curve: Sequence[float]) -> bool:
    """Return True if maxima and minima of a curve differ by SWING in a share of SWINGS of the epochs."""
    inner = range(1, len(curve) - 1)
    highs = [curve[k] for k in inner if curve[k] >= max(curve[k - 1], curve[k + 1])]
    lows = [curve[k] for k in inner if curve[k] <= min(curve[k - 1], curve[k + 1])]
    swings = sum(high - low >= SWING for high, low in zip(highs, lows, strict=False))
    return bool(curve) and swings >= SWINGS * len(curve)


def _values(observation: Mapping[str, Any], quantity: str) -> list[float]:
    """Return a quantity of every layer, in order."""
    named = [v for k, v in observation.items() if k.startswith("layers/") and k.endswith(f"/{quantity}")]
    return [float(v) for v in named if v is not None and math.isfinite(v)]


def _column(records: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    return [float(one[name]) for one in records if one.get(name) is not None]


def _pairs(values: Sequence[float]) -> list[tuple[float, float]]:
    return list(itertools.pairwise(values))
