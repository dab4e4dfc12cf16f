"""Causes in the objective."""

from __future__ import annotations

from collections.abc import Iterator

from slipstream.diagnosis.evidence import Evidence
from slipstream.diagnosis.suspicion import Suspicion, suspect


def loss(run: Evidence) -> Iterator[Suspicion]:
    """A loss that is not the usual one of the task."""
    name = str(run.raw["loss"]["name"])
    usual = "cross entropy" if run.classes else "mean squared error"
    if name not in ("auto", "cross_entropy", "binary_cross_entropy") and not (
        name == "mse" and not run.classes
    ):
        score = 0.75 if run.classes and name in ("mse", "mae", "huber") else 0.35
        yield suspect("wrong loss", score, f"loss={name}, where {usual} is usual", "loss=auto")


def output(run: Evidence) -> Iterator[Suspicion]:
    """An activation after the last layer that cannot reach the targets, or squashes the logits."""
    name = run.setting("model.output_activation", "identity")
    if name != "identity":
        yield suspect(
            "bounded output",
            0.75,
            f"model.output_activation={name} bounds the network's outputs",
            "model.output_activation=identity",
        )


CAUSES = (loss, output)
