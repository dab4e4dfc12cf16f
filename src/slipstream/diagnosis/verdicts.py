"""Verdicts on a run: causes with their proof, and what was tried."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from slipstream.core.types import Plain
from slipstream.core.wording import counted, shell
from slipstream.diagnosis.branches import Change
from slipstream.diagnosis.judging import Gain


@dataclass(frozen=True)
class Verdict:
    """A cause, with its proof.

    Attributes:
        cause: its name, such as "learning rate too high".
        evidence: what was seen, with a number.
        proof: what was measured: with which change, on fresh seeds, how much better.
        remedy: overrides of train.py to paste; empty if only the data can be repaired.
        confirmed: True if fresh seeds, or a test of the data, confirm the cause.
        score: from 0 to 1, how strongly the evidence suggests the cause.
        gain: of the remedy over the unchanged run; None for a cause that its own test shows.
    """

    cause: str
    evidence: str
    proof: str
    remedy: tuple[str, ...]
    confirmed: bool
    score: float = 0.0
    gain: Gain | None = None

    @property
    def sentence(self) -> str:
        """The verdict in one sentence."""
        return "; ".join(part for part in (f"{self.cause}: {self.evidence}", self.proof) if part)


@dataclass(frozen=True)
class TriedCause:
    """A suspected cause that was tried: its best change, and what that gained on the run's own seed."""

    cause: str
    score: float
    evidence: str
    change: Change
    gain: Gain


@dataclass(frozen=True)
class Diagnosis:
    """The answer to "why?".

    Attributes:
        folder: the run.
        symptoms: sentences about what is suspicious.
        verdicts: the causes that were proved, the likeliest root first.
        trials: every suspected cause that was tried, the likeliest first.
        trained: the number of branches that were trained for it, and the seconds it took.
    """

    folder: Path
    symptoms: tuple[str, ...]
    verdicts: tuple[Verdict, ...]
    trials: tuple[TriedCause, ...]
    trained: int
    seconds: float

    def lines(self) -> Iterator[str]:
        """Yield the answer as text."""
        for symptom in self.symptoms:
            yield f"seen: {symptom}"
        if not self.verdicts:
            yield "no cause was found: nothing that was tried makes a difference that matters"
        for number, verdict in enumerate(self.verdicts, 1):
            yield f"{number}. {verdict.cause}: {verdict.evidence}"
            if verdict.proof:
                yield f"   {verdict.proof}"
            if verdict.remedy:
                yield f"   to mend it: {' '.join(map(shell, verdict.remedy))}"
        found = {verdict.cause for verdict in self.verdicts}
        others = [trial for trial in self.trials if trial.cause not in found]
        if others:
            yield "tried as well, without a gain that matters or as clear:"
        for trial in others:
            gain = trial.gain
            values = f"{gain.metric} {gain.after:.4g} instead of {gain.before:.4g}"
            yield f"   {trial.cause}: {trial.change}: {values}"
        yield f"{counted(self.trained, 'branch', 'branches')} in {self.seconds:.1f} s"

    def as_json(self) -> str:
        """Return the answer as JSON."""
        content: dict[str, Plain] = {
            "run": str(self.folder),
            "symptoms": list(self.symptoms),
            "verdicts": [
                {
                    "cause": verdict.cause,
                    "evidence": verdict.evidence,
                    "proof": verdict.proof,
                    "remedy": list(verdict.remedy),
                    "confirmed": verdict.confirmed,
                    "score": verdict.score,
                    "gain": None if verdict.gain is None else verdict.gain.__dict__,
                }
                for verdict in self.verdicts
            ],
            "tried": [
                {
                    "cause": trial.cause,
                    "score": trial.score,
                    "evidence": trial.evidence,
                    "change": list(trial.change.overrides),
                    "gain": trial.gain.__dict__,
                }
                for trial in self.trials
            ],
            "branches": self.trained,
            "seconds": round(self.seconds, 3),
        }
        return json.dumps(content, indent=1) + "\n"
