"""A cause that a run's evidence suggests, and the changes that test it."""

from __future__ import annotations

from dataclasses import dataclass

from slipstream.diagnosis.branches import Change


@dataclass(frozen=True)
class Suspicion:
    """A suspected cause.

    Attributes:
        cause: its name, such as "learning rate too high".
        score: from 0 to 1, how strongly the evidence suggests it.
        evidence: a sentence, with a number where there is one.
        measure: the only metric that judges its changes, such as "balanced_accuracy"; empty for all.
        changes: alternative remedies; the cause is proved where one of them improves the run.
    """

    cause: str
    score: float
    evidence: str
    changes: tuple[Change, ...]
    measure: str = ""


def suspect(
    cause: str, score: float, evidence: str, *changes: str | tuple[str, ...], measure: str = ""
) -> Suspicion:
    """Return a suspicion; each change is one override or several."""
    made = [Change((change,)) if isinstance(change, str) else Change(change) for change in changes]
    return Suspicion(cause, score, evidence, tuple(made), measure)
