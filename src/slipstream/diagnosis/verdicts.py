"""Verdicts on a run: causes with their proof, and every cause that was tried."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from slipstream.core.wording import counted, shell
from slipstream.diagnosis.branches import Change
from slipstream.diagnosis.judging import Gain
from slipstream.diagnosis.paired_effects import Effect

MATTERS = 0.8  # smallest gain on the run's own seed for which fresh seeds decide; below, it is not the cause
NOTHING_FOUND = "no cause was found: nothing that was tried makes a difference that matters"
PAGE = Path(__file__).parents[3] / "docs" / "causes.md"  # a section for each cause; not part of a wheel


@dataclass(frozen=True)
class Verdict:
    """A cause, with its proof.

    Attributes:
        cause: its name, such as "learning rate too high".
        evidence: what was seen, with a number.
        proof: the measured effect: which change, on fresh seeds, improves the run by how much.
        remedy: overrides of train.py to paste; empty if only the data can be repaired.
        confirmed: True if fresh seeds, or a test of the data, confirm the cause.
        score: from 0 to 1, how strongly the evidence suggests the cause.
        gain: of the remedy over the unchanged run; None for a cause that a test of the data shows.
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
    """A suspected cause that was tried: its best change, and the gain of that on the run's own seed."""

    cause: str
    score: float
    evidence: str
    change: Change
    gain: Gain
    measure: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """The answer to "why?".

    Attributes:
        folder: the run.
        symptoms: sentences about what is suspicious.
        verdicts: the causes that were proved, the likeliest root cause first.
        tried: every suspected cause, the likeliest first.
        needs: for a run that works, the effect of removing each ingredient.
        remarks: sentences about what limits the answer.
        trained: the number of branches that were trained.
        seconds: the wall time of the whole diagnosis.
        nothing: the sentence to print if there is no verdict.
    """

    folder: Path
    symptoms: tuple[str, ...]
    verdicts: tuple[Verdict, ...]
    tried: tuple[TriedCause, ...]
    needs: tuple[Effect, ...]
    remarks: tuple[str, ...]
    trained: int
    seconds: float
    nothing: str = NOTHING_FOUND

    def lines(self) -> Iterator[str]:
        """Yield the answer as text."""
        for symptom in self.symptoms:
            yield f"symptom: {symptom}"
        if not self.verdicts:
            yield self.nothing
        for number, verdict in enumerate(self.verdicts, 1):
            yield f"{number}. {verdict.cause}: {verdict.evidence}"
            if verdict.proof:
                yield f"   {verdict.proof}"
            if verdict.remedy:
                yield f"   to fix it: {' '.join(map(shell, verdict.remedy))}"
            if PAGE.exists():
                yield f"   more: {section(verdict.cause)}"
        yield from self._needed()
        yield from self._others()
        yield from (f"note: {remark}" for remark in self.remarks)
        yield f"{counted(self.trained, 'branch', 'branches')} in {self.seconds:.1f} s"

    def _needed(self) -> Iterator[str]:
        if self.needs:
            seeds = counted(len(self.needs[0].values), "seed")
            yield f"what each ingredient contributes ({self.needs[0].metric}, {seeds}):"
        for effect in self.needs:
            if effect.difference is None or effect.interval is None:
                size = "diverges"
            else:
                low, high = effect.interval
                size = f"{effect.difference:+.3g} ± {(high - low) / 2:.2g}"
            yield f"   with {effect.change}: {size} ({effect.verdict})"

    def _others(self) -> Iterator[str]:
        found = {verdict.cause for verdict in self.verdicts}
        for cause in self.tried:
            if cause.cause not in found:
                gain, less = cause.gain, cause.gain.mean < MATTERS
                values = f"{gain.metric} {gain.after:.4g} instead of {gain.before:.4g}"
                said = "not the cause" if less else "explains less, or was not confirmed"
                yield f"{said}: {cause.cause} ({cause.change}: {values})"


def section(cause: str) -> str:
    """Return the link to a cause's section, relative to the working directory if the page is below it."""
    here = Path.cwd()
    page = PAGE.relative_to(here) if PAGE.is_relative_to(here) else PAGE
    return f"{page.as_posix()}#{cause.lower().replace(' ', '-')}"
