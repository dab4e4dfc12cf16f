"""Causes in the regularization: too much of it, or too little."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from slipstream.core.wording import spell
from slipstream.diagnosis.evidence import Evidence
from slipstream.diagnosis.suspicion import Suspicion, suspect
from slipstream.runs.advice import ADAPTIVE

# regularizer -> cause, its setting, a strength that is almost certainly too much, and a mild one
STRENGTHS = {
    "l1": ("penalty too strong", "strength", 3e-3, 1e-5),
    "l2": ("penalty too strong", "strength", 1e-2, 1e-4),
    "elastic_net": ("penalty too strong", "strength", 3e-3, 1e-5),
    "activity_l2": ("penalty too strong", "strength", 1e-1, 1e-4),
    "weight_decay": ("penalty too strong", "strength", 1.0, 1e-3),
    "dropout": ("dropout too strong", "rate", 0.7, 0.1),
    "alpha_dropout": ("dropout too strong", "rate", 0.5, 0.05),
    "gaussian_dropout": ("dropout too strong", "rate", 0.7, 0.1),
    "spatial_dropout": ("dropout too strong", "rate", 0.6, 0.1),
    "drop_path": ("dropout too strong", "rate", 0.7, 0.1),
    "gaussian_noise": ("noise too strong", "std", 1.0, 0.05),
    "gradient_noise": ("noise too strong", "std", 1.0, 0.001),
    "label_smoothing": ("label smoothing too strong", "amount", 0.4, 0.01),
    "dense_sparse_dense": ("sparsity too high", "sparsity", 0.9, 0.3),
}
OVERFIT = 0.1


def regularizers(run: Evidence) -> Iterator[Suspicion]:
    """Each regularizer, by how strong it is."""
    share = run.observed("probe/penalty_share")
    for name, settings in run.regularizers.items():
        if name not in STRENGTHS:
            continue
        cause, key, much, mild = STRENGTHS[name]
        key = key if key in settings else next(iter(settings), key)
        value = settings.get(key)
        if not isinstance(value, int | float):
            continue
        score = 0.85 if value >= much else 0.45 if value >= math.sqrt(much * mild) else 0.15
        said = f"regularizer.{name}.{key}={value:g}"
        if cause == "penalty too strong" and share > 0.3:
            score = max(score, 0.85)
            said += f", and {share:.0%} of the objective is the penalty"
        changes = [run.without("regularizer", name)]
        if value > mild:
            changes.insert(0, f"regularizer.{name}.{key}={spell(mild)}")
        yield suspect(cause, score, said, *changes)


def combinations(run: Evidence) -> Iterator[Suspicion]:
    """Regularizers that do not go together."""
    names, strength = list(run.regularizers), run.number("regularizer.l2.strength") or 0.0
    if "l2" in names and run.raw["optimizer"]["name"] in ADAPTIVE and strength >= 1e-3:
        decay = ["weight_decay" if name == "l2" else name for name in names]
        yield suspect(
            "L2 inside Adam",
            0.4,
            f"Adam also rescales the gradient of the penalty, whose strength is {strength:g}",
            (f"regularizer=[{','.join(decay)}]", "regularizer.weight_decay.strength=0.01"),
        )
    if "dropout" in names and "batch_norm" in names:
        yield suspect(
            "dropout before batch norm",
            0.4,
            "batch norm measures the variance with units dropped, and is then evaluated with all units",
            run.without("regularizer", "dropout"),
        )


def augmentations(run: Evidence) -> Iterator[Suspicion]:
    """Each augmentation, as it may turn an example into one of another class."""
    found = run.raw["augmentation"]
    for name in found:
        gap = run.scored("accuracy", "train") - run.scored("accuracy")
        score = 0.35 if not gap > 0.05 else 0.2
        yield suspect(
            "augmentation destroys labels",
            score,
            f"augmentation={name} changes every training example",
            run.without("augmentation", name),
        )


def overfitting(run: Evidence) -> Iterator[Suspicion]:
    """A gap between training and validation rows, or one that grows with every epoch."""
    if run.split != "val":
        return
    name = "accuracy" if run.classes else "r2"
    gap = run.scored(name, "train") - run.scored(name)
    rise = _rise(run.curve("val/loss"))
    if not (gap > OVERFIT or rise > 0.2):
        return
    delivered = not run.keeps_best and rise > 0.2
    # Labels have neither accuracy nor R2 here, and a better one on validation rows is no evidence.
    score = min(0.3 + (0.0 if math.isnan(gap) else gap) + (0.35 if delivered else 0.0), 0.85)
    said = [f"train/{name} is {gap:.3g} above val/{name}"] if gap > 0 else []
    if rise > 0.2:
        said.append(f"val/loss ends {rise:.0%} above its minimum")
    yield suspect("overfitting", score, ", and ".join(said), *_smaller(run), *_restrained(run))


def _rise(curve: np.ndarray) -> float:
    known = curve[np.isfinite(curve)]
    if len(known) < 2 or known.min() <= 0:
        return 0.0
    return float(known[-1] / known.min() - 1)


def _smaller(run: Evidence) -> Iterator[str]:
    for key in ("model.width", "model.channels"):
        size = run.setting(key)
        if isinstance(size, int) and size >= 16:
            yield f"{key}={max(size // 16, 8)}"


def _restrained(run: Evidence) -> Iterator[str | tuple[str, ...]]:
    if "l1" not in run.regularizers:
        yield run.adding("l1"), "regularizer.l1.strength=0.003"
    if "l2" not in run.regularizers:
        yield run.adding("l2"), "regularizer.l2.strength=0.01"
    if "dropout" not in run.regularizers:
        yield run.adding("dropout")
    if not run.keeps_best:
        yield "early_stopping=patience", "early_stopping.restore_best=true"


CAUSES = (regularizers, combinations, augmentations, overfitting)
