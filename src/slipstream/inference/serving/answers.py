"""Conversion of scores to the JSON of a response."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from slipstream.core.types import Plain
from slipstream.data.identity import labels as labels_of
from slipstream.inference.ensemble import Ensemble
from slipstream.inference.serving.computing import Answer, Moved
from slipstream.inference.serving.occlusion import ABOUT


class AnswerWriter:
    """Turns a run's scores into JSON.

    Classification gives `prediction` and the probability (or score) of each class; multilabel tasks list the
    predicted labels. Regression gives `prediction`, with the values by name for several targets.
    """

    def __init__(self, ensemble: Ensemble) -> None:
        target = ensemble.target
        self.task, self.kind = target.task, ensemble.first.preprocessing.spec.kind
        self.names = target.classes or target.names
        self.labels: list[Plain] = list(target.classes)
        if target.task in ("binary", "multiclass"):
            self.labels = labels_of(target.classes, target.label_kind).tolist()
        self.key = "probabilities" if all(model.probabilistic for model in ensemble.models) else "scores"

    def to_json(self, answer: Answer, ids: Sequence[str] = ()) -> dict[str, Plain]:
        """Return the body of a response. ids: the ids of the sequences."""
        rows = [self._row(scores) for scores in answer.scores.tolist()]
        for row, name in zip(rows, ids, strict=False):
            row["id"] = name
        for row, scores, moved in zip(rows, answer.scores, answer.moved, strict=False):
            row["moved"] = [self._moved(scores, one) for one in moved]
        told: dict[str, Plain] = {"predictions": rows}
        if answer.moved:
            told["moved_by"] = ABOUT[self.kind]
        if answer.warnings:
            told["warnings"] = list(answer.warnings)
        return told

    def _row(self, scores: Sequence[float]) -> dict[str, Plain]:
        named = dict(zip(self.names, scores, strict=True))
        if self.task == "regression":
            return {"prediction": scores[0] if len(scores) == 1 else named}
        if self.task == "multilabel":
            return {"prediction": [name for name, score in named.items() if score > 0.5], self.key: named}
        return {"prediction": self.labels[max(range(len(scores)), key=scores.__getitem__)], self.key: named}

    def _moved(self, scores: np.ndarray, one: Moved) -> dict[str, Plain]:
        change = dict(zip(self.names, (scores - one.scores).tolist(), strict=True))
        return {"name": one.name, "replaced_by": one.told, "change": change}
